"""bfloat16: rounding, pairs, the products of every unit, and networks that compute in it."""

import copy
import pickle
import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh, datasets
from fastmlp.initializers import he_normal, zeros
from fastmlp.kernels import _bfloat16, _operands, _rates
from fastmlp.kernels._host import has_bfloat16, lanes
from fastmlp.kernels._jit import inline
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import vector_lanes
from fastmlp.kernels._units import Avx512Unit, EmulatedUnit
from fastmlp.kernels.linear import linear_backward, linear_forward
from tests.bfloat16 import PAIR_UNITS, pairs_of_columns, pairs_of_rows, rounded
from tests.networks import (
    AWKWARD_BATCHES,
    AWKWARD_SIZES,
    assert_same_state,
    batch,
    build,
    gradients,
    state,
)
from tests.numerics import assert_within, product_bound
from tests.processes import output_of
from tests.reference import train_epoch

both_units = pytest.mark.parametrize("unit", PAIR_UNITS, ids=lambda unit: type(unit).__name__)
LANES = lanes(4)
SMALLEST = 2.0**-126


def every_kind_of_float32():
    """All bfloat16 numbers, and what lies just beside them and half-way to the next."""
    upper = np.arange(1 << 16, dtype=np.uint32) << 16
    lower = np.array([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF], np.uint32)
    return (upper[:, None] | lower).reshape(-1).view(np.float32)


# Rounding


@inline
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


@inline
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


@inline
def _publish(unit, blocks, chunk, end, pitch):
    _operands.publish(unit, blocks, chunk, 0, 2, 0, end, blocks.values, chunk.at, pitch)


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
    _publish(unit, blocks, _operands.Chunk(0, pitch, rows, width), rows, pitch)
    padded = np.zeros((rows, 2 * LANES), np.float32)
    padded[:, :width] = x
    by_feature = blocks.by_feature.reshape(-1, LANES)
    assert_array_equal(by_feature[:rows], pairs_of_columns(padded))
    by_row = blocks.by_row[: 2 * 5 * LANES].reshape(2, 5, LANES)
    expected = pairs_of_rows(padded)
    assert_array_equal(by_row[0, : len(expected)], expected[:, :LANES])
    assert_array_equal(by_row[1, : len(expected)], expected[:, LANES:])


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
    assert isinstance(_rates.bfloat16_unit.__wrapped__(), fastest)


def test_a_processor_without_bfloat16_says_so(monkeypatch):
    monkeypatch.setattr(_rates, "has_bfloat16", lambda: False)
    monkeypatch.setattr(_rates, "has_amx", lambda: False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with pytest.warns(RuntimeWarning, match="no instruction that multiplies bfloat16"):
            assert isinstance(_rates.bfloat16_unit.__wrapped__(), EmulatedUnit)


WARNS = """
import warnings
import numpy as np
from tests.networks import batch, build
warnings.simplefilter("always")
x, labels, _ = batch(9, 5, 3, dtype=np.float32)
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(2):
        mlp = build([5, 9, 3], dtype="bfloat16")
        mlp.forward(x), mlp.predict(x)
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


# Networks


def test_bfloat16_needs_and_makes_float32_parameters():
    mlp = MLP(
        5, 3, [4], [ReLU(), Identity()], lambda a, b: np.ones((a, b)), zeros,
        SoftmaxCrossEntropy(), 0.1, compute_dtype="bfloat16",
    )  # fmt: skip
    assert mlp.dtype == np.float32
    assert mlp.compute_dtype == "bfloat16"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_in_the_dtype_of_the_parameters_by_default(dtype):
    mlp = build([5, 3], dtype=dtype)
    assert mlp.compute_dtype == np.dtype(dtype).name
    mlp.compute_dtype = "bfloat16" if dtype == np.float32 else "float64"
    mlp.compute_dtype = None
    assert mlp.compute_dtype == np.dtype(dtype).name


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("bfloat", "got 'bfloat'; did you mean 'bfloat16'"),
        ("float16", "one of float32, float64, bfloat16, auto, got 'float16'"),
        (np.float32, "one of float32"),
        (16, "got 16"),
        ("float64", "'float64' needs parameters of dtype float64, got float32"),
    ],
)
def test_a_compute_dtype_that_is_none(value, message):
    mlp = build([5, 3], dtype=np.float32)
    with pytest.raises(ValueError, match=message):
        mlp.compute_dtype = value
    assert mlp.compute_dtype == "float32"
    with pytest.raises(ValueError, match=message):
        build([5, 3], dtype=np.float64, cast=np.float32, compute_dtype=value)


def test_float64_cannot_be_computed_in_bfloat16():
    with pytest.raises(ValueError, match="needs parameters of dtype float32, got float64"):
        build([5, 3], cast=np.float64, compute_dtype="bfloat16")
    mlp = build([5, 3], cast=np.float64)
    with pytest.raises(ValueError, match="needs parameters of dtype float32, got float64"):
        mlp.compute_dtype = "bfloat16"


def test_rounding_makes_the_difference():
    """Outputs of weights that bfloat16 holds differ by x's rounding alone."""
    mlp = build([9, 4], dtype="bfloat16")
    plain = build([9, 4], dtype=np.float32)
    x, _, _ = batch(8, 9, 4, dtype=np.float32)
    layer = plain.linear_layers[0]
    exact = rounded(x).astype(np.float64) @ rounded(layer.W) + layer.b
    bound = product_bound(rounded(x), rounded(layer.W), layer.b)
    assert_within(mlp.forward(x), exact, bound)
    assert np.abs(plain.forward(x) - exact).max() > 10 * bound.max()


def test_switching_between_float32_and_bfloat16():
    """The switch reaches training, prediction and the layers, and back."""
    x, labels, _ = batch(33, 9, 4, dtype=np.float32)
    sizes, activations = [9, 17, 4], [Sigmoid, Identity]
    switched, rounds = (
        build(sizes, activations, dtype=np.float32),
        build(sizes, activations, dtype="bfloat16"),
    )
    before = switched.predict_proba(x)
    switched.compute_dtype = "bfloat16"
    assert_array_equal(switched.predict_proba(x), rounds.predict_proba(x))
    for mlp in (switched, rounds):
        mlp.forward(x)
        mlp.backward(labels)
    assert_same_state(gradients(switched), gradients(rounds))
    switched.compute_dtype = "float32"
    assert_array_equal(switched.predict_proba(x), before)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda mlp: pickle.loads(pickle.dumps(mlp))])
