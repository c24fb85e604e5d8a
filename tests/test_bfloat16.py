"""bfloat16: rounding, pairs, the products of every unit, and which of them serves."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import Identity, ReLU, Tanh
from fastmlp.kernels import _bfloat16, _operands, _rates
from fastmlp.kernels._geometry import Geometry
from fastmlp.kernels._host import has_bfloat16, lanes
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import vector_lanes
from fastmlp.kernels._units import Avx512Unit, EmulatedUnit
from fastmlp.kernels.linear import linear_backward, linear_forward
from fastmlp.threads import SLOT, Team
from tests.bfloat16 import PAIR_UNITS, pairs_of_columns, pairs_of_rows, rounded
from tests.networks import (
    AWKWARD_BATCHES,
    AWKWARD_SIZES,
    assert_same_state,
    batch,
    build,
    state,
)
from tests.numerics import assert_within, compiled, product_bound
from tests.processes import output_of
from tests.whole import take_the_whole

both_units = pytest.mark.parametrize("unit", PAIR_UNITS, ids=lambda unit: type(unit).__name__)
LANES = lanes(4)
SMALLEST = 2.0**-126


def every_kind_of_float32():
    """All bfloat16 numbers, and what lies just beside them and half-way to the next."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


# Rounding


@compiled
def _round_all(y, x):
    for i in range(0, x.size, vector_lanes(x)):
        store(y, i, _bfloat16.rounded(load(x, i)))


def test_rounding_to_nearest_even():
    """Infinity beyond the largest, NaN for NaN; hardware takes the smallest numbers for zeros."""
    x = every_kind_of_float32()
    y = np.empty_like(x)
    _round_all(y, x)
    expected = rounded(x)
    tiny = np.abs(x) < SMALLEST
    assert_array_equal(y[~tiny], expected[~tiny])
    assert ((y == expected) | (y == 0))[tiny].all()
    assert (y == expected)[tiny].all() or has_bfloat16()


def test_the_reference_rounds_as_defined():
    """The nearer neighbour; where both are as near, the one whose last bit is even."""
    x = every_kind_of_float32()
    x = x[np.isfinite(x) & (np.abs(x) < 2.0**127)]
    below = (x.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)
    above = ((x.view(np.uint32) & 0xFFFF0000) + 0x10000).view(np.float32).astype(np.float64)
    to_below, to_above = np.abs(x - below), np.abs(above - x)
    even_below = (x.view(np.uint32) >> 16) % 2 == 0
    nearer = (to_below < to_above) | ((to_below == to_above) & even_below)
    assert_array_equal(rounded(x), np.where(nearer, below, above).astype(np.float32))


ROUND_WITHOUT_HARDWARE = """
import numpy as np
from fastmlp.kernels._host import has_bfloat16
from tests.test_bfloat16 import _round_all, every_kind_of_float32
from tests.bfloat16 import rounded
assert not has_bfloat16()
x = every_kind_of_float32()
y = np.empty_like(x)
_round_all(y, x)
np.testing.assert_array_equal(y, rounded(x))
print("equal")
"""


@pytest.fixture
def older_processor(pytestconfig):
    """An environment in which Numba compiles for a processor without bfloat16."""
    return {
        "NUMBA_CPU_NAME": "generic",
        "NUMBA_CPU_FEATURES": "",
        "NUMBA_CACHE_DIR": str(pytestconfig.cache.mkdir("kernels_generic")),
    }


def test_rounding_by_integers(older_processor):
    assert output_of("-c", ROUND_WITHOUT_HARDWARE, **older_processor) == "equal\n"


# Pairs


@compiled
def _pairs(lanewise, beside, stored, first, second):
    a, b = load(first, 0), load(second, 0)
    store(lanewise, 0, _bfloat16.pairs_of_lanes(a, b))
    store(beside, 0, _bfloat16.pairs_of_neighbours(a, b))
    _bfloat16.store_neighbours(stored, 1, a)


