"""fastmlp train by several processes, and the page that says how."""

import os
import re
import signal
import sys
import time
from pathlib import Path

import pytest

from fastmlp import MLP
from fastmlp._cli.mpi import world
from tests.command_line import ENTRY, files
from tests.mpi import ended, needs_mpi, started
from tests.pages import block
from tests.processes import ROOT

pytestmark = [needs_mpi, pytest.mark.usefixtures("command")]

LINE = "train digits --hidden 16 --epochs 2 --shards 4"


def command(count, line):
    return ended(started(count, *ENTRY, *line.split()))


def model(folder):
    return Path(folder, "model.safetensors").read_bytes()


def test_two_processes_write_what_one_writes():
    """Once, and what is printed, too."""
    # First, so that what is to be compiled is compiled once.
    assert command(1, f"{LINE} --out alone")[0] == 0
    status, said, errors = command(2, LINE)
    assert (status, errors) == (0, "")
    assert said.count("results go to") == said.count("test accuracy") == 1
    assert re.search(r"in each of 2 processes \(\d+, \d+\), shards 4\n", said)
    assert os.listdir("runs") == ["digits"]
    assert model("runs/digits") == model("alone")


def test_without_mpi_each_trains_alone(monkeypatch):
    monkeypatch.setenv("PMI_SIZE", "4")
    output = sys.stdout
    assert world(False).size == 1
    assert sys.stdout is output


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("train nowhere.npz", 1, "nowhere.npz"),
        ("train digits --epochs 0", 2, "--epochs: must be at least 1, got 0"),
        ("train digits --shards 3", 1, "shards must be the number of ranks, 2, times 1, 2, 4"),
    ],
)
def test_what_is_wrong_is_said_once(line, status, says):
    found, _, errors = command(2, line)
    assert found == status
    assert errors.count(says) == 1
    assert errors.count("fastmlp: ") == 1


def test_a_rank_that_is_terminated_ends_all_and_one_process_goes_on():
    line = "train digits --hidden 16 --epochs 150 --shards 2"
    process = started(2, *ENTRY, *f"{line} --out parted --checkpoint 0.1".split())
    checkpoint = Path("parted", "checkpoint.safetensors")
    deadline = time.monotonic() + 60
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(ranks_below(process.pid)[1], signal.SIGTERM)
    status, _, errors = ended(process)
    assert status != 0
    assert "terminated in epoch" in errors
    assert "checkpoint.safetensors" in files("parted")
    assert 0 < MLP.load(checkpoint).unfinished.epoch < 150
    assert command(1, "train --resume parted")[0] == 0
    assert command(1, f"{line} --out alone")[0] == 0
    assert model("parted") == model("alone")


def ranks_below(pid):
    """The processes that mpiexec, through its proxy, has started, as Linux tells."""
    children = [int(c) for c in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    below = [rank for child in children for rank in ranks_below(child)]
    return below or [pid]


def test_the_page_s_program_runs(tmp_path):
    """On one rank, which compiles for all, and on two."""
    text = (ROOT / "docs" / "ranks.md").read_text(encoding="utf-8")
    program = block(text, "python", "MPI.COMM_WORLD").text
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        (folder / "train.py").write_text(program, encoding="utf-8")
        os.chdir(folder)
        status, said, errors = ended(started(count, "train.py"))
        assert status == 0, errors
        assert files(folder) == {"train.py"}
        found.append(said)
    assert found[0] == found[1]
    assert found[0].startswith("(0.")
