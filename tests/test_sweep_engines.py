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
    return run_script(program)


def run_script(path):
    """Run it in the first of three ranks; returns the finished process."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    if not mpiexec.exists():
        pytest.skip("MPI needs mpiexec, which comes with the package mpich")
    return subprocess.run(
        [mpiexec, "-n", "3", sys.executable, "-m", "mpi4py.futures", path],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip


@functools.cache
def checked(engine, which, folder):
    """The process that ran the checks of an engine, once it has ended.

    which : the name of their table
    """
    run = f"run_checks({engine!r}, engines.{which})"
    if engine == "mpi":
        return run_mpi(folder, run)
    program = f"from tests import engines; engines.{run}"
    return run_python("-W", "error", *WARNINGS, "-c", program, timeout=LIMIT)


def assert_checked(engine, which, check, folders):
    pytest.importorskip(PACKAGES[engine], reason="comes with the extra test")
    process = checked(engine, which, folders.getbasetemp())
    assert check in process.stdout.splitlines(), process.stderr[-8000:]


def names(checks):
    return [(engine, check.__name__) for engine, found in checks.items() for check in found]


@pytest.mark.parametrize(("engine", "check"), names(engines.CHECKS))
def test_train_many(engine, check, tmp_path_factory):
    assert_checked(engine, "CHECKS", check, tmp_path_factory)


@pytest.mark.long
@pytest.mark.parametrize(("engine", "check"), names(engines.LONG))
def test_more_of_train_many(engine, check, tmp_path_factory):
    assert_checked(engine, "LONG", check, tmp_path_factory)


@pytest.mark.long
def test_mpi_ends_with_a_rank_that_dies(tmp_path):
    """With all others, in time: there is nothing to wait for."""
    pytest.importorskip("mpi4py", reason="comes with the extra test")
    process = run_mpi(tmp_path, "die_in_a_worker()")
    assert process.returncode != 0
