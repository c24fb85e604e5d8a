"""Learning-rate schedules in a fit: the rates that its steps take, and what does not suit it."""

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.history import FitPlan
from fastmlp.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    Lambda,
    OneCycle,
    ReduceOnPlateau,
    Schedule,
    Step,
)
from tests.networks import assert_same_state, batch, build, state
from tests.reference import ReferenceMLP, train_epoch

# A rate is a handful of roundings away from the formula.
CLOSE = {"rtol": 1e-12, "atol": 1e-15}
X, LABELS, Y = batch(33, 5, 3)


def network(cls=MLP, **options):
    return build([5, 7, 3], cls=cls, momentum=0.9, **({"lr": 0.1} | options))


def fit(mlp, **options):
    return mlp.fit(X, LABELS, **({"batch_size": 8, "shuffle": False} | options))


def by_hand(given):
    """A network after a step at each of the rates, five an epoch."""
    mlp = network(ReferenceMLP)
    for step, rate in enumerate(given):
        mlp.lr = rate
        here = slice(step % 5 * 8, step % 5 * 8 + 8)
        train_epoch(mlp, X[here], Y[here], 8)
    return state(mlp)


def assert_rates(history, given):
    """One of each step; of each epoch the last."""
    np.testing.assert_allclose(history.step_learning_rate, given, **CLOSE)
    ends = [*range(4, len(given), 5)] + [len(given) - 1] * (len(given) % 5 > 0)
    assert history.learning_rate == [history.step_learning_rate[end] for end in ends]


@pytest.mark.parametrize("call", ["long", "short"])
@pytest.mark.parametrize("schedule", [None, Cosine(0.2, 1), Step(1), InverseScaling()], ids=str)
def test_it_multiplies_the_network_s_own_rate(schedule, call, request):
    """Whether a call of the compiled epoch makes one step or five."""
    if call == "short":
        request.getfixturevalue("short_calls")
    mlp = network()
    history = fit(mlp, epochs=3, lr_schedule=schedule)
    given = (schedule or Constant()).factors(np.arange(15), FitPlan(3, 5, 8, 33, False, 15)) * 0.1
    assert_same_state(state(mlp), by_hand(given), 1e-12)
    assert_rates(history, given)
    assert mlp.lr == 0.1


def test_the_training_s_own_length_counts():
    """max_steps ends it within an epoch, where a cosine is at its end."""
    mlp = network()
    history = fit(mlp, epochs=9, max_steps=7, lr_schedule=Cosine())
    given = 0.1 * (1 + np.cos(np.pi * np.arange(7) / 7)) / 2
    assert_same_state(state(mlp), by_hand(given), 1e-12)
    assert_rates(history, given)


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("schedule", [None, Exponential(0.5)], ids=str)
def test_a_callback_changes_the_rate_between_steps(schedule):
    mlp = network()

    class Halve:
        def on_progress(self, progress):
            mlp.lr /= 2

    history = fit(mlp, epochs=2, lr_schedule=schedule, callbacks=[Halve()])
    given = 0.1 / 2.0 ** np.arange(10)
    if schedule:
        given[5:] /= 2
    assert_same_state(state(mlp), by_hand(given), 1e-12)
    assert_rates(history, given)


@pytest.mark.parametrize("form", ["function", "array"])
def test_rates_themselves_leave_the_network_s_own_out(form):
    given = 0.2 / np.arange(1, 11)
    schedule = {"function": lambda progress: 0.2 / (10 * progress + 1), "array": given}[form]
    mlp = network(lr=5.0)
    history = fit(mlp, epochs=2, lr_schedule=schedule)
    assert_same_state(state(mlp), by_hand(given), 1e-12)
    assert_rates(history, given)


