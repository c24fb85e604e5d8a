"""What a terminal shows of `fastmlp train`: curves where it is wide, else short lines."""

import io
import os
import re
import select
import signal
import subprocess
import sys

import numpy as np
import pytest

from fastmlp import MLP, datasets
from fastmlp._cli import live
from fastmlp._cli.chart import Means, curve
from fastmlp._cli.lines import say
from fastmlp._speed import peak_together
from fastmlp.history import FitPlan, History, Progress
from tests.command_line import ENTRY, ROOT, posix, without_codes, written_to_a_terminal
from tests.networks import batch, build

pytestmark = pytest.mark.usefixtures("command")

# Characters of Braille patterns with at least one dot.
DRAWN = re.compile("[\u2801-\u28ff]")


# Curves


def dots(lines):
    """Where there are dots, (4 * rows, 2 * columns) bool: bits as Unicode numbers them."""
    places = {1: (0, 0), 2: (1, 0), 4: (2, 0), 8: (0, 1), 16: (1, 1), 32: (2, 1), 64: (3, 0),
              128: (3, 1)}  # fmt: skip
    found = np.zeros((4 * len(lines), 2 * len(lines[0])), bool)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            for bit, (down, right) in places.items():
                if (ord(character) - 0x2800) & bit:
                    found[4 * row + down, 2 * column + right] = True
    return found


def test_a_diagonal_is_drawn_dot_by_dot():
    np.testing.assert_array_equal(dots(curve(np.linspace(0, 1, 12), 3)), np.eye(12)[::-1])


