"""The register tile that all three products of an MLP share.

    C[r, v] += sum over k of a(k, r) * b(k, v)      r < rows, v < vectors

where C[r, v] is a vector in registers, a(k, r) one number and b(k, v) one vector. ``rows`` follows
from the host's registers (see ``_host``), ``vectors`` is 1, 2 or 3. The operands lie in one of two
layouts, V being the lanes of a vector:

- blocks: features in blocks of V, [feature // V][row][feature % V], rows ``pitch`` apart per block;
- panels: weights in panels of ``vectors`` * V columns, [row][column].

The operands are floats or pairs of bfloat16, as the unit that multiplies them wants: to a unit of
pairs, k counts pairs, and a product of two pairs is the sum of two. See ``_units``.

Sums run over k in ascending order in one accumulator, so an element of C has the same bits
wherever its tile was computed. No access is checked: operands are padded to whole tiles.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic, models, register_model
from numba.core.typing.templates import signature

from ._host import multiplies_by_lane
from ._memory import address_ir, load_ir, store_ir
from ._simd import VectorType, fma_ir, splat_ir, splat_lane_ir, vector_ir
from ._tile_amx import SIDE, Registers, multiply_ir
from ._tile_bf16 import multiply_avx512_ir, multiply_emulated_ir
from ._units import AmxUnit, Avx512Unit, EmulatedUnit, FloatUnit, unit_rows

_INT64 = ir.IntType(64)

# A unit's (a, b, c) -> c + a * b on registers; or, of squares, its instructions.
_MULTIPLY = {
    FloatUnit: fma_ir,
    EmulatedUnit: multiply_emulated_ir,
    Avx512Unit: multiply_avx512_ir,
}
SQUARES = {AmxUnit: Registers}


class TileType(types.Type):
    """rows x vectors registers of accumulators, as many rows as the unit wants."""

    def __init__(self, unit, dtype, vectors):
        self.vector = VectorType(dtype)
        self.itemsize = dtype.bitwidth // 8
        self.rows = unit_rows(unit.instance_class, self.itemsize)
        self.vectors = vectors
        super().__init__(name=f"Tile({dtype}, {self.rows}, {vectors}, {self.vector.count})")

    def cells(self):
        """(position, row, vector) of every accumulator."""
        for row in range(self.rows):
            for vector in range(self.vectors):
                yield row * self.vectors + vector, row, vector


def _tile_ir(tile: TileType) -> ir.Type:
    return ir.ArrayType(vector_ir(tile.vector), tile.rows * tile.vectors)


@register_model(TileType)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _tile_ir(fe_type))


def _pack(builder, tile, registers):
    value = ir.Constant(_tile_ir(tile), ir.Undefined)
    for position, register in enumerate(registers):
        value = builder.insert_value(value, register, position)
    return value


def _unpack(builder, tile, value):
    return [builder.extract_value(value, position) for position, _, _ in tile.cells()]


def _int(number):
    return ir.Constant(_INT64, number)


class _Loop:
    """A counted loop with values carried from turn to turn in registers, as phi nodes."""

    def __init__(self, builder, count, carried):
        self.builder = builder
        self.before = builder.block
        self.head = builder.append_basic_block("turn")
        self.after = builder.append_basic_block("after")
        self.count = count
        builder.cbranch(builder.icmp_signed(">", count, _int(0)), self.head, self.after)
        builder.position_at_end(self.head)
        self.index = builder.phi(_INT64)
        self.index.add_incoming(_int(0), self.before)
        self.start = carried
        self.values = [builder.phi(value.type) for value in carried]
        for phi, value in zip(self.values, carried, strict=True):
            phi.add_incoming(value, self.before)

    def close(self, carried):
        """End the turn with the new values; returns the values after the last turn."""
        builder = self.builder
        end = builder.block
        following = builder.add(self.index, _int(1))
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


def _factors(builder, tile, a, row_step):
    """Row by row a[r * row_step] in all lanes of a vector."""
    count = tile.vector.count
    if row_step == 1 and multiplies_by_lane():
        # One load, and all that is live of a lies in a register or two.
        numbers = ir.VectorType(a.type.pointee, tile.rows)
        loaded = builder.load(builder.bitcast(a, numbers.as_pointer()), align=tile.itemsize)
        for row in range(tile.rows):
            yield splat_lane_ir(builder, loaded, row, count)
    else:
        for row in range(tile.rows):
            yield splat_ir(builder, builder.load(builder.gep(a, [_int(row * row_step)])), count)


def _rank_one(builder, unit, tile, registers, a, row_step, b, vector_step):
    """One k: registers[r, v] += a[r * row_step] * b[v * vector_step]."""
    multiply = _MULTIPLY[unit.instance_class]
    operand = tile.vector if unit.instance_class is FloatUnit else VectorType(types.uint32)
    columns = [
        load_ir(builder, builder.gep(b, [builder.mul(_int(v), vector_step)]), operand)
        for v in range(tile.vectors)
    ]
    result = list(registers)
    for row, factor in enumerate(_factors(builder, tile, a, row_step)):
        for v in range(tile.vectors):
            cell = row * tile.vectors + v
            result[cell] = multiply(builder, factor, columns[v], registers[cell])
    return result


def _multiply_squares(builder, unit, tile, value, depth, a_of, b_of, b_step):
    """The tile after a product of whole squares; b's rows lie ``b_step`` pairs apart."""
    squares = builder.sdiv(builder.add(depth, _int(SIDE - 1)), _int(SIDE))
    registers = SQUARES[unit.instance_class](builder)
    cells = _unpack(builder, tile, value)
    return _pack(
        builder, tile, multiply_ir(builder, registers, tile, cells, a_of, b_of, 4 * b_step, squares)
    )


