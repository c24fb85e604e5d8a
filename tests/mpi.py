"""Programs that run as several processes, started by mpiexec."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import ROOT

MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")

needs_mpi = pytest.mark.skipif(
    MPIEXEC is None, reason="several processes need the extra mpi, and MPICH or Open MPI"
)

# What the ranks wait for is a fault: none of these programs takes long.
SECONDS = 200


def started(count, *line, **environment):
    """Python, so many times, with these arguments, in a process group of its own."""
    merged = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    return subprocess.Popen(
        [MPIEXEC, "-n", str(count), sys.executable, *map(str, line)],
        env=merged, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def ended(process):
    """(status, standard output, errors), once all its processes have come to an end."""
    try:
        output, errors = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        pytest.fail(f"still waiting after {SECONDS} s\n{output}\n{errors}")
    return process.returncode, output, errors


def programs(count, *lines, **environment):
    """``ended`` of some programs in ``rank_programs``, one after the other."""
    return ended(started(count, "-m", "tests.rank_programs", *lines, **environment))


def of_ranks(count, *lines, **environment):
    """What each program returns, a list with an entry for each rank."""
    status, output, errors = programs(count, *lines, **environment)
    assert status == 0, output + errors
    return json.loads(output)
