"""Columns of zeros, which the products of a batch leave out: the same bits, less work."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastmlp
from fastmlp import GELU, Identity, ReLU, Tanh, optimizers
from fastmlp._layout import LayerSpec, Layout
from fastmlp._sources import has_columns_of_zeros
from fastmlp.engine import Objective, Trainer, data_of
from fastmlp.history import NotFiniteWarning
from fastmlp.kernels._geometry import padded_width
from fastmlp.kernels._host import lanes, tile_rows
from fastmlp.kernels._units import FLOATS
from fastmlp.kernels._vocabulary import WHOLE
from fastmlp.kernels.activation import ACTIVATIONS, NO_ACTIVATION
from fastmlp.kernels.network import StepFigures
from fastmlp.kernels.present import MOST
from fastmlp.kernels.rules import FACTORS
from fastmlp.kernels.update import Learnt
from fastmlp.layers.embedding import PeriodicEmbeddings
from tests.networks import (
    assert_same_state,
    batch,
    build,
    fit_is_the_loop_on_any_threads,
    state,
    train_by_hand,
)

pytestmark = pytest.mark.usefixtures("forced_threads", "whole_vocabulary")
every_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32])


@pytest.fixture
def whole_vocabulary(monkeypatch):
    """The epoch that knows all, which the rest of the suite has compiled."""
    monkeypatch.setattr("fastmlp.engine.vocabulary_for", lambda *arguments: WHOLE)


# What a step finds


def trainer_for(sizes, rows, dtype, parts):
    """One that ``parts`` of three threads take part in."""
    fastmlp.set_num_threads(3)
    *hidden, last = pairwise(sizes)
    specs = [LayerSpec(*widths, ACTIVATIONS["tanh"], True, False) for widths in hidden]
    layout = Layout([*specs, LayerSpec(*last, NO_ACTIVATION, True, False)], dtype)
    rng = np.random.default_rng(0)
    flat = rng.standard_normal(layout.parameters).astype(dtype) / 8
    nothing = np.empty(0, dtype)
    learnt = Learnt(flat, np.zeros_like(flat), nothing, nothing)
    trainer = Trainer(layout, learnt, np.empty(0, dtype), rows, Objective(), FLOATS)
    trainer.parts = min(parts, trainer.threads)
    trainer.pack()
    return trainer


def train_once(trainer, x):
    """A step on all rows of x."""
    dtype, steps = trainer.layout.dtype, 1
    schedule = np.full((steps, len(trainer.layout.groups) * FACTORS), 0.01, dtype)
    data = data_of(x, np.arange(len(x)) % 3, np.arange(len(x)), np.full(steps, 0.1, dtype))
    out = StepFigures(np.zeros(steps), np.zeros(steps), np.empty(0))
    trainer.train(data, schedule, 0, steps, out)


def lists_of(trainer):
    """(order of the features, runs) in the list of every part that takes part."""
    width, parts = padded_width(trainer.table[0]["inputs"], trainer.layout.dtype), trainer.parts
    lists = trainer.packed.lists
    for own in lists[: len(lists) // parts * parts].reshape(parts, -1):
        yield own[:width].tolist(), own[width : 2 * width].reshape(-1, 2).tolist()


def expected_runs(present, count):
    """Runs of consecutive features, none of which goes beyond a block."""
    runs = []
    for k in present:
        if runs and k == sum(runs[-1]) and k % count > 0:
            runs[-1][1] += 1
        else:
            runs.append([k, 1])
    return runs


@every_dtype
@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 70), st.integers(1, 11), st.integers(1, 3))
def test_a_step_lists_the_features_that_any_of_its_rows_has(dtype, data, width, rows, parts):
    seen = np.array(data.draw(st.lists(st.booleans(), min_size=width, max_size=width)))
    x = np.zeros((rows, width), dtype)
    for k in np.flatnonzero(seen):
        x[data.draw(st.integers(0, rows - 1)), k] = data.draw(st.sampled_from([1, -2, 1e-40, 1e30]))
    seen = (x != 0).any(axis=0)
    trainer = trainer_for([width, 5, 3], rows, dtype, parts)
    train_once(trainer, x)
    present, size = np.flatnonzero(seen).tolist(), padded_width(width, dtype)
    for order, runs in lists_of(trainer):
        assert order[: len(present)] == present
        assert sorted(order) == list(range(size))
        wanted = expected_runs(present, lanes(np.dtype(dtype).itemsize))
        assert runs[: len(wanted)] == wanted


# The same bits


def some_zeros(x, share=0.4, seed=3):
    """Some columns are zeros in all rows, others in most, and all in a few batches."""
    rng = np.random.default_rng(seed)
    x[:, rng.random(x.shape[1]) < share] = 0
    x[rng.random(x.shape) < 0.7] = 0
    x[1::3] *= -1


NETWORKS = {
    "momentum": ([61, 33, 5], {"momentum": 0.9}),
    "three vectors wide": ([50, 48, 7], {"momentum": 0.9, "weight_decay": 0.01}),
    "one layer": ([37, 5], {}),
    "batch norm": ([61, 17, 5], {"num_bn_layers": 1}),
    "adam": ([61, 33, 5], {"lr": None, "optimizer": optimizers.Adam(0.01)}),
    "clipped": ([61, 9, 5], {"lr": None, "optimizer": optimizers.Momentum(0.05, clip_norm=0.1)}),
    "dropout": ([61, 33, 5], {"dropout": [0.3, 0.2], "dropout_seed": 3}),
    "residual": ([33, 33, 5], {"residual": True}),
    "scaled": ([33, 9, 5], {"scale_inputs": True, "lr": None,
                            "optimizer": optimizers.Momentum(0.05)}),
    "embedded": ([33, 9, 5], {"embeddings": PeriodicEmbeddings(4, seed=2), "lr": None,
                              "optimizer": optimizers.Momentum(0.05)}),
}  # fmt: skip


@pytest.mark.parametrize("rows", [1, 9, 33, 300])
@every_dtype
@pytest.mark.parametrize("name", NETWORKS)
def test_fit_is_the_loop_by_hand_which_leaves_nothing_out(name, dtype, rows, monkeypatch):
    """300 rows are two microbatches, whose gradients are added up; or two chunks."""
    sizes, options = NETWORKS[name]
    fit_is_the_loop_on_any_threads(
        lambda: build(sizes, dtype=dtype, **options), rows, dtype, monkeypatch, some_zeros
    )


@every_dtype
@pytest.mark.parametrize("rows", [7, 40])
def test_widths_around_those_of_a_tile(rows, dtype, monkeypatch):
    count, height = lanes(np.dtype(dtype).itemsize), tile_rows(np.dtype(dtype).itemsize)
    for inputs in (2 * height, 4 * count - 1, 4 * count + 1):
        for outputs in (1, count, 2 * count + 1, 3 * count, 5 * count):
            fit_is_the_loop_on_any_threads(
                lambda sizes=(inputs, outputs, 3): build(list(sizes), dtype=dtype, momentum=0.9),
                rows, dtype, monkeypatch, some_zeros,
            )  # fmt: skip


@every_dtype
def test_batches_without_any_number(dtype, monkeypatch):
    def nothing(x):
        x[: 2 * len(x) // 3] = 0

    fit_is_the_loop_on_any_threads(
        lambda: build([33, 20, 3], dtype=dtype, momentum=0.9), 10, dtype, monkeypatch, nothing
    )


@every_dtype
def test_accumulated_batches(dtype):
    """Each of which has other columns of zeros, and adds to the gradients of all."""
    x, labels, _ = batch(90, 61, 5, dtype=dtype)
    for first in range(0, 90, 10):
        some_zeros(x[first : first + 10], 0.5, seed=first)
    small, large = (build([61, 33, 5], [Tanh, Identity], dtype=dtype) for _ in range(2))
    small.fit(x, labels, batch_size=10, accumulate=9, shuffle=False)
    large.fit(x, labels, batch_size=90, shuffle=False)
    assert_same_state(state(small), state(large), 1e-13 if dtype == np.float64 else 1e-5)


@every_dtype
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("feature", [0, 3, 40])
def test_a_weight_that_is_not_finite_is_noticed_where_only_zeros_meet_it(feature, bad, dtype):
    """In the first step, as it is by hand."""
    x, labels, _ = batch(20, 41, 3, dtype=dtype)
    x[:, feature] = 0
    x[:, 10:30] = 0
    mlp = build([41, 7, 3], dtype=dtype)
    mlp.linear_layers[0].W[feature, 2] = bad
    with pytest.warns(NotFiniteWarning, match="the loss is nan in epoch 1, step 1:"):
        mlp.fit(x, labels, batch_size=10, shuffle=False)


@every_dtype
@pytest.mark.parametrize("optimizer", ["momentum", "apart"])
def test_gradients_that_are_not_finite_reach_the_weights_of_zeros(optimizer, dtype):
    """0 * infinity is NaN, also in the row of a feature that a batch has not."""
    x, labels, _ = batch(10, 41, 3, dtype=dtype)
    x[:, 10:30] = 0
    huge = np.finfo(dtype).max
    made = []
    for _ in range(2):
        options = {"momentum": 0.9}
        if optimizer == "apart":
            options = {"lr": None, "optimizer": optimizers.Momentum(0.05, clip_value=1e9)}
        mlp = build([41, 7, 3], [ReLU, Identity], dtype=dtype, **options)
        # The loss is finite, and the gradient of the hidden layer is not.
        mlp.linear_layers[1].W[:] = 0
        mlp.linear_layers[1].W[2] = [huge, -huge, huge]
        mlp.linear_layers[0].W[:, 2] = 0
        mlp.linear_layers[0].b[:, 2] = 1e-38 if dtype == np.float32 else 1e-300
        made.append(mlp)
    fitted, looped = made
    with np.errstate(all="ignore"):
        train_by_hand(looped, x, labels)
    assert not np.isfinite(looped.linear_layers[0].W[10:30]).all()
    with pytest.warns(NotFiniteWarning):
        fitted.fit(x, labels, batch_size=10, shuffle=False)
    assert_same_state(state(fitted), state(looped))


def test_a_call_looks_no_longer_once_a_batch_has_most_features():
    """And the next call does again."""
    width, rows = 64, 10
    trainer = trainer_for([width, 5, 3], rows, np.float32, 1)
    x = np.ones((2 * rows, width), np.float32)
    x[rows:, ::2] = 0
    schedule = np.full((2, len(trainer.layout.groups) * FACTORS), 0.01, np.float32)
    classes, order = np.arange(2 * rows) % 3, np.arange(2 * rows)
    data = data_of(x, classes, order, np.full(2, 0.1, np.float32))
    out = StepFigures(np.zeros(2), np.zeros(2), np.empty(0))
    trainer.train(data, schedule, 0, 2, out)
    assert next(lists_of(trainer))[0] == list(range(width))
    trainer.train(data, schedule, 1, 2, out)
    assert next(lists_of(trainer))[0][: width // 2] == list(range(1, width, 2))


# Whether it is worth it


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("columns", ["C", "F", "strided"])
def test_data_are_looked_at_for_columns_of_zeros(columns, dtype):
    x = np.ones((500, 40), dtype)
    if columns == "strided":
        x = np.ones((1000, 80), dtype)[::2, ::2]
    x = np.asfortranarray(x) if columns == "F" else x
    assert not has_columns_of_zeros(x, 100)
    x[:, :20] = 0
    assert has_columns_of_zeros(x, 100)
    x[:, : int(40 * (1 - MOST)) - 1] = 0
    # In many of the rows each of them has a number.
    x[::3, :20] = 1
    assert not has_columns_of_zeros(x, 100)
    assert has_columns_of_zeros(x[:1] * 0, 100)


@pytest.mark.parametrize("form", ["csr_matrix", "csr_array"])
def test_so_are_sparse_rows(form):
    sparse = pytest.importorskip("scipy.sparse", reason="sparse rows need SciPy")
    x = np.ones((500, 40))
    assert not has_columns_of_zeros(getattr(sparse, form)(x), 100)
    x[:, :20] = 0
    assert has_columns_of_zeros(getattr(sparse, form)(x), 100)


def test_files_are_not_read_for_that(tmp_path):
    x = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (500, 40))
    assert not has_columns_of_zeros(x, 100)
    assert has_columns_of_zeros(np.array(x), 100)


def test_a_fit_says_so(monkeypatch):
    asked = []

    def choose(*arguments):
        asked.append(arguments[3])
        return WHOLE

    monkeypatch.setattr("fastmlp.engine.vocabulary_for", choose)
    x, labels, _ = batch(40, 19, 3)
    build([19, 5, 3]).fit(x, labels)
    x[:, ::2] = 0
    build([19, 5, 3]).fit(x, labels)
    assert asked == [False, True]


@example(1)
@settings(max_examples=10, deadline=None)
@given(st.integers(1, 5))
def test_activations_of_every_kind_follow(seed):
    """What comes behind the product does not ask which features it had."""
    x, labels, _ = batch(23, 31, 3, seed=seed)
    some_zeros(x, seed=seed)
    fitted, looped = (build([31, 18, 3], [GELU, Identity], seed=seed) for _ in range(2))
    fitted.fit(x, labels, batch_size=23, shuffle=False)
    train_by_hand(looped, x, labels)
    assert_same_state(state(fitted), state(looped))
