import doctest
import importlib
import pkgutil

import pytest

import whatwhere.data


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(whatwhere.data.__path__)])
def test_examples_in_docstrings(name: str) -> None:
    assert doctest.testmod(importlib.import_module(f"whatwhere.data.{name}")).failed == 0


@pytest.mark.parametrize("name", sorted({*whatwhere.data.__all__} - {"AUGMENTATIONS"}))
def test_every_public_name_has_an_example(name: str) -> None:
    documented = getattr(whatwhere.data, name)
    assert ">>>" in documented.__doc__
    assert "SKIP" not in documented.__doc__
