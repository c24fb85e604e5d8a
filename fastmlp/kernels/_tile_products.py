"""What multiplies into a register tile (see ``_tile``), for the three products of an MLP.

Sums run over k in ascending order in one accumulator, so an element of the tile has the same bits
wherever it was computed.

A product of inputs may leave features out, as ``features`` says (see ``present.Features``): those
that are zero in all rows. Units that round take them all.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.cgutils import unpack_tuple
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ._host import multiplies_by_lane
from ._memory import address_ir, load_ir
from ._simd import VectorType, fma_ir, splat_ir, splat_lane_ir
from ._tile import INT64, int_ir, pack_ir, unpack_ir
from ._tile_amx import SIDE, Registers, multiply_ir
from ._tile_bf16 import multiply_avx512_ir, multiply_emulated_ir
from ._units import AmxUnit, Avx512Unit, EmulatedUnit, FloatUnit

# A unit's (a, b, c) -> c + a * b on registers; or, of squares, its instructions.
_MULTIPLY = {
    FloatUnit: fma_ir,
    EmulatedUnit: multiply_emulated_ir,
    Avx512Unit: multiply_avx512_ir,
}
_SQUARES = {AmxUnit: Registers}


class _Loop:
    """A counted loop with values carried from turn to turn in registers, as phi nodes."""

    def __init__(self, builder, count, carried):
        self.builder = builder
        self.before = builder.block
        self.head = builder.append_basic_block("turn")
        self.after = builder.append_basic_block("after")
        self.count = count
        builder.cbranch(builder.icmp_signed(">", count, int_ir(0)), self.head, self.after)
        builder.position_at_end(self.head)
        self.index = builder.phi(INT64)
        self.index.add_incoming(int_ir(0), self.before)
        self.start = carried
        self.values = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.values, carried, strict=True):
            phi.add_incoming(value, self.before)

    def close(self, carried):
        """End the turn with the new values; returns the values after the last turn."""
        builder = self.builder
        end = builder.block
        following = builder.add(self.index, int_ir(1))
        self.index.add_incoming(following, end)
        for phi, value in zip(self.values, carried, strict=True):
            phi.add_incoming(value, end)
        builder.cbranch(builder.icmp_signed("<", following, self.count), self.head, self.after)
        builder.position_at_end(self.after)
        results = []
        for first, last in zip(self.start, carried, strict=True):
            phi = builder.phi(first.type)
            phi.add_incoming(first, self.before)
            phi.add_incoming(last, end)
            results.append(phi)
        return results


class _Features:
    """A ``present.Features`` in IR."""

    def __init__(self, context, builder, kind, value):
        names = kind.fields
        fields = dict(zip(names, unpack_tuple(builder, value), strict=True))
        lists = kind.types[names.index("lists")]
        self._builder, self.listed = builder, None
        if isinstance(lists, types.Array):
            self.listed = builder.icmp_signed(">=", fields["present"], int_ir(0))
            self._runs = fields["runs"]
            self._order = address_ir(context, builder, lists, fields["lists"], fields["at"])
            self._pairs = builder.gep(self._order, [fields["width"]])

    def rows(self, first, count):
        """The features of a list that come ``first`` ... first + count - 1."""
        builder, at = self._builder, self._builder.gep(self._order, [first])
        return [self._number(builder.gep(at, [int_ir(row)])) for row in range(count)]

    def runs(self, otherwise):
        """How many runs there are; ``otherwise`` where there is no list."""
        if self.listed is None:
            return otherwise
        return self._builder.select(self.listed, self._runs, otherwise)

    def run(self, index, otherwise):
        """(first, length) of run ``index``; ``otherwise`` where there is no list."""
        if self.listed is None:
            return otherwise
        builder = self._builder
        before = builder.block
        with builder.if_then(self.listed):
            at = builder.gep(self._pairs, [builder.mul(index, int_ir(2))])
            pair = self._number(at), self._number(builder.gep(at, [int_ir(1)]))
            inside = builder.block
        results = []
        for number, other in zip(pair, otherwise, strict=True):
            phi = builder.phi(INT64)
            phi.add_incoming(other, before)
            phi.add_incoming(number, inside)
            results.append(phi)
        return results

    def _number(self, address):
        return self._builder.zext(self._builder.load(address), INT64)


def _spread(builder, tile, addresses):
    """The numbers at some addresses, each in all lanes of a vector."""
    return (splat_ir(builder, builder.load(a), tile.vector.count) for a in addresses)


def _neighbours(builder, tile, address):
    """As many numbers as a tile has rows, side by side, each in all lanes of a vector."""
    if not multiplies_by_lane():
        places = (builder.gep(address, [int_ir(row)]) for row in range(tile.rows))
        return _spread(builder, tile, places)
    # One load, and all that is live of them lies in a register or two.
    numbers = ir.VectorType(address.type.pointee, tile.rows)
    loaded = builder.load(builder.bitcast(address, numbers.as_pointer()), align=tile.itemsize)
    return [splat_lane_ir(builder, loaded, row, tile.vector.count) for row in range(tile.rows)]


def _rank_one(builder, unit, tile, registers, factors, b, vector_step):
    """One k: registers[r, v] += factors[r] * b[v * vector_step]."""
    multiply = _MULTIPLY[unit.instance_class]
    operand = tile.vector if unit.instance_class is FloatUnit else VectorType(types.uint32)
    columns = [
        load_ir(builder, builder.gep(b, [builder.mul(int_ir(v), vector_step)]), operand)
        for v in range(tile.vectors)
    ]
    result = list(registers)
    for row, factor in enumerate(factors):
        for v in range(tile.vectors):
            cell = row * tile.vectors + v
            result[cell] = multiply(builder, factor, columns[v], registers[cell])
    return result


def _multiply_squares(builder, unit, tile, value, depth, a_of, b_of, b_step):
    """The tile after a product of whole squares; b's rows lie ``b_step`` pairs apart."""
    squares = builder.sdiv(builder.add(depth, int_ir(SIDE - 1)), int_ir(SIDE))
    registers = _SQUARES[unit.instance_class](builder)
    cells = unpack_ir(builder, tile, value)
    return pack_ir(
        builder, tile, multiply_ir(builder, registers, tile, cells, a_of, b_of, 4 * b_step, squares)
    )


