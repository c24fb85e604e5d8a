"""What is not finite: the loss before which training ends, weights that meet a zero."""

from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp._layout import LayerSpec, Layout
from fastmlp.engine import Objective, Trainer, data_of, infer
from fastmlp.kernels._rates import unit_for
from fastmlp.kernels.activation import ACTIVATIONS, NO_ACTIVATION
from fastmlp.kernels.network import Flat, StepFigures
from fastmlp.kernels.update import Learnt
from fastmlp.optimizers import Momentum

STEPS = 5
# Numbers that are rounded to bfloat16 take a path of their own through the epoch.
every_dtype = pytest.mark.parametrize("compute", ["float32", "float64", "bfloat16"])
with_and_without_batchnorm = pytest.mark.parametrize("normalised", [False, True])


def dtype_of(compute):
    return np.dtype("float32" if compute == "bfloat16" else compute)


def layout_of(sizes, compute, normalised=False):
    """ReLU, with a batch norm in every hidden layer or in none."""
    *hidden, last = pairwise(sizes)
    layers = [LayerSpec(*widths, ACTIVATIONS["relu"], True, normalised) for widths in hidden]
    return Layout([*layers, LayerSpec(*last, NO_ACTIVATION, True, False)], dtype_of(compute))


def random_flat(layout):
    rng = np.random.default_rng(0)
    parameters = rng.standard_normal(layout.parameters).astype(layout.dtype)
    velocities = rng.standard_normal(layout.parameters).astype(layout.dtype) / 100
    nothing = np.empty(0, layout.dtype)
    return Learnt(parameters, velocities, nothing, nothing)


def read_by_infer(layout):
    return Flat(random_flat(layout).parameters, np.ones(layout.statistics, layout.dtype))


def training_set(layout, batch_size):
    """Rows for ``STEPS`` batches, the last of which is short, and their classes."""
    rng = np.random.default_rng(1)
    rows = STEPS * batch_size - 2
    x = rng.standard_normal((rows, layout.layers[0].inputs)).astype(layout.dtype)
    return x, rng.integers(0, layout.layers[-1].outputs, rows)


def train(layout, compute, x, classes, batch_size, last):
    """(step that training ended before, flat buffers, losses) of steps 0 ... last-1."""
    flat, losses = random_flat(layout), np.full(STEPS, -1.0)
    statistics = np.ones(layout.statistics, layout.dtype)
    optimizer = Momentum(0.1, momentum=0.9, weight_decay=0.01)
    trainer = Trainer(layout, flat, statistics, batch_size, Objective(), unit_for(compute))
    trainer.pack()
    scales = np.full(STEPS, 1 / batch_size, layout.dtype)
    data = data_of(x, classes, np.arange(len(x)), scales)
    schedule = optimizer.schedule(np.full(STEPS, 0.1), 0, layout.groups, layout.dtype)
    figures = StepFigures(losses, np.zeros(STEPS), np.empty(0))
    ended = trainer.train(data, schedule, 0, last, figures)
    trainer.unpack()
    return ended, (*flat, statistics), losses


def check_training_ends_before(bad, layout, compute, x, classes, batch_size):
    """It leaves what ``bad`` steps leave, to the bit, and does not begin a later one."""
    ended, flat, losses = train(layout, compute, x, classes, batch_size, STEPS)
    assert ended == bad
    assert not np.isfinite(losses[bad])
    assert_array_equal(losses[bad + 1 :], -1)
    until, expected, before = train(layout, compute, x, classes, batch_size, bad)
    assert until == bad
    assert_array_equal(losses[:bad], before[:bad])
    for actual, value in zip(flat, expected, strict=True):
        assert np.isfinite(value).all()
        assert_array_equal(actual, value)
    return losses[bad]


