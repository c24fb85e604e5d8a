"""callbacks.Checkpoint: when it saves, what it keeps, and what becomes of errors."""

import errno
import os
import resource
import subprocess
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Checkpoint, CheckpointWarning
from tests.command_line import files
from tests.resumes import STEPS, Interrupt, arguments, assert_same, network, outcome

pytest.importorskip("safetensors", reason="files of networks need the extra io")

KIND = "Adam with averages"


def fit(callbacks, mlp=None, **more):
    mlp = mlp or network(KIND)
    mlp.fit(**arguments(KIND, callbacks, **more))
    return mlp


def steps_of(path):
    state = MLP.load(path).unfinished
    return len(state.history.step_loss)


# When, and how many


@pytest.mark.parametrize(("epochs", "kept"), [(1, [24, 30]), (2, [12, 24]), (4, [24]), (7, [])])
def test_every_so_many_epochs(epochs, kept, tmp_path):
    fit([Checkpoint(tmp_path / "model.st", epochs=epochs, keep=2)], epochs=5)
    assert files(tmp_path) == {f"model-{steps:08d}.st" for steps in kept}
    for steps in kept:
        assert steps_of(tmp_path / f"model-{steps:08d}.st") == steps


@pytest.mark.usefixtures("short_calls")
def test_within_epochs_when_so_many_seconds_have_passed(tmp_path, monkeypatch):
    """By a clock that goes on by a second with every step."""
    clock = [0.0]
    watch = SimpleNamespace(monotonic=lambda: clock[0])
    monkeypatch.setattr("fastmlp.callbacks._checkpoints.time", watch)

    class Tick:
        def on_progress(self, progress):
            clock[0] += 1

    checkpoint = Checkpoint(tmp_path / "model", seconds=4, keep=99)
    fit([Tick(), checkpoint])
    # The last of an epoch is saved at its end, when its figures are known.
    assert files(tmp_path) == {f"model-{steps:08d}" for steps in (4, 8, 12, 16)}
    assert checkpoint.latest().name == "model-00000016"
    for path in tmp_path.iterdir():
        mlp = MLP.load(path)
        steps = int(path.name.removeprefix("model-"))
        assert mlp.unfinished.epoch * STEPS + mlp.unfinished.step == steps
        mlp.fit(**arguments(KIND), resume=True)
        assert_same(outcome(mlp), outcome(fit([])))
    both = Checkpoint(tmp_path / "both", seconds=4, epochs=1, keep=99)
    fit([Tick(), both])
    assert {n for n in files(tmp_path) if n.startswith("both")} == {
        f"both-{steps:08d}" for steps in (4, 6, 10, 12, 16, 18)
    }


def test_keep_one_is_the_path_itself(tmp_path):
    checkpoint = Checkpoint(tmp_path / "model")
    assert checkpoint.latest() is None
    fit([checkpoint])
    assert checkpoint.latest() == tmp_path / "model"
    assert Checkpoint(tmp_path / "missing" / "model", keep=2).latest() is None


def test_the_last_written_counts_not_the_largest_number(tmp_path):
    """A new fit in the same folder: the files of an earlier one, of more steps, go first."""
    names = [f"model-{steps:08d}" for steps in (24, 30, 6, 12)]
    fit([Checkpoint(tmp_path / "model", keep=2)], epochs=5)
    others = {"model-x", "model-7.part", "other-00000001", "model"}
    for name in others:
        (tmp_path / name).touch()
    for name in names[:2]:
        os.utime(tmp_path / name, (time.time() - 9,) * 2)
    checkpoint = Checkpoint(tmp_path / "model", keep=2)
    fit([checkpoint], epochs=2)
    assert files(tmp_path) == {*names[2:], *others}
    assert checkpoint.latest().name == names[3]


def test_what_dead_writers_of_other_numbers_left_is_removed(tmp_path):
    left = tmp_path / ".model-00000003.st.12345678.partial"
    other = tmp_path / ".models-00000003.st.12345678.partial"
    for path in (left, other):
        path.touch()
    fit([Checkpoint(tmp_path / "model.st", keep=2)])
    assert not left.exists()
    assert other.exists()


