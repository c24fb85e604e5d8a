"""bfloat16 in NumPy: rounding, and pairs of rounded numbers as a unit of pairs reads them."""

import numpy as np

from fastmlp.kernels._host import has_bfloat16
from fastmlp.kernels._units import Avx512Unit, EmulatedUnit

PAIR_UNITS = [EmulatedUnit(), *([Avx512Unit()] if has_bfloat16() else [])]

# Both numbers are NaN.
NAN_PAIR = np.uint32(0x7FC07FC0)


def rounded(x):
    """float32 rounded to the nearest bfloat16, ties to even, as float32; NaN stays NaN.

    Written through the spacing of bfloat16 numbers, 2**-7 of a number's power of two.
    """
    # A signalling NaN among them makes the cast say "invalid".
    with np.errstate(invalid="ignore"):
        wide = np.asarray(x, np.float32).astype(np.float64)
    _, exponent = np.frexp(wide)
    # Below 2**-126 the spacing no longer shrinks.
    spacing = np.ldexp(1.0, np.maximum(exponent - 8, -133))
    with np.errstate(over="ignore", invalid="ignore"):
        nearest = np.rint(wide / spacing) * spacing
        # What rounds beyond the largest bfloat16 is infinite, as in float32.
        nearest = np.where(np.abs(nearest) >= 2.0**128, np.copysign(np.inf, wide), nearest)
        return np.where(np.isfinite(wide), nearest, wide).astype(np.float32)


def _halves(x):
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    assert (bits & 0xFFFF == 0).all(), "not rounded"
    return bits >> 16


def pairs_of_rows(x):
    """(ceil(rows / 2), columns) uint32: a number and the one below it, or 0 below the last."""
    padded = np.concatenate([x, np.zeros((len(x) % 2, x.shape[1]), x.dtype)])
    bits = _halves(padded)
    return bits[::2] | bits[1::2] << 16


def pairs_of_columns(x):
    """(rows, ceil(columns / 2)) uint32: a number and the one beside it."""
    return np.ascontiguousarray(pairs_of_rows(np.ascontiguousarray(x.T)).T)