def _panel_square(builder, tile, first, square, vector):
    """Address of a square of a panel: so many rows down, so many vectors to the right."""
    width = tile.vectors * tile.vector.count
    rows_down = builder.mul(square, int_ir(SIDE * width))
    return builder.gep(first, [builder.add(rows_down, int_ir(vector * tile.vector.count))])


def _around_products(method):
    """An intrinsic that calls a unit's registers before or after a product, if it has any."""

    @intrinsic
    def call(typingctx, unit):
        def codegen(context, builder, sig, args):
            if unit.instance_class in _SQUARES:
                getattr(_SQUARES[unit.instance_class](builder), method)()
            return context.get_dummy_value()

        return signature(types.void, unit), codegen

    return call


# To be called by every thread before and after the products of a unit.
tiles_begin, tiles_end = _around_products("configure"), _around_products("release")


def _in_blocks(builder, lanes, first, feature, block_step):
    """The address of a feature of blocks, in their first row: its block, and its place in it."""
    count = int_ir(lanes)
    block = builder.mul(builder.udiv(feature, count), block_step)
    return builder.gep(first, [builder.add(block, builder.urem(feature, count))])


@intrinsic
def tile_multiply_blocks(typingctx, unit, tile, a, a_offset, pitch, b, b_offset, depth, features):
    """tile[r, :] += sum_k a[row r, feature k] * b[k, :], a in blocks, b a panel; k < depth.

    The product of the forward pass (a inputs, b weights) and of the input gradient (a output
    gradients, b transposed weights).
    """
    lanes = tile.vector.count

    def codegen(context, builder, sig, args):
        _, value, a_array, a_start, a_pitch, b_array, b_start, total, chosen = args
        a_first = address_ir(context, builder, a, a_array, a_start)
        b_first = address_ir(context, builder, b, b_array, b_start)
        block_step = builder.mul(a_pitch, int_ir(lanes))
        width = int_ir(tile.vectors * lanes)
        if unit.instance_class in _SQUARES:
            return _multiply_squares(
                builder, unit, tile, value, total,
                lambda square: builder.gep(a_first, [builder.mul(square, block_step)]),
                lambda square, v: _panel_square(builder, tile, b_first, square, v),
                tile.vectors * lanes,
            )  # fmt: skip
        chosen = _Features(context, builder, features, chosen)
        blocks = builder.sdiv(builder.add(total, int_ir(lanes - 1)), int_ir(lanes))
        outer = _Loop(builder, chosen.runs(blocks), unpack_ir(builder, tile, value))
        done = builder.mul(outer.index, int_ir(lanes))
        left = builder.sub(total, done)
        turns = builder.select(builder.icmp_signed("<", left, int_ir(lanes)), left, int_ir(lanes))
        first, turns = chosen.run(outer.index, (done, turns))
        a_run = _in_blocks(builder, lanes, a_first, first, block_step)
        b_run = builder.gep(b_first, [builder.mul(first, width)])
        inner = _Loop(builder, turns, [b_run, *outer.values])
        b_row, *registers = inner.values
        a_feature = builder.gep(a_run, [inner.index])
        rows = (builder.gep(a_feature, [int_ir(row * lanes)]) for row in range(tile.rows))
        factors = _spread(builder, tile, rows)
        registers = _rank_one(builder, unit, tile, registers, factors, b_row, int_ir(lanes))
        _, *registers = inner.close([builder.gep(b_row, [width]), *registers])
        return pack_ir(builder, tile, outer.close(registers))

    index = types.intp
    sig = signature(tile, unit, tile, a, index, index, b, index, index, features)
    return sig, codegen