@pytest.mark.usefixtures("on_threads")
@pytest.mark.parametrize("value", [np.nan, np.inf, "largest"])
@with_and_without_batchnorm
@pytest.mark.parametrize("bad", [0, 2, STEPS - 1])
@every_dtype
def test_training_ends_before_a_loss_that_is_not_finite(compute, bad, normalised, value):
    """By a single row of the batch; the largest number overflows in a sum of products."""
    layout = layout_of([7, 17, 9, 5], compute, normalised)
    x, classes = training_set(layout, 9)
    x[9 * bad + 6] = np.finfo(x.dtype).max if value == "largest" else value
    check_training_ends_before(bad, layout, compute, x, classes, 9)


@pytest.mark.usefixtures("on_threads")
@pytest.mark.parametrize("row", [0, 300, 597])
@with_and_without_batchnorm
@every_dtype
def test_in_a_batch_of_several_chunks(compute, normalised, row):
    layout = layout_of([3, 17, 5], compute, normalised)
    x, classes = training_set(layout, 600)
    x[600 + row] = np.nan
    check_training_ends_before(1, layout, compute, x, classes, 600)


@pytest.mark.usefixtures("on_threads")
@pytest.mark.parametrize("row", [0, 4, 8])
@every_dtype
def test_with_logits_in_several_panels(compute, row):
    """The loss is then a phase of its own."""
    layout = layout_of([5, 9, 200], compute)
    x, classes = training_set(layout, 9)
    x[9 + row] = np.nan
    check_training_ends_before(1, layout, compute, x, classes, 9)


@pytest.mark.usefixtures("on_threads")
@every_dtype
def test_an_infinite_loss_of_finite_logits(compute):
    """Two of them lie further apart than the largest number."""
    layout = layout_of([3, 5], compute)
    x, classes = training_set(layout, 9)
    weights = random_flat(layout).parameters[:5]
    assert np.abs(weights).max() < 1 < np.ptp(weights) * 0.95
    classes[4] = weights.argmin()
    x[4] = 0.95 * np.finfo(x.dtype).max, 0, 0
    assert check_training_ends_before(0, layout, compute, x, classes, 9) == np.inf


@pytest.mark.usefixtures("on_threads")
def test_finite_losses_whose_sum_is_infinite():
    """Each is less than the largest float64, so that any two of them are more."""
    layout = layout_of([3, 5], "float64")
    x, classes = training_set(layout, 9)
    weights = random_flat(layout).parameters[:5]
    classes[3:5] = weights.argmin()
    x[3:5] = 0.75 * np.finfo(x.dtype).max / np.ptp(weights), 0, 0
    assert check_training_ends_before(0, layout, "float64", x, classes, 9) == np.inf
    ended, *_ = train(layout, "float64", x[3:4], classes[3:4], 1, 1)
    assert ended == 1


# Inference. The kernel for a few rows may leave out what the one for many rows multiplies by 0.


@pytest.mark.parametrize("rows", range(1, 7))
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("layer", [0, 1])
@every_dtype
def test_zero_times_a_weight_that_is_not_finite(compute, layer, value, rows):
    """Zeros of x, and zeros that ReLU leaves of what all biases of -100 make negative."""
    layout = layout_of([7, 17, 5], compute)
    flat, x = read_by_infer(layout), np.zeros((20, 7), layout.dtype)
    first, second = layout.table
    flat.parameters[first["flat_b"] :][:17] = -100
    flat.parameters[(first, second)[layer]["flat_w"] + 1] = value
    unit = unit_for(compute)
    many = infer(layout, flat, x, unit)
    assert np.isnan(many).any()
    assert_array_equal(infer(layout, flat, x[:rows], unit), many[:rows])


@every_dtype
def test_a_few_rows_skip_weights_only_where_all_are_known_to_be_finite(compute):
    layout = layout_of([7, 5], compute)
    flat, x = read_by_infer(layout), np.zeros((1, 7), layout.dtype)
    flat.parameters[3] = np.inf
    biases = flat.parameters[layout.table[0]["flat_b"] :]
    assert_array_equal(infer(layout, flat, x, unit_for(compute), finite=True)[0], biases)
    assert np.isnan(infer(layout, flat, x, unit_for(compute))).any()
