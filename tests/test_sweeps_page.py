"""The page on many fits: its programs and its command run as they stand there."""

import re
from pathlib import Path

import pytest

from tests.processes import ROOT, run_python
from tests.test_processes import WARNINGS
from tests.test_sweep_engines import run_script

PAGE = (ROOT / "docs" / "sweeps.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def block(language, words):
    """The one of that language that has those words."""
    (found,) = (text for kind, text in BLOCKS if kind == language and words in text)
    return found


def test_the_python_of_the_page(tmp_path):
    """One program, in order, as somebody would put it together."""
    for package in ("loky", "distributed", "sklearn"):
        pytest.importorskip(package, reason="comes with the extra test")
    blocks = [text for kind, text in BLOCKS if kind == "python" and "MPIPool" not in text]
    first, *others = blocks
    body = "\n".join(others).replace("\n", "\n    ")
    path = tmp_path / "page.py"
    path.write_text(f"{first}\n\nif __name__ == '__main__':\n    {body}\n")
    unconverged = "-W", "ignore:Stochastic Optimizer"
    process = run_python("-W", "error", *WARNINGS, *unconverged, path, timeout=300)
    assert process.returncode == 0, process.stderr
    assert process.stdout == block("python", "on_error").rsplit("  # ")[1]


def test_the_program_for_mpi(tmp_path):
    pytest.importorskip("mpi4py", reason="comes with the extra test")
    path = tmp_path / "many.py"
    path.write_text(block("python", "MPIPool"))
    assert block("sh", "mpiexec") == "mpiexec -n 3 python -m mpi4py.futures many.py\n"
    process = run_script(path)
    assert process.returncode == 0, process.stderr
    assert re.fullmatch(r"(0\.\d{3} ){3}0\.\d{3}\n", process.stdout)


def test_the_command(command):
    Path("sweep.toml").write_text(block("toml", "sweep.toml"))
    status, output, _ = command(block("sh", "fastmlp sweep").removeprefix("fastmlp ").strip())
    assert status == 0
    assert "8 trials of hidden, dropout, lr" in output
    folder = re.search(r"The folder `(.*?)` then has", PAGE)[1]
    named = re.findall(r"`(\w+\.\w+)`", PAGE[PAGE.index("The folder `runs") :])
    assert {path.name for path in Path(folder).iterdir()} == {*named, "sweep.json"}