def test_pairs():
    """A store of half a register leaves what lies around it."""
    a, b = np.random.default_rng(0).standard_normal((2, LANES)).astype(np.float32)
    lanewise, beside = np.zeros((2, LANES), np.uint32)
    stored = np.full(LANES // 2 + 2, 7, np.uint32)
    _pairs(lanewise, beside, stored, a, b)
    rows = rounded(np.stack([a, b]))
    assert_array_equal(lanewise, pairs_of_rows(rows)[0])
    assert_array_equal(beside, pairs_of_columns(rows.reshape(1, -1))[0])
    assert_array_equal(stored, [7, *pairs_of_columns(rows[:1])[0], 7])


@compiled
def _publish(unit, operand, begin, end):
    _operands.publish(unit, operand, _operands.Rectangle(0, 2, begin, end))


@both_units
@pytest.mark.parametrize("rows", [1, 2, 5, 8])
@pytest.mark.parametrize("width", [LANES + 1, 2 * LANES - 1, 2 * LANES])
def test_forms_of_blocks(unit, rows, width):
    """Both forms of two blocks, zeros beyond the last feature and row whatever lies there."""
    pitch = 9
    rng = np.random.default_rng(0)
    x = rounded(rng.standard_normal((rows, width)))
    values = np.full((2, pitch, LANES), np.nan, np.float32)
    for row, feature in np.ndindex(rows, width):
        values[feature // LANES, row, feature % LANES] = x[row, feature]
    forms = (np.zeros(3 * pitch * LANES, np.uint32) for _ in range(2))
    blocks = _operands.Blocks(values.reshape(-1), *forms)
    operand = _operands.Operand(blocks, _operands.Chunk(0, pitch, rows, width))
    _publish(unit, operand, 0, rows)
    # As a part does that has no rows: it must leave those of the others alone.
    _publish(unit, operand, rows, rows)
    padded = np.zeros((rows, 2 * LANES), np.float32)
    padded[:, :width] = x
    by_feature = blocks.by_feature.reshape(-1, LANES)
    assert_array_equal(by_feature[:rows], pairs_of_columns(padded))
    by_row = blocks.by_row[: 2 * 5 * LANES].reshape(2, 5, LANES)
    expected = pairs_of_rows(padded)
    assert_array_equal(by_row[0, : len(expected)], expected[:, :LANES])
    assert_array_equal(by_row[1, : len(expected)], expected[:, LANES:])


@both_units
@pytest.mark.parametrize("part", [0, 1])
def test_a_part_packs_the_forms_of_its_own_rows(unit, part):
    """Those of the other part may be there already, or not yet."""
    rows, width, pitch = 9, LANES + 1, 9
    x = np.ones((rows, width), np.float32)
    values, *forms = (
        np.zeros(2 * pitch * LANES, np.float32),
        *(np.full(3 * pitch * LANES, 7, np.uint32) for _ in range(2)),
    )
    team, geometry = Team(part, 2, np.zeros(3 * SLOT, np.int64)), Geometry(rows, 16, pitch)
    pack_operand, share_rows = (
        compiled(helper.py_func) for helper in (_operands.pack_operand, _operands.share_rows)
    )
    pack_operand(team, unit, _operands.Blocks(values, *forms), x.reshape(-1), width, geometry)
    of_row = forms[0].reshape(-1, LANES)[:rows]
    begin, end = share_rows(team, unit, rows)
    mine = np.arange(begin, end)
    assert 0 < len(mine) < rows
    assert (np.delete(of_row, mine, axis=0) == 7).all()
    assert (of_row[mine] != 7).all()


# The three products


def check_products(unit, rows, inputs, outputs):
    """Against sums in float64 of the same rounded numbers, within the bound of a float32 sum."""
    rng = np.random.default_rng(0)
    x, w, b, dz = (
        rng.standard_normal(shape).astype(np.float32)
        for shape in ((rows, inputs), (inputs, outputs), outputs, (rows, outputs))
    )
    y, dw, db, dx = (np.full_like(a, np.nan) for a in (dz, w, b, x))
    linear_forward(y, x, w, b, unit=unit)
    linear_backward(dw, db, dx, x, w, dz, unit)
    x, w, delta = rounded(x), rounded(w), rounded(dz)
    wide = np.float64
    assert_within(y, x.astype(wide) @ w + b, product_bound(x, w, b))
    bound = product_bound(x.T, delta, operations=2) / rows
    assert_within(dw, x.T.astype(wide) @ delta / rows, bound)
    assert_within(dx, delta.astype(wide) @ w.T, product_bound(delta, w.T))
    # The bias' gradient is a sum of float32, not of rounded numbers.
    ones = np.ones((1, rows), np.float32)
    bound = product_bound(ones, dz, operations=2)[0] / rows
    assert_within(db, dz.astype(wide).mean(axis=0), bound)


@both_units
@pytest.mark.parametrize("rows", AWKWARD_BATCHES)
@pytest.mark.parametrize("width", AWKWARD_SIZES)
def test_products(unit, rows, width):
    check_products(unit, rows, width, 18)
    check_products(unit, rows, 21, width)


@both_units
@pytest.mark.parametrize("shape", [(513, 33, 5), (1100, 3, 49), (2, 784, 10), (3, 5, 301)])
def test_products_long_and_thin(unit, shape):
    """More than 512 rows lie in several chunks."""
    check_products(unit, *shape)


@both_units
def test_what_is_no_number_is_seen(unit):
    """An infinity that is rounded to, one that comes, and NaN, in their rows alone."""
    x = np.ones((5, 3), np.float32)
    x[1, 2], x[2, 0], x[3, 1] = 3.4e38, np.inf, np.nan
    y = np.empty((5, 2), np.float32)
    linear_forward(y, x, np.ones((3, 2), np.float32), None, unit=unit)
    assert_array_equal(y[:, 0], [3, np.inf, np.inf, np.nan, 3])


@pytest.mark.skipif(not has_bfloat16(), reason="this processor has no AVX-512-BF16")
@pytest.mark.parametrize("num_bn_layers", [0, 2])
def test_hardware_and_emulation_give_the_same_bits(num_bn_layers, monkeypatch):
    take_the_whole(monkeypatch.setattr)
    trained = []
    x, labels, _ = batch(300, 17, 5, dtype=np.float32)
    for unit in (Avx512Unit(), EmulatedUnit()):
        monkeypatch.setattr(_rates, "bfloat16_unit", lambda unit=unit: unit)
        mlp = build(
            [17, 48, 33, 5], [Tanh, ReLU, Identity], dtype="bfloat16", num_bn_layers=num_bn_layers
        )
        mlp.fit(x, labels, epochs=3, batch_size=64, seed=0)
        trained.append(
            state(mlp) | {"outputs": mlp.predict_proba(x), "few": mlp.predict_proba(x[:3])}
        )
    assert_same_state(*trained)


# Which unit serves


@pytest.mark.parametrize("fastest", [EmulatedUnit, Avx512Unit])
def test_the_fastest_unit_serves(fastest, monkeypatch):
    monkeypatch.setattr(_rates, "has_bfloat16", lambda: True)
    monkeypatch.setattr(_rates, "has_amx", lambda: False)
    monkeypatch.setattr(_rates, "peak_gflops", lambda unit, *rest: isinstance(unit, fastest))
    assert isinstance(_rates.fastest_unit(), fastest)


def test_a_processor_without_bfloat16_says_so(monkeypatch):
    monkeypatch.setattr(_rates, "has_bfloat16", lambda: False)
    monkeypatch.setattr(_rates, "has_amx", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.warns(RuntimeWarning, match="no instruction that multiplies bfloat16"):
            assert isinstance(_rates.fastest_unit(), EmulatedUnit)


WARNS = """
import warnings
import numpy as np
from tests.networks import batch, build
warnings.simplefilter("always")
x, _, _ = batch(1, 5, 3, dtype=np.float32)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(2):
        # What a single row takes is the quickest to compile.
        build([5, 9, 3], dtype="bfloat16").predict(x)
print(len(seen), seen[0].category.__name__)
"""


def test_it_is_said_once(older_processor):
    assert output_of("-c", WARNS, **older_processor) == "1 RuntimeWarning\n"


def test_other_networks_measure_nothing(monkeypatch):
    monkeypatch.setattr(_rates, "bfloat16_unit", None)
    mlp = build([5, 9, 3], dtype=np.float32)
    x, labels, _ = batch(9, 5, 3, dtype=np.float32)
    mlp.fit(x, labels)
    mlp.predict(x)
