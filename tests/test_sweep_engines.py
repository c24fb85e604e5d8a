"""train_many on real executors: processes, loky, a cluster of Dask's, MPI.

Each engine has a process of its own, in which all checks of ``tests.engines`` run one after the
other: whatever happens there does not take the tests down.
"""

import functools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import engines
from tests.command_line import posix
from tests.processes import ROOT, run_python
from tests.test_processes import WARNINGS

pytestmark = posix
# Seconds for all checks of an engine; on a busy machine they have taken 100.
LIMIT = 400
PACKAGES = {"processes": "concurrent", "loky": "loky", "dask": "distributed", "mpi": "mpi4py"}


def run_mpi(folder, what):
    """Call a function of ``tests.engines`` in the first of three ranks."""
    program = Path(folder, "program.py")
    # The workers import it, too.
    program.write_text(
        f"if __name__ == '__main__':\n    from tests import engines\n    engines.{what}\n"
    )
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("MPI needs mpiexec, which comes with the package mpich")
    return subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", program],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


@functools.cache
def checked(engine, folder):
    """The process that ran the checks of an engine, once it has ended."""
    if engine == "mpi":
        return run_mpi(folder, "run_checks('mpi')")
    program = f"from tests.engines import run_checks; run_checks({engine!r})"
    return run_python("-W", "error", *WARNINGS, "-c", program, timeout=LIMIT)


@pytest.mark.parametrize(
    ("engine", "check"),
    [(engine, check.__name__) for engine, checks in engines.CHECKS.items() for check in checks],
)
def test_train_many(engine, check, tmp_path_factory):
    pytest.importorskip(PACKAGES[engine], reason="comes with the extra test")
    process = checked(engine, tmp_path_factory.getbasetemp())
    assert check in process.stdout.splitlines(), process.stderr[-8000:]


def test_mpi_ends_with_a_rank_that_dies(tmp_path):
    """With all others, in time: there is nothing to wait for."""
    pytest.importorskip("mpi4py", reason="comes with the extra test")
    process = run_mpi(tmp_path, "die_in_a_worker()")
    assert process.returncode != 0
