"""The one registry class."""

import importlib.metadata
import sys

import pytest

from whatwhere.errors import WhatwhereError
from whatwhere.registry import Registry


def test_entries_by_name():
    found = Registry[int]("number")
    found.add("two", 2)
    found.add("one", 1)
    assert (list(found), len(found), found["one"], found.values()) == (["one", "two"], 2, 1, [1, 2])
    assert "one" in found
    assert "three" not in found
    found.add("one", 11, replace=True)
    assert found.find("one") == 11
    found.discard("one")
    assert found.find("one") is None


def test_mistakes():
    found = Registry[int]("number")
    found.add("seven", 7)
    with pytest.raises(WhatwhereError, match="unknown number 'sevn': one of seven; did you mean 'seven'"):
        found["sevn"]
    with pytest.raises(WhatwhereError, match="the number 'seven' is registered already: 7"):
        found.add("seven", 8)
    for name in ("Seven", "", "a b", 3):
        with pytest.raises(WhatwhereError, match="is no name for a number"):
            found.add(name, 1)


@pytest.fixture
def third_party(tmp_path, monkeypatch):
    """Install a distribution whose entry points name one module that works and one that does not."""
    (tmp_path / "good_plugin.py").write_text("from test_registry_shared import found\nfound.add('good', 1)\n")
    (tmp_path / "bad_plugin.py").write_text("import no_such_package\n")
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[numbers]\ngood = good_plugin\nbad = bad_plugin\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield
    for name in ("good_plugin", "bad_plugin", "test_registry_shared"):
        sys.modules.pop(name, None)


def test_entry_points(third_party, monkeypatch):
    found = Registry[int]("number", group="numbers")
    module = type(sys)("test_registry_shared")
    module.found = found
    monkeypatch.setitem(sys.modules, "test_registry_shared", module)
    with pytest.warns(RuntimeWarning, match="'bad' .*cannot be loaded and is left out: ModuleNotFoundError"):
        assert found.names() == ["good"]
    assert found["good"] == 1


def test_case_does_not_matter():
    found = Registry[int]("number")
    found.add("two", 2)
    assert found["TWO"] == found["Two"] == 2
    assert "TWO" in found
    assert 2 not in found
