"""fastmlp train --resume: what was interrupted, ended or killed gives the same model in the end."""

import errno
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP
from tests.command_line import clusters, files, posix, start
from tests.networks import build

pytestmark = pytest.mark.usefixtures("command")

CHECKPOINT = "checkpoint.safetensors"


def model(folder):
    return Path(folder, "model.safetensors").read_bytes()


@pytest.fixture
def table(command):
    x, y = clusters(90, 4)
    np.savez("table.npz", x=x.astype(np.float32), y=y)
    np.savez("values.npz", x=x.astype(np.float32), y=x[:, 0] * 3 + 7)


QUICK = {
    "standardised": "digits --preset speedrun --epochs 2",
    "adamw, dropout": "digits --epochs 2 --optimizer adamw --dropout 0.3 --lr-schedule plateau",
    "regression": "values.npz --task regression --hidden 8 --batch-size 8 --lr .01 --dtype float64",
}


@pytest.mark.parametrize("line", QUICK.values(), ids=QUICK)
@pytest.mark.usefixtures("table")
def test_ctrl_c_and_on(line, command, interrupt):
    """Twice, of which the first comes within the first epoch."""
    assert command(f"train {line} --out whole")[0] == 0
    interrupt(3)
    status, _, errors = command(f"train {line} --out runs/it")
    assert status == 130
    assert errors == (
        "fastmlp: interrupted in epoch 1: `fastmlp train --resume runs/it` goes on; "
        "no other result is there yet\n"
    )
    assert files("runs/it") == {CHECKPOINT}
    interrupt(10**6)
    status, output, errors = command("train --resume runs/it")
    assert (status, errors) == (0, "")
    assert "going on in epoch 1, after step " in output
    assert files("runs/it") == files("whole")
    assert model("runs/it") == model("whole")


def test_ctrl_c_in_a_later_epoch(command, interrupt):
    """The model of then is there as well; it is one that nothing goes on with."""
    assert command("train synth --epochs 4 --out whole")[0] == 0
    interrupt(1500)
    status, _, errors = command("train synth --epochs 4")
    assert status == 130
    assert re.fullmatch(
        r"fastmlp: interrupted in epoch \d: `fastmlp train --resume runs/synth` goes on; the "
        r"network as it was then, and the history before, are in runs/synth\n",
        errors,
    )
    assert MLP.load("runs/synth/model.safetensors").unfinished is None
    for given in ("synth --epochs 4 --threads 1", "--seed 0 --out runs/synth --data-dir ."):
        interrupt(2000)
        assert command(f"train {given} --resume runs/synth --checkpoint 5")[0] == 130
    assert command("train --resume runs/synth")[0] == 0
    assert model("runs/synth") == model("whole")


@pytest.mark.usefixtures("table")
def test_what_contradicts_is_refused(command, interrupt):
    interrupt(2)
    assert command("train table.npz --epochs 4 --hidden 8 --out runs/it")[0] == 130
    before = Path("runs/it", CHECKPOINT).read_bytes()
    for given, message in (
        ("--epochs 5", "--epochs is 4 in the training to go on with, got 5"),
        ("--hidden 9", "--hidden is 8 in the training to go on with, got 9"),
        ("--seed 1", "--seed is 0 in .* got 1"),
        ("--dtype float64", "--dtype is float32 in .* got float64"),
        ("--layer-norm", "--layer-norm is False in .* got True"),
        ("--lr 0.5", "--lr is None in .* got 0.5"),
        ("--preset accurate", "--preset is None in .* got accurate"),
        ("values.npz", "DATASET is .*table.npz in .* got values.npz"),
        ("--out other", "--out is .*it in .* got other"),
    ):
        status, _, errors = command(f"train {given} --resume runs/it")
        assert status == 2, given
        assert re.fullmatch(f"fastmlp: {message}\n", errors), errors
        assert Path("runs/it", CHECKPOINT).read_bytes() == before
    os.mkdir("elsewhere")
    os.chdir("elsewhere")
    assert command("train ../table.npz --epochs 4 --resume ../runs/it")[0] == 0