def test_a_curve_goes_through_its_points_and_has_no_gaps():
    rng = np.random.default_rng(0)
    for rows, columns in ((1, 2), (5, 30), (10, 220)):
        heights = rng.random(columns)
        heights[rng.random(columns) < 0.3] = np.nan
        heights[: columns // 3] = np.nan
        heights[-1] = 0.5
        found = dots(curve(heights, rows))
        known = np.flatnonzero(np.isfinite(heights))
        for column in known:
            assert found[round((1 - heights[column]) * (4 * rows - 1)), column]
        assert not found[:, : known[0]].any()
        last = None
        for column in range(known[0], columns):
            places = np.flatnonzero(found[:, column])
            assert len(places) == places[-1] - places[0] + 1
            # It touches the column before.
            assert last is None or (places[0] <= last[-1] + 1 and places[-1] >= last[0] - 1)
            last = places


def test_a_curve_of_nothing_and_of_one_point():
    assert curve([np.nan] * 6, 2) == ["\u2800" * 3] * 2
    assert dots(curve([np.nan, 0.0, np.nan], 1)).sum() == 1


def test_means_of_equal_parts():
    means = Means(4)
    for share, value in ((0.1, 2.0), (0.2, 4.0), (0.6, 1.0), (0.9, np.nan), (1.0, 7.0), (0.3, 0)):
        means.add(share, value)
    np.testing.assert_array_equal(means.values, [3.0, np.nan, 1.0, 7.0])


# The share of the peak


def test_the_peak_is_what_threads_reach_together():
    """A machine reaches between a hundredth of and a hundred times as much as any known one."""
    for dtype in ("float32", "float64", "bfloat16"):
        assert 0.1 < peak_together(dtype, 2) < 1e6


def test_the_arithmetic_of_a_sample():
    """Forward and dW of both layers, and dx of the last: 2 a multiply-add."""
    assert live.flops_per_sample(build([5, 7, 3])) == 2 * (2 * (5 * 7 + 7 * 3) + 7 * 3)


@pytest.fixture
def bar(monkeypatch, terminal):
    """A function that makes the bar of a wide terminal."""
    monkeypatch.setattr(live.LiveCurves, "pause", 0)

    def make(most_samples):
        monkeypatch.setattr(sys, "stdout", terminal)
        return live.LiveCurves(most_samples)

    return make


PLAN = FitPlan(epochs=2, steps=10, batch_size=8, samples=80, validation=True, total_steps=20)


def chart(bar):
    """The text of its chart."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=200)
    console.print(bar._chart())
    return console.file.getvalue()


def test_the_share_of_the_peak_is_the_speed_over_the_most_that_is_possible(bar, terminal):
    shown, mlp = bar(2e6), build([5, 7, 3])
    mlp.history = History()
    shown.on_train_begin(mlp, PLAN)
    shown.on_progress(Progress(0, 2, 5, 10, 40, 1.5e6, 0.5, 0.25))
    assert "75 % of peak" in terminal.getvalue()
    shown.close()


def test_the_chart_has_the_loss_of_the_batches_since_the_call_before(bar):
    """1, then 0.5: the mean over the epoch is 0.75. The next epoch begins anew."""
    shown, mlp = bar(None), build([5, 7, 3])
    mlp.history = History()
    shown.on_train_begin(mlp, PLAN)
    shown.on_progress(Progress(0, 2, 5, 10, 40, 1.0, 1.0, 0.0))
    shown.on_progress(Progress(0, 2, 10, 10, 80, 1.0, 0.75, 0.0))
    history = History([0.75], [0.0], [0.6], [0.0], [1.0])
    shown.on_epoch_end(mlp, history)
    shown.on_progress(Progress(1, 2, 10, 10, 80, 1.0, 0.25, 0.0))
    values = shown._train.values
    np.testing.assert_allclose(values[np.isfinite(values)], [1.0, 0.5, 0.25])
    places = np.flatnonzero(np.isfinite(values)) / len(values)
    np.testing.assert_allclose(places, [0.25, 0.5, 1.0], atol=0.02)
    drawn = chart(shown)
    assert re.search(r"^ +1 │", drawn, re.MULTILINE)
    assert re.search(r"^ +0\.25 │", drawn, re.MULTILINE)
    assert drawn.count("×") == 2, "the legend and one mark"
    shown.on_train_end(mlp, history)


def test_a_training_that_goes_on_shows_what_was_before(bar):
    shown, mlp = bar(None), build([5, 7, 3])
    losses = list(np.linspace(1, 0.5, 14))
    mlp.history = History([0.9], [0.1], [0.8], [0.1], [1.0], losses)
    shown.on_train_begin(mlp, PLAN)
    values = shown._train.values
    np.testing.assert_allclose(values[np.isfinite(values)], losses)
    assert chart(shown).count("×") == 2


@pytest.mark.parametrize(
    ("columns", "rows", "curves"), [(100, 24, True), (99, 24, False), (100, 23, False)]
)
def test_curves_need_a_wide_and_high_terminal(columns, rows, curves, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    made = live.progress_bar(build([5, 7, 3]), None)
    assert isinstance(made, live.LiveCurves) == curves


@pytest.mark.parametrize("reason", ["dumb", "ascii"])
def test_no_curves_where_they_cannot_be_shown(reason, terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("LINES", "40")
    assert isinstance(live.progress_bar(build([5, 7, 3]), None), live.LiveCurves)
    if reason == "dumb":
        monkeypatch.setenv("TERM", "dumb")
    else:
        monkeypatch.setattr(type(terminal), "encoding", "ascii")
    assert not isinstance(live.progress_bar(build([5, 7, 3]), None), live.LiveCurves)


# On terminals


SIZES = {
    40: {"LINES": "24"},
    80: {"LINES": "24"},
    120: {"LINES": "40", "NO_COLOR": "1"},
}  # fmt: skip


@posix
@pytest.mark.parametrize("columns", SIZES)
def test_a_training_fits_the_terminal(columns, monkeypatch):
    """120 columns have curves, here without colour."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    written = written_to_a_terminal(
        "train digits --epochs 3", TERM="xterm-256color", COLUMNS=str(columns), **SIZES[columns]
    )
    assert bool(re.search(r"\x1b\[[0-9;]*3[0-9]", written)) == (columns != 120)
    assert written.rindex("\x1b[?25h") > written.rindex("\x1b[?25l")
    text = without_codes(written)
    lines = text.replace("\r", "\n").splitlines()
    assert max(map(len, lines)) <= columns
    header = text[: text.index("\nresults go to ")].splitlines()
    assert len(header) == {40: 5, 80: 3, 120: 2}[columns]
    # No name is apart from its value.
    assert all(re.search(r"(,| test samples|threads \d+)$", line) for line in header)
    digits = datasets.load("digits")
    error = MLP.load("runs/digits/model.safetensors").evaluate(digits.test_x, digits.test_y)[1]
    assert f"{100 * (1 - error):.2f} %" in text
    # Without colour the part of a bar that is not done is blank.
    assert "━" in text or columns == 120
    assert ("│ test accuracy" in text) == (columns >= 80)
    assert ("samples/s" in text[: text.index("test accuracy")]) == (columns >= 80)
    assert bool(DRAWN.search(text)) == ("% of peak" in text) == (columns == 120)
    epochs = [line for line in lines if re.match(r" +\d/3 +\d+\.\d", line)]
    assert [line.split()[0] for line in epochs] == ["1/3", "2/3", "3/3"]
    if columns == 120:
        # The chart stays: behind the last epoch, before the figures.
        after = text[text.index(epochs[-1]) :]
        assert DRAWN.search(after[: after.index("test accuracy")])
        assert "× validation" in after


