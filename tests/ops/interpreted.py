"""The GPU backend where there is no GPU: its kernels run in Triton's interpreter, the same source in NumPy."""

import contextlib
import importlib
import sys

import pytest
import triton.language as tl
from triton.runtime import interpreter

import whatwhere.ops


@contextlib.contextmanager
def interpreted():
    """Give the backend, imported anew for the interpreter; afterwards Triton and the backend are as they were."""

    def reduction(combine):
        return lambda values, axis: tl.reduce(values, axis, combine)

    patch_tensor = interpreter._patch_lang_tensor

    def patch_tensor_for_numpy(tensor, *scope):  # NumPy 2.4 refuses int(array of one), which Triton 3.6 does
        patch_tensor(tensor, *scope)
        tensor.__index__ = lambda self: int(self.handle.data.item())

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRITON_INTERPRET", "1")
        patch.setattr(interpreter, "_patch_lang_tensor", patch_tensor_for_numpy)
        # Triton's own functions in Triton were made for GPUs when it was imported.
        patch.setattr(tl, "sum", reduction(tl.standard._sum_combine))
        patch.setattr(tl, "max", reduction(tl.standard._elementwise_max))
        patch.setattr(tl, "min", reduction(tl.standard._elementwise_min))
        patch.setattr(whatwhere.ops, "cuda", None, raising=False)
        for name in _modules():
            patch.delitem(sys.modules, name)
        yield importlib.import_module("whatwhere.ops.cuda")
        for name in _modules():
            del sys.modules[name]


def _modules():
    return [name for name in sys.modules if name.startswith("whatwhere.ops.cuda")]
