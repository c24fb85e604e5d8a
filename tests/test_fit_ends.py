"""How a fit ends: by a loss that is not finite, an error, an interrupt, or a callback's word."""

import copy
import inspect
import math
import warnings

import numpy as np
import pytest

from fastmlp import get_training_stats
from fastmlp.engine import Trainer
from fastmlp.schedules import Cosine
from tests.networks import assert_same_state, batch, build, state

X, LABELS, Y = batch(33, 5, 3)


def network(**options):
    return build([5, 7, 3], num_bn_layers=1, momentum=0.9, **options)


def fit(mlp, **options):
    return mlp.fit(X, LABELS, **({"batch_size": 8, "shuffle": False} | options))


class Poison:
    """Makes the loss of what follows a given step NaN, by a weight."""

    def __init__(self, epoch, step):
        self.when = epoch, step

    def on_train_begin(self, mlp, plan):
        self.mlp = mlp

    def on_progress(self, progress):
        if (progress.epoch, progress.step) == self.when:
            self.mlp.linear_layers[1].W[0, 0] = np.nan
            self.left = state(self.mlp)


# A loss that is not finite


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize(("epoch", "step"), [(0, 1), (0, 4), (1, 2)])
def test_a_loss_that_is_not_finite_ends_the_fit(epoch, step):
    """With the weights and statistics of the step before; epoch and step are named, from 1 on."""
    mlp, poison = network(), Poison(epoch, step)
    where = f"the loss is nan in epoch {epoch + 1}, step {step + 1}: fit ended there"
    with pytest.warns(RuntimeWarning, match=where):
        history = fit(mlp, epochs=4, callbacks=[poison], validation_data=(X, LABELS))
    assert_same_state(state(mlp), poison.left)
    assert len(history.train_loss) == len(history.val_loss) == epoch + 1
    assert [math.isfinite(loss) for loss in history.step_loss] == [True] * (5 * epoch + step) + [
        False
    ]
    assert np.isfinite(history.train_loss[:-1]).all()
    assert np.isnan(history.train_loss[-1])
    assert mlp.history is history


def test_it_ends_within_a_call_of_many_steps():
    """As step by step: a row of the fourth batch."""
    x = X.copy()
    x[26] = np.nan
    mlp, expected = network(), network()
    with pytest.warns(RuntimeWarning, match=r"the loss is nan in epoch 1, step 4:"):
        mlp.fit(x, LABELS, batch_size=8, shuffle=False, epochs=3, check_finite=False)
    expected.fit(x[:24], LABELS[:24], batch_size=8, shuffle=False)
    assert_same_state(state(mlp), state(expected))


def test_the_warning_is_shown_at_the_call_of_fit():
    mlp = network(lr=1e200)
    line = inspect.currentframe().f_lineno + 2
    with pytest.warns(RuntimeWarning, match=r"learning rate may be too large, lr is 1e\+200") as w:
        mlp.fit(X, LABELS, epochs=3)
    assert [(warning.filename, warning.lineno) for warning in w] == [(__file__, line)]


def test_parameters_lost_in_the_last_update():
    """The loss of a step is taken before its update, so it is still finite."""
    mlp = build([5, 3], lr=1e308)
    with pytest.warns(RuntimeWarning, match="parameters are NaN or infinite after the last step"):
        history = mlp.fit(np.full((3, 5), 1e9), np.arange(3))
    assert np.isfinite(history.train_loss).all()


def test_a_finite_fit_ends_without_a_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fit(network(), epochs=2).train_loss) == 2


def test_training_stats_after_a_loss_that_is_not_finite():
    """HW1P1's curves keep their length."""
    x = X.copy()
    x[20] = np.inf
    mlp = network()
    data = ((X, Y), (X, Y), (X, Y))
    good = get_training_stats(network(), data, 3, 8)
    assert all(np.isfinite(curve).all() for curve in good)
    mlp.lr = 1e200
    with pytest.warns(RuntimeWarning, match="in epoch 1, step") as seen:
        curves = get_training_stats(mlp, data, 3, 8)
    assert seen[0].filename == __file__
    assert all(curve.shape == (3,) for curve in curves)
    assert all(np.isnan(curve[1:]).all() for curve in curves)
    assert np.isfinite(mlp.parameters).all()
    with pytest.raises(ValueError, match=r"dset\[0\]\[0\]\[20, 0\] must be finite, got inf"):
        get_training_stats(mlp, ((x, Y), (X, Y), (X, Y)), 3, 8)


