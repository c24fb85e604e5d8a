"""Callbacks: the progress bar in a pipe and on a terminal, and what stops or saves a training."""

import io
import os
import re
import sys

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Checkpoint, EarlyStopping, ProgressBar
from tests.networks import assert_same_state, batch, build, state

pytest.importorskip("rich", reason="the progress bar needs Rich")


class Script:
    """Puts the values given in place of the history's; None leaves the real one."""

    def __init__(self, **values):
        self.values = values

    def on_epoch_end(self, mlp, history):
        for name, values in self.values.items():
            getattr(history, name)[-1] = values[len(history.train_loss) - 1]


def fit(callbacks, epochs=4, validation=True, mlp=None, batch_size=8, **options):
    x, labels, _ = batch(40, 5, 3)
    validation_data = (x[:9], labels[:9]) if validation else None
    mlp = mlp or build([5, 7, 3])
    return mlp.fit(
        x, labels, epochs=epochs, batch_size=batch_size, seed=0,
        validation_data=validation_data, callbacks=callbacks, **options,
    )  # fmt: skip


# The progress bar


def test_a_line_per_epoch_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    output = io.StringIO()
    history = fit([ProgressBar(output)])
    header, *lines = output.getvalue().splitlines()
    assert header.split() == ["epoch", "train", "loss", "error", "val", "loss", "error", "seconds"]
    assert len(lines) == 4
    for epoch, line in enumerate(lines):
        figures = [float(figure) for figure in re.findall(r"\d+\.\d+", line)]
        assert line.split()[0] == f"{epoch + 1}/4"
        assert figures == pytest.approx(
            [
                history.train_loss[epoch],
                100 * history.train_error[epoch],
                history.val_loss[epoch],
                100 * history.val_error[epoch],
                history.epoch_seconds[epoch],
            ],
            abs=0.006,
        )
    assert "\x1b" not in output.getvalue()


def test_lines_without_validation():
    output = io.StringIO()
    fit([ProgressBar(output)], validation=False)
    lines = output.getvalue().splitlines()[1:]
    assert [line.split()[4:6] for line in lines] == [["-", "-"]] * 4
    assert len({len(line) for line in lines}) == 1


def test_fit_shows_it_on_standard_output(capsys):
    fit([], progress=True)
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_a_bar_on_a_terminal(terminal, monkeypatch):
    monkeypatch.setattr(ProgressBar, "pause", 0)
    fit([ProgressBar(terminal)])
    shown = terminal.getvalue()
    assert re.search(r"1/4 .*━.* loss \d\.\d{4}  error \d+\.\d\d % [\d,]+ samples/s", shown)
    assert re.search(r"4/4 .*━.* loss", shown)
    assert "nan" not in shown
    # Hides the cursor once and shows it again at the end.
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1
    assert shown.rindex("\x1b[?25h") > shown.rindex("━")
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert len(re.findall(r"\d/4 +\d\.\d{4} +\d+\.\d\d % +\d", plain)) == 4


def test_no_bar_on_a_dumb_terminal(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    fit([ProgressBar(terminal)])
    assert "\x1b" not in terminal.getvalue()
    assert len(terminal.getvalue().splitlines()) == 5


def test_leaving_the_context_gives_the_cursor_back(terminal):
    class Interrupt:
        def on_progress(self, progress):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), ProgressBar(terminal) as bar:
        fit([bar, Interrupt()])
    shown = terminal.getvalue()
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_the_bar_serves_several_fits(terminal):
    bar = ProgressBar(terminal)
    fit([bar], epochs=2)
    fit([bar, EarlyStopping(1), Script(val_loss=[1.0, 1.0, 1.0])], epochs=3)
    shown = terminal.getvalue()
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 2
    assert "2/2" in shown
    assert "2/3" in shown


