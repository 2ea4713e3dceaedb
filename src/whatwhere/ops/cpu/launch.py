"""Runs one kernel on several threads: torch's own OpenMP threads, which are awake, and of which there is then no second
set.

A kernel is a function of a task number and of what it works on. The threads fetch task numbers from a shared counter,
so that a slow core holds up none; what a task writes depends on its number alone, so that results do not depend on the
number of threads.

After a fork the child has no such threads (GNU's OpenMP would wait for them for ever): there kernels run on one thread.
"""

import ctypes
import functools
import os
import sys
from pathlib import Path
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTE = ir.IntType(8).as_pointer()
_I32, _I64 = ir.IntType(32), ir.IntType(64)
_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@functools.cache
def _runtime() -> int:
    """Return the address of ``GOMP_parallel`` in the OpenMP library that torch itself runs on, or 0 where there is
    none.
    """
    if not sys.platform.startswith("linux"):
        return 0
    try:
        library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        return ctypes.cast(library.GOMP_parallel, ctypes.c_void_p).value or 0
    except (OSError, AttributeError):
        return 0


def crew(numbers: int) -> tuple[int, int]:
    """Return how many threads to take for so many numbers, and the runtime to start them with (see :func:`launch`)."""
    if _forked or numbers < 16384:
        return 1, 0
    threads = torch.get_num_threads()
    return (threads, _runtime()) if threads > 1 else (1, 0)


@intrinsic
def launch(typing: Any, kernel: Any, tasks: Any, threads: Any, runtime: Any, args: Any) -> Any:
    """Call ``kernel(task, *args)`` for every task below ``tasks``, on ``threads`` threads of the OpenMP at ``runtime``
    (0: on this one).
    """
    signature = types.void(kernel, types.int64, types.int64, types.int64, args)

    def emit(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        _, tasks, threads, runtime, given = values
        called = kernel.get_call_type(context.typing_context, (types.int64, *args.types), {})
        compiled = kernel.dispatcher.get_compile_result(called)
        context.active_code_library.add_linking_library(compiled.library)

        # What the threads share, on this thread's stack: the next task, how many there are, and the arguments.
        shared_type = ir.LiteralStructType([_I64, _I64, given.type])
        shared = cgutils.alloca_once(builder, shared_type)
        for index, value in enumerate((_I64(0), tasks, given)):
            builder.store(value, builder.gep(shared, [_I32(0), _I32(index)], inbounds=True))

        worker = _worker(context, builder.module, compiled, called, shared_type, args)
        data = builder.bitcast(shared, _BYTE)
        alone = builder.or_(builder.icmp_signed("<=", threads, _I64(1)), builder.icmp_signed("==", runtime, _I64(0)))
        with builder.if_else(alone) as (then, otherwise):
            with then:
                builder.call(worker, [data])
            with otherwise:
                start_type = ir.FunctionType(ir.VoidType(), [worker.type, _BYTE, _I32, _I32])
                start = builder.inttoptr(runtime, start_type.as_pointer())
                builder.call(start, [worker, data, builder.trunc(threads, _I32), _I32(0)])
        return context.get_dummy_value()

    return signature, emit


def _worker(context: Any, module: Any, compiled: Any, called: Any, shared_type: Any, args: Any) -> Any:
    """Make the C function that a thread runs: fetch a task, do it, until there is none left."""
    function = ir.Function(
        module,
        ir.FunctionType(ir.VoidType(), [_BYTE]),
        name=module.get_unique_name(f"worker.{compiled.fndesc.mangled_name}"),
    )
    function.linkage = "internal"
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    shared = builder.bitcast(function.args[0], shared_type.as_pointer())
    counter, limit, given = (builder.gep(shared, [_I32(0), _I32(i)], inbounds=True) for i in range(3))
    limit, given = builder.load(limit), builder.load(given)
    unpacked = [builder.extract_value(given, i) for i in range(len(args.types))]
    body, done = function.append_basic_block("body"), function.append_basic_block("done")
    fetch = function.append_basic_block("fetch")
    builder.branch(fetch)
    builder.position_at_end(fetch)
    task = builder.atomic_rmw("add", counter, _I64(1), "monotonic")
    builder.cbranch(builder.icmp_signed("<", task, limit), body, done)
    builder.position_at_end(body)
    target = context.declare_function(module, compiled.fndesc)
    context.call_conv.call_function(builder, target, called.return_type, called.args, [task, *unpacked])
    builder.branch(fetch)
    builder.position_at_end(done)
    builder.ret_void()
    return function