def test_a_copy_goes_on_to_the_same_bits(duplicate):
    mlp = build([9, 17, 4], dtype="bfloat16", momentum=0.9)
    x, labels, y = batch(33, 9, 4, dtype=np.float32)
    mlp.fit(x, labels, batch_size=8, seed=0)
    other = duplicate(mlp)
    for each in (mlp, other):
        train_epoch(each, x, y, 8)
        each.fit(x, labels, batch_size=8, seed=1)
    assert other.compute_dtype == "bfloat16"
    assert_same_state(state(other), state(mlp))


@pytest.mark.parametrize(
    ("sizes", "num_bn_layers"), [([16, 5], 0), ([97, 5], 0), ([17, 33, 5], 0), ([97, 33, 5], 1)]
)
def test_a_few_rows_are_predicted_as_many_are(sizes, num_bn_layers):
    """To the bit: the weights are read where they are, but rounded and added up alike.

    In another order, 8 to 10 % of the outputs of the first two had another last bit.
    """
    mlp = build(sizes, dtype="bfloat16", num_bn_layers=num_bn_layers)
    x, _, _ = batch(64, sizes[0], 5, dtype=np.float32)
    x[::2, ::3] = 0
    many = mlp.predict_proba(x)
    for row in range(len(x)):
        assert_array_equal(mlp.predict_proba(x[row : row + 1])[0], many[row])


@pytest.mark.parametrize(("seconds", "chosen"), [((1, 2), "float32"), ((2, 1), "bfloat16")])
def test_auto_takes_the_faster(seconds, chosen, monkeypatch):
    """Measured at the first fit; until then networks predict in float32."""
    from fastmlp import engine

    taken = dict(zip(("float32", "bfloat16"), seconds, strict=True))

    class Trial:
        def __init__(self, layout, batch_size, compute_dtype):
            assert batch_size == 8
            self.compute_dtype = compute_dtype

        def seconds(self, steps):
            return taken[self.compute_dtype]

    monkeypatch.setattr(engine, "_Trial", Trial)
    engine.faster_compute_dtype.cache_clear()
    mlp = build([5, 9, 3], dtype=np.float32, compute_dtype="auto")
    x, labels, _ = batch(33, 5, 3, dtype=np.float32)
    assert mlp.compute_dtype == "auto"
    assert_array_equal(mlp.predict_proba(x), build([5, 9, 3], dtype=np.float32).predict_proba(x))
    mlp.fit(x, labels, batch_size=8, seed=0)
    assert mlp.compute_dtype == chosen
    same = build([5, 9, 3], dtype=np.float32, compute_dtype=chosen)
    same.fit(x, labels, batch_size=8, seed=0)
    assert_same_state(state(mlp), state(same))
    engine.faster_compute_dtype.cache_clear()


def test_auto_measures():
    mlp = build([5, 9, 3], dtype=np.float32, compute_dtype="auto")
    x, labels, _ = batch(33, 5, 3, dtype=np.float32)
    mlp.fit(x, labels, batch_size=8)
    assert mlp.compute_dtype in ("float32", "bfloat16")
    doubles = build([5, 9, 3], compute_dtype="auto")
    doubles.fit(x, labels, batch_size=8)
    assert doubles.compute_dtype == "float64"


COLD = """
from fastmlp.warmup import is_cold, warmup
print(is_cold("float32", "bfloat16"), is_cold("float32", "auto"))
warmup("float32")
print(is_cold("float32"), is_cold("float32", "bfloat16"), is_cold("float32", "auto"))
warmup("float32", "auto")
print(is_cold("float32"), is_cold("float32", "bfloat16"), is_cold("float32", "auto"))
"""


def test_warming_up(tmp_path):
    """Code for bfloat16 is made when it is asked for, and known from then on."""
    lines = output_of("-c", COLD, NUMBA_CACHE_DIR=str(tmp_path)).splitlines()
    assert lines == ["True True", "False True True", "False False False"]


def test_it_learns_as_well():
    """Digits, three seeds: in the mean at most a percent of the test set worse than float32."""
    data = datasets.load("digits")
    wrong = []
    for seed in range(3):
        errors = []
        for compute_dtype in ("float32", "bfloat16"):
            mlp = MLP(
                64, 10, [64], [ReLU(), Identity()], he_normal(seed, np.float32), zeros,
                SoftmaxCrossEntropy(), lr=0.1, momentum=0.9, compute_dtype=compute_dtype,
            )  # fmt: skip
            mlp.fit(data.train_x, data.train_y, epochs=20, batch_size=32, seed=seed)
            errors.append(mlp.evaluate(data.test_x, data.test_y)[1])
        wrong.append(errors)
    single, rounds = np.mean(wrong, axis=0)
    assert rounds < single + 0.01
    assert single < 0.05
