"""Networks that compute in bfloat16: what they take, round, copy, predict and learn."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy, datasets
from fastmlp.initializers import he_normal, zeros
from fastmlp.kernels._compiled import _epoch_of
from fastmlp.kernels._rates import unit_for
from fastmlp.kernels.epoch import train_steps
from fastmlp.warmup import is_cold, warmup
from tests.bfloat16 import rounded
from tests.networks import (
    assert_same_state,
    batch,
    build,
    gradients,
    state,
)
from tests.numerics import assert_within, product_bound
from tests.processes import output_of
from tests.reference import train_epoch


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
from fastmlp.warmup import is_cold
print(*(is_cold(*a) for a in (["float32"], ["float64"], ["float32", "bfloat16"])))
"""


def test_without_machine_code_everything_is_cold(tmp_path):
    assert output_of("-c", COLD, NUMBA_CACHE_DIR=str(tmp_path)) == "True True True\n"


def test_warming_up(monkeypatch):
    """Code for bfloat16 is known once it is made; where float32's alone is on disk it is cold."""
    assert warmup("float32", "auto") > 0
    assert not is_cold("float32", "auto")
    kept = train_steps._cache.signatures()
    rounding = type(unit_for("bfloat16"))
    singles = [signature for signature in kept if _epoch_of(signature).unit is not rounding]
    assert 0 < len(singles) < len(kept)
    monkeypatch.setattr(train_steps._cache, "signatures", lambda: singles)
    cold = [is_cold("float32", name) for name in (None, "bfloat16", "auto")]
    assert cold == [False, True, True]


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
