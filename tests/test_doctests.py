"""Every example in a docstring of the package runs and shows what it says."""

import contextlib
import doctest
import importlib
import inspect
import io
import pkgutil

import pytest

import whatwhere

MODULES = ["whatwhere", *(m.name for m in pkgutil.walk_packages(whatwhere.__path__, "whatwhere."))]
MODULES.remove("whatwhere.__main__")
OPTIONAL = ("accelerate", "matplotlib", "numba", "onnx", "pytorch_grad_cam", "scipy", "sklearn", "tensorboard", "timm")
OPTIONAL += ("torchmetrics", "torchvision", "triton", "onnxscript", "onnxruntime", "PIL", "openvino")


def load(name):
    """Import a module; skip where it needs an optional package that is not there."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if (error.name or "").split(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"{name} needs {error.name}")


def examples(module):
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), io.StringIO()
    for test in examples(load(name)):
        with contextlib.redirect_stderr(io.StringIO()):
            runner.run(test, out=said.write)
    assert runner.failures == 0, said.getvalue()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", MODULES)
def test_no_example_is_a_block_that_nothing_runs(name):
    assert "Example::" not in inspect.getsource(load(name))


EXAMPLES = ["cost", "data", "deploy", "graph", "layers", "networks", "ops", "placement", "surgery", "training", "views"]


@pytest.mark.parametrize("package", EXAMPLES)
def test_public_functions_have_examples(package):
    module = importlib.import_module(f"whatwhere.{package}")
    functions = {name: getattr(module, name) for name in module.__all__ if inspect.isfunction(getattr(module, name))}
    assert [name for name, function in functions.items() if ">>>" not in (function.__doc__ or "")] == []


def test_a_wrong_example_is_seen():
    text = ">>> import whatwhere as ww\n>>> ww.names()[0]\n'not this'\n"
    test = doctest.DocTestParser().get_doctest(text, {}, "wrong", None, 0)
    runner = doctest.DocTestRunner()
    runner.run(test, out=lambda words: None)
    assert runner.failures == 1