def read_until(reader, process, sought):
    """What comes from a terminal until there is something in it; None: until its end."""
    shown = b""
    while sought is None or sought not in shown:
        assert select.select([reader], [], [], 60)[0], (process.poll(), shown)
        try:
            part = os.read(reader, 4096)
        except OSError:  # How Linux says that the other side is closed.
            part = b""
        if not part:
            assert sought is None, (process.wait(60), shown)
            break
        shown += part
    return shown


def test_lines_break_behind_commas_if_they_can(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "30")
    say("one pair 1, another pair 2, last 33\nshort, line\n" + 8 * "nothing between, or: ")
    *lines, long = terminal.getvalue().split("\n", 3)
    assert lines == ["one pair 1, another pair 2,", "last 33", "short, line"]
    assert long.split() == (8 * "nothing between, or: ").split()
    say("a part that has no room in thirty columns, end 1")
    assert terminal.getvalue().endswith("\na part that has no room in\nthirty columns, end 1\n")


def test_where_mnist_was_looked_for_is_broken_between_words(command, terminal, monkeypatch):
    """And whole, on whatever terminal; elsewhere in the lines that it has."""
    line = "train --hidden none --epochs 1 --no-batchnorm"
    plain = command(line)[2]
    assert max(map(len, plain.splitlines())) > 60
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert command(line)[0] == 0
    shown = terminal.getvalue()
    begin, end = shown.index("mnist was not found"), shown.index("digits instead")
    lines = shown[begin:end].splitlines()
    assert all(len(line) <= 60 or " " not in line.strip() for line in lines)
    assert shown[begin:end].split() == plain[: plain.index("digits instead")].split()


@pytest.mark.parametrize(
    ("line", "status"), [("train mnist --data-dir .", 1), ("train mnsit", 2)], ids=["extra", "name"]
)
def test_an_error_is_broken_between_words(line, status, command, terminal, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    plain = command(line)[2]
    assert len(plain) > 100
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(sys, "stderr", terminal)
    assert command(line)[0] == status
    shown = terminal.getvalue()
    assert all(len(part) <= 60 or " " not in part for part in shown.splitlines())
    assert len(shown.splitlines()) > len(plain.splitlines())
    assert shown.split() == plain.split()


@posix
def test_ctrl_c_leaves_a_wide_terminal_as_it_was():
    import pty
    import termios

    reader, writer = pty.openpty()
    before = termios.tcgetattr(reader)
    environment = {"PYTHONPATH": ROOT, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    with subprocess.Popen(
        [sys.executable, *ENTRY, "train", "synth", "--epochs", "2000"],
        env=os.environ | environment, stdout=writer, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        os.close(writer)
        shown = read_until(reader, process, b"3/2000")
        process.send_signal(signal.SIGINT)
        shown += read_until(reader, process, None)
        assert process.wait(60) == 130
        assert process.stderr.read().startswith("fastmlp: interrupted in epoch ")
    assert termios.tcgetattr(reader) == before
    os.close(reader)
    text = shown.decode(errors="replace")
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1
    # The chart, as it was in the end, follows the cursor's return.
    end = text[text.index("\x1b[?25h") :]
    assert "\x1b[?25l" not in end
    assert DRAWN.search(end)


def test_a_pipe_has_neither_curves_nor_control_codes(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    status, output, errors = command("train digits --epochs 2")
    assert (status, errors) == (0, "")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", output)
    assert not DRAWN.search(output)
    assert "% of peak" not in output


def test_curves_or_not_the_network_is_the_same(bar):
    x, labels, _ = batch(40, 5, 3)
    networks = [build([5, 7, 3]) for _ in range(2)]
    networks[0].fit(x, labels, epochs=3, seed=0)
    networks[1].fit(x, labels, epochs=3, seed=0, callbacks=[bar(1.0)])
    np.testing.assert_array_equal(networks[0].parameters, networks[1].parameters)