def test_the_best_beside_the_last(tmp_path):
    """Two of them; the best is known after an interrupt, too."""

    validation_data = arguments("early stopping")["validation_data"]
    options = {"epochs": 8, "validation_data": validation_data}

    def callbacks():
        return [Checkpoint(tmp_path / "last"), Checkpoint(tmp_path / "best", "val_loss")]

    def noisy():
        """A network whose best epoch is one of the middle."""
        mlp = network("early stopping")
        mlp.lr = 2.0
        return mlp

    fit(callbacks(), mlp=noisy(), **options)
    expected = MLP.load(tmp_path / "best")
    losses = expected.unfinished.history.val_loss
    assert 2 < len(losses) < 7
    for path in tmp_path.iterdir():
        path.unlink()
    # An epoch after the best, which neither the last file nor what follows is.
    stop = (len(losses) + 1) * STEPS + 3
    with pytest.raises(KeyboardInterrupt):
        fit([*callbacks(), Interrupt(stop)], mlp=noisy(), **options)
    fit(callbacks(), mlp=MLP.load(tmp_path / "last"), resume=True, **options)
    best = MLP.load(tmp_path / "best")
    np.testing.assert_array_equal(best.parameters, expected.parameters)
    assert best.unfinished.history.val_loss == losses


# The script of a job that may be ended at any time


@pytest.mark.usefixtures("short_calls")
def test_a_script_that_is_started_again(tmp_path):
    """Three lines, each time the same; in the end it changes nothing more."""
    expected, ends = outcome(fit([])), []

    def script(callbacks=()):
        checkpoint = Checkpoint(tmp_path / "model", seconds=1e-9, keep=2)
        mlp = MLP.load(checkpoint.latest()) if checkpoint.latest() else network(KIND)
        mlp.fit(**arguments(KIND, [checkpoint, *callbacks]), resume="auto")
        return mlp

    for step in (3, 9, 9, 14):
        with pytest.raises(KeyboardInterrupt):
            script([Interrupt(step)])
        ends.append(len(files(tmp_path)))
    for _ in range(2):
        assert_same(outcome(script()), expected)
    assert ends == [2] * 4


# Errors


