"""fit(resume=True): the bits of a fit that was never interrupted, wherever it was."""

import copy

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp import get_training_stats, schedules
from fastmlp._run import Order
from fastmlp.callbacks import Checkpoint
from fastmlp.sweeps import train_many
from tests.networks import batch, build
from tests.resumes import (
    KINDS,
    LABELS,
    STEPS,
    Interrupt,
    Own,
    X,
    alone,
    arguments,
    assert_same,
    interrupted,
    network,
    outcome,
    twin,
)

pytest.importorskip("safetensors", reason="files of networks need the extra io")

every_kind = pytest.mark.parametrize("kind", KINDS)


# The same bits


@every_kind
@pytest.mark.parametrize("way", ["memory", "copy", "pickle", "file"])
@pytest.mark.usefixtures("short_calls")
def test_the_same_bits_from_anywhere(kind, way, tmp_path):
    """Within an epoch, at its last step before the figures are taken, and in a later one."""
    for step in (1, 4, STEPS, STEPS + 3, 2 * STEPS + 2):
        mlp = twin(interrupted(kind, step), way, tmp_path / "model")
        history = mlp.fit(**arguments(kind), resume=True)
        assert mlp.history is history
        assert mlp.unfinished is None
        assert_same(outcome(mlp), alone(kind))


@pytest.mark.usefixtures("short_calls")
@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(
    kind=st.sampled_from(sorted(KINDS)),
    stops=st.lists(st.tuples(st.integers(1, 36), st.sampled_from(["memory", "file", "pickle"])),
                   min_size=1, max_size=4),
    event=st.sampled_from(["on_progress", "on_epoch_end"]),
)  # fmt: skip
def test_the_same_bits_after_any_interrupts(kind, stops, event, tmp_path):
    """Several in a row, each after some steps or ends of epochs more."""

    class After:
        def __init__(self, left):
            self.left = left
            setattr(self, event, self.count)

        def count(self, *arguments):
            self.left -= 1
            if self.left < 0:
                raise KeyboardInterrupt

    mlp, resume = network(kind), False
    for left, way in stops:
        try:
            mlp.fit(**arguments(kind, [After(left if event == "on_progress" else left % 3)]),
                    resume=resume)  # fmt: skip
        except KeyboardInterrupt:
            mlp, resume = twin(mlp, way, tmp_path / "model"), True
        else:
            assert_same(outcome(mlp), alone(kind))
            return
    mlp.fit(**arguments(kind), resume=True)
    assert_same(outcome(mlp), alone(kind))