@intrinsic
def tile_multiply_transposed(typingctx, unit, tile, a, a_offset, b, b_offset, pitch, depth):
    """tile[r, :] += sum_k a[k, feature r] * b[k, :], both in blocks; k < depth.

    The product of the weight gradient: a inputs, b output gradients, k the rows of the batch.
    """
    lanes = tile.vector.count

    def codegen(context, builder, sig, args):
        _, value, a_array, a_start, b_array, b_start, b_pitch, total = args
        a_first = address_ir(context, builder, a, a_array, a_start)
        b_first = address_ir(context, builder, b, b_array, b_start)
        vector_step = builder.mul(b_pitch, int_ir(lanes))
        if unit.instance_class in _SQUARES:

            def square_at(first, square, v):
                step = builder.mul(square, int_ir(SIDE * lanes))
                return builder.gep(first, [builder.add(step, builder.mul(int_ir(v), vector_step))])

            return _multiply_squares(
                builder, unit, tile, value, total,
                lambda square: square_at(a_first, square, 0),
                lambda square, v: square_at(b_first, square, v), lanes,
            )  # fmt: skip
        loop = _Loop(builder, total, unpack_ir(builder, tile, value))
        offset = builder.mul(loop.index, int_ir(lanes))
        factors = _neighbours(builder, tile, builder.gep(a_first, [offset]))
        b_row = builder.gep(b_first, [offset])
        registers = _rank_one(builder, unit, tile, loop.values, factors, b_row, vector_step)
        return pack_ir(builder, tile, loop.close(registers))

    sig = signature(tile, unit, tile, a, types.intp, b, types.intp, types.intp, types.intp)
    return sig, codegen


@intrinsic
def tile_multiply_listed(
    typingctx, unit, tile, a, a_offset, features, first, b, b_offset, pitch, depth
):
    """``tile_multiply_transposed`` whose rows are features number ``first``, ... of a list."""
    lanes = tile.vector.count

    def codegen(context, builder, sig, args):
        _, value, a_array, a_start, chosen, start, b_array, b_start, b_pitch, total = args
        a_first = address_ir(context, builder, a, a_array, a_start)
        b_first = address_ir(context, builder, b, b_array, b_start)
        vector_step = builder.mul(b_pitch, int_ir(lanes))
        columns = [
            _in_blocks(builder, lanes, a_first, feature, vector_step)
            for feature in _Features(context, builder, features, chosen).rows(start, tile.rows)
        ]
        loop = _Loop(builder, total, unpack_ir(builder, tile, value))
        offset = builder.mul(loop.index, int_ir(lanes))
        factors = _spread(builder, tile, (builder.gep(c, [offset]) for c in columns))
        b_row = builder.gep(b_first, [offset])
        registers = _rank_one(builder, unit, tile, loop.values, factors, b_row, vector_step)
        return pack_ir(builder, tile, loop.close(registers))

    index = types.intp
    sig = signature(tile, unit, tile, a, index, features, index, b, index, index, index)
    return sig, codegen
