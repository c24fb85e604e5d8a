"""What a shell is told when its user presses Tab."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp import datasets, optimizers
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.presets import PRESETS, SCHEDULES
from fastmlp.recipes import RECIPES
from tests.command_line import ENTRY, ROOT, posix


@pytest.fixture
def offered(command, capsys, monkeypatch):
    """What bash is offered behind a line, whose last word is being typed."""

    def ask(line):
        monkeypatch.setenv("_FASTMLP_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", line)
        monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
        with pytest.raises(SystemExit):
            command("")
        return capsys.readouterr().out.split()

    return ask


VALUES = {
    "train ": {entry.name for entry in datasets.available()},
    "train --task ": set(datasets.TASKS),
    "train --activation ": set(ACTIVATIONS),
    "train --lr-schedule ": set(SCHEDULES),
    "train --optimizer ": {name.lower() for name in optimizers.BY_NAME},
    "train --preset ": set(PRESETS),
    "train --dtype ": {"float32", "float64"},
    "warmup --compute-dtype ": {"auto", "bfloat16", "float32", "float64"},
    "reproduce ": {recipe.name for recipe in RECIPES},
}


@pytest.mark.parametrize(("line", "values"), VALUES.items(), ids=VALUES)
def test_all_values_of_an_option(line, values, offered):
    assert set(offered(f"fastmlp {line}")) == values


def test_those_that_begin_as_typed(offered):
    assert offered("fastmlp tr") == ["train"]
    assert offered("fastmlp train --optimizer adam") == ["adam", "adamw", "adamax"]
    assert "--lr-schedule" in offered("fastmlp train --l")


def test_files_that_may_be_data_sets(offered):
    for name in ("table.csv", "tools.npz", "text.txt"):
        Path(name).touch()
    Path("twice").mkdir()
    Path("twice/digits.parquet").touch()
    assert offered("fastmlp train t") == ["table.csv", "tools.npz", f"twice{os.sep}"]
    assert offered("fastmlp train twice/d") == ["twice/digits.parquet"]
    assert offered("fastmlp train [") == []


@posix
@pytest.mark.parametrize(("shell", "variables"), [
    ("zsh", {"_TYPER_COMPLETE_ARGS": "fastmlp train --dtype float6"}),
    ("fish", {"_TYPER_COMPLETE_ARGS": "fastmlp train --dtype float6",
              "_TYPER_COMPLETE_FISH_ACTION": "get-args"}),
])  # fmt: skip
def test_other_shells(shell, variables, command, capsys, monkeypatch):
    for name, value in variables.items() | {("_FASTMLP_COMPLETE", f"complete_{shell}")}:
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        command("")
    assert "float64" in capsys.readouterr().out


@posix
@pytest.mark.usefixtures("command")
def test_bash_completes_after_what_it_is_told_to_source():
    """As a user has it: the command on the path, its own script, and the words being typed."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash here")
    program = Path("bin/fastmlp")
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\n{ENTRY[1]}\n")
    program.chmod(0o755)
    path = os.pathsep.join([str(program.parent.resolve()), os.environ["PATH"]])
    script = """
        eval "$(fastmlp --show-completion)"
        COMP_WORDS=(fastmlp train --optimizer adam) COMP_CWORD=3
        _fastmlp_completion fastmlp
        echo "${COMPREPLY[@]}"
    """
    process = subprocess.run(
        [bash, "-c", script], env=os.environ | {"PATH": path, "PYTHONPATH": ROOT}, text=True,
        capture_output=True, check=False, timeout=120,
    )  # fmt: skip
    assert (process.stdout, process.stderr) == ("adam adamw adamax\n", "")
