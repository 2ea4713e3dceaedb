import doctest
import importlib
import pkgutil

import pytest

import whatwhere.views

pytest.importorskip("pytorch_grad_cam")


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(whatwhere.views.__path__)])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(f"whatwhere.views.{name}")).failed == 0


@pytest.mark.parametrize("name", whatwhere.views.__all__)
def test_every_public_name_has_an_example(name):
    documented = getattr(whatwhere.views, name)
    assert ">>>" in documented.__doc__
    assert "SKIP" not in documented.__doc__
