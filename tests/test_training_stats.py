"""HW1P1's get_training_stats, against the plain NumPy loop and the same random draws."""

import numpy as np
import pytest

from fastmlp import MLP, Activation, Identity, Sigmoid, get_training_stats
from tests.networks import assert_close, assert_same_state, batch, build, state
from tests.reference import ReferenceMLP, reference_training_stats


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("num_bn_layers", [0, 1])
@pytest.mark.parametrize("batch_size", [1, 8, 23, 100])
def test_get_training_stats(num_bn_layers, batch_size, dtype):
    """Four arrays: running training figures, then validation figures in eval mode.

    The 23 samples are shuffled by np.random.shuffle, the last batch is short, the caller's arrays
    stay as they are, and the test set cannot be read at all.
    """
    train_x, _, train_y = batch(23, 5, 3, dtype=dtype)
    val_x, _, val_y = batch(11, 5, 3, dtype=dtype, seed=2)
    for array in (train_x, train_y, val_x, val_y):
        array.flags.writeable = False
    unreadable = object()
    dset = (train_x, train_y), (val_x, val_y), unreadable

    def run(function, cls, cast=None):
        options = {"momentum": 0.5, "num_bn_layers": num_bn_layers}
        mlp = build([5, 7, 3], [Sigmoid, Identity], cls, dtype=dtype, cast=cast, **options)
        np.random.seed(4)
        return mlp, function(mlp, dset, 3, batch_size), np.random.random()

    mlp, stats, next_draw = run(get_training_stats, MLP)
    expected_mlp, expected, expected_draw = run(reference_training_stats, ReferenceMLP, np.float64)
    assert next_draw == expected_draw
    tolerance = 1e-12 if dtype == np.float64 else 2e-5
    for actual, values in zip(stats, expected, strict=True):
        assert actual.shape == (3,)
        assert_close(actual, values, tolerance)
    assert_same_state(state(mlp), state(expected_mlp), tolerance)


def test_every_epoch_is_recorded_in_its_place():
    dset = [batch(40, 5, 3, seed=seed)[::2] for seed in (1, 2, 3)]
    once, twice = build([5, 7, 3]), build([5, 7, 3])
    np.random.seed(5)
    together = get_training_stats(once, dset, 1, 8)
    assert [values.shape for values in together] == [(1,)] * 4
    np.random.seed(5)
    longer = get_training_stats(twice, dset, 2, 8)
    for first, both in zip(together, longer, strict=True):
        assert first[0] == both[0]
    assert longer[0][1] < longer[0][0]


@pytest.mark.parametrize(
    ("part", "batch_size", "message"),
    [
        (None, 0, r"batch_size.*0"),
        ("train_x", 8, r"5.*\(9, 4\)"),
        ("train_y", 8, r"3.*\(9, 4\)"),
        ("val_x", 8, r"5.*\(9, 4\)"),
        ("val_y", 8, r"3.*\(9, 4\)"),
    ],
)
def test_bad_input_is_refused_before_the_first_step(part, batch_size, message):
    x, _, y = batch(9, 5, 3)
    arrays = {"train_x": x, "train_y": y, "val_x": x, "val_y": y}
    if part is not None:
        arrays[part] = np.zeros((9, 4))
    dset = (arrays["train_x"], arrays["train_y"]), (arrays["val_x"], arrays["val_y"]), None
    mlp = build([5, 7, 3])
    before = state(mlp)
    with pytest.raises(ValueError, match=message):
        get_training_stats(mlp, dset, 1, batch_size)
    assert_same_state(state(mlp), before)


class Doubled(Activation):
    """An activation of the user's own."""

    def forward(self, x):
        self.state = 2 * x
        return self.state

    def derivative(self):
        return 2.0


def test_an_activation_that_is_not_compiled_is_refused():
    """It is not trained as something else."""
    x, _, y = batch(9, 5, 3)
    mlp = build([5, 7, 3], [Doubled, Identity])
    before = state(mlp)
    with pytest.raises(TypeError, match="Doubled"):
        get_training_stats(mlp, ((x, y), (x, y), None), 1, 8)
    assert_same_state(state(mlp), before)
