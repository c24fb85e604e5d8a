"""Kernels that are quick to compile, run in a process that keeps their machine code in a folder."""

import json
import os

import numpy as np
import pytest

from tests.processes import run_python

# Four pieces of machine code for each dtype. Arguments: Python to run first, dtypes.
PROGRAM = """
import json, os, sys
import numpy as np
exec(sys.argv[1])
from fastmlp.kernels import activation, loss, pointwise

x = np.array([[0.5, -1.0, 2.0]])
results = []
for dtype in sys.argv[2:]:
    z, y = x.astype(dtype), np.empty((1, 3), dtype)
    activation.activation_forward(y[0], y[0], z[0], activation.ACTIVATIONS["tanh"])
    results.append(y.tolist())
    activation.activation_backward(y[0], z[0], z[0], activation.ACTIVATIONS["tanh"])
    results.append(y.tolist())
    loss.softmax(y, z)
    results.append(y.tolist())
    loss.loss_backward(y, z, z, pointwise.Loss(pointwise.SOFTMAX), z[0, :0])
    results.append(y.tolist())
stats = [kernel.compiled.stats for kernel in (
    activation.activation_forward, activation.activation_backward,
    loss.softmax, loss.loss_backward)]
print(json.dumps({"results": results,
                  "loaded": sum(sum(s.cache_hits.values()) for s in stats),
                  "compiled": sum(sum(s.cache_misses.values()) for s in stats)}))
"""

# No file can be longer than that: writing fails in the middle, as on a disk with no more room.
FULL_DISK = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (5000, -1)); "

needs_limits = pytest.mark.skipif(os.name != "posix", reason="limits of a process are POSIX's")


DTYPES = ("float32", "float64")


def run(cache, before="", dtypes=DTYPES, options=()):
    """What PROGRAM prints, and what it and Python say on stderr."""
    process = run_python(*options, "-c", PROGRAM, before, *dtypes, NUMBA_CACHE_DIR=str(cache))
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout), process.stderr


def files(cache):
    return sorted(path for path in cache.rglob("*") if path.is_file() or path.is_symlink())


def expected():
    """What PROGRAM's results are for each dtype, from NumPy."""
    x = np.array([[0.5, -1.0, 2.0]])
    exps = np.exp(x)
    softmax = exps / exps.sum()
    return [np.tanh(x), x * (1 - x * x), softmax, softmax - x]
