"""A SIMD vector as a Numba type, so that kernels say what the registers do.

A vector is a register of the host's, or some side by side where those are short (see ``_host``);
``_memory`` loads and stores it. Vectors add, subtract, multiply, divide, negate and compare like
NumPy arrays, numbers broadcast, and ``where``, ``copysign`` and the rest below do what their NumPy
namesakes do. A formula written for numbers (an activation, an update rule) therefore runs on whole
registers, and its result does not depend on what an auto-vectoriser makes of it.
"""

from __future__ import annotations

import operator

from llvmlite import ir
from numba.core import types
from numba.core.extending import (
    intrinsic,
    lower_builtin,
    lower_cast,
    models,
    register_model,
)
from numba.core.typeconv import Conversion
from numba.core.typing.templates import AbstractTemplate, infer_global, signature

from ._host import lanes

_INT32 = ir.IntType(32)

# Of elements, in the names of LLVM's intrinsics.
LLVM_NAMES = {ir.IntType(8): "i8", ir.FloatType(): "f32", ir.DoubleType(): "f64"}


class VectorType(types.Type):
    """A register of ``count`` float32 or float64; or of uint32 or uint64, which are only moved."""

    def __init__(self, dtype):
        self.dtype = dtype
        self.count = lanes(dtype.bitwidth // 8)
        super().__init__(name=f"Vector({dtype}, {self.count})")

    def can_convert_from(self, typingctx, other):
        """Numbers broadcast."""
        return Conversion.safe if isinstance(other, types.Number) else None


class MaskType(types.Type):
    """The outcome of comparing two vectors, a bit per lane."""

    def __init__(self, count):
        self.count = count
        super().__init__(name=f"Mask({count})")


_ELEMENTS = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.uint32: _INT32,
    types.uint64: ir.IntType(64),
}


def element_ir(dtype) -> ir.Type:
    return _ELEMENTS[dtype]


def vector_ir(vector: VectorType) -> ir.VectorType:
    return ir.VectorType(element_ir(vector.dtype), vector.count)


def _bits_ir(vector: VectorType) -> ir.VectorType:
    return ir.VectorType(ir.IntType(vector.dtype.bitwidth), vector.count)


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, vector_ir(fe_type))


@register_model(MaskType)
class _MaskModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(1), fe_type.count))


def splat_ir(builder, scalar, count):
    """<count x scalar>."""
    vector = ir.VectorType(scalar.type, count)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, _INT32(0))
    return splat_lane_ir(builder, first, 0, count)


def splat_lane_ir(builder, numbers, lane, count):
    """<count x scalar> of one lane of a vector of any length."""
    mask = ir.Constant(ir.VectorType(_INT32, count), [lane] * count)
    return builder.shuffle_vector(numbers, ir.Constant(numbers.type, ir.Undefined), mask)


@lower_cast(types.Float, VectorType)
@lower_cast(types.Integer, VectorType)
@lower_cast(types.IntegerLiteral, VectorType)
def _broadcast(context, builder, from_type, to_type, value):
    if isinstance(from_type, types.Literal):
        value = context.get_constant(to_type.dtype, from_type.literal_value)
    else:
        value = context.cast(builder, value, from_type, to_type.dtype)
    return splat_ir(builder, value, to_type.count)


def _common_vector(args):
    """The vector type of an operation on vectors and numbers, or None if it is not one."""
    vectors = [a for a in args if isinstance(a, VectorType)]
    if vectors and all(a == vectors[0] or isinstance(a, types.Number) for a in args):
        return vectors[0]
    return None


def _register_operator(op, emit, compares=False):
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            vector = _common_vector(args)
            if vector is None:
                return None
            result = MaskType(vector.count) if compares else vector
            return signature(result, *[vector] * len(args))

    infer_global(op)(Template)

    def lower(context, builder, sig, args):
        return emit(builder, *args)

    arity = 1 if op is operator.neg else 2
    lower_builtin(op, *[VectorType] * arity)(lower)


for _op, _name in [
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.neg, "fneg"),
]:
    _register_operator(_op, lambda b, *args, name=_name: getattr(b, name)(*args))
for _op, _sign in [
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.eq, "=="),
]:
    _register_operator(_op, lambda b, x, y, sign=_sign: b.fcmp_ordered(sign, x, y), compares=True)
# NaN differs from all, itself too.
_register_operator(operator.ne, lambda b, x, y: b.fcmp_unordered("!=", x, y), compares=True)


def _call(builder, name, result, *args):
    """Call the LLVM intrinsic ``name``, overloaded on the vector type ``result``."""
    element = LLVM_NAMES[result.element]
    fnty = ir.FunctionType(result, [a.type for a in args])
    full_name = f"llvm.{name}.v{result.count}{element}"
    function = builder.module.globals.get(full_name) or ir.Function(builder.module, fnty, full_name)
    return builder.call(function, args)


def fma_ir(builder, a, b, c):
    """a*b + c: one rounding where the processor has the instruction, two where it has not."""
    return _call(builder, "fmuladd", a.type, a, b, c)


def _elementwise(emit):
    """An intrinsic on vectors from a function that emits its IR; numbers broadcast."""

    def typer(typingctx, *args):
        vector = _common_vector(args)
        if vector is None:
            return None
        return signature(vector, *[vector] * len(args)), lambda c, b, s, a: emit(b, *a)

    return typer


@intrinsic
def fma(typingctx, a, b, c):
    """a*b + c, fused where the processor can."""
    return _elementwise(fma_ir)(typingctx, a, b, c)


