import doctest
import importlib
import pkgutil

import pytest
import torch

import whatwhere.data


@pytest.mark.parametrize("name", [module.name for module in pkgutil.iter_modules(whatwhere.data.__path__)])
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(f"whatwhere.data.{name}")
    assert doctest.testmod(module, extraglobs={"torch": torch}).failed == 0
