"""Epochs without their last short batch, as ``torch.utils.data.DataLoader(drop_last=True)``."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import optimizers
from tests.networks import assert_same_state, batch, build, state, train_by_hand

SIZES = [7, 17, 3]


class Recorder:
    """A callback that keeps what it is told."""

    def __init__(self):
        self.plan, self.progress = None, []

    def on_train_begin(self, mlp, plan):
        self.plan = plan

    def on_progress(self, progress):
        self.progress.append(progress)


def test_the_rows_of_the_short_batch_are_left_out():
    x, labels, _ = batch(31, 7, 3)
    dropping, plain, looped = (build(SIZES, momentum=0.9) for _ in range(3))
    recorder = Recorder()
    history = dropping.fit(
        x, labels, batch_size=8, epochs=2, shuffle=False, drop_last=True, callbacks=[recorder]
    )
    expected = plain.fit(x[:24], labels[:24], batch_size=8, epochs=2, shuffle=False)
    for _ in range(2):
        for first in (0, 8, 16):
            train_by_hand(looped, x[first : first + 8], labels[first : first + 8])
    assert_same_state(state(dropping), state(plain))
    assert_same_state(state(dropping), state(looped))
    assert history.step_loss == expected.step_loss
    assert (history.train_loss, history.train_error) == (expected.train_loss, expected.train_error)
    assert (recorder.plan.steps, recorder.plan.samples, recorder.plan.total_steps) == (3, 24, 6)
    assert (recorder.progress[-1].samples, recorder.progress[-1].step) == (24, 3)
    assert dropping.updates == 6


def test_each_shuffled_order_loses_other_rows():
    """The batches are those that an epoch with the same seed begins with."""
    x, labels, _ = batch(31, 7, 3)
    weights = np.random.default_rng(2).uniform(0.5, 2, 31)
    dropping, looped = (build(SIZES, momentum=0.9) for _ in range(2))
    dropping.fit(x, labels, batch_size=8, epochs=3, seed=5, drop_last=True, sample_weight=weights)
    generator, order = np.random.default_rng(5), np.arange(31)
    for _ in range(3):
        generator.shuffle(order)
        for first in (0, 8, 16):
            rows = order[first : first + 8]
            looped.forward(x[rows])
            looped.backward(labels[rows], sample_weight=weights[rows])
            looped.step()
    assert_same_state(state(dropping), state(looped))


@pytest.mark.parametrize("batch_size", [31, 1, 8])
def test_whole_batches_are_all_kept(batch_size):
    x, labels, _ = batch(31 if batch_size != 8 else 32, 7, 3)
    ends = []
    for drop_last in (False, True):
        mlp = build(SIZES)
        mlp.fit(x, labels, batch_size=batch_size, seed=1, drop_last=drop_last)
        ends.append(mlp.parameters)
    assert_array_equal(ends[0], ends[1])


def test_accumulated_batches_and_steps_are_counted_without_it():
    x, labels, _ = batch(39, 7, 3)
    small, large = (build(SIZES, lr=None, optimizer=optimizers.SGD(0.1)) for _ in range(2))
    small.fit(x, labels, batch_size=8, accumulate=3, epochs=2, shuffle=False, drop_last=True)
    for _ in range(2):
        large.fit(x[:24], labels[:24], batch_size=24, shuffle=False)
        large.fit(x[24:32], labels[24:32], batch_size=8, shuffle=False)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-13)
    assert small.updates == 4
    history = small.fit(x, labels, batch_size=8, epochs=9, max_steps=5, drop_last=True)
    assert len(history.step_loss) == 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"batch_size": 32}, ValueError, "at least one whole batch, got 31 rows .*batch_size=32"),
        ({"drop_last": 1}, TypeError, "drop_last must be True or False, got 1"),
    ],
)
def test_what_is_refused_changes_nothing(options, error, message):
    x, labels, _ = batch(31, 7, 3)
    mlp = build(SIZES)
    before = mlp.parameters.copy()
    with pytest.raises(error, match=message):
        mlp.fit(x, labels, **{"drop_last": True, **options})
    assert_array_equal(mlp.parameters, before)
    assert mlp.history is None