@intrinsic
def absolute(typingctx, a):
    """|a|."""
    return _elementwise(lambda b, x: _call(b, "fabs", x.type, x))(typingctx, a)


@intrinsic
def copysign(typingctx, magnitude, sign):
    """``magnitude`` with the sign of ``sign``."""
    return _elementwise(lambda b, x, y: _call(b, "copysign", x.type, x, y))(
        typingctx, magnitude, sign
    )


@intrinsic
def sqrt(typingctx, a):
    """Square root, correctly rounded."""
    return _elementwise(lambda b, x: _call(b, "sqrt", x.type, x))(typingctx, a)


@intrinsic
def where(typingctx, mask, a, b):
    """a where the mask is set, b elsewhere."""
    vector = _common_vector((a, b))
    if vector is None or not isinstance(mask, MaskType):
        return None
    sig = signature(vector, mask, vector, vector)
    return sig, lambda c, builder, s, args: builder.select(*args)


def polynomial(coefficients):
    """An intrinsic x -> sum of coefficients[k] * x**k, by Horner's rule."""

    @intrinsic
    def evaluate(typingctx, x):
        def codegen(context, builder, sig, args):
            constants = [ir.Constant(vector_ir(x), [c] * x.count) for c in coefficients]
            value = constants[-1]
            for constant in reversed(constants[:-1]):
                value = fma_ir(builder, value, args[0], constant)
            return value

        return signature(x, x), codegen

    return evaluate


def _bits_of_format(vector: VectorType) -> tuple[int, int]:
    """(bits of the mantissa, bias of the exponent) of a vector's numbers."""
    return (23, 127) if vector.dtype == types.float32 else (52, 1023)


@intrinsic
def two_to_the(typingctx, shifted):
    """2**n for whole n within the exponent range, given ``n + 1.5 * 2**mantissa bits``.

    That sum holds n in the low bits of its mantissa; moved to the exponent's place they are
    the power, without a conversion to integers, which AVX2 lacks for 64 bits.
    """
    mantissa, bias = _bits_of_format(shifted)

    def codegen(context, builder, sig, args):
        bits = _bits_ir(shifted)
        biased = builder.add(
            builder.bitcast(args[0], bits), ir.Constant(bits, [bias] * shifted.count)
        )
        power = builder.shl(biased, ir.Constant(bits, [mantissa] * shifted.count))
        return builder.bitcast(power, vector_ir(shifted))

    return signature(shifted, shifted), codegen


@intrinsic
def exponent(typingctx, x):
    """n of x = f * 2**n, 1 <= f < 2, as a number, for normal x above 0.

    Its bits, added to those of 1.5 * 2**mantissa bits, make that number larger by as much: no
    integer is converted, for the reason given in ``two_to_the``.
    """
    mantissa, bias = _bits_of_format(x)
    magic = 1.5 * 2.0**mantissa
    magic_bits = 0x4B400000 if x.dtype == types.float32 else 0x4338000000000000

    def codegen(context, builder, sig, args):
        bits = _bits_ir(x)
        biased = builder.lshr(
            builder.bitcast(args[0], bits), ir.Constant(bits, [mantissa] * x.count)
        )
        shifted = builder.add(biased, ir.Constant(bits, [magic_bits] * x.count))
        number = builder.bitcast(shifted, vector_ir(x))
        return builder.fsub(number, ir.Constant(vector_ir(x), [magic + bias] * x.count))

    return signature(x, x), codegen


@intrinsic
def sum_lanes(typingctx, vector):
    """The sum over the lanes."""

    def codegen(context, builder, sig, args):
        (value,) = args
        # Halves are folded onto each other, so the order of additions is fixed.
        width = vector.count
        while width > 1:
            width //= 2
            low = ir.Constant(ir.VectorType(_INT32, width), list(range(width)))
            high = ir.Constant(ir.VectorType(_INT32, width), list(range(width, 2 * width)))
            undefined = ir.Constant(value.type, ir.Undefined)
            a = builder.shuffle_vector(value, undefined, low)
            b = builder.shuffle_vector(value, undefined, high)
            value = builder.fadd(a, b)
        return builder.extract_element(value, _INT32(0))

    return vector.dtype(vector), codegen


@intrinsic
def mask_bits(typingctx, mask):
    """The lanes of a mask as the bits of a number, the first lane as the lowest."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.count))
        return builder.zext(bits, ir.IntType(64))

    return types.int64(mask), codegen


@intrinsic
def full_like(typingctx, vector, number):
    """A vector of ``vector``'s type with ``number`` in every lane."""
    return signature(vector, vector, vector), lambda context, builder, sig, args: args[1]


@intrinsic
def vector_lanes(typingctx, array):
    """Lanes of a vector of the array's dtype, a constant."""
    count = VectorType(array.dtype).count
    return types.intp(array), lambda context, builder, sig, args: ir.IntType(64)(count)


def lanes_below_ir(builder, vector, count):
    """Mask of the lanes below ``count``."""
    bits = ir.VectorType(ir.IntType(64), vector.count)
    numbers = ir.Constant(bits, list(range(vector.count)))
    return builder.icmp_signed("<", numbers, splat_ir(builder, count, vector.count))


@intrinsic
def first_lanes(typingctx, vector, count):
    """Mask of the lanes 0 ... count-1 of a vector shaped like ``vector``."""

    def codegen(context, builder, sig, args):
        return lanes_below_ir(builder, vector, args[1])

    return signature(MaskType(vector.count), vector, types.int64), codegen
