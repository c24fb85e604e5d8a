"""Error measures for kernels: units in the last place, and how far a sum of products may be off."""

import numba
import numpy as np

from fastmlp.kernels._jit import OPTIONS
from fastmlp.kernels._memory import load_partial, store_partial
from fastmlp.kernels._simd import vector_lanes

_ORDINALS = {np.dtype(np.float32): np.int32, np.dtype(np.float64): np.int64}


def compiled(function):
    """A kernel's helper that Python can call; compiled anew in every process."""
    return numba.njit(**OPTIONS)(function)


def elementwise(function):
    """A kernel ``apply(y, x)`` from a function of vectors; compiled anew in every process."""

    @compiled
    def apply(y, x):
        lanes = vector_lanes(x)
        for i in range(0, x.size, lanes):
            count = min(lanes, x.size - i)
            store_partial(y, i, count, function(load_partial(x, i, count)))

    def call(x):
        y = np.empty_like(x)
        apply(y, x)
        return y

    return call


def ordinals(x):
    """The place of every float among the floats of its dtype; 0 and -0 share theirs."""
    integer = _ORDINALS[x.dtype]
    bits = x.view(integer)
    return np.where(bits < 0, np.iinfo(integer).min - bits, bits).astype(np.int64)


def ulps(actual, exact):
    """How many floats actual is away from exact, correctly rounded to actual's dtype.

    exact : of a wider dtype, or a correctly rounded array of actual's.
    """
    with np.errstate(over="ignore"):
        rounded = np.asarray(exact).astype(actual.dtype)
    return np.abs(ordinals(actual) - ordinals(rounded))


def wider(dtype):
    """A dtype with more digits: float64 for float32, long double for float64."""
    return np.float64 if dtype == np.float32 else np.longdouble


def product_bound(x, w, start=0, operations=0):
    """How far two computed start + x @ w may be apart, whatever the order, fused or not.

    A sum of n numbers is off by at most n u / (1 - n u) times the sum of their magnitudes, u being
    eps / 2 (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1): n eps for
    two of them. ``operations`` is the number of further roundings of the result.
    """
    magnitude = np.abs(start) + np.abs(x).astype(np.float64) @ np.abs(w).astype(np.float64)
    return (x.shape[1] + operations + 3) * np.finfo(x.dtype).eps * magnitude


def assert_within(actual, expected, bound):
    """Every entry of actual at most its bound away from expected."""
    assert actual.shape == expected.shape
    excess = np.abs(actual.astype(np.float64) - expected) - bound
    worst = np.unravel_index(np.argmax(excess), excess.shape)
    assert excess[worst] <= 0, (
        f"at {worst}: {actual[worst]!r}, expected {expected[worst]!r}, off by {excess[worst]} "
        "more than the bound"
    )