# A callback's word


@pytest.mark.parametrize(
    ("answer", "epochs"),
    [(True, 1), (np.True_, 1), (np.bool_(1), 1), (False, 3), (np.False_, 3), (None, 3), (1, 3)],
)
def test_what_ends_the_training(answer, epochs):
    """True, of Python or of NumPy, as comparisons of arrays give it."""

    class Answer:
        def on_epoch_end(self, mlp, history):
            return answer

    assert len(fit(network(), epochs=3, callbacks=[Answer()]).train_loss) == epochs


# Errors and interrupts


class Raise:
    """Raises at one event."""

    def __init__(self, event, error):
        setattr(self, event, self._raise)
        self._error = error

    def _raise(self, *arguments):
        raise self._error


class End:
    """Counts its ends."""

    def __init__(self):
        self.histories = []

    def on_train_end(self, mlp, history):
        self.histories.append(history)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("mine"), SystemExit(3)])
@pytest.mark.parametrize("event", ["on_train_begin", "on_progress", "on_epoch_end", "on_train_end"])
def test_every_end_is_told_and_the_history_stays(event, error):
    mlp, before, after = network(), End(), End()
    with pytest.raises(type(error)) as raised:
        fit(mlp, epochs=3, callbacks=[before, Raise(event, error), after])
    assert raised.value is error
    assert before.histories == after.histories == [mlp.history]
    epochs = {"on_epoch_end": 1, "on_train_end": 3}.get(event, 0)
    steps = {"on_train_begin": 0, "on_progress": len(mlp.history.step_loss)}.get(event, 5 * epochs)
    assert len(mlp.history.train_loss) == epochs
    assert len(mlp.history.step_loss) == steps


def test_the_first_of_two_errors_is_not_lost():
    first, second = RuntimeError("first"), ValueError("second")
    callbacks = [Raise("on_train_end", first), Raise("on_train_end", second)]
    with pytest.raises(ValueError, match="second") as raised:
        fit(network(), callbacks=callbacks)
    assert raised.value.__context__ is first


@pytest.mark.usefixtures("short_calls")
def test_the_history_of_an_interrupted_epoch_has_its_steps():
    mlp, whole = network(), network()

    class Interrupt:
        def on_progress(self, progress):
            if (progress.epoch, progress.step) == (1, 3):
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(mlp, epochs=3, callbacks=[Interrupt()], lr_schedule=Cosine())
    expected = fit(whole, epochs=3, lr_schedule=Cosine())
    assert mlp.history.step_loss == expected.step_loss[:8]
    assert mlp.history.step_learning_rate == expected.step_learning_rate[:8]
    assert mlp.history.train_loss == expected.train_loss[:1]
    fit(mlp)
    assert len(mlp.history.step_loss) == 5, "a new fit has a history of its own"


def test_an_interrupt_within_a_call_counts_its_steps(monkeypatch):
    """Python answers Ctrl-C once compiled code has come back: the steps are done then."""
    mlp, whole = network(), network()
    train, calls = Trainer.train, []

    def interrupted(self, data, rates, first, last, out):
        reached = train(self, data, rates, first, last, out)
        calls.append(last)
        if last >= 3:
            raise KeyboardInterrupt
        return reached

    monkeypatch.setattr(Trainer, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(mlp)
    monkeypatch.undo()
    done = calls[-1]
    expected = whole.fit(X, LABELS, batch_size=8, shuffle=False, max_steps=done)
    assert mlp.history.step_loss == expected.step_loss
    assert_same_state(state(mlp), state(whole))


def test_a_copied_network_keeps_its_history():
    mlp = network()
    history = fit(mlp)
    twin = copy.copy(mlp)
    assert twin.history == history
    fit(mlp, epochs=2)
    assert len(twin.history.train_loss) == 1
    assert network().history is None


def test_what_went_wrong_before_the_fit_changes_nothing():
    """Neither the network nor the last fit's history."""
    mlp = network()
    history = fit(mlp)
    before = state(mlp)
    x = X.copy()
    x[7, 2] = np.nan
    for call in (
        lambda: mlp.fit(x, LABELS),
        lambda: mlp.fit(X, LABELS, lr_schedule=[1.0, 1.0]),
        lambda: mlp.fit(X, LABELS, epochs=-1),
        lambda: mlp.fit(X, LABELS, seed="seven"),
    ):
        with pytest.raises((ValueError, TypeError)):
            call()
        assert mlp.history is history
        assert_same_state(state(mlp), before)
