"""Vectors of 16 numbers for Numba, written down as LLVM vectors: a kernel says itself what runs side by side.

Numba leaves vectorising to LLVM's optimiser, which gives up on a maximum with its place and on NaN that must come
through. Here a :class:`Vector` is a value like any other, with ``+ - *``; LLVM cuts it into the registers that the
machine has (one of AVX-512, two of AVX, four of NEON or SSE). The functions here are what kernels call.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .vector import (
    BIT,
    I32,
    I64,
    LANES,
    MASK,
    SCALAR,
    STORED,
    emit_address,
    emit_call,
    emit_constant,
    emit_exp,
    emit_load,
    emit_narrow,
    emit_splat,
    emit_store,
    emit_widen,
    kind_of,
    suffix,
)

_COUNTED = ir.Constant(ir.VectorType(I32, LANES), list(range(LANES)))


@intrinsic
def load(typing: Any, tag: Any, address: Any, index: Any, mask: Any) -> Any:
    """Return the elements ``index … index + 15`` of the map at ``address``; those outside the mask are 0 and not
    touched.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_widen(builder, emit_load(builder, STORED[tag], *args[1:]), STORED[tag])

    return kind_of(tag)(tag, types.int64, types.int64, MASK), emit


@intrinsic
def store(typing: Any, tag: Any, address: Any, index: Any, mask: Any, value: Any) -> Any:
    """Write the lanes of ``value`` that the mask names to ``index … index + 15`` of the map at ``address``."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_store(builder, STORED[tag], *args[1:4], emit_narrow(builder, args[4], STORED[tag]))
        return context.get_dummy_value()

    return types.void(tag, types.int64, types.int64, MASK, kind_of(tag)), emit


def _small(tag: Any) -> Any:
    return kind_of(tag).llvm


@intrinsic
def load_small(typing: Any, tag: Any, address: Any, index: Any, mask: Any) -> Any:
    """:func:`load` from an array of the type that is computed with: gates, sums."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_load(builder, _small(tag), *args[1:])

    return kind_of(tag)(tag, types.int64, types.int64, MASK), emit


@intrinsic
def store_small(typing: Any, tag: Any, address: Any, index: Any, mask: Any, value: Any) -> Any:
    """:func:`store` to an array of the type that is computed with."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        emit_store(builder, _small(tag), *args[1:])
        return context.get_dummy_value()

    return types.void(tag, types.int64, types.int64, MASK, kind_of(tag)), emit


@intrinsic
def get(typing: Any, tag: Any, address: Any, index: Any) -> Any:
    """Return one number of an array of the type that is computed with."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(emit_address(builder, args[1], args[2], _small(tag)))

    return SCALAR[kind_of(tag)](tag, types.int64, types.int64), emit


@intrinsic
def put(typing: Any, tag: Any, address: Any, index: Any, value: Any) -> Any:
    """Write one number to an array of the type that is computed with."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[3], emit_address(builder, args[1], args[2], _small(tag)))
        return context.get_dummy_value()

    return types.void(tag, types.int64, types.int64, SCALAR[kind_of(tag)]), emit


@intrinsic
def splat(typing: Any, tag: Any, number: Any) -> Any:
    """Return a vector of one number."""
    kind = kind_of(tag)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return emit_splat(builder, args[1])

    return kind(tag, SCALAR[kind]), emit


@intrinsic
def places(typing: Any, tag: Any, start: Any) -> Any:
    """Return ``start, start + 1, … start + 15`` as numbers (exact below 2²⁴)."""
    kind = kind_of(tag)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        begin = emit_splat(builder, builder.sitofp(args[1], kind.llvm))
        return builder.fadd(begin, ir.Constant(begin.type, [float(lane) for lane in range(LANES)]))

    return kind(tag, types.int64), emit


@intrinsic
def first(typing: Any, count: Any) -> Any:
    """Return a mask of the first ``count`` lanes; 16 or more gives them all."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        most = builder.select(builder.icmp_signed("<", args[0], I64(LANES)), args[0], I64(LANES))
        return builder.icmp_signed("<", _COUNTED, emit_splat(builder, builder.trunc(most, I32)))

    return MASK(types.int64), emit


