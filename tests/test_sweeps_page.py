"""The page on many fits: its command, and its program for MPI, as they stand there."""

import re
from pathlib import Path

import pytest

from tests.pages import block
from tests.processes import ROOT
from tests.test_sweep_engines import run_script

PAGE = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")


def test_the_program_for_mpi(tmp_path):
    pytest.importorskip("mpi4py", reason="comes with the extra test")
    path = tmp_path / "many.py"
    path.write_text(block(PAGE, "python", "MPIPool").text)
    assert block(PAGE, "sh", "mpiexec").text == "mpiexec -n 3 python -m mpi4py.futures many.py\n"
    process = run_script(path)
    assert process.returncode == 0, process.stderr
    assert re.fullmatch(r"(0\.\d{3} ){3}0\.\d{3}\n", process.stdout)


def test_the_command(command):
    Path("sweep.toml").write_text(block(PAGE, "toml", "sweep.toml").text)
    line = block(PAGE, "sh", "fastmlp sweep").text
    status, output, _ = command(line.removeprefix("fastmlp ").strip())
    assert status == 0
    assert "8 trials of hidden, dropout, lr" in output
    folder = re.search(r"The folder `(.*?)` then has", PAGE)[1]
    named = re.findall(r"`(\w+\.\w+)`", PAGE[PAGE.index("The folder `runs") :])
    assert {path.name for path in Path(folder).iterdir()} == {*named, "sweep.json"}
