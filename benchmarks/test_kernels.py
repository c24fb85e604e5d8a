"""Every kernel against its NumPy reference: ``pytest benchmarks``.

A group holds the two ways to do the same thing. ``--benchmark-disable`` runs everything once,
``--benchmark-autosave`` and ``--benchmark-compare`` keep a run and compare with it.
"""

import numpy as np
import pytest

from benchmarks.cases import KERNELS

SHAPES = [(128, 512)]


@pytest.mark.benchmark(max_time=0.25, min_rounds=10, warmup=True, warmup_iterations=2)
@pytest.mark.parametrize("implementation", ["fastmlp", "numpy"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(("batch", "width"), SHAPES)
@pytest.mark.parametrize("name", KERNELS)
def test_kernel(benchmark, name, batch, width, dtype, implementation):
    case = KERNELS[name]
    arguments = case.arguments(batch, width, dtype)
    benchmark.group = f"{name} {batch}x{width} {np.dtype(dtype).name}"
    if implementation == "numpy":
        benchmark(case.reference, *arguments)
        return
    expected = case.reference(*arguments)
    case.kernel(*arguments)  # compiles
    for value, correct in zip(case.results(arguments), expected, strict=True):
        np.testing.assert_allclose(
            value, np.reshape(correct, value.shape), rtol=1e-3, atol=1e-3 * np.abs(correct).max()
        )
    benchmark(case.kernel, *arguments)