def test_without_rich(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    with pytest.raises(ImportError, match=r"rich.*it comes with the extra 'cli'"):
        ProgressBar()


# Early stopping


@pytest.mark.parametrize(
    ("patience", "values", "epochs"),
    [
        (1, [3, 2, 1, 0], 4),
        (1, [3, 3, 1, 0], 2),
        (2, [3, 4, 2, 3, 2, 1], 5),
        (2, [3, 4, 2, 3, 1, 2, 2, 0], 7),
        (2, [np.nan, 3, 2, np.nan, np.nan, 1], 5),
        (1, [np.nan, 3], 1),
    ],
)
def test_early_stopping(patience, values, epochs):
    stopping = EarlyStopping(patience)
    for _ in range(2):
        history = fit([Script(val_loss=values), stopping], epochs=len(values))
        assert len(history.train_loss) == epochs


@pytest.mark.parametrize("monitor", ["train_loss", "train_error", "val_loss", "val_error"])
def test_early_stopping_watches_what_it_is_told(monitor):
    script = Script(**{monitor: [2.0, 2.0, 1.0, 0.0]})
    others = {"train_loss", "train_error", "val_loss", "val_error"} - {monitor}
    falling = Script(**{other: [4.0, 3.0, 2.0, 1.0] for other in others})
    assert len(fit([script, falling, EarlyStopping(1, monitor)]).train_loss) == 2


class Record:
    """The state of the network after every epoch."""

    def __init__(self):
        self.states = []

    def on_epoch_end(self, mlp, history):
        self.states.append(state(mlp))


def norm():
    return build([5, 7, 3], num_bn_layers=1, momentum=0.9)


@pytest.mark.parametrize(
    ("values", "options", "best"),
    [
        ([3, 2, 4, 5, 6], {}, 1),
        ([3, 4, 5, 6, 7], {}, 0),
        # The last of its epochs ends the training, not the patience.
        ([3, 2, 1, 2, 0.5], {}, 4),
        ([3, 2, 1, 0, 1], {}, 3),
        ([np.nan, 2, np.nan, 3, 4], {}, 1),
        # 0.3 less is too little, twice that is enough.
        ([3, 2.7, 2.4, 2.1, 2], {"min_delta": 0.5}, 2),
    ],
)
def test_the_best_epoch_is_restored(values, options, best):
    """Parameters, momenta and running statistics."""
    record, mlp = Record(), norm()
    fit([Script(val_loss=values), EarlyStopping(2, **options), record], epochs=5, mlp=mlp)
    assert_same_state(state(mlp), record.states[best])
    kept = state(norm())
    assert all(not np.array_equal(kept[name], value) for name, value in state(mlp).items())


def test_the_last_step_stays_where_no_epoch_is_to_be_restored():
    for values, options in (([3, 4, 5, 6], {"restore_best": False}), ([np.nan] * 4, {})):
        record, mlp = Record(), norm()
        fit([Script(val_loss=values), EarlyStopping(3, **options), record], mlp=mlp)
        assert_same_state(state(mlp), record.states[-1])


def test_what_is_too_small_a_gain_ends_the_training():
    def epochs(delta):
        stopping = EarlyStopping(2, min_delta=delta)
        return len(fit([Script(val_loss=[3, 2.9, 2.8, 2.7]), stopping]).train_loss)

    assert epochs(0.0) == epochs(0.05) == 4
    # 0.1 below 3, then 0.2: the sum of small gains counts, against the last value that did.
    assert epochs(0.15) == 4
    assert epochs(0.25) == 3


class Raise:
    """Raises at an event of the third epoch."""

    def __init__(self, event, error):
        self.error, self.epoch = error, 0
        setattr(self, event, self._raise)

    def _raise(self, *arguments):
        self.epoch += 1
        if self.epoch == 3:
            raise self.error


@pytest.mark.parametrize("event", ["on_progress", "on_epoch_end"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupt_leaves_the_best_epoch_too(event, error, monkeypatch):
    # One call of the compiled epoch each, and so one event of either kind.
    monkeypatch.setattr("fastmlp._pace.SECONDS_PER_CALL", 1e9)
    record, mlp, script = Record(), norm(), Script(val_loss=[1, 2, 3, 4])
    with pytest.raises(error):
        fit([script, EarlyStopping(9), record, Raise(event, error)], mlp=mlp, batch_size=40)
    assert len(record.states) == (3 if event == "on_epoch_end" else 2)
    assert_same_state(state(mlp), record.states[0])
    twin = norm()
    x, labels, _ = batch(40, 5, 3)
    for name in ("parameters", "velocities", "statistics"):
        twin_values = getattr(twin, name)
        twin_values[...] = getattr(mlp, name)
    for network in (mlp, twin):
        network.fit(x, labels, shuffle=False)
    assert_same_state(state(mlp), state(twin))


def test_nothing_of_an_earlier_fit_is_restored():
    mlp, stopping = norm(), EarlyStopping(1)
    fit([Script(val_loss=[1, 2]), stopping], mlp=mlp)
    before = state(mlp)
    with pytest.raises(ValueError, match="needs validation_data"):
        fit([stopping], validation=False, mlp=mlp)
    assert_same_state(state(mlp), before)
    record = Record()
    fit([Script(val_loss=[np.nan]), record, stopping], epochs=1, mlp=mlp)
    assert_same_state(state(mlp), record.states[0])


# Checkpoints


def test_checkpoint_after_every_epoch(tmp_path):
    path, seen = tmp_path / "model", []

    class Load:
        def on_epoch_end(self, mlp, history):
            assert_same_state(state(MLP.load(path)), state(mlp))
            seen.append(path.read_bytes())

    fit([Checkpoint(path), Load()], epochs=3)
    assert len(set(seen)) == 3
    assert os.listdir(tmp_path) == ["model"]


def test_checkpoint_keeps_the_best(tmp_path):
    path, record = tmp_path / "model", Record()
    best = Checkpoint(path, monitor="val_loss")
    fit([Script(val_loss=[3, 1, 2, 1]), best, record])
    assert_same_state(state(MLP.load(path)), record.states[1])
    fit([Script(val_loss=[9, 9, 9, 9]), best, record])
    assert_same_state(state(MLP.load(path)), record.states[4])


# Refusals


@pytest.mark.parametrize("callback", [EarlyStopping(2), Checkpoint("never", "val_error")])
def test_nothing_to_monitor(callback):
    mlp = build([5, 7, 3])
    before = state(mlp)
    with pytest.raises(ValueError, match=r"monitor 'val_.*' needs validation_data"):
        fit([callback], validation=False, mlp=mlp)
    assert_same_state(state(mlp), before)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: EarlyStopping(0), "patience must be at least 1, got 0"),
        (lambda: EarlyStopping(1, min_delta=-0.1), r"min_delta must be at least 0, got -0\.1$"),
        (lambda: EarlyStopping(1, min_delta=np.nan), "min_delta must be finite, got nan"),
        (lambda: Checkpoint("never", "val_los"), "did you mean 'val_loss'"),
        (
            lambda: EarlyStopping(1, "accuracy"),
            "monitor must be one of .*val_loss.* got 'accuracy'",
        ),
        (lambda: Checkpoint("never", "loss"), "monitor must be one of .*val_loss.* got 'loss'"),
    ],
)
def test_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