@pytest.mark.parametrize(
    "seed",
    [
        None,
        np.random.SeedSequence(3),
        [1, 2, 3],
        *(np.random.Generator(getattr(np.random, name)(1))
          for name in ("PCG64DXSM", "MT19937", "Philox", "SFC64")),
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.usefixtures("short_calls")
def test_any_generator(seed, tmp_path):
    """One that was handed in has drawn as much in the end."""
    kind = "momentum"
    before = copy.deepcopy(seed)
    mlp = interrupted(kind, 9, seed=seed)
    state = mlp.unfinished.generator
    expected = network(kind)
    if seed is None:
        before = np.random.Generator(np.random.PCG64())
        before.bit_generator.state = state
    expected.fit(**arguments(kind, seed=before))
    mlp = twin(mlp, "file", tmp_path / "model")
    mlp.fit(**arguments(kind, seed=seed), resume=True)
    assert_same(outcome(mlp), outcome(expected))
    if isinstance(seed, np.random.Generator):
        assert seed.random() == before.random()


def test_every_epoch_is_shuffled_anew():
    """As one generator does it again and again, also where the first epochs are left out."""
    generator, order = np.random.default_rng(3), np.arange(9)
    begun = Order(9, 7, np.random.default_rng(3), True)
    for epoch in range(4):
        generator.shuffle(order)
        np.testing.assert_array_equal(begun.of(epoch), order[:7])
    resumed = Order(9, 7, np.random.default_rng(), True, begun.state)
    np.testing.assert_array_equal(resumed.of(3), order[:7])


@pytest.mark.usefixtures("short_calls")
def test_a_rate_that_is_changed_meanwhile_counts():
    """What somebody does to a network between its interrupt and what follows is not undone."""
    mlp, expected = network("momentum"), network("momentum")
    interrupted("momentum", 6, mlp)
    mlp.lr /= 2

    class Halve:
        def on_progress(self, progress):
            if (progress.epoch, progress.step) == (0, 6):
                expected.lr /= 2

    mlp.fit(**arguments("momentum"), resume=True)
    expected.fit(**arguments("momentum", [Halve()]))
    assert_same(outcome(mlp), outcome(expected))


@pytest.mark.usefixtures("short_calls")
def test_early_stopping_shows_the_best_and_goes_on_from_the_last(tmp_path):
    """An interrupt leaves the best epoch, as ever; what follows starts from the last step."""
    kind = "early stopping"
    mlp = interrupted(kind, 4 * STEPS - 2)
    last, shown = mlp.unfinished.network["parameters"], mlp.parameters.copy()
    assert not np.array_equal(last, shown)
    again = twin(mlp, "file", tmp_path / "model")
    np.testing.assert_array_equal(again.parameters, shown)
    again.fit(**arguments(kind), resume=True)
    assert_same(outcome(again), alone(kind))


# What is unfinished


@pytest.mark.usefixtures("short_calls")
def test_what_is_unfinished():
    mlp = network("momentum")
    assert mlp.unfinished is None

    class Look:
        def on_train_begin(self, mlp, plan):
            assert mlp.unfinished is None
            self.mlp, self.seen = mlp, []

        def on_progress(self, progress):
            state = self.mlp.unfinished
            self.seen.append((state.epoch, state.step))

        def on_train_end(self, mlp, history):
            self.end = mlp.unfinished

    look = Look()
    mlp.fit(**arguments("momentum", [look]))
    assert look.seen == [(epoch, step + 1) for epoch in range(3) for step in range(STEPS)]
    assert look.end is mlp.unfinished is None
    interrupted("momentum", 8, mlp, [look])
    assert repr(mlp.unfinished) == repr(look.end) == "FitState(epoch=1, step=2, epochs=3)"
    assert mlp.unfinished.history.train_loss == mlp.history.train_loss
    mlp.fit(**arguments("momentum"), resume=False)
    assert mlp.unfinished is None
    interrupted("momentum", 8, mlp)
    mlp.unfinished = None
    with pytest.raises(ValueError, match="resume=True needs a network whose fit was interrupted"):
        mlp.fit(**arguments("momentum"), resume=True)
    with pytest.raises(TypeError, match="unfinished must be an object of class FitState, got 3"):
        mlp.unfinished = 3


@pytest.mark.usefixtures("short_calls")
def test_an_error_leaves_an_unfinished_fit_too():
    class Failing:
        def on_progress(self, progress):
            if progress.step == 3:
                raise RuntimeError("mine")

    mlp = network("dropout")
    with pytest.raises(RuntimeError, match="mine"):
        mlp.fit(**arguments("dropout", [Failing()]))
    mlp.fit(**arguments("dropout"), resume=True)
    assert_same(outcome(mlp), alone("dropout"))


@pytest.mark.usefixtures("short_calls")
def test_an_interrupt_before_the_first_step_changes_nothing():
    """Neither of a new fit nor of one that goes on: that stays as it was."""

    class Begin:
        def on_train_begin(self, mlp, plan):
            raise KeyboardInterrupt

    mlp = network("momentum")
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments("momentum", [Begin()]))
    assert mlp.unfinished is None
    interrupted("momentum", 8, mlp)
    before = mlp.unfinished
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments("momentum", [Begin()]), resume=True)
    assert mlp.unfinished is before
    mlp.fit(**arguments("momentum"), resume=True)
    assert_same(outcome(mlp), alone("momentum"))


def test_other_ways_to_train_leave_nothing_unfinished():
    x, labels, y = batch(20, 5, 3)
    mlp = build([5, 3])
    get_training_stats(mlp, ((x, y), (x, y), (x, y)), 1, 8)
    mlp.fit(x, labels)
    assert mlp.unfinished is None


@pytest.mark.usefixtures("short_calls")
def test_fits_side_by_side_go_on():
    """One ends the others by its error; each goes on from where it was."""
    kinds = ["momentum", "dropout", "plateau"]
    networks = [network(kind) for kind in kinds]
    third = Interrupt(9)
    with pytest.raises(KeyboardInterrupt):
        train_many([(m, arguments(k, [third] if k == "dropout" else [])) for m, k in
                    zip(networks, kinds, strict=True)], max_workers=3)  # fmt: skip
    assert networks[1].unfinished is not None
    left = [(m, arguments(k, resume="auto")) for m, k in zip(networks, kinds, strict=True)
            if m.unfinished or m.history is None]  # fmt: skip
    train_many(left)
    for mlp, kind in zip(networks, kinds, strict=True):
        assert_same(outcome(mlp), alone(kind))


# Refusals

