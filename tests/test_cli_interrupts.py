"""Ctrl-C, from the first import on: one line, exit status 130, and what was trained is kept."""

import os
import re
import signal
import tomllib
from pathlib import Path

import pytest

from fastmlp import MLP, datasets
from tests.command_line import MODEL, RESULTS, ROOT, files, history, posix, start

pytestmark = pytest.mark.usefixtures("command")


def console_script():
    """What the script that pip installs as `fastmlp` runs."""
    project = tomllib.loads(Path(ROOT, "pyproject.toml").read_text(encoding="utf-8"))
    module, _, function = project["project"]["scripts"]["fastmlp"].partition(":")
    return "-c", f"import sys; from {module} import {function}; sys.exit({function}())"


ENTRIES = {"the console script": console_script(), "-m fastmlp.cli": ("-m", "fastmlp.cli")}


@pytest.fixture(params=ENTRIES)
def entry(request):
    return ENTRIES[request.param]


def in_place_of(package, program):
    """Let processes find the program where they look for a package; the PYTHONPATH for it."""
    Path("first").mkdir()
    Path("first", f"{package}.py").write_text(program)
    return os.pathsep.join([os.path.abspath("first"), ROOT])


@pytest.mark.parametrize("package", ["numpy", "numba", "llvmlite", "typer", "rich"])
def test_ctrl_c_during_any_import(package, entry):
    path = in_place_of(package, "raise KeyboardInterrupt")
    process = start("datasets", entry=entry, PYTHONPATH=path)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "fastmlp: interrupted\n")


@posix
def test_a_signal_during_an_import(entry):
    path = in_place_of("numba", "import time; print('here', flush=True); time.sleep(60)")
    process = start("datasets", entry=entry, PYTHONPATH=path)
    assert process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert (process.returncode, output, errors) == (130, "", "fastmlp: interrupted\n")


def test_without_a_signal_every_entry_runs(entry):
    output, errors = start("--version", entry=entry).communicate(timeout=60)
    assert (output.split()[0], errors) == ("fastmlp", "")


@posix
def test_ctrl_c_keeps_what_was_trained():
    process = start("train synth --epochs 2000")
    for line in process.stdout:
        if line.split()[:1] == ["3/2000"]:
            break
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.fullmatch(r"fastmlp: interrupted in epoch \d+: .* in runs/synth\n", errors)
    assert files("runs/synth") == RESULTS - {"mistakes.png", "report.html"} | {
        "checkpoint.safetensors"
    }
    rows = history("runs/synth")
    assert len(rows) >= 3
    assert int(re.search(r"epoch (\d+)", errors)[1]) == len(rows) + 1
    synth = datasets.load("synth")
    assert MLP.load("runs/synth/model.safetensors").evaluate(synth.test_x, synth.test_y)[1] < 0.1


def test_ctrl_c_keeps_a_network_of_plain_pixels(command, monkeypatch):
    """Also where it was trained on standardised ones: interrupted at the very end, the same."""
    line = "train digits --preset speedrun --epochs 2"
    assert command(f"{line} --out whole")[0] == 0
    fit = MLP.fit

    def interrupted(mlp, *arguments, callbacks=(), **options):
        history = fit(mlp, *arguments, callbacks=callbacks, **options)
        if callbacks:
            raise KeyboardInterrupt
        return history

    monkeypatch.setattr(MLP, "fit", interrupted)
    assert command(line)[0] == 130
    assert Path(MODEL).read_bytes() == Path("whole/model.safetensors").read_bytes()


def test_ctrl_c_before_the_first_epoch_ends_replaces_nothing(command, monkeypatch):
    command("train digits --epochs 1")
    before = {path: path.read_bytes() for path in Path("runs/digits").iterdir()}

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(MLP, "fit", interrupted)
    for line in ("train digits", "train digits --out runs/digits"):
        status, _, errors = command(line)
        assert status == 130
        assert errors == "fastmlp: interrupted in the first epoch, nothing was written\n"
    assert files("runs") == {"digits"}
    assert {path: path.read_bytes() for path in Path("runs/digits").iterdir()} == before


def test_ctrl_c_anywhere_else(command, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "available", interrupted)
    status, output, errors = command("datasets")
    # Older versions of Typer leave the line of the ^C first.
    assert (status, output, errors.lstrip()) == (130, "", "fastmlp: interrupted\n")
