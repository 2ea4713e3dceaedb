"""The type of 16 numbers side by side, and how its operations are written in LLVM.

A map's element type is told by a *tag*, a NumPy scalar as first argument: float32, float64, uint16 for bfloat16 and
int16 for float16, which Numba does not know. Arithmetic is in float64 for float64 and in float32 for the others.
Addresses are plain int64.
"""

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import lower_builtin, models, register_model, type_callable

LANES = 16
F32, F64, F16, I16, I32, I64, BIT = (
    ir.FloatType(), ir.DoubleType(), ir.HalfType(), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.IntType(1)
)  # fmt: skip
STORED = {types.float32: F32, types.float64: F64, types.uint16: I16, types.int16: F16}
_FUSE = ("contract",)  # a·b + c may be rounded once


class Vector(types.Type):
    """Sixteen numbers, ``float32`` or ``float64``, or sixteen ``bool`` (a mask)."""

    def __init__(self, element: str, llvm: ir.Type) -> None:
        self.element, self.llvm = element, llvm
        super().__init__(name=f"Vector({element})")


FLOAT, DOUBLE, MASK = Vector("float32", F32), Vector("float64", F64), Vector("bool", BIT)
_FLOATING = (FLOAT, DOUBLE)
SCALAR = {FLOAT: types.float32, DOUBLE: types.float64}


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, ir.VectorType(kind.llvm, LANES))


def _arithmetic(function: Callable[..., Any], emit: str) -> None:
    @type_callable(function)
    def _type(context: Any) -> Any:
        return lambda a, b: a if a == b and a in _FLOATING else None

    for kind in _FLOATING:

        @lower_builtin(function, kind, kind)
        def _lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, emit)(*args, flags=_FUSE)


for _function, _emit in ((operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul")):
    _arithmetic(_function, _emit)


def kind_of(tag: Any) -> Vector:
    return DOUBLE if tag == types.float64 else FLOAT


def emit_splat(builder: Any, scalar: Any) -> Any:
    vector = builder.insert_element(ir.Constant(ir.VectorType(scalar.type, LANES), ir.Undefined), scalar, I32(0))
    return builder.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(I32, LANES), [0] * LANES))


def emit_call(builder: Any, name: str, returns: Any, args: Any) -> Any:
    kind = ir.FunctionType(returns, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def emit_address(builder: Any, address: Any, index: Any, element: Any) -> Any:
    start = builder.inttoptr(address, ir.PointerType(element))
    return builder.gep(start, [index], inbounds=True)


def suffix(element: Any) -> str:
    return {F32: "f32", F64: "f64", F16: "f16", I16: "i16"}[element]


def emit_widen(builder: Any, value: Any, stored: Any) -> Any:
    """Turn what lies in memory into what is computed with: bfloat16 is the upper half of a float32."""
    if stored == F16:
        return builder.fpext(value, _like(value, F32))
    if stored == I16:
        wide = builder.zext(value, _like(value, I32))
        return builder.bitcast(builder.shl(wide, emit_constant(wide, 16)), _like(value, F32))
    return value


def emit_narrow(builder: Any, value: Any, stored: Any) -> Any:
    """Round to what lies in memory, to the nearest, ties to even; NaN stays NaN."""
    if stored == F16:
        return builder.fptrunc(value, _like(value, F16))
    if stored == I16:
        bits = builder.bitcast(value, _like(value, I32))
        upper = builder.lshr(bits, emit_constant(bits, 16))
        odd = builder.and_(upper, emit_constant(bits, 1))
        rounded = builder.lshr(
            builder.add(bits, builder.add(odd, emit_constant(bits, 0x7FFF))), emit_constant(bits, 16)
        )
        quiet = builder.or_(upper, emit_constant(bits, 0x40))
        kept = builder.select(builder.fcmp_unordered("uno", value, value), quiet, rounded)
        return builder.trunc(kept, _like(value, I16))
    return value


def _like(value: Any, element: Any) -> Any:
    return ir.VectorType(element, LANES) if isinstance(value.type, ir.VectorType) else element


def emit_constant(like: Any, number: float) -> Any:
    return ir.Constant(like.type, [number] * LANES if isinstance(like.type, ir.VectorType) else number)


def emit_load(builder: Any, stored: Any, *args: Any) -> Any:
    address, index, mask = args
    vector = ir.VectorType(stored, LANES)
    pointer = builder.bitcast(emit_address(builder, address, index, stored), ir.PointerType(vector))
    align = I32(2 if stored in (F16, I16) else 8 if stored == F64 else 4)
    name = f"llvm.masked.load.v{LANES}{suffix(stored)}.p0"
    return emit_call(builder, name, vector, [pointer, align, mask, ir.Constant(vector, None)])


def emit_store(builder: Any, stored: Any, *args: Any) -> None:
    address, index, mask, value = args
    vector = ir.VectorType(stored, LANES)
    pointer = builder.bitcast(emit_address(builder, address, index, stored), ir.PointerType(vector))
    align = I32(2 if stored in (F16, I16) else 8 if stored == F64 else 4)
    emit_call(builder, f"llvm.masked.store.v{LANES}{suffix(stored)}.p0", ir.VoidType(), [value, pointer, align, mask])


def emit_exp(builder: Any, value: Any, element: Any) -> Any:
    """Return exp(v): in float32 as 2ⁿ times a polynomial of what is left of v·log₂e, which vectorises; in float64 the C
    library's.
    """
    if element == F64:
        return emit_call(builder, f"llvm.exp.v{LANES}f64", value.type, [value])

    def number(x: float) -> Any:
        return emit_constant(value, x)

    broken = builder.fcmp_unordered("uno", value, value)
    v = builder.select(broken, number(0.0), value)
    v = builder.select(builder.fcmp_ordered("<", v, number(-87.0)), number(-87.0), v)
    v = builder.select(builder.fcmp_ordered(">", v, number(88.0)), number(88.0), v)
    scaled = builder.fmul(v, number(1.4426950408889634))
    whole = emit_call(builder, f"llvm.rint.v{LANES}f32", value.type, [scaled])
    rest = builder.fsub(v, builder.fmul(whole, number(0.693145751953125), flags=_FUSE), flags=_FUSE)
    rest = builder.fsub(rest, builder.fmul(whole, number(1.428606765330187e-06), flags=_FUSE), flags=_FUSE)
    result = number(1 / 720)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        result = builder.fadd(builder.fmul(result, rest, flags=_FUSE), number(coefficient), flags=_FUSE)
    exponent = builder.add(builder.fptosi(whole, _like(value, I32)), _whole(127))
    power = builder.bitcast(builder.shl(exponent, _whole(23)), value.type)
    return builder.select(broken, value, builder.fmul(result, power))


def _whole(number: int) -> Any:
    return ir.Constant(ir.VectorType(I32, LANES), [number] * LANES)
