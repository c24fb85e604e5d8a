"""The progress bar in detail: what it has room for, how long is left, and what drawing it costs."""

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest

from fastmlp.callbacks import ProgressBar
from fastmlp.history import FitPlan, History, Progress
from tests.command_line import without_codes
from tests.networks import batch, build

pytest.importorskip("rich", reason="the progress bar needs Rich")

COMPILING = "compiling kernels for networks of this kind; they are kept ..."


def fit(bar, epochs=3, **options):
    x, labels, _ = batch(40, 5, 3)
    return build([5, 7, 3]).fit(
        x, labels, epochs=epochs, batch_size=8, seed=0, validation_data=(x[:9], labels[:9]),
        callbacks=[bar], **options,
    )  # fmt: skip


class Clock:
    """In the place of the module ``time``; ``drawing`` is how long each drawing takes."""

    def __init__(self, drawing=0.0):
        self.now, self.drawing, self.drawings = 0.0, drawing, 0

    def perf_counter(self):
        return self.now

    def refresh(self):
        self.now += self.drawing
        self.drawings += 1


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("fastmlp.callbacks._progress_bar.time", clock)
    return clock


PLAN = FitPlan(epochs=4, steps=100, batch_size=8, samples=800, validation=False, total_steps=400)


def begun(terminal, plan=PLAN):
    """A bar that has heard of the beginning of a training."""
    bar = ProgressBar(terminal)
    mlp = build([5, 7, 3])
    mlp.history = History()
    bar.on_train_begin(mlp, plan)
    return bar


def progress(epoch, step, speed=1234.0):
    return Progress(epoch, 4, step, 100, 8 * step, speed, 0.5, 0.25)


# How long is left


@pytest.mark.parametrize(
    ("seconds", "left"), [(1, "0:18 left"), (10, "3:00 left"), (1000, "5:00:00 left")]
)
def test_what_is_left_takes_as_long_per_step_as_since_the_first_call(
    seconds, left, terminal, clock
):
    """Of 400 steps 20 were done when it first heard of them, then 20 more: 18 times as many left.

    A training that goes on has steps behind it that took no time here.
    """
    bar = begun(terminal)
    clock.now = 50.0
    bar.on_progress(progress(0, 20))
    assert " left" not in terminal.getvalue()
    clock.now += seconds
    bar.on_progress(progress(0, 40))
    assert left in without_codes(terminal.getvalue())


def test_a_training_cut_off_by_max_steps_is_at_its_end_there(terminal, clock):
    bar = begun(terminal, replace(PLAN, epochs=2, total_steps=150))
    bar.on_progress(progress(0, 50))
    clock.now = 10.0
    bar.on_progress(progress(1, 0))
    assert "0:10 left" in without_codes(terminal.getvalue())
    bar.on_progress(progress(1, 50))
    assert "0:00 left" in without_codes(terminal.getvalue())


# What drawing costs


def test_drawing_takes_less_than_a_hundredth_of_the_time(terminal, clock, monkeypatch):
    """However long one drawing takes on this machine."""
    for drawing in (0.002, 0.05):
        clock.drawing, clock.drawings, clock.now = drawing, 0, 0.0
        monkeypatch.setattr("rich.live.Live.refresh", clock.refresh)
        bar = begun(terminal)
        while clock.now < 200:
            clock.now += 0.1
            bar.on_progress(progress(1, 5))
        assert clock.drawings > 3
        assert clock.drawings * drawing < clock.now / 100
        bar.close()


def test_lines_wait_for_the_next_drawing_and_none_is_lost(terminal, clock, monkeypatch):
    monkeypatch.setattr("rich.live.Live.refresh", clock.refresh)
    clock.drawing = 0.01
    bar, history = begun(terminal), History([0.5], [0.1], epoch_seconds=[1.0])
    bar.on_progress(progress(0, 5))
    bar.on_epoch_end(None, history)
    assert "0.5000  10.00 %" not in terminal.getvalue()
    clock.now += 10
    bar.on_progress(progress(1, 5))
    assert "0.5000  10.00 %" in terminal.getvalue()
    history.train_loss.append(0.25)
    history.train_error.append(0.0)
    history.epoch_seconds.append(1.0)
    bar.on_epoch_end(None, history)
    assert "0.2500   0.00 %" not in terminal.getvalue()
    bar.close()
    assert "0.2500   0.00 %" in terminal.getvalue()