@pytest.mark.usefixtures("table")
def test_data_that_have_changed_meanwhile(command, interrupt):
    interrupt(2)
    assert command("train table.npz --epochs 4 --out runs/it")[0] == 130
    data = dict(np.load("table.npz"))
    np.savez("table.npz", x=data["x"] + 1, y=data["y"])
    status, _, errors = command("train --resume runs/it")
    assert status == 1
    assert re.fullmatch(r"fastmlp: table: x must be that of the unfinished fit .*\n", errors)
    np.savez("table.npz", **data)
    assert command("train --resume runs/it")[0] == 0


def test_folders_without_anything_to_go_on_with(command):
    Path("empty").mkdir()
    message = f"must be the folder of a training that is not at its end: it has no {CHECKPOINT}"
    for folder in ("empty", "missing"):
        status, _, errors = command(f"train --resume {folder}")
        assert (status, errors) == (2, f"fastmlp: --resume {folder} {message}\n")
    path = Path("empty", CHECKPOINT)
    build([5, 3]).save(path)
    status, _, errors = command("train --resume empty")
    assert status == 1
    assert errors == (
        f"fastmlp: {path} was not written by fastmlp train: fit(resume=True) may go on\n"
    )
    path.write_bytes(b"noise")
    status, _, errors = command("train --resume empty")
    assert status == 1
    assert re.fullmatch(f"fastmlp: {path}: not a fastmlp network: .*\n", errors)
    status, _, errors = command("train synth --checkpoint 0")
    assert status == 2
    assert "--checkpoint" in errors


def test_a_disk_that_is_full_at_a_later_checkpoint(command, monkeypatch, interrupt):
    """One line, and the checkpoint before is whole."""
    assert command("train digits --epochs 3 --out whole")[0] == 0
    fsync, kept = os.fsync, []

    def fill(descriptor):
        if Path("runs/digits", CHECKPOINT).exists():
            kept.append(Path("runs/digits", CHECKPOINT).read_bytes())
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fill)
        status, _, errors = command("train digits --epochs 3 --checkpoint 0.001")
    path = Path("runs/digits", CHECKPOINT)
    assert (status, errors) == (1, f"fastmlp: {path}: {os.strerror(errno.ENOSPC)}\n")
    assert path.read_bytes() == kept[0]
    assert command("train --resume runs/digits")[0] == 0
    assert model("runs/digits") == model("whole")


def wait_for(process, line, seconds=60):
    """Read the process' output up to a line that begins so."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        text = process.stdout.readline()
        if text.split()[:1] == [line] or not text:
            return
    pytest.fail(f"no line {line} in {seconds} s")


@posix
def test_sigterm(command):
    """As a system that needs the machine sends it: a checkpoint, and 143."""
    process = start("train synth --epochs 40")
    wait_for(process, "3/40")
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143
    assert errors.startswith("fastmlp: terminated in epoch ")
    assert errors.endswith(" are in runs/synth\n")
    for line in ("--resume runs/synth", "synth --epochs 40 --out whole"):
        assert command(f"train {line}")[0] == 0
    assert model("runs/synth") == model("whole")


@posix
def test_sigterm_before_anything_is_trained(command, monkeypatch):
    def terminated(*arguments, **options):
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(MLP, "fit", terminated)
    status, _, errors = command("train synth")
    assert (status, errors) == (
        143, "fastmlp: terminated in the first epoch, nothing was written\n"
    )  # fmt: skip
    assert files("runs") == set()
    monkeypatch.setattr("fastmlp._cli.train.network_of", terminated)
    assert command("train synth")[::2] == (143, "fastmlp: terminated\n")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@posix
def test_sigkill_again_and_again(command):
    """Whenever it comes: what was in the last checkpoint is not lost, the model is the same."""
    assert command("train synth --epochs 40 --out whole")[0] == 0
    line = "train synth --epochs 40 --checkpoint 0.01"
    for epoch in (7, 30):
        process = start(line)
        wait_for(process, f"{epoch}/40")
        process.kill()
        process.communicate()
        assert CHECKPOINT in files("runs/synth")
        line = "train --resume runs/synth --checkpoint 0.01"
    assert command(line)[0] == 0
    assert model("runs/synth") == model("whole")
    assert files("runs/synth") == files("whole")
