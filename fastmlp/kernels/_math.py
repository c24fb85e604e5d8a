"""exp, expm1, sigmoid and tanh of a vector register, to 2 ULP over all finite inputs.

exp(x) = 2**n * exp(r): n = round(x / ln2), r = x - n*ln2, so |r| <= ln2/2. ln2 is split in two
(Cody & Waite, Software Manual for the Elementary Functions, 1980, chapter 6): n times the high
part is exact. exp(r) - 1 = r + r**2 * q(r), q interpolates (exp(r) - 1 - r) / r**2 at Chebyshev
nodes; that leaves a relative error of 2.2e-10 in exp(r) for float32 and 2.3e-19 for float64.

``FORMATS`` holds the pieces for each dtype; ``_math_smooth`` makes further functions of them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba.core import types
from numba.core.extending import overload

from ._jit import HELPER_OPTIONS, inline
from ._simd import VectorType, absolute, copysign, fma, polynomial, two_to_the, where


class Pieces(NamedTuple):
    """Functions of registers of one dtype, and what others are made of."""

    exp: Any
    expm1: Any
    sigmoid: Any
    tanh: Any
    reduce: Any
    scale: Any
    quotient: Any
    magic: float  # see ``_Format``
    ln2: tuple[float, float]  # its high and its low part


class _Format(NamedTuple):
    """Constants of the reduction for one floating-point format."""

    magic: float  # 1.5 * 2**mantissa bits: adding it rounds to whole numbers
    log2_e: float
    ln2_high: float
    ln2_low: float
    lowest: float  # exp underflows to 0 at and below
    highest: float  # exp overflows at and above
    flat: float  # tanh rounds to 1 at and above
    q: tuple[float, ...]


_FLOAT32 = _Format(
    magic=1.5 * 2**23,
    log2_e=1.4426950408889634,
    ln2_high=0.693145751953125,
    ln2_low=1.428606820309417232e-06,
    lowest=-104.0,
    highest=89.0,
    flat=10.0,
    q=(
        0.50000000134658092001,
        0.16666666681623231402,
        0.041666464925285905408,
        0.0083333109254809008349,
        0.001393364999630925043,
        0.00019890990824673653848,
    ),
)

_FLOAT64 = _Format(
    magic=1.5 * 2**52,
    log2_e=1.4426950408889634,
    ln2_high=0.693147180559662956511601805687,
    ln2_low=2.823529056303157712258845e-13,
    lowest=-746.0,
    highest=710.0,
    flat=20.0,
    q=(
        0.5,
        0.16666666666666670991,
        0.041666666666666669755,
        0.0083333333333261351258,
        0.0013888888888883748305,
        0.00019841269874820625271,
        0.000024801587325547741216,
        2.755725540020642443e-6,
        2.7557273643110295328e-7,
        2.5105217004720745164e-8,
        2.0914686968086877233e-9,
    ),
)


def _compile(form):
    """``Pieces`` for one format."""
    magic, log2_e, high, low = form.magic, form.log2_e, form.ln2_high, form.ln2_low
    lowest, highest, flat = form.lowest, form.highest, form.flat
    q = polynomial(form.q)

    @inline
    def reduce(x):
        """n + magic and exp(r) - 1."""
        shifted = fma(x, log2_e, magic)
        n = shifted - magic
        r = fma(-n, low, fma(-n, high, x))
        return shifted, fma(r * r, q(r), r)

    @inline
    def scale(value, n):
        """value * 2**n in two factors: at the ends of exp's range n alone is no valid exponent."""
        half = fma(n, 0.5, magic)
        rest = (n - (half - magic)) + magic
        return value * two_to_the(half) * two_to_the(rest)

    @inline
    def quotient(a, a_low, b, b_low):
        """(a + a_low) / (b + b_low), the low parts being what rounding took from a and b."""
        reciprocal = 1 / b
        first = a * reciprocal
        rest = fma(-first, b, a) + (a_low - first * b_low)
        return fma(rest, reciprocal, first)

    @inline
    def exp(x):
        x = where(x > highest, highest, where(x < lowest, lowest, x))
        shifted, fraction = reduce(x)
        return scale(fraction + 1, shifted - magic)

    @inline
    def expm1(x):
        x = where(x > highest, highest, where(x < -4 * flat, -4 * flat, x))
        shifted, fraction = reduce(x)
        power = two_to_the(shifted)
        return fma(power, fraction, power - 1)

    @inline
    def sigmoid(x):
        # exp of a negative number: neither branch overflows, and small results keep their digits.
        size = absolute(x)
        shifted, fraction = reduce(where(size > -lowest, lowest, -size))
        n = shifted - magic
        mantissa = fraction + 1
        t, t_low = scale(mantissa, n), scale(fraction - (mantissa - 1), n)
        denominator = t + 1
        low = (t - (denominator - 1)) + t_low
        positive = x >= 0
        return quotient(where(positive, 1, t), where(positive, 0, t_low), denominator, low)

    @inline
    def tanh(x):
        # With e = exp(2|x|) - 1, tanh|x| = e / (e + 2); e is exact to an ULP even near 0.
        size = absolute(x)
        size = where(size > flat, flat, size)
        shifted, fraction = reduce(size + size)
        power = two_to_the(shifted)
        e = fma(power, fraction, power - 1)
        denominator = e + 2
        low = where(e > 2, 2 - (denominator - e), e - (denominator - 2))
        return copysign(quotient(e, 0, denominator, low), x)

    return Pieces(exp, expm1, sigmoid, tanh, reduce, scale, quotient, magic, (high, low))


FORMATS = {types.float32: _compile(_FLOAT32), types.float64: _compile(_FLOAT64)}


def exp(x):
    """e**x, at most 2 ULP off; inf and 0 beyond the range, NaN for NaN."""


def expm1(x):
    """e**x - 1, at most 2 ULP off for x up to 0; -1 at -inf, NaN for NaN.

    For use with such x: for others it is less exact, and inf from half a power of two below the
    largest number on.
    """


def sigmoid(x):
    """1 / (1 + exp(-x)), at most 2 ULP off; 0 at -inf, 1 at inf, NaN for NaN."""


def tanh(x):
    """Hyperbolic tangent, at most 2 ULP off; -1 and 1 at the infinities, NaN for NaN."""


def by_format(stub, functions):
    """Let compiled code that calls the stub call the function for its argument's dtype.

    functions : a function of a register for each dtype
    """

    @overload(stub, jit_options=HELPER_OPTIONS)
    def choose(x):
        if not isinstance(x, VectorType):
            return None
        compiled = functions[x.dtype]

        def call(x):
            return compiled(x)

        # A name of its own, for the reason given in ``_jit.inline``.
        call.__qualname__ = f"{stub.__name__}_{x.dtype}"
        return call


for _stub in (exp, expm1, sigmoid, tanh):
    by_format(_stub, {dtype: getattr(pieces, _stub.__name__) for dtype, pieces in FORMATS.items()})
