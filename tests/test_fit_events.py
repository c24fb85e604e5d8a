"""What happens around and within a fit: callbacks, learning-rate schedules, interrupts."""

import numpy as np
import pytest

from tests.networks import assert_same_state, batch, build, state
from tests.reference import train_epoch

X, LABELS, Y = batch(33, 5, 3)


@pytest.fixture
def make():
    def small():
        return build([5, 17, 3], num_bn_layers=1, momentum=0.9, batchnorm_reduction="mean")

    return small


def fit(mlp, **options):
    return mlp.fit(X, LABELS, **({"batch_size": 8, "shuffle": False} | options))


class Recorder:
    """Writes down every event, and the state of the network at the end of each epoch."""

    def __init__(self):
        self.events, self.states = [], []

    def on_train_begin(self, mlp, plan):
        self.events.append(("begin", plan.epochs, plan.steps, plan.batch_size, plan.samples))

    def on_progress(self, progress):
        self.events.append(("progress", progress.epoch, progress.step))
        assert 0 < progress.step <= progress.steps == 5
        assert np.isfinite(progress.loss)
        assert 0 <= progress.error <= 1

    def on_epoch_end(self, mlp, history):
        self.events.append(("epoch", len(history.train_loss), len(history.val_loss)))
        self.states.append(state(mlp))

    def on_train_end(self, mlp, history):
        self.events.append(("end", len(history.train_loss)))


def test_callbacks_hear_every_event_in_order(make):
    mlp, plain, recorder = make(), make(), Recorder()
    fit(mlp, epochs=2, callbacks=[recorder], validation_data=(X, LABELS))
    others = [event for event in recorder.events if event[0] != "progress"]
    assert others == [("begin", 2, 5, 8, 33), ("epoch", 1, 1), ("epoch", 2, 2), ("end", 2)]
    last = [e for i, e in enumerate(recorder.events[:-1]) if recorder.events[i + 1][0] == "epoch"]
    assert last == [("progress", 0, 5), ("progress", 1, 5)]
    for expected in recorder.states:
        fit(plain)
        assert_same_state(state(plain), expected)


def test_a_callback_ends_the_training(make):
    class Stop:
        def on_epoch_end(self, mlp, history):
            return len(history.train_loss) == 2

    mlp, expected, recorder = make(), make(), Recorder()
    history = fit(mlp, epochs=5, callbacks=[Stop(), recorder])
    assert len(history.train_loss) == 2
    assert recorder.events[-1] == ("end", 2)
    fit(expected, epochs=2)
    assert_same_state(state(mlp), state(expected))


@pytest.mark.parametrize("name", ["W", "b", "gamma", "beta", "momentum_W", "running_var", "lr"])
@pytest.mark.parametrize("event", ["on_train_begin", "on_epoch_end"])
def test_what_a_callback_changes_counts_from_there_on(make, event, name):
    """As if fit had been called anew: weights restored, rates lowered, statistics reset."""

    def change(mlp, _):
        if name == "lr":
            mlp.lr /= 2
            return
        layer = next(a for a in (*mlp.bn_layers, *mlp.linear_layers) if hasattr(a, name))
        getattr(layer, name)[:] += 0.25

    mlp, expected = make(), make()
    callback = type("Change", (), {event: lambda self, *arguments: change(*arguments)})()
    fit(mlp, epochs=2, callbacks=[callback])
    if event == "on_train_begin":
        change(expected, None)
        fit(expected, epochs=2)
    else:
        for _ in range(2):
            fit(expected)
            change(expected, None)
    assert_same_state(state(mlp), state(expected))


def by_hand_with_rates(mlp, rates):
    """One step per rate, in epochs of five."""
    for step, rate in enumerate(rates):
        mlp.lr = rate
        rows = slice(step % 5 * 8, step % 5 * 8 + 8)
        train_epoch(mlp, X[rows], Y[rows], 8)


@pytest.mark.parametrize("form", ["function", "array", "list"])
def test_learning_rate_schedule(make, form):
    """One rate per step of all epochs, or a function of the progress in [0, 1)."""
    mlp, expected = make(), make()
    rates = 0.1 * (1 - np.arange(10) / 10)
    schedule = {"function": lambda t: 0.1 * (1 - t), "array": rates, "list": list(rates)}[form]
    fit(mlp, epochs=2, lr_schedule=schedule)
    by_hand_with_rates(expected, [0.1 * (1 - step / 10) for step in range(10)])
    assert_same_state(state(mlp), state(expected), 1e-13)
    assert mlp.lr == 0.05


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (np.ones(9), r"lr_schedule.*\(10,\).*\(9,\)"),
        (np.ones((10, 1)), r"lr_schedule.*\(10,\).*\(10, 1\)"),
        ([0.1] * 9 + [np.nan], "lr_schedule.*finite.*NaN"),
        (lambda t: np.inf, "lr_schedule.*finite"),
    ],
)
def test_schedule_that_does_not_fit(make, schedule, message):
    mlp = make()
    before = state(mlp)
    with pytest.raises(ValueError, match=message):
        fit(mlp, epochs=2, lr_schedule=schedule)
    assert_same_state(state(mlp), before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupt_leaves_the_last_finished_step(make, epoch, error):
    class Interrupt:
        def on_progress(self, progress):
            if progress.epoch == epoch:
                self.step = progress.step
                raise error

    mlp, expected, interrupt = make(), make(), Interrupt()
    with pytest.raises(error):
        fit(mlp, epochs=3, callbacks=[interrupt])
    for _ in range(epoch):
        fit(expected)
    rows = 8 * interrupt.step
    train_epoch(expected, X[:rows], Y[:rows], 8)
    assert_same_state(state(mlp), state(expected))
    fit(mlp)
    fit(expected)
    assert_same_state(state(mlp), state(expected))