def test_a_plateau_acts_after_the_epoch_that_ends_it():
    class Figures:
        def on_epoch_end(self, mlp, history):
            history.val_loss[-1] = [3.0, 3.0, 1.0, 2.0][len(history.val_loss) - 1]

    mlp = network()
    history = fit(
        mlp, epochs=5, lr_schedule=ReduceOnPlateau(0.5, patience=0),
        validation_data=(X, LABELS), callbacks=[Figures(), Stop(4)],
    )  # fmt: skip
    assert history.learning_rate == pytest.approx([0.1, 0.1, 0.05, 0.05], rel=1e-15)
    assert_same_state(state(mlp), by_hand([0.1] * 10 + [0.05] * 10), 1e-12)


class Stop:
    """Ends the training after so many epochs."""

    def __init__(self, epochs):
        self.epochs = epochs

    def on_epoch_end(self, mlp, history):
        return len(history.train_loss) == self.epochs


def test_one_schedule_serves_several_fits():
    """It remembers nothing of the last one."""
    schedule = ReduceOnPlateau(0.5, patience=0, threshold=0.9, monitor="train_loss")
    histories = [fit(network(), epochs=4, lr_schedule=schedule) for _ in range(2)]
    assert histories[0].learning_rate == histories[1].learning_rate
    assert len(set(histories[0].learning_rate)) > 1


def test_the_rate_of_a_loss_that_is_not_finite():
    mlp = network()
    with pytest.warns(RuntimeWarning, match="epoch 2, step 1:"):
        history = fit(mlp, epochs=3, lr_schedule=[0.1] * 4 + [1e300] + [0.7] + [0.9] * 9)
    assert history.learning_rate == [1e300, 0.7], "of the step whose loss it was"
    assert history.step_learning_rate == [0.1] * 4 + [1e300, 0.7]


def test_a_schedule_of_one_s_own():
    class Square(Schedule):
        def factors(self, steps, plan):
            return (1 - steps / plan.total_steps) ** 2

    mlp = network()
    fit(mlp, epochs=2, lr_schedule=Square())
    assert_same_state(state(mlp), by_hand(0.1 * (1 - np.arange(10) / 10) ** 2), 1e-12)


# Refusals


class Climb(Schedule):
    def factors(self, steps, plan):
        return 1.0 - steps


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        (Cosine, TypeError, "lr_schedule must be an object, got the class Cosine"),
        (Cosine(restarts=10), ValueError, "restarts must be at most 9 in a training of 10 steps"),
        (ReduceOnPlateau(), ValueError, "monitor 'val_loss' needs validation_data in fit"),
        (Exponential(1e300), ValueError, "lr_schedule must be finite"),
        (Lambda(lambda progress: -progress), ValueError, "lr_schedule must not be negative"),
        (Climb(), ValueError, r"lr_schedule must not be negative, got -0\.8"),
        (Schedule(), NotImplementedError, "Schedule must define factors"),
    ],
    ids=[
        "class", "restarts", "no monitor", "infinite", "negative", "negative later", "no factors"
    ],
)  # fmt: skip
def test_what_does_not_suit_the_training_changes_nothing(schedule, error, message):
    mlp = network(lr=0.1 if schedule != Exponential(1e300) else 1e10)
    before = state(mlp)
    with pytest.raises(error, match=message):
        fit(mlp, epochs=2, lr_schedule=schedule)
    assert_same_state(state(mlp), before)
    assert mlp.history is None


def test_the_rates_of_a_long_training_are_looked_at_in_pieces(monkeypatch):
    """All of them before it begins, but never all at a time."""
    monkeypatch.setattr("fastmlp.schedules._AT_A_TIME", 4)
    seen = []

    class Watched(Schedule):
        def factors(self, steps, plan):
            seen.append(steps.tolist())
            return 8.5 - steps

    with pytest.raises(ValueError, match=r"lr_schedule must not be negative, got -0\.05"):
        fit(network(), epochs=2, lr_schedule=Watched())
    assert seen == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_training_of_no_steps():
    for schedule in (Cosine(0.5), OneCycle(), Step(1), Lambda(lambda progress: 1)):
        assert fit(network(), epochs=0, lr_schedule=schedule).learning_rate == []