def _panel_square(builder, tile, first, square, vector):
    """Address of a square of a panel: so many rows down, so many vectors to the right."""
    width = tile.vectors * tile.vector.count
    rows_down = builder.mul(square, _int(SIDE * width))
    return builder.gep(first, [builder.add(rows_down, _int(vector * tile.vector.count))])


def _around_products(method):
    """An intrinsic that calls a unit's registers before or after a product, if it has any."""

    @intrinsic
    def call(typingctx, unit):
        def codegen(context, builder, sig, args):
            if unit.instance_class in SQUARES:
                getattr(SQUARES[unit.instance_class](builder), method)()
            return context.get_dummy_value()

        return signature(types.void, unit), codegen

    return call


# To be called by every thread before and after the products of a unit.
tiles_begin, tiles_end = _around_products("configure"), _around_products("release")


@intrinsic(prefer_literal=True)
def tile_zeros(typingctx, unit, array, vectors):
    """A tile of zeros of the array's dtype."""
    tile = TileType(unit, array.dtype, vectors.literal_value)

    def codegen(context, builder, sig, args):
        zero = ir.Constant(vector_ir(tile.vector), [0.0] * tile.vector.count)
        return _pack(builder, tile, [zero] * (tile.rows * tile.vectors))

    return signature(tile, unit, array, vectors), codegen


@intrinsic(prefer_literal=True)
def tile_from_row(typingctx, unit, array, offset, vectors):
    """A tile whose rows are all array[offset:]: a product that starts from the bias."""
    tile = TileType(unit, array.dtype, vectors.literal_value)

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[1], args[2])
        row = [
            load_ir(builder, builder.gep(address, [_int(v * tile.vector.count)]), tile.vector)
            for v in range(tile.vectors)
        ]
        return _pack(builder, tile, row * tile.rows)

    return signature(tile, unit, array, types.intp, vectors), codegen


@intrinsic
def tile_multiply_blocks(typingctx, unit, tile, a, a_offset, pitch, b, b_offset, depth):
    """tile[r, :] += sum_k a[row r, feature k] * b[k, :], a in blocks, b a panel; k < depth.

    The product of the forward pass (a inputs, b weights) and of the input gradient (a output
    gradients, b transposed weights).
    """
    lanes = tile.vector.count

    def codegen(context, builder, sig, args):
        _, value, a_array, a_start, a_pitch, b_array, b_start, total = args
        a_first = address_ir(context, builder, a, a_array, a_start)
        b_first = address_ir(context, builder, b, b_array, b_start)
        block_step = builder.mul(a_pitch, _int(lanes))
        if unit.instance_class in SQUARES:
            return _multiply_squares(
                builder, unit, tile, value, total,
                lambda square: builder.gep(a_first, [builder.mul(square, block_step)]),
                lambda square, v: _panel_square(builder, tile, b_first, square, v),
                tile.vectors * lanes,
            )  # fmt: skip
        blocks = builder.sdiv(builder.add(total, _int(lanes - 1)), _int(lanes))
        outer = _Loop(builder, blocks, [b_first, *_unpack(builder, tile, value)])
        done = builder.mul(outer.index, _int(lanes))
        left = builder.sub(total, done)
        turns = builder.select(builder.icmp_signed("<", left, _int(lanes)), left, _int(lanes))
        a_block = builder.gep(a_first, [builder.mul(outer.index, block_step)])
        inner = _Loop(builder, turns, outer.values)
        b_row, *registers = inner.values
        registers = _rank_one(
            builder, unit, tile, registers, builder.gep(a_block, [inner.index]), lanes, b_row,
            _int(lanes),
        )  # fmt: skip
        b_next = builder.gep(b_row, [_int(tile.vectors * lanes)])
        results = outer.close(inner.close([b_next, *registers]))
        return _pack(builder, tile, results[1:])

    sig = signature(tile, unit, tile, a, types.intp, types.intp, b, types.intp, types.intp)
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
        vector_step = builder.mul(b_pitch, _int(lanes))
        if unit.instance_class in SQUARES:

            def square_at(first, square, v):
                step = builder.mul(square, _int(SIDE * lanes))
                return builder.gep(first, [builder.add(step, builder.mul(_int(v), vector_step))])

            return _multiply_squares(
                builder, unit, tile, value, total,
                lambda square: square_at(a_first, square, 0),
                lambda square, v: square_at(b_first, square, v), lanes,
            )  # fmt: skip
        loop = _Loop(builder, total, _unpack(builder, tile, value))
        offset = builder.mul(loop.index, _int(lanes))
        registers = _rank_one(
            builder,
            unit,
            tile,
            loop.values,
            builder.gep(a_first, [offset]),
            1,
            builder.gep(b_first, [offset]),
            vector_step,
        )
        return _pack(builder, tile, loop.close(registers))

    sig = signature(tile, unit, tile, a, types.intp, b, types.intp, types.intp, types.intp)
    return sig, codegen


