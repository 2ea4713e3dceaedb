"""Compiles every kernel of the GPU backend down to machine code, on a machine without a GPU: shows what the interpreter
cannot.

``python tests/ops/compile_kernels.py 90`` runs the moves as for a GPU of compute capability 9.0, up to the launch,
which is left out. It prints per kernel its registers, the bytes of local memory (nothing may spill there), and the
widest load and store in bits, which must be 128 for maps whose rows begin at multiples of 16 bytes.
"""

import re
import subprocess
import sys
import tempfile

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from whatwhere.ops import cuda
from whatwhere.ops.cuda import tiles


class Driver:
    """What Triton asks of a driver before it launches."""

    def get_current_device(self):
        return 0

    def get_current_stream(self, device):
        return 0

    def get_current_target(self):
        return GPUTarget("cuda", int(sys.argv[1]), 32)


seen = {}
run = JITFunction.run


def compile_only(self, *args, grid, warmup, **arguments):
    made = run(self, *args, grid=grid, warmup=True, **arguments)
    if made.hash in seen:
        return
    seen[made.hash] = found = facts(made)
    print(self.fn.__name__, found, flush=True)
    assert found["local"] == 0
    aligned = arguments.get("channels", 1) % 16 == arguments.get("places", 1) % 16 == 0
    if aligned and any(arguments.get(name) is not None for name in ("x", "g")):
        assert found["load"] == 128
    if aligned and any(arguments.get(name) is not None for name in ("y", "dx", "masked")):
        assert found["store"] == 128


def facts(made):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(made.asm["cubin"])
        file.flush()
        command = [triton.knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        usage = subprocess.run(command, capture_output=True, text=True, check=True)
    usage = dict(re.findall(r"(REG|LOCAL):(\d+)", usage.stdout + usage.stderr))
    return {
        "registers": int(usage["REG"]),
        "local": int(usage["LOCAL"]),
        "load": widest("ld", made.asm["ptx"]),
        "store": widest("st", made.asm["ptx"]),
    }


def widest(what, ptx):
    found = re.findall(rf"{what}\.global\S*?(?:\.v(\d))?\.b(\d+)", ptx)
    return max(int(count or 1) * int(bits) for count, bits in found)


def run_moves(shape, dtype, last):
    def a_map():
        x = torch.zeros(shape, dtype=dtype)
        return x.to(memory_format=torch.channels_last) if last else x

    n, c, h, w = shape
    number = torch.float64 if dtype == torch.float64 else torch.float32
    x, g, y, residual = (a_map() for _ in range(4))
    shift, sign = torch.zeros(2, c, dtype=number)
    scale, bias = torch.zeros(2, n, c, dtype=number)
    spatial = torch.zeros(n, 1, h, w, dtype=number)
    lines, channels = torch.zeros(n, 2, h, w, dtype=number), torch.zeros(n, h, w, dtype=number)
    points, spots = torch.zeros(n, 3, c, dtype=number), torch.zeros(n, c, dtype=number)
    cuda.squeeze_space(x, shift, sign, 3, True)
    cuda.squeeze_space(x, shift, None, 3, False)
    cuda.squeeze_space(x, None, None, 2, True)
    cuda.squeeze_space(x, None, None, 1, False)
    cuda.squeeze_channels(x, shift, scale, bias)
    cuda.squeeze_channels(x, None, None, None)
    cuda.apply_gates(x, shift, scale, bias, spatial, residual, True)
    cuda.apply_gates(x, None, scale, None, None, None, False)
    cuda.apply_gates_backward(g, x, y, shift, scale, bias, spatial)
    cuda.apply_gates_backward(g, x, None, None, scale, None, None)
    cuda.squeeze_channels_backward(x, shift, lines, channels)
    cuda.gather(x, g, shift, scale, spatial, lines, channels, points, spots)
    cuda.gather(x, g, None, scale, None, None, None, points[:, :2], spots)
    cuda.gather(x, g, None, scale, None, None, None, points[:, :1], None)
    cuda.gather(x, None, None, None, None, lines, channels, None, None)


if __name__ == "__main__":
    triton.runtime.driver.set_active(Driver())
    JITFunction.run = compile_only
    for last in (False, True):
        run_moves((2, 64, 56, 56), torch.bfloat16, last)
        run_moves((2, 64, 56, 56), torch.float32, last)
        run_moves((1, 37, 7, 7), torch.float16, last)
    run_moves((2, 1, 5, 5), torch.float32, False)
    run_moves((2, 5, 1, 1), torch.float32, False)
    run_moves((2, 5, 3, 3), torch.float64, False)
    tiles.NARROW = 0  # as if an image had 2³¹ numbers
    run_moves((2, 40, 9, 9), torch.float16, False)
    run_moves((2, 40, 9, 9), torch.float16, True)
    print(len(seen), "compiled")
