import doctest
import importlib

import pytest

from whatwhere.errors import MissingExtra, closest, need, require


def test_closest():
    assert closest("cbma", ["cbam", "se"]) == "; did you mean 'cbam'?"
    assert closest("xyz", ["cbam", "se"]) == ""


def test_need():
    assert need("json.decoder", "look").JSONDecoder
    with pytest.raises(MissingExtra, match=r"'no_such_package'.*pip install 'whatwhere\[look\]'"):
        need("no_such_package.part", "look")


def test_a_broken_package_is_not_called_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_one.py").write_text("import no_such_package")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="no_such_package") as caught:
        need("broken_one", "look")
    assert not isinstance(caught.value, MissingExtra)


def test_require_lists_all_that_is_missing():
    require(train=("json",), look=("math",))
    with pytest.raises(MissingExtra, match=r"no_a, no_b: pip install 'whatwhere\[train,look\]'"):
        require(train=("json",), look=("no_a", "math", "no_b"))


@pytest.mark.parametrize("name", ["errors", "files", "tables", "checkpoints.container"])
def test_examples_in_docstrings(name):
    found = doctest.testmod(importlib.import_module(f"whatwhere.{name}"))
    assert found.attempted
    assert not found.failed
