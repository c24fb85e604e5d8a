"""bfloat16 in registers: rounding to it, and pairs of them in the 32 bits of a uint32.

A bfloat16 is the upper half of a float32. The first number of a pair lies in the lower half.
AVX-512 rounds in hardware and takes numbers below 2**-126 for zeros, as its products do.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ._host import has_bfloat16
from ._memory import address_ir, load_partial_ir, store_ir, transposed_ir
from ._simd import VectorType

_INT16, _INT32 = ir.IntType(16), ir.IntType(32)
_PAIR = types.uint32
_TURNED_ROWS = 16


class BFloatType(ir.Type):
    """LLVM's ``bfloat``, which llvmlite has no class for."""

    def __str__(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, BFloatType)

    def __hash__(self):
        return hash(BFloatType)


def call_ir(builder, name, result, *args):
    """Call the LLVM intrinsic of exactly that name."""
    fnty = ir.FunctionType(result, [a.type for a in args])
    function = builder.module.globals.get(name) or ir.Function(builder.module, fnty, name)
    return builder.call(function, args)


def constants_ir(number, count):
    """<count x i32> of one number."""
    return ir.Constant(ir.VectorType(_INT32, count), [number] * count)


def round_ir(builder, v, hardware=None):
    """A float32 register as <count x i16>, the bits of the nearest bfloat16s, ties to even."""
    count = v.type.count
    if has_bfloat16() if hardware is None else hardware:
        name = "llvm.x86.avx512bf16.cvtneps2bf16.512"
        rounded = call_ir(builder, name, ir.VectorType(BFloatType(), count), v)
        return builder.bitcast(rounded, ir.VectorType(_INT16, count))
    bits = builder.bitcast(v, ir.VectorType(_INT32, count))
    sixteen = constants_ir(16, count)
    # Half of the last place that is kept, less one where that place is even: a carry rounds up.
    odd = builder.and_(builder.lshr(bits, sixteen), constants_ir(1, count))
    rounded = builder.add(bits, builder.add(odd, constants_ir(0x7FFF, count)))
    # A carry would make an infinity, or a zero, of a NaN: its quiet bit is set instead.
    quiet = builder.or_(bits, constants_ir(0x400000, count))
    chosen = builder.select(builder.fcmp_unordered("uno", v, v), quiet, rounded)
    return builder.trunc(builder.lshr(chosen, sixteen), ir.VectorType(_INT16, count))


def _joined_ir(builder, first, second, order):
    """Two <count x i16> as <count x i32>, the halves in the given order."""
    mask = ir.Constant(ir.VectorType(_INT32, len(order)), order)
    halves = builder.shuffle_vector(first, second, mask)
    return builder.bitcast(halves, ir.VectorType(_INT32, len(order) // 2))


def _is_float32(*vectors):
    return all(isinstance(v, VectorType) and v.dtype == types.float32 for v in vectors)


@intrinsic
def pairs_of_lanes(typingctx, first, second):
    """Register of pairs (first[i], second[i]): what follows each other from row to row."""
    if not _is_float32(first, second):
        return None

    def codegen(context, builder, sig, args):
        low, high = (round_ir(builder, v) for v in args)
        order = [i + half * first.count for i in range(first.count) for half in (0, 1)]
        return _joined_ir(builder, low, high, order)

    return signature(VectorType(_PAIR), first, second), codegen


@intrinsic
def pairs_of_neighbours(typingctx, first, second):
    """Register of pairs (v[2i], v[2i+1]), v being the lanes of first and then of second."""
    if not _is_float32(first, second):
        return None

    def codegen(context, builder, sig, args):
        low, high = (round_ir(builder, v) for v in args)
        return _joined_ir(builder, low, high, list(range(2 * first.count)))

    return signature(VectorType(_PAIR), first, second), codegen


@intrinsic
def store_neighbours(typingctx, pairs, offset, v):
    """pairs[offset : offset + lanes / 2] = (v[0], v[1]), (v[2], v[3]), ..."""
    if not _is_float32(v):
        return None

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, pairs, args[0], args[1])
        store_ir(builder, round_ir(builder, args[2]), address)
        return context.get_dummy_value()

    return signature(types.void, pairs, types.intp, v), codegen


@intrinsic
def turn_rows(typingctx, pairs, offset, values, values_at, count, rows):
    """Pairs of 16 rows of a block, transposed: feature f's eight pairs at pairs[offset + 16 f].

    values : rows side by side, a vector each; zeros are taken for lanes from ``count`` on and for
        rows from ``rows`` on, which are not read
    """
    vector = VectorType(values.dtype)

    def codegen(context, builder, sig, args):
        to_array, to_at, from_array, from_at, lanes, there = args
        index = ir.IntType(64)
        first = address_ir(context, builder, values, from_array, from_at)
        halves = []
        for row in range(_TURNED_ROWS):
            read = builder.icmp_signed("<", index(row), there)
            shown = builder.select(read, lanes, index(0))
            address = builder.gep(first, [index(row * vector.count)])
            halves.append(round_ir(builder, load_partial_ir(builder, address, vector, shown)))
        order = [i + half * vector.count for i in range(vector.count) for half in (0, 1)]
        registers = [
            _joined_ir(builder, low, high, order)
            for low, high in zip(halves[::2], halves[1::2], strict=True)
        ]
        registers += [constants_ir(0, vector.count)] * (vector.count - len(registers))
        start = address_ir(context, builder, pairs, to_array, to_at)
        eight = ir.Constant(ir.VectorType(_INT32, 8), list(range(8)))
        for feature, register in enumerate(transposed_ir(builder, registers)):
            half = builder.shuffle_vector(register, register, eight)
            store_ir(builder, half, builder.gep(start, [index(feature * vector.count)]))
        return context.get_dummy_value()

    sig = signature(types.void, pairs, types.intp, values, types.intp, types.int64, types.int64)
    return sig, codegen


def numbers_ir(builder, pairs, upper):
    """The first or second numbers of a register of pairs, as float32."""
    count = pairs.type.count
    if upper:
        bits = builder.and_(pairs, constants_ir(0xFFFF0000, count))
    else:
        bits = builder.shl(pairs, constants_ir(16, count))
    return builder.bitcast(bits, ir.VectorType(ir.FloatType(), count))


def rounded_ir(builder, v, hardware=None):
    """A float32 register rounded to bfloat16, as float32 again."""
    rounded = round_ir(builder, v, hardware)
    bits = builder.zext(rounded, ir.VectorType(_INT32, v.type.count))
    return numbers_ir(builder, bits, upper=False)


@intrinsic
def rounded(typingctx, v):
    """A float32 register rounded to bfloat16."""
    if not _is_float32(v):
        return None
    return signature(v, v), lambda context, builder, sig, args: rounded_ir(builder, args[0])
