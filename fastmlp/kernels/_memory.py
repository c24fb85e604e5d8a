"""Vectors to and from memory: whole, partial, converted, transposed; and memory on the stack.

``load(array, i)`` and ``store(array, i, vector)`` move whole vectors and check no bounds: arrays
handed to a kernel are padded, or the tail goes through ``load_partial`` and ``store_partial``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ._simd import LLVM_NAMES, VectorType, element_ir, lanes_below_ir, vector_ir

_INT32 = ir.IntType(32)


class Place(NamedTuple):
    """Where an operand lies: from ``at`` on in a flat array."""

    array: np.ndarray
    at: int


def address_ir(context, builder, array_type, array, offset):
    """Pointer to element ``offset`` of a 1-D contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset], inbounds=True)


def load_ir(builder, address, vector: VectorType):
    pointer = builder.bitcast(address, vector_ir(vector).as_pointer())
    return builder.load(pointer, align=vector.dtype.bitwidth // 8)


def store_ir(builder, value, address):
    pointer = builder.bitcast(address, value.type.as_pointer())
    align = 8 if isinstance(value.type.element, ir.DoubleType) else 4
    builder.store(value, pointer, align=align)


@intrinsic
def load(typingctx, array, offset):
    """The vector array[offset : offset + lanes]."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        return load_ir(builder, address, vector)

    return signature(vector, array, types.intp), codegen


@intrinsic(prefer_literal=True)
def load_numbers(typingctx, array, offset, count):
    """The tuple (array[offset], ..., array[offset + count - 1]); array may also be a pointer."""
    numbers = types.UniTuple(array.dtype, count.literal_value)

    def codegen(context, builder, sig, args):
        if isinstance(array, types.CPointer):
            first = builder.gep(args[0], [args[1]])
        else:
            first = address_ir(context, builder, array, args[0], args[1])
        values = [builder.load(builder.gep(first, [_INT32(i)])) for i in range(numbers.count)]
        return context.make_tuple(builder, numbers, values)

    return signature(numbers, array, types.intp, count), codegen


@intrinsic
def store(typingctx, array, offset, vector):
    """array[offset : offset + lanes] = vector."""

    def codegen(context, builder, sig, args):
        store_ir(builder, args[2], address_ir(context, builder, array, args[0], args[1]))
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, VectorType(array.dtype)), codegen


def _masked(builder, name, moved, result, *args):
    """Call the LLVM intrinsic that moves the lanes of a mask; ``moved`` is an IR vector."""
    full_name = f"llvm.masked.{name}.v{moved.count}{LLVM_NAMES[moved.element]}.p0"
    fnty = ir.FunctionType(result, [a.type for a in args])
    function = builder.module.globals.get(full_name) or ir.Function(builder.module, fnty, full_name)
    return builder.call(function, args)


def load_partial_ir(builder, address, vector, count):
    mask = lanes_below_ir(builder, vector, count)
    return _load_masked_ir(builder, address, vector_ir(vector), vector.dtype.bitwidth // 8, mask)


def _load_masked_ir(builder, address, moved, align, mask):
    """The lanes of a mask from memory, zeros in the rest."""
    pointer = builder.bitcast(address, moved.as_pointer())
    zeros = ir.Constant(moved, None)
    return _masked(builder, "load", moved, moved, pointer, _INT32(align), mask, zeros)


@intrinsic
def load_partial(typingctx, array, offset, count):
    """The first ``count`` lanes from array[offset:], zeros in the rest; reads nothing beyond."""
    vector = VectorType(array.dtype)

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        return load_partial_ir(builder, address, vector, args[2])

    return signature(vector, array, types.intp, types.int64), codegen


def _store_masked_ir(builder, value, address, vector, mask):
    pointer = builder.bitcast(address, vector_ir(vector).as_pointer())
    align = _INT32(vector.dtype.bitwidth // 8)
    _masked(builder, "store", vector_ir(vector), ir.VoidType(), value, pointer, align, mask)


@intrinsic
def store_partial(typingctx, array, offset, count, vector):
    """array[offset : offset + count] = the first ``count`` lanes; writes nothing beyond."""
    expected = VectorType(array.dtype)

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        mask = lanes_below_ir(builder, expected, args[2])
        _store_masked_ir(builder, args[3], address, expected, mask)
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, types.int64, expected), codegen


# Kinds of numbers that a caller's array may hold.
UINT8, FLOAT32, FLOAT64 = 0, 1, 2
_KINDS = {UINT8: ir.IntType(8), FLOAT32: ir.FloatType(), FLOAT64: ir.DoubleType()}


def _convert_ir(builder, value, target):
    """Numbers or vectors of any kind as floats of the target type."""
    element = getattr(value.type, "element", value.type)
    goal = getattr(target, "element", target)
    if isinstance(element, ir.IntType):
        return builder.uitofp(value, target)
    if element == goal:
        return value
    if isinstance(goal, ir.DoubleType):
        return builder.fpext(value, target)
    return builder.fptrunc(value, target)


@intrinsic(prefer_literal=True)
def load_from(typingctx, like, address, kind):
    """The vector of ``like``'s dtype made from consecutive numbers of a kind at an address."""
    vector = VectorType(like.dtype)
    element = _KINDS[kind.literal_value]

    def codegen(context, builder, sig, args):
        source = ir.VectorType(element, vector.count)
        pointer = builder.inttoptr(args[1], source.as_pointer())
        return _convert_ir(builder, builder.load(pointer, align=1), vector_ir(vector))

    return signature(vector, like, types.intp, kind), codegen


@intrinsic(prefer_literal=True)
def load_partial_from(typingctx, like, address, kind, count):
    """``load_from`` of the first ``count`` numbers, zeros in the rest; reads nothing beyond."""
    vector = VectorType(like.dtype)
    element = _KINDS[kind.literal_value]

    def codegen(context, builder, sig, args):
        source = ir.VectorType(element, vector.count)
        pointer = builder.inttoptr(args[1], source.as_pointer())
        mask = lanes_below_ir(builder, vector, args[3])
        return _convert_ir(
            builder, _load_masked_ir(builder, pointer, source, 1, mask), vector_ir(vector)
        )

    return signature(vector, like, types.intp, kind, types.int64), codegen


@intrinsic(prefer_literal=True)
def number_from(typingctx, like, address, kind):
    """The number of a kind at an address, as one of ``like``'s dtype."""
    element = _KINDS[kind.literal_value]

    def codegen(context, builder, sig, args):
        pointer = builder.inttoptr(args[1], element.as_pointer())
        return _convert_ir(builder, builder.load(pointer, align=1), element_ir(like.dtype))

    return signature(like.dtype, like, types.intp, kind), codegen


@intrinsic
def prefetch(typingctx, address):
    """Ask for the cache line at an address; any address is safe."""

    def codegen(context, builder, sig, args):
        pointer = builder.inttoptr(args[0], ir.IntType(8).as_pointer())
        fnty = ir.FunctionType(ir.VoidType(), [pointer.type, _INT32, _INT32, _INT32])
        name = "llvm.prefetch.p0"
        function = builder.module.globals.get(name) or ir.Function(builder.module, fnty, name)
        # To read it, into the second-level cache, as data: the first-level cache can wait for fewer
        # lines at a time.
        builder.call(function, [pointer, _INT32(0), _INT32(2), _INT32(1)])
        return context.get_dummy_value()

    return signature(types.void, types.intp), codegen


def transposed_ir(builder, rows):
    """As many registers as one has lanes, transposed.

    In log2(lanes) rounds: round s exchanges the off-diagonal squares of side s.
    """
    rows, count = list(rows), len(rows)
    mask = ir.VectorType(_INT32, count)
    side = 1
    while side < count:
        for i in range(count):
            if i & side:
                continue
            upper, lower = rows[i], rows[i + side]
            keep = [j if not j & side else count + j - side for j in range(count)]
            swap = [j + side if not j & side else count + j for j in range(count)]
            rows[i] = builder.shuffle_vector(upper, lower, ir.Constant(mask, keep))
            rows[i + side] = builder.shuffle_vector(upper, lower, ir.Constant(mask, swap))
        side *= 2
    return rows


@intrinsic
def transpose(typingctx, target, target_at, target_step, source, source_at, source_step):
    """target[j, i] = source[i, j] for a square of as many rows as a vector has lanes."""
    vector = VectorType(source.dtype)
    count = vector.count

    def codegen(context, builder, sig, args):
        to_array, to_start, to_step, from_array, from_start, from_step = args
        first = address_ir(context, builder, source, from_array, from_start)
        index = ir.IntType(64)
        rows = [
            load_ir(builder, builder.gep(first, [builder.mul(index(i), from_step)]), vector)
            for i in range(count)
        ]
        start = address_ir(context, builder, target, to_array, to_start)
        for i, row in enumerate(transposed_ir(builder, rows)):
            store_ir(builder, row, builder.gep(start, [builder.mul(index(i), to_step)]))
        return context.get_dummy_value()

    sig = signature(types.void, target, types.intp, types.intp, source, types.intp, types.intp)
    return sig, codegen


@intrinsic
def transpose_part(
    typingctx, target, target_at, target_step, source, source_at, source_step, rows, columns, width
):
    """target[j, i] = source[i, j] for i < rows, j < columns; 0 for rows <= i < width.

    All three are at most the lanes of a vector. Nothing else is read or written.
    """
    vector = VectorType(source.dtype)
    index = ir.IntType(64)

    def codegen(context, builder, sig, args):
        to_array, to_start, to_step, from_array, from_start, from_step, *sizes = args
        rows, columns, width = sizes
        nothing = ir.Constant(ir.VectorType(ir.IntType(1), vector.count), [0] * vector.count)

        def places(array_type, array, start, step, lines, lanes):
            """(address, mask of the lanes) of every line."""
            first = address_ir(context, builder, array_type, array, start)
            mask = lanes_below_ir(builder, vector, lanes)
            for i in range(vector.count):
                there = builder.icmp_signed("<", index(i), lines)
                address = builder.gep(first, [builder.mul(index(i), step)])
                yield address, builder.select(there, mask, nothing)

        registers = []
        for address, mask in places(source, from_array, from_start, from_step, rows, columns):
            align = vector.dtype.bitwidth // 8
            registers.append(_load_masked_ir(builder, address, vector_ir(vector), align, mask))
        to = places(target, to_array, to_start, to_step, columns, width)
        for register, (address, mask) in zip(transposed_ir(builder, registers), to, strict=True):
            _store_masked_ir(builder, register, address, vector, mask)
        return context.get_dummy_value()

    sig = signature(types.void, target, types.intp, types.intp, source, *[types.intp] * 5)
    return sig, codegen


@intrinsic(prefer_literal=True)
def squares_on_stack(typingctx, like, count):
    """An array of ``like``'s dtype for so many squares, each a vector wide; until the caller's end.

    What it holds at first is not defined.
    """
    array = types.Array(like.dtype, 1, "C")
    vector = VectorType(like.dtype)
    numbers = count.literal_value * vector.count**2

    def codegen(context, builder, sig, args):
        # Where nothing is compiled, importing it takes a fifth of the time of importing fastmlp.
        from numba.np.arrayobj import populate_array

        memory = cgutils.alloca_once(builder, element_ir(like.dtype), size=ir.IntType(64)(numbers))
        memory.align = 64
        itemsize = ir.IntType(64)(like.dtype.bitwidth // 8)
        struct = context.make_array(array)(context, builder)
        populate_array(struct, memory, [ir.IntType(64)(numbers)], [itemsize], itemsize, None)
        return struct._getvalue()

    return signature(array, like, count), codegen
