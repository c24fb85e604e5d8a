"""The register tile that all three products of an MLP share.

    C[r, v] += sum over k of a(k, r) * b(k, v)      r < rows, v < vectors

where C[r, v] is a vector in registers, a(k, r) one number and b(k, v) one vector. ``rows`` follows
from the host's registers (see ``_host``), ``vectors`` is 1, 2 or 3. The operands lie in one of two
layouts, V being the lanes of a vector:

- blocks: features in blocks of V, [feature // V][row][feature % V], rows ``pitch`` apart per block;
- panels: weights in panels of ``vectors`` * V columns, [row][column].

The operands are floats or pairs of bfloat16, as the unit that multiplies them wants: to a unit of
pairs, k counts pairs, and a product of two pairs is the sum of two. See ``_units``.

Here are the tile itself and its ways to memory; ``_tile_products`` multiplies. No access is
checked: operands are padded to whole tiles.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic, models, register_model
from numba.core.typing.templates import signature

from ._memory import address_ir, load_ir, store_ir
from ._simd import VectorType, splat_ir, vector_ir
from ._units import unit_rows

INT64 = ir.IntType(64)


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


def pack_ir(builder, tile, registers):
    value = ir.Constant(_tile_ir(tile), ir.Undefined)
    for position, register in enumerate(registers):
        value = builder.insert_value(value, register, position)
    return value


def unpack_ir(builder, tile, value):
    return [builder.extract_value(value, position) for position, _, _ in tile.cells()]


def int_ir(number):
    return ir.Constant(INT64, number)


@intrinsic(prefer_literal=True)
def tile_zeros(typingctx, unit, array, vectors):
    """A tile of zeros of the array's dtype."""
    tile = TileType(unit, array.dtype, vectors.literal_value)

    def codegen(context, builder, sig, args):
        zero = ir.Constant(vector_ir(tile.vector), [0.0] * tile.vector.count)
        return pack_ir(builder, tile, [zero] * (tile.rows * tile.vectors))

    return signature(tile, unit, array, vectors), codegen


@intrinsic(prefer_literal=True)
def tile_from_row(typingctx, unit, array, offset, vectors):
    """A tile whose rows are all array[offset:]: a product that starts from the bias."""
    tile = TileType(unit, array.dtype, vectors.literal_value)

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[1], args[2])
        row = [
            load_ir(builder, builder.gep(address, [int_ir(v * tile.vector.count)]), tile.vector)
            for v in range(tile.vectors)
        ]
        return pack_ir(builder, tile, row * tile.rows)

    return signature(tile, unit, array, types.intp, vectors), codegen


def _cell_addresses(context, builder, tile, array_type, array, offset, row_step, vector_step):
    first = address_ir(context, builder, array_type, array, offset)
    for _, row, vector in tile.cells():
        steps = builder.add(
            builder.mul(int_ir(row), row_step), builder.mul(int_ir(vector), vector_step)
        )
        yield builder.gep(first, [steps])


@intrinsic
def tile_store(typingctx, tile, c, offset, row_step, vector_step):
    """c[offset + r * row_step + v * vector_step : ...] = tile[r, v]."""

    def codegen(context, builder, sig, args):
        value, *where = args
        registers = unpack_ir(builder, tile, value)
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
        return pack_ir(builder, tile, [load_ir(builder, a, tile.vector) for a in addresses])

    return signature(tile, unit, c, *[types.intp] * 3, vectors), codegen


@intrinsic
def tile_height(typingctx, unit, array):
    """Rows of a tile of the array's dtype, a constant."""
    rows = TileType(unit, array.dtype, 1).rows
    return types.intp(unit, array), lambda context, builder, sig, args: int_ir(rows)


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
                shift = builder.add(builder.mul(int_ir(row), step), int_ir(v * vector.count))
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
