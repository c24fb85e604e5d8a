"""Large batches, which go through the network a microbatch at a time, as if they went at once."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.engine import Objective, Trainer
from fastmlp.history import NotFiniteWarning
from fastmlp.kernels._rates import unit_for
from fastmlp.kernels.update import Learnt
from fastmlp.layers.embedding import PeriodicEmbeddings
from fastmlp.optimizers import AdamW, Momentum
from tests.networks import batch, build, fit_is_the_loop_on_any_threads, state

SIZES = [19, 33, 33, 5]
# Three microbatches of floats, two of bfloat16; the last of an epoch's batches has another number.
ROWS = 700

KINDS = {
    "plain": {},
    "no-bias": {"bias": False},
    "dropout": {"dropout": [0.2, 0.4, 0.3], "dropout_seed": 3},
    "layer-norm": {"num_ln_layers": 2},
    "batch-norm": {"num_bn_layers": 1},
    "residual": {"residual": True, "dropout": 0.3, "dropout_seed": 3},
    "parametric": {"parametric_activations": True},
    "scaled": {"scale_inputs": True, "dropout": [0.2, 0, 0], "dropout_seed": 3},
    "embedded": {
        "embeddings": PeriodicEmbeddings(4, seed=2), "dropout": [0.2, 0, 0], "dropout_seed": 3,
    },
    "adamw": {"optimizer": AdamW(0.01, clip_norm=1.0, average=0.9)},
}  # fmt: skip


def network(kind, dtype="float64", **options):
    options = KINDS[kind] | options
    if "optimizer" not in options and kind in ("scaled", "embedded", "parametric"):
        options["optimizer"] = Momentum(0.05, momentum=0.9)
    return build(SIZES, dtype=dtype, **({"lr": None} if "optimizer" in options else {}), **options)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", KINDS)
def test_fit_is_the_loop_for_any_number_of_threads(kind, dtype, monkeypatch):
    """Whose layers take the batch whole."""
    fit_is_the_loop_on_any_threads(lambda: network(kind, dtype), ROWS, dtype, monkeypatch)


@pytest.mark.parametrize("kind", ["plain", "no-bias", "layer-norm", "parametric", "adamw"])
def test_accumulated_batches_are_one_larger_batch(kind):
    """To the bit; dropout would draw other numbers, batch norm take other moments."""
    x, labels, _ = batch(900, SIZES[0], SIZES[-1])
    small, large = network(kind), network(kind)
    small.fit(x, labels, batch_size=50, accumulate=9, epochs=2, shuffle=False)
    large.fit(x, labels, batch_size=450, epochs=2, shuffle=False)
    for name, value in state(large).items():
        assert_array_equal(state(small)[name], value, err_msg=name)


def trainer(batch_size, compute="float32", **options):
    mlp = build(SIZES, dtype=np.float32, **options)
    nothing = np.empty(0, np.float32)
    learnt = Learnt(mlp.parameters, mlp.velocities, nothing, nothing)
    unit = unit_for(compute)
    return Trainer(mlp.layout, learnt, mlp.statistics, batch_size, Objective(), unit)


def numbers_of(packed):
    """How many numbers there are in all buffers of a training."""
    arrays = []
    for field in packed:
        arrays.extend(field if isinstance(field, tuple) else [field])
    return sum(array.size for array in arrays if isinstance(array, np.ndarray))


@pytest.mark.parametrize("compute", ["float32", "bfloat16"])
def test_a_larger_batch_takes_no_more_memory(compute):
    small, large = (numbers_of(trainer(rows, compute).packed) for rows in (2_560, 256_000))
    assert large == small
    # Which has room for a microbatch in all buffers.
    assert small > 128 * sum(SIZES)


def test_batch_norm_takes_the_batch_whole():
    small, large = (numbers_of(trainer(r, num_bn_layers=1).packed) for r in (2_560, 25_600))
    assert large > 5 * small


def test_a_loss_that_is_not_finite_in_the_last_microbatch_changes_nothing():
    """Though the gradients of those before were complete."""
    x, labels, _ = batch(ROWS, SIZES[0], SIZES[-1])
    x[-1] = 1e308
    mlp = network("plain")
    mlp.linear_layers[0].W[:] = 1e3
    before = state(mlp)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotFiniteWarning)
        history = mlp.fit(x, labels, batch_size=ROWS, shuffle=False)
    for name, value in state(mlp).items():
        assert_array_equal(value, before[name], err_msg=name)
    assert not np.isfinite(history.step_loss[0])


def test_figures_are_of_the_whole_batch():
    """Of either of two, whose update changes next to nothing."""
    x, labels, _ = batch(2 * ROWS, SIZES[0], SIZES[-1])
    mlp = network("plain", optimizer=Momentum(1e-30))
    halves = [mlp.evaluate(x[rows], labels[rows]) for rows in (slice(ROWS), slice(ROWS, None))]
    history = mlp.fit(x, labels, batch_size=ROWS, shuffle=False)
    np.testing.assert_allclose(history.step_loss, [loss for loss, _ in halves], rtol=1e-13)
    np.testing.assert_allclose(
        history.train_error, [np.mean([error for _, error in halves])], rtol=1e-13
    )