OTHER = {
    "epochs": (4, "epochs must be that of the unfinished fit for it to go on, 3, got 4"),
    "batch_size": (9, "batch_size must be .* 8, got 9"),
    "max_steps": (9, "max_steps must be .* None, got 9"),
    "shuffle": (False, "shuffle must be .* True, got False"),
    "seed": (8, "seed must be .* 7, got 8"),
    "accumulate": (2, "accumulate must be .* 1, got 2"),
    "drop_last": (True, "drop_last must be .* False, got True"),
    "x": (X + 1, r"x must be .* \(41, 5\) float64, got other values"),
    "labels": (LABELS[::-1], r"labels must be .* \(41,\) int64, got other values"),
    "sample_weight": (np.ones(41), r"sample_weight must be .* None, got \(41,\) float64"),
    "validation_data": (
        (X[:8], LABELS[:8]),
        r"validation_data must be .* \(\(9, 5\) float64, \(9,\) int64, None\), got \(\(8, 5\)",
    ),
    "lr_schedule": (
        schedules.Step(1),
        r"lr_schedule must be .* ReduceOnPlateau\(factor=0.5, .*\), got Step\(step_size=1, gamma",
    ),
    "decay_schedule": (lambda t: t, r"decay_schedule must be .* None, got \(18,\) float64"),
    "dropout_schedule": (lambda t: t, r"dropout_schedule must be .* None, got \(18,\) float64"),
}


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("way", ["memory", "file"])
def test_other_arguments_are_refused(way, tmp_path):
    """By name, before anything has changed; with the same ones it still goes on."""
    mlp = twin(interrupted("plateau", 8), way, tmp_path / "model")
    before, state, history = outcome(interrupted("plateau", 8)), mlp.unfinished, mlp.history
    for name, (value, message) in OTHER.items():
        with pytest.raises(ValueError, match=message):
            mlp.fit(**arguments("plateau") | {name: value}, resume=True)
    with pytest.raises(ValueError, match=r"x must be .* \(41, 5\) float64, got \(40, 5\) float64"):
        mlp.fit(**arguments("plateau") | {"x": X[:40], "labels": LABELS[:40]}, resume="auto")
    assert mlp.unfinished is state
    assert mlp.history is history
    np.testing.assert_array_equal(mlp.parameters, before["parameters"])
    mlp.fit(**arguments("plateau"), resume=True)
    assert_same(outcome(mlp), alone("plateau"))


def test_a_function_for_a_schedule_is_known_by_its_rates():
    options = {"lr_schedule": lambda t: 0.1 * (1 - t)}
    mlp = network("momentum")
    interrupted("momentum", 8, mlp, **options)
    with pytest.raises(ValueError, match=r"lr_schedule must be .*Given\(\), got other values"):
        mlp.fit(**arguments("momentum", lr_schedule=lambda t: 0.2 * (1 - t)), resume=True)
    mlp.fit(**arguments("momentum", lr_schedule=lambda t: (1 - t) * 0.1), resume=True)


@pytest.mark.parametrize("size", [1 << 20, 1 << 8])
def test_one_row_of_large_data_may_be_other(size, monkeypatch):
    """Above a limit a digest is that of some rows, of which the first and the last are two."""
    monkeypatch.setattr("fastmlp._fit_state.HASHED", size)
    mlp = interrupted("momentum", 8)
    for row in (0, 40, 20):
        x = X.copy()
        x[row] += 1
        if size < 1000 and row == 20:
            mlp.fit(**arguments("momentum") | {"x": x}, resume=True)
            return
        with pytest.raises(ValueError, match="x must be"):
            mlp.fit(**arguments("momentum") | {"x": x}, resume=True)


def test_a_callback_that_is_missing():
    mlp = interrupted("early stopping", 9)
    options = arguments("early stopping") | {"callbacks": [Checkpoint("never")]}
    with pytest.raises(ValueError, match=r"callbacks must .* EarlyStopping, got Checkpoint"):
        mlp.fit(**options, resume=True)
    with pytest.raises(ValueError, match=r"callbacks must .* EarlyStopping, got none"):
        mlp.fit(**options | {"callbacks": []}, resume=True)
    mlp.fit(**arguments("early stopping", [Own()]), resume=True)
    assert_same(outcome(mlp), alone("early stopping"))


@pytest.mark.parametrize("resume", [1, None, "yes", np.ones(2)])
def test_what_resume_must_be(resume):
    with pytest.raises(ValueError, match="resume must be True, False or 'auto', got"):
        network("momentum").fit(X, LABELS, resume=resume)


def test_auto_begins_where_nothing_is_unfinished():
    mlp = network("dropout")
    mlp.fit(**arguments("dropout"), resume="auto")
    assert_same(outcome(mlp), alone("dropout"))
