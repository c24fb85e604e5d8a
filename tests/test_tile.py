"""The register tile against its formula, C[r, v] += sum over k of a(k, r) * b(k, v).

A unit of pairs takes two numbers at a step, rounded to bfloat16; otherwise nothing differs.
"""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.kernels import _tile, _tile_products
from fastmlp.kernels._host import TILE_VECTORS, lanes
from fastmlp.kernels._simd import vector_lanes
from fastmlp.kernels._units import FLOATS, unit_rows
from fastmlp.kernels.present import ALL_FEATURES
from tests.bfloat16 import NAN_PAIR, PAIR_UNITS, pairs_of_columns, pairs_of_rows, rounded
from tests.numerics import assert_within, compiled, product_bound

UNITS = [(np.float32, FLOATS), (np.float64, FLOATS), *[(np.float32, unit) for unit in PAIR_UNITS]]
every_unit = pytest.mark.parametrize(
    ("dtype", "unit"), UNITS, ids=[f"{d.__name__}-{type(u).__name__}" for d, u in UNITS]
)
every_width = pytest.mark.parametrize("vectors", range(1, TILE_VECTORS + 1))
DEPTHS = [0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 100]


def _products(vectors):
    """Kernels for tiles of that many vectors; c is row-major, added to or overwritten."""

    @compiled
    def blocks(unit, c, a, pitch, b, depth):
        step, one = vectors * vector_lanes(c), vector_lanes(c)
        tile = _tile.tile_load(unit, c, 0, step, one, vectors)
        tile = _tile_products.tile_multiply_blocks(
            unit, tile, a, 0, pitch, b, 0, depth, ALL_FEATURES
        )
        _tile.tile_store(tile, c, 0, step, one)

    @compiled
    def transposed(unit, c, a, pitch, b, depth):
        step, one = vectors * vector_lanes(c), vector_lanes(c)
        tile = _tile.tile_zeros(unit, c, vectors)
        tile = _tile_products.tile_multiply_transposed(unit, tile, a, 0, b, 0, pitch, depth)
        _tile.tile_store(tile, c, 0, step, one)

    @compiled
    def from_row(unit, c, row):
        tile = _tile.tile_from_row(unit, row, 0, vectors)
        _tile.tile_store(tile, c, 0, vectors * vector_lanes(c), vector_lanes(c))

    return blocks, transposed, from_row


PRODUCTS = {vectors: _products(vectors) for vectors in range(1, TILE_VECTORS + 1)}


def sizes(dtype, unit, vectors):
    """(lanes, rows of the tile, columns of the tile)."""
    itemsize = np.dtype(dtype).itemsize
    return lanes(itemsize), unit_rows(type(unit), itemsize), vectors * lanes(itemsize)


def to_blocks(x, pitch, count):
    """Rows of x in blocks: [feature // V][row][feature % V]; NaN where nothing should be read."""
    features = -(-x.shape[1] // count) * count
    unread = np.nan if x.dtype.kind == "f" else NAN_PAIR
    padded = np.full((pitch, features), unread, x.dtype)
    padded[: len(x), : x.shape[1]] = x
    return padded.reshape(pitch, -1, count).swapaxes(0, 1).reshape(-1)


@pytest.mark.parametrize("depth", DEPTHS)
@every_width
@every_unit
def test_multiply_blocks(depth, vectors, dtype, unit):
    """A tile of x @ w + c: x in blocks, w a panel; features beyond depth are not touched."""
    count, height, width = sizes(dtype, unit, vectors)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((height, depth)).astype(dtype)
    w, c = (rng.standard_normal((n, width)).astype(dtype) for n in (depth, height))
    result, pitch = c.copy(), height + 3
    a, b = x, w
    if unit != FLOATS:
        x, w = rounded(x), rounded(w)
        a, b = pairs_of_columns(x), pairs_of_rows(w)
    PRODUCTS[vectors][0](
        unit, result.reshape(-1), to_blocks(a, pitch, count), pitch, b.reshape(-1), a.shape[1]
    )
    assert_within(result, c.astype(np.float64) + x.astype(np.float64) @ w, product_bound(x, w, c))


@pytest.mark.parametrize("depth", DEPTHS)
@every_width
@every_unit
def test_multiply_transposed(depth, vectors, dtype, unit):
    """A tile of x.T @ dz: both in blocks, k the rows of the batch."""
    count, height, width = sizes(dtype, unit, vectors)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((depth, height)).astype(dtype)
    dz = rng.standard_normal((depth, width)).astype(dtype)
    result = np.full((height, width), np.nan, dtype)
    a, b = x, dz
    if unit != FLOATS:
        x, dz = rounded(x), rounded(dz)
        a, b = pairs_of_rows(x), pairs_of_rows(dz)
    pitch = len(a) + 1
    PRODUCTS[vectors][1](
        unit, result.reshape(-1), to_blocks(a, pitch, count), pitch, to_blocks(b, pitch, count),
        len(a),
    )  # fmt: skip
    assert_within(result, x.T.astype(np.float64) @ dz, product_bound(x.T, dz))


@every_width
@every_unit
def test_from_row(vectors, dtype, unit):
    _, height, width = sizes(dtype, unit, vectors)
    row = np.random.default_rng(0).standard_normal(width).astype(dtype)
    result = np.full((height, width), np.nan, dtype)
    PRODUCTS[vectors][2](unit, result.reshape(-1), row)
    assert_array_equal(result, np.broadcast_to(row, result.shape))


@compiled
def _halve(gradient, values, factors):
    """A rule of two states with factors of its own."""
    parameter, first, second = values
    return parameter - factors[0] * gradient, first + gradient, factors[1] * second


_tile_halve = _tile.tile_updater(_halve)


@compiled
def _update(unit, c, arrays, step, scale, factors):
    tile = _tile.tile_load(unit, c, 0, 2 * vector_lanes(c), vector_lanes(c), 2)
    _tile_halve(tile, scale, arrays, 0, step, factors)


@every_unit
def test_update_rule_in_registers(dtype, unit):
    """Any rule of one number updates the tile's place in all its arrays, and nothing around it."""
    _, height, width = sizes(dtype, unit, 2)
    rng = np.random.default_rng(0)
    arrays = rng.integers(-8, 8, (3, height, width + 5)).astype(dtype)
    gradient = rng.integers(-8, 8, (height, width)).astype(dtype)
    expected = arrays.copy()
    w, first, second = (a[:, :width] for a in expected)
    w -= 0.5 * (2 * gradient)
    first += 2 * gradient
    second *= 0.25
    operands = tuple(a.reshape(-1) for a in arrays)
    _update(unit, gradient.reshape(-1), operands, width + 5, dtype(2), (dtype(0.5), dtype(0.25)))
    assert_array_equal(arrays, expected)