def test_lines_are_written_where_the_training_is_interrupted(terminal):
    class Interrupt:
        def on_epoch_end(self, mlp, history):
            if len(history.train_loss) == 2:
                raise KeyboardInterrupt

    x, labels, _ = batch(40, 5, 3)
    with pytest.raises(KeyboardInterrupt):
        build([5, 7, 3]).fit(x, labels, epochs=3, callbacks=[ProgressBar(terminal), Interrupt()])
    assert (
        re.findall(r"^\s*(\d)/3 +\d", without_codes(terminal.getvalue()), re.MULTILINE)[-1] == "2"
    )
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")


# What there is room for


@pytest.mark.parametrize("columns", [40, 57, 60, 80, 100, 140])
def test_no_line_is_wider_than_the_terminal(columns, terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(ProgressBar, "pause", 0)
    fit(ProgressBar(terminal))
    lines = without_codes(terminal.getvalue()).replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= columns
    bars = [line for line in lines if "━" in line]
    assert bars
    assert all(("samples/s" in bar) == (columns >= 60) for bar in bars)
    assert all(("loss" in bar) == (columns >= 80) for bar in bars)
    # Nothing is cut off at the end.
    assert bars[-1].endswith(" left")
    assert "…" not in bars[-1]
    assert any("seconds" in line for line in lines) == (columns >= 58)


@pytest.mark.parametrize("columns", [40, 60, 80, 104])
def test_large_numbers_have_room_too(columns, terminal, clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    bar = begun(terminal)
    bar.on_progress(progress(0, 20, 1_234_567.0))
    clock.now = 1000.0
    bar.on_progress(progress(0, 40, 1_234_567.0))
    shown = without_codes(terminal.getvalue()).split("\r")[-1]
    assert shown.endswith(" 5:00:00 left")
    assert ("1,234,567 samples/s" in shown) == (columns >= 60)
    assert ("error 25.00 %" in shown) == (columns >= 80)
    assert len(shown) <= columns


def test_short_lines_have_both_losses_and_both_errors(terminal, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    history = fit(ProgressBar(terminal))
    text = without_codes(terminal.getvalue())
    assert "  epoch    loss   error     val   error" in text
    for epoch in range(3):
        figures = (
            f"{epoch + 1}/3 {history.train_loss[epoch]:7.4f} "
            f"{100 * history.train_error[epoch]:5.2f} % {history.val_loss[epoch]:7.4f} "
            f"{100 * history.val_error[epoch]:5.2f} %"
        )
        assert figures in text


def test_a_pipe_has_whole_lines_whatever_columns_says(monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    output = io.StringIO()
    fit(ProgressBar(output))
    header, *lines = output.getvalue().splitlines()
    assert header == "  epoch   train loss  error    val loss  error    seconds"
    assert len({len(line) for line in lines}) == 1
    assert len(lines) == 3


def test_without_colour(terminal, monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(ProgressBar, "pause", 0)
    fit(ProgressBar(terminal))
    assert "━" in terminal.getvalue()
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]", terminal.getvalue())


# Compiling


@pytest.fixture
def cold(monkeypatch):
    """As after an installation; the kernels are there all the same."""
    monkeypatch.setattr("fastmlp._cold.is_compiled", lambda *epoch: False)


@pytest.mark.usefixtures("cold")
def test_it_says_that_kernels_are_compiled_where_the_kernels_do_not(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: False))
    output = io.StringIO()
    fit(ProgressBar(output))
    assert output.getvalue().splitlines()[0] == COMPILING
    assert output.getvalue().count(COMPILING) == 1
    output = io.StringIO()
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: True))
    fit(ProgressBar(output))
    assert COMPILING not in output.getvalue()


@pytest.mark.usefixtures("cold")
def test_a_fit_without_progress_says_nothing(capsys):
    x, labels, _ = batch(40, 5, 3)
    build([5, 7, 3]).fit(x, labels)
    assert capsys.readouterr().out == ""
    build([5, 7, 3]).fit(x, labels, progress=True)
    assert capsys.readouterr().out.startswith(f"{COMPILING}\n")


def test_nothing_is_said_of_kernels_that_are_there():
    fit(ProgressBar(io.StringIO()))
    output = io.StringIO()
    fit(ProgressBar(output))
    assert COMPILING not in output.getvalue()
