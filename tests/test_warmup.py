"""Compiling ahead of time: ready means that machine code is on disk.

Not the whole epoch is compiled: what is tested is what is said about the files.
"""

import re
import threading

import numba
import pytest

from fastmlp import mlp  # noqa: F401  All kernels, before a test moves the folder of their code.
from fastmlp.kernels import _cache, _jit
from tests.processes import run_python
from tests.small_kernels import FULL_DISK, files, needs_limits

# Arguments: Python to run before, and after.
WARMUP = """
import sys
import numpy as np
from fastmlp import cli, warmup
from fastmlp.kernels import loss

def compile_little(dtype, compute_dtype):
    loss.softmax(np.empty((1, 3), dtype), np.ones((1, 3), dtype))

warmup._compile = compile_little
exec(sys.argv[1])
print("status", cli.main(["warmup"]))
exec(sys.argv[2])
"""


def run_warmup(cache, before="", after="", options=()):
    process = run_python(*options, "-c", WARMUP, before, after, NUMBA_CACHE_DIR=str(cache))
    assert process.returncode == 0, process.stderr
    return process.stdout, process.stderr


def assert_refused(output, complaint):
    printed, said = output
    assert "ready" not in printed
    assert "status 1" in printed
    assert re.fullmatch(rf"fastmlp: compiled kernels cannot be kept .*{complaint}.*\n", said)


def test_ready_means_on_disk(tmp_path):
    """Also with warnings as errors."""
    printed, said = run_warmup(tmp_path)
    assert (len(files(tmp_path)), said) == (1, "")
    assert re.search(r"ready after .* s\nstatus 0", printed)
    printed, said = run_warmup(tmp_path, "warmup.keep_code()", options=("-W", "error"))
    assert "status 0" in printed


@needs_limits
def test_not_ready_on_a_full_disk(tmp_path):
    """A line of what to do; and all is well once there is room."""
    room = "print('with room'); resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1)); "
    again = room + "print('again', cli.main(['warmup']))"
    printed, said = run_warmup(tmp_path, FULL_DISK, again)
    assert_refused((printed.partition("with room")[0], said), "NUMBA_CACHE_DIR .* File too large")
    assert "again 0" in printed
    assert len(files(tmp_path)) == 1


def test_not_ready_without_a_folder(tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("")
    assert_refused(run_warmup(taken, options=("-W", "error")), "NUMBA_CACHE_DIR")


@pytest.fixture
def unkept(monkeypatch, tmp_path):
    """A piece of machine code of this process that cannot be kept."""
    (tmp_path / "taken").write_text("")
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path / "taken"))
    monkeypatch.setattr(_cache, "_warned", threading.Event())
    monkeypatch.setattr(_jit, "_entries", [])

    @_jit.entry
    def increased(x):
        return x + 1

    with pytest.warns(_cache.NotKeptWarning):
        assert increased(1) == 2


@pytest.mark.usefixtures("unkept")
def test_a_training_needs_no_files(command):
    """It warms up like the rest, and goes on."""
    with pytest.raises(OSError, match="cannot be kept"):
        _jit.keep_code()
    status, output, _ = command("train digits --epochs 1")
    assert status == 0
    assert "test accuracy" in output


@pytest.mark.usefixtures("unkept")
def test_reproducing_needs_no_files(command):
    """What it ends with comes after it has warmed up."""
    status, _, errors = command("reproduce hw1p1")
    assert status == 1
    assert "mnist" in errors