def _cell_addresses(context, builder, tile, array_type, array, offset, row_step, vector_step):
    first = address_ir(context, builder, array_type, array, offset)
    for _, row, vector in tile.cells():
        steps = builder.add(
            builder.mul(_int(row), row_step), builder.mul(_int(vector), vector_step)
        )
        yield builder.gep(first, [steps])


@intrinsic
def tile_store(typingctx, tile, c, offset, row_step, vector_step):
    """c[offset + r * row_step + v * vector_step : ...] = tile[r, v]."""

    def codegen(context, builder, sig, args):
        value, *where = args
        registers = _unpack(builder, tile, value)
        addresses = _cell_addresses(context, builder, tile, c, *where)
        for register, address in zip(registers, addresses, strict=True):
            store_ir(builder, register, address)
        return context.get_dummy_value()

    return signature(types.void, tile, c, *[types.intp] * 3), codegen


@intrinsic(prefer_literal=True)
def tile_load(typingctx, unit, c, offset, row_step, vector_step, vectors):
    """The tile that ``tile_store`` with the same arguments wrote."""
    tile = TileType(unit, c.dtype, vectors.literal_value)

    def codegen(context, builder, sig, args):
        addresses = _cell_addresses(context, builder, tile, c, *args[1:5])
        return _pack(builder, tile, [load_ir(builder, a, tile.vector) for a in addresses])

    return signature(tile, unit, c, *[types.intp] * 3, vectors), codegen


@intrinsic
def tile_height(typingctx, unit, array):
    """Rows of a tile of the array's dtype, a constant."""
    rows = TileType(unit, array.dtype, 1).rows
    return types.intp(unit, array), lambda context, builder, sig, args: _int(rows)


def tile_updater(rule):
    """An intrinsic that applies an update rule to a tile's cells while they are in registers.

    Its ``arrays`` = (parameters, states...) are of one layout; the rule maps
    (gradient, (parameter, states...), factors) to the new (parameter, states...). The gradient
    is scale * tile. Rows lie ``row_step`` apart, the vectors of a row side by side.
    """

    @intrinsic
    def tile_update(typingctx, tile, scale, arrays, offset, row_step, factors):
        vector = tile.vector
        values = types.UniTuple(vector, len(arrays))
        rule_type = typingctx.resolve_value_type(rule)
        rule_sig = typingctx.resolve_function_type(rule_type, (vector, values, factors), {})

        def codegen(context, builder, sig, args):
            value, scale_value, arrays_value, start, step, factors_value = args
            apply = context.get_function(rule_type, rule_sig)
            context.add_linking_libs(getattr(apply, "libs", ()))
            scale_vector = splat_ir(builder, scale_value, vector.count)
            bases = [
                address_ir(
                    context, builder, array, builder.extract_value(arrays_value, position), start
                )
                for position, array in enumerate(arrays)
            ]
            for cell, row, v in tile.cells():
                shift = builder.add(builder.mul(_int(row), step), _int(v * vector.count))
                addresses = [builder.gep(base, [shift]) for base in bases]
                old = [load_ir(builder, address, vector) for address in addresses]
                gradient = builder.fmul(builder.extract_value(value, cell), scale_vector)
                new = apply(
                    builder,
                    (gradient, context.make_tuple(builder, values, old), factors_value),
                )
                for position, address in enumerate(addresses):
                    store_ir(builder, builder.extract_value(new, position), address)
            return context.get_dummy_value()

        sig = signature(types.void, tile, vector.dtype, arrays, types.intp, types.intp, factors)
        return sig, codegen

    return tile_update
