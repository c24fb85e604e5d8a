"""Numbers in a smaller form, from which a network reads the same bits.

uint8 is read as k / 255, float32 as it is, both as numbers of the network's dtype. So a form is as
good as the numbers themselves where each of them, as the network reads it, is there again. The
sign of a zero counts; NaN and infinity are in no form.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, kernel
from ._sync import barrier, share
from .packing import ceil_div

# So many numbers are looked at before a thread asks whether to go on.
PIECE = 1 << 12


@inline
def _as_pixel(like, v):
    """(k, whether k / 255 is v), v of ``like``'s dtype."""
    inside = v if 0 <= v <= 1 else like.dtype.type(0)
    k = np.int32(inside * like.dtype.type(255) + like.dtype.type(0.5))
    same = like.dtype.type(k) / like.dtype.type(255) == v
    return np.uint8(k), same and not np.signbit(v)


@inline
def _as_float32(like, v):
    """(v in float32, whether that is v and finite), v of ``like``'s dtype."""
    h = np.float32(v)
    return h, like.dtype.type(h) == v and abs(h) < np.inf


def _hold_in(form):
    """Compile the loop for a form."""

    @inline
    def hold_in(team, held, x, like, misfits):
        """Ends soon after any thread has found a number that does not fit."""
        for piece in range(*share(team, ceil_div(x.size, PIECE))):
            if misfits[0] > 0:
                break
            # Slices, whose indices the compiler knows to be at least 0: so it uses vectors.
            numbers = x[piece * PIECE : (piece + 1) * PIECE]
            target = held[piece * PIECE : (piece + 1) * PIECE]
            wrong = 0
            for i in range(numbers.size):
                target[i], fits = form(like, like.dtype.type(numbers[i]))
                wrong += not fits
            if wrong > 0:
                misfits[0] = 1
        barrier(team)
        return misfits[0] == 0

    return hold_in


_hold_pixels, _hold_float32 = _hold_in(_as_pixel), _hold_in(_as_float32)


def _cost(held, *rest):
    """In multiply-adds, by the time that it takes."""
    return 8 * held.size


@kernel(cost=_cost)
def _all_pixels(team, held, x, like, misfits):
    return _hold_pixels(team, held, x, like, misfits)


@kernel(cost=_cost)
def _all_float32(team, held, x, like, misfits):
    return _hold_float32(team, held, x, like, misfits)


def hold(held, x, dtype):
    """held = x in a smaller form; returns whether every number is the same as it is read.

    held : (n,) uint8 or float32, overwritten; where a number does not fit it is of no use
    x : (n,) float32 or float64    dtype : float32 or float64, in which a network reads them
    """
    run = _all_pixels if held.dtype == np.uint8 else _all_float32
    return bool(run(held, x, np.empty(0, dtype), np.zeros(1, np.int64)))
