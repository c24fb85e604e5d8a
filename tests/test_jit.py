"""Machine code on disk: an edit of any kernel is seen, an unchanged kernel is found again.

Numba stamps cached code with the source of its own file only, so a helper from another file could
go stale. The package is copied, run and edited here.
"""

import compileall
import json
import shutil
from pathlib import Path

import numba
import pytest

import fastmlp
from fastmlp import engine, mlp  # noqa: F401  All kernels, to be looked at.
from fastmlp.kernels import _jit
from tests.processes import run_python

# batchnorm_inference: quick to compile, and calls ``activate`` of another file.
PROGRAM = """
import json
import numpy as np
from {name}.kernels import batchnorm

x, y = np.array([[3.0, -5.0]]), np.empty((1, 2))
gamma, beta, mean, var = np.ones(2), np.zeros(2), np.zeros(2), np.full(2, 1 - batchnorm.EPS)
batchnorm.batchnorm_inference(y, x, gamma, beta, mean, var)
stats = batchnorm._batchnorm_forward.compiled.stats
hits, misses = sum(stats.cache_hits.values()), sum(stats.cache_misses.values())
print(json.dumps({{"y": y.tolist(), "hits": hits, "misses": misses, "kept": stats.cache_path}}))
"""

KEEP = """
from {name}.kernels import _jit, batchnorm
_jit.keep_code()
"""

SQUARE = """

@inline
def activate_short(z, formula):
    return z * z
"""


@_jit.inline
def _twice(number):
    return 2 * number


def test_helpers_are_called_with_the_options_of_kernels_alone():
    """A helper has no machine code of its own: anybody else would jump to nowhere."""

    def call(number):
        return _twice(number) + 1

    assert numba.njit(**_jit.OPTIONS)(call)(3) == 7
    with pytest.raises(TypeError, match=r"must be compiled with _jit\.OPTIONS"):
        numba.njit(call)(3)
    with pytest.raises(TypeError, match="_twice is compiled into kernels"):
        _twice(3)


def test_no_kernel_counts_references():
    """One that does would let go of an array once more than its helpers, which do not, took it."""
    assert len(_jit._entries) > 20
    assert all(compiled.targetoptions["_nrt"] is False for compiled in _jit._entries)


@pytest.fixture
def package(tmp_path):
    """A copy of the package without compiled code, under a name of its own."""
    copied = tmp_path / "copied_mlp"
    shutil.copytree(
        Path(fastmlp.__file__).parent, copied, ignore=shutil.ignore_patterns("__pycache__")
    )
    return copied


def start(package, program=PROGRAM, **environment):
    """The finished process that ran a program; code is kept beside the copy, as for a user."""
    defaults = {"NUMBA_CACHE_DIR": None, "PYTHONDONTWRITEBYTECODE": None}
    program = program.format(name=package.name)
    return run_python("-c", program, root=package.parent, **defaults | environment)


def run(package):
    """What PROGRAM prints, and nothing else is said."""
    process = start(package)
    assert (process.returncode, process.stderr) == (0, "")
    return json.loads(process.stdout)


def edit(path, addition):
    path.write_text(path.read_text() + addition)


def test_an_edit_of_a_kernel_is_seen_and_no_other(package):
    """Also one in another file than the kernel's own."""
    first = run(package)
    assert (first["y"], first["hits"], first["misses"]) == ([[3.0, -5.0]], 0, 1)
    edit(package / "history.py", "\nNOTHING = None\n")
    again = run(package)
    assert (again["y"], again["hits"], again["misses"]) == ([[3.0, -5.0]], 1, 0)
    edit(package / "kernels" / "activation.py", SQUARE)
    edited = run(package)
    assert (edited["y"], edited["hits"], edited["misses"]) == ([[9.0, 25.0]], 0, 1)
    assert run(package)["hits"] == 1


def test_without_any_place_to_keep_code(package):
    """Kernels still run, and it is said once: their code lives as long as the process.

    A file stands where each cache folder would have to be, which stops even a superuser.
    """
    for folder in {path.parent for path in package.rglob("*.py")}:
        (folder / "__pycache__").write_text("")
    home = package.parent / "home"
    home.write_text("")
    homes = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"), str(home))
    process = start(package, **homes)
    assert json.loads(process.stdout)["y"] == [[3.0, -5.0]]
    assert process.stderr.count("NotKeptWarning") == 1
    assert f"cannot be kept in {package / 'kernels' / '__pycache__'}" in process.stderr
    assert "NUMBA_CACHE_DIR" in process.stderr


def test_without_sources(package):
    """Whether code is fresh could not be told, so none is kept."""
    compileall.compile_dir(package, legacy=True, quiet=1)
    for path in package.rglob("*.py"):
        path.unlink()
    result = run(package)
    assert (result["y"], result["kept"]) == ([[3.0, -5.0]], None)
    process = start(package, KEEP)
    assert "OSError: compiled kernels are not kept" in process.stderr