@intrinsic
def every(typing: Any) -> Any:
    """Return a mask of all lanes."""
    return MASK(), lambda context, builder, signature, args: ir.Constant(ir.VectorType(BIT, LANES), [1] * LANES)


@intrinsic
def beats(typing: Any, value: Any, best: Any) -> Any:
    """Return where ``value`` is greater than ``best`` or the first NaN: as a maximum that lets NaN through would
    replace it.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        new, old = args
        return builder.and_(builder.fcmp_unordered("ugt", new, old), builder.fcmp_ordered("ord", old, old))

    return MASK(value, best), emit


@intrinsic
def both(typing: Any, a: Any, b: Any) -> Any:
    """Return where both masks are true."""
    return MASK(MASK, MASK), lambda context, builder, signature, args: builder.and_(*args)


@intrinsic
def same(typing: Any, a: Any, b: Any) -> Any:
    """Return where two vectors are equal."""
    return MASK(a, b), lambda context, builder, signature, args: builder.fcmp_ordered("==", *args)


@intrinsic
def greater(typing: Any, a: Any, b: Any) -> Any:
    """Return where ``a`` is greater than ``b``; not where one of them is NaN."""
    return MASK(a, b), lambda context, builder, signature, args: builder.fcmp_ordered(">", *args)


@intrinsic
def reaches(typing: Any, a: Any, b: Any) -> Any:
    """Return where ``a`` is at least ``b``; not where one of them is NaN."""
    return MASK(a, b), lambda context, builder, signature, args: builder.fcmp_ordered(">=", *args)


@intrinsic
def choose(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """Return ``a`` where the mask is true, ``b`` elsewhere."""
    return a(MASK, a, a), lambda context, builder, signature, args: builder.select(*args)


@intrinsic
def rectify(typing: Any, value: Any) -> Any:
    """Return 0 for negative numbers and the number itself otherwise, also for NaN."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero = emit_constant(args[0], 0.0)
        return builder.select(builder.fcmp_ordered("<", args[0], zero), zero, args[0])

    return value(value), emit


@intrinsic
def logistic(typing: Any, value: Any) -> Any:
    """Return 1/(1 + exp(-v)), to some units in the last place; NaN stays NaN."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        one = emit_constant(args[0], 1.0)
        e = emit_exp(builder, builder.fneg(args[0]), value.llvm)
        return builder.fdiv(one, builder.fadd(one, e))

    return value(value), emit


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """Return the sum of the lanes."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        element = value.llvm
        name = f"llvm.vector.reduce.fadd.v{LANES}{suffix(element)}"
        kind = ir.FunctionType(element, [element, args[0].type])
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return builder.call(function, [ir.Constant(element, 0.0), args[0]], fastmath=("reassoc",))

    return SCALAR[value](value), emit


def _extreme(builder: Any, value: Any, order: str) -> Any:
    """Return the greatest (``>``) or smallest (``<``) lane of a vector without NaN, by halves."""
    for half in (8, 4, 2, 1):
        spots = [(lane + half) % LANES for lane in range(LANES)]
        other = builder.shuffle_vector(value, value, ir.Constant(ir.VectorType(I32, LANES), spots))
        value = builder.select(builder.fcmp_ordered(order, value, other), value, other)
    return builder.extract_element(value, I32(0))


@intrinsic
def winner(typing: Any, best: Any, where: Any) -> Any:
    """Return the smallest of the places that hold the greatest lane, or NaN if there is one."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value, spots = args
        broken = builder.fcmp_unordered("uno", value, value)
        any_broken = emit_call(builder, f"llvm.vector.reduce.or.v{LANES}i1", BIT, [broken])
        top = emit_splat(
            builder, _extreme(builder, builder.select(broken, emit_constant(value, float("-inf")), value), ">")
        )
        hit = builder.select(emit_splat(builder, any_broken), broken, builder.fcmp_ordered("==", value, top))
        spot = _extreme(builder, builder.select(hit, spots, emit_constant(spots, float("inf"))), "<")
        return builder.fptosi(spot, I64)

    return types.int64(best, where), emit
