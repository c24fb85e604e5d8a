"""Kernels that are quick to compile, run in a process that keeps their machine code in a folder."""

import json
import os

import numpy as np
import pytest

from tests.processes import run_python

# Four pieces of machine code for each dtype, of the kernels that are compiled the fastest.
# Arguments: Python to run first, dtypes.
PROGRAM = """
import json, os, sys
import numpy as np
exec(sys.argv[1])
from fastmlp.kernels import activation, batchnorm, loss, pointwise, scale

results = []
for dtype in sys.argv[2:]:
    x = np.array([0.5, -1.0, 2.0], dtype)
    y, z = np.empty((2, 3), dtype)
    activation.activation_backward(y, x, x, activation.ACTIVATIONS["tanh"])
    results.append(y.tolist())
    batchnorm.batchnorm_running(y, x, 0.25)
    results.append(y.tolist())
    loss.predicted_values(y, x, pointwise.Loss(pointwise.POISSON, 44.0))
    results.append(y.tolist())
    scale.scale_gradient(z, x, y, x)
    results.append(z.tolist())
stats = [kernel.compiled.stats for kernel in (
    activation.activation_backward, batchnorm.batchnorm_running,
    loss.predicted_values, scale.scale_gradient)]
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
    x = np.array([0.5, -1.0, 2.0])
    slopes, rates = x * (1 - x * x), np.exp(x)
    return [slopes, 0.25 * slopes + 0.75 * x, rates, rates]