@pytest.fixture
def full_disk(tmp_path):
    """A folder on a disk of its own, of 64 KiB, that can be made full, or read-only."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"a file system can be mounted by root alone: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True, timeout=10)


def fill(folder):
    """So that no page is left."""
    filler = ["dd", "if=/dev/zero", f"of={folder / 'filler'}", "bs=1024"]
    subprocess.run(filler, check=False, capture_output=True, timeout=10)


class Do:
    """Something at the end of an epoch."""

    def __init__(self, **actions):
        self.actions = {int(name.removeprefix("epoch_")): act for name, act in actions.items()}

    def on_epoch_end(self, mlp, history):
        self.actions.get(len(history.train_loss), lambda: None)()


def remount(folder, how):
    command = ["mount", "-o", f"remount,{how}", str(folder)]
    subprocess.run(command, check=True, capture_output=True, timeout=10)


WRONG = {
    "full": (lambda f: fill(f), lambda f: (f / "filler").unlink(), errno.ENOSPC),
    "read-only": (lambda f: remount(f, "ro"), lambda f: remount(f, "rw"), errno.EROFS),
}


@pytest.mark.parametrize("what", WRONG)
def test_an_error_ends_the_fit_and_the_file_before_stays_whole(what, full_disk):
    """And the fit goes on from its last step, or from the file."""
    spoil, mend, number = WRONG[what]
    path, expected = full_disk / "model", outcome(fit([]))
    mlp = network(KIND)
    spoiling = Do(epoch_1=lambda: spoil(full_disk))
    with pytest.raises(OSError, match=str(path)) as error:
        fit([Checkpoint(path), spoiling], mlp)
    assert error.value.errno == number
    assert not [name for name in files(full_disk) if name.endswith(".partial")]
    assert (mlp.unfinished.epoch, mlp.unfinished.step) == (1, STEPS)
    loaded = MLP.load(path)
    assert steps_of(path) == STEPS
    mend(full_disk)
    for network_ in (mlp, loaded):
        network_.fit(**arguments(KIND, [Checkpoint(path)]), resume=True)
        assert_same(outcome(network_), expected)
    assert steps_of(path) == 3 * STEPS


@pytest.mark.parametrize("what", WRONG)
def test_a_fit_can_be_told_to_go_on(what, full_disk):
    """It warns once, saves again as soon as that goes, and ends in the same bits."""
    spoil, mend, number = WRONG[what]
    path, expected = full_disk / "model", outcome(fit([], epochs=5))
    mlp, steps = network(KIND), []

    def mended():
        steps.append(steps_of(path))
        mend(full_disk)

    doing = Do(epoch_1=lambda: spoil(full_disk), epoch_3=mended)
    with pytest.warns(CheckpointWarning, match=os.strerror(number)) as seen:
        fit([Checkpoint(path, on_error="warn"), doing], mlp, epochs=5)
    assert len(seen) == 1
    assert str(path) in str(seen[0].message)
    assert steps == [STEPS]
    assert_same(outcome(mlp), expected)
    assert steps_of(path) == 5 * STEPS
    assert files(full_disk) <= {"model", "filler"}


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO, errno.ENOTCONN])
@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace"])
def test_a_mount_that_is_lost(number, call, tmp_path, monkeypatch):
    """At any call: as the system says where a network file system has gone."""
    path = tmp_path / "model"
    expected = outcome(fit([]))

    def lost(*arguments, **options):
        raise OSError(number, os.strerror(number))

    def lose():
        if call == "open":
            monkeypatch.setattr(Path, "open", lost)
        elif call == "write":
            monkeypatch.setattr("fastmlp._files._new_partial", lambda target: LostFile(target))
        else:
            monkeypatch.setattr(os, call, lost)

    class LostFile:
        def __init__(self, target):
            self.name = str(target) + ".partial"

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        write = staticmethod(lost)

    mlp = network(KIND)
    with monkeypatch.context() as monkeypatch:
        with pytest.raises(OSError, match=str(path)) as error:
            fit([Checkpoint(path), Do(epoch_1=lose)], mlp)
        assert error.value.errno == number
    assert steps_of(path) == STEPS
    assert files(tmp_path) == {"model"}
    mlp.fit(**arguments(KIND, [Checkpoint(path)]), resume=True)
    assert_same(outcome(mlp), expected)


def test_a_file_that_may_be_no_larger(tmp_path):
    """The limit is hit in the middle of a write, of which nothing is left."""
    path, before = tmp_path / "model", resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size):
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    try:
        with pytest.raises(OSError, match=str(path)) as error:
            fit([Checkpoint(path), Do(epoch_1=lambda: limit(4096))])
    finally:
        limit(before[0])
    assert error.value.errno == errno.EFBIG
    assert files(tmp_path) == {"model"}
    assert steps_of(path) == STEPS


def test_a_warning_is_of_files_alone(tmp_path, monkeypatch):
    """What no file can hold is the caller's error all the same."""
    monkeypatch.setattr(MLP, "save", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError), warnings.catch_warnings():
        fit([Checkpoint(tmp_path / "model", on_error="warn")])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs must be at least 1, got 0"),
        ({"keep": 0}, ValueError, "keep must be at least 1, got 0"),
        ({"seconds": 0}, ValueError, "seconds must be above 0, got 0"),
        ({"seconds": "9"}, TypeError, "seconds must be a number, got '9'"),
        ({"on_error": "ignore"}, ValueError, "on_error must be one of raise, warn, got 'ignore'"),
        (
            {"seconds": 9, "monitor": "val_loss"},
            ValueError,
            "monitor and seconds exclude each other, .* got 'val_loss' and 9",
        ),
    ],
)
def test_arguments(options, error, message):
    with pytest.raises(error, match=message):
        Checkpoint("never", **options)
