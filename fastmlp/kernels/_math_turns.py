"""Cosine and sine of a vector register of angles in turns, to 4 ULP of 1.

The nearest quarter of a turn is taken off, which is exact; what is left is at most an eighth,
where Taylor's series end soon: the first terms left out are below 2**-57 of the result. From
2**21 turns on in float32, 2**50 in float64, angles count as whole turns: their digits hardly tell
the fraction.
"""

from __future__ import annotations

import math

from ._jit import inline
from ._math import FORMATS, by_format
from ._simd import absolute, fma, polynomial, where

_TURN = 2 * math.pi
# cos(a) = 1 + a**2 * _COS(a**2) and sin(a) = a + a**3 * _SIN(a**2).
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(1, 10))
_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(1, 9))


def _compile(magic):
    """(cosine and sine) for one format, whose ``magic`` rounds to whole numbers."""
    cosine, sine, most = polynomial(_COS), polynomial(_SIN), magic / 6

    @inline
    def cos_sin_turns(turns):
        turns = where(absolute(turns) > most, 0 * turns, turns)
        quarters = fma(turns, 4, magic) - magic
        angle = fma(quarters, -0.25, turns) * _TURN
        square = angle * angle
        cos = fma(square, cosine(square), 1)
        sin = fma(angle * square, sine(square), angle)
        # -2 ... 2 quarters.
        quarters = quarters - 4 * (fma(quarters, 0.25, magic) - magic)
        odd, half = absolute(quarters) == 1, absolute(quarters) == 2
        along, across = where(odd, sin, cos), where(odd, cos, sin)
        along = where(half, -along, where(quarters == 1, -along, along))
        across = where(half, -across, where(quarters == -1, -across, across))
        return along, across

    return cos_sin_turns


def cos_sin_turns(turns):
    """(cos, sin) of 2 * pi * turns, at most 4 ULP of 1 off; NaN for NaN and the infinities."""


by_format(
    cos_sin_turns,
    {dtype: _compile(pieces.magic) for dtype, pieces in FORMATS.items()},
)
