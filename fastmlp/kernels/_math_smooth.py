"""SiLU, GELU, Mish, softplus and log of a vector register, to 4 ULP.

All but log are made of t = exp(-|z|), which never overflows, or of exp(-z**2 / 2). Where a result
is a tiny power of two times something, that power is multiplied last: the exponential alone would
lose digits to the subnormal numbers where the result still has all of its own. The argument of an
exponential has an error as large as itself, so it is carried in two numbers where it is not z
itself (products after Dekker, A floating-point technique for extending the available precision,
1971, which need no fused multiply-add).

log(1 + t) = 2 atanh(s), s = t / (2 + t): atanh(s) = s + s**3 * p(s**2). log(2**n f), f between
sqrt(1/2) and sqrt(2), is n log 2 + log f.
erfc(x / sqrt(2)) / 2 = exp(-x**2 / 2) * h * q(u), h = k / (x + k), u a line in h that takes it to
[-1, 1] (after Shepherd & Laframboise, Chebyshev approximation of (1 + 2x) exp(x**2) erfc x, 1981).
p and q interpolate at Chebyshev nodes, computed with 60 digits. They leave relative errors of
4.1e-10 and 7.5e-10 for float32, 1.4e-19 and 6.4e-19 for float64.
"""

from __future__ import annotations

from typing import NamedTuple

from numba.core import types
from numba.core.extending import overload

from ._jit import HELPER_OPTIONS, inline
from ._math import FORMATS, by_format
from ._simd import (
    VectorType,
    absolute,
    copysign,
    exponent,
    fma,
    full_like,
    polynomial,
    two_to_the,
    where,
)


class _Constants(NamedTuple):
    """What differs from one floating-point format to the other."""

    splitter: float  # 2**(about half the bits of the mantissa) + 1
    far: float  # for exp(-far), far below the smallest number, `scale` still has exponents
    tail_end: float  # erfc(x / sqrt(2)) * x is 0 from here on
    tail_k: float
    tail_slope: float  # of the line that takes [k / (end + k), 1] to [-1, 1], exactly
    cubic_end: float  # tanh-GELU is 0 or z beyond
    cubic: tuple[float, float]  # 0.044715 in two numbers
    factor: tuple[float, float]  # 2 * sqrt(2 / pi) in two numbers
    p: tuple[float, ...]
    q: tuple[float, ...]
    q_low: tuple[float, float]  # a line through what rounding takes from q's coefficients


_CONSTANTS = {
    types.float32: _Constants(
        splitter=2.0**12 + 1,
        far=170.0,
        tail_end=15.0,
        tail_k=3.75,
        tail_slope=2.5,
        cubic_end=11.0,
        cubic=(0.044714998453855515, 1.5461444854736328125e-9),
        factor=(1.595769166946411, -4.534068042105271576e-8),
        p=(
            0.33333333660263706234,
            0.19999853165964858701,
            0.14296178997151418861,
            0.10853287900440186323,
            0.11612164612011674416,
        ),
        q=(
            0.23555221896762551616,
            0.15972874447154464751,
            0.077252409310860997814,
            0.024623708112150006919,
            0.003681871653659810296,
            -0.0005632154210806305557,
            -0.00030999575969632285284,
            0.000012761450119992510048,
            0.000023877920682708138996,
            -7.2125338760476780875e-7,
            -1.6597268015235889983e-6,
        ),
        q_low=(-2.829139269e-9, -6.216641737e-9),
    ),
    types.float64: _Constants(
        splitter=2.0**27 + 1,
        far=1400.0,
        tail_end=40.0,
        tail_k=5.0,
        tail_slope=2.25,
        cubic_end=22.0,
        cubic=(0.044715, 2.196021142708559637e-18),
        factor=(1.5957691216057308, -9.9693088091109203146e-17),
        p=(
            0.33333333333333333443,
            0.19999999999999761253,
            0.14285714285800049646,
            0.11111111099118385279,
            0.090909099489813571913,
            0.076922719824302746434,
            0.066675893157246279183,
            0.0586713953065159873,
            0.05422589197440007411,
            0.037460718977753836504,
            0.078152889004614252231,
        ),
        q=(
            0.16993915434354408604,
            0.14009298543366256036,
            0.096874996828565649852,
            0.05562389639173607589,
            0.025896330150119412496,
            0.0092879696941685570847,
            0.0022476518484449261904,
            0.00017844720043978966068,
            -0.00010627042824432042008,
            -0.000039672304233297743621,
            8.0538408173552153148e-7,
            3.6619190827283842321e-6,
            3.962905050675293316e-7,
            -3.2637194882118485703e-7,
            -6.2846827347845658937e-8,
            3.3215820911649580469e-8,
            7.4838302525016443164e-9,
            -3.9962798153913486236e-9,
            -7.6511243454925901562e-10,
            5.3027774164111380511e-10,
            6.1215712175456297912e-11,
            -6.5159572261309277389e-11,
            -2.7668445470554133031e-12,
            5.0772470612729732803e-12,
        ),
        q_low=(-5.182700617e-18, 8.90325279e-18),
    ),
}

# 1 / sqrt(2 pi): the normal density at 0.
_DENSITY = 0.39894228040143267794

_SQRT_2 = 1.4142135623730951


def _compile(pieces, constants):
    """The functions for one format, by name."""
    reduce, scale, quotient, magic = pieces.reduce, pieces.scale, pieces.quotient, pieces.magic
    splitter, far = constants.splitter, constants.far
    tail_end, tail_k, cubic_end = constants.tail_end, constants.tail_k, constants.cubic_end
    cubic, cubic_low = constants.cubic
    factor, factor_low = constants.factor
    p, q_rest = polynomial(constants.p), polynomial(constants.q[1:])
    q_first, (q_low, q_low_slope) = constants.q[0], constants.q_low
    slope = constants.tail_slope
    ln2_high, ln2_low = pieces.ln2

    @inline
    def clipped(z, size):
        return where(absolute(z) > size, copysign(size, z), z)

    @inline
    def product(a, b):
        """(a * b, what rounding took from it)."""
        ab = a * b
        a_head, b_head = a * splitter, b * splitter
        a_head, b_head = a_head - (a_head - a), b_head - (b_head - b)
        a_tail, b_tail = a - a_head, b - b_head
        crossed = fma(a_head, b_tail, fma(a_head, b_head, -ab))
        return ab, fma(a_tail, b_tail, fma(a_tail, b_head, crossed))

    @inline
    def total(a, b):
        """(a + b, what rounding took from it), for a at least as large as b."""
        ab = a + b
        return ab, b - (ab - a)

    @inline
    def exponential(x, x_low):
        """exp(x + x_low) as (mantissa, mantissa_low, n), (mantissa + mantissa_low) * 2**n."""
        shifted, fraction = reduce(x)
        fraction = fma(x_low, fraction + 1, fraction)
        mantissa = fraction + 1
        return mantissa, fraction - (mantissa - 1), shifted - magic

    @inline
    def weighted(z, x, x_low):
        """(z * s, s, s * (1 - s)), s = sigmoid(x + x_low); z and x of one sign, x not too large."""
        # With t = exp(-|x|): s = 1 / (1 + t) or t / (1 + t), and s (1 - s) = t / (1 + t)**2.
        positive = x > 0
        mantissa, mantissa_low, n = exponential(-absolute(x), where(positive, -x_low, x_low))
        t, t_low = scale(mantissa, n), scale(mantissa_low, n)
        denominator = t + 1
        low = (t - (denominator - 1)) + t_low
        share = quotient(
            where(positive, 1, mantissa), where(positive, 0, mantissa_low), denominator, low
        )
        reciprocal = 1 / denominator
        s = where(positive, 1, t) * reciprocal
        return scale(z * share, where(positive, 0, n)), s, t * reciprocal * reciprocal

    @inline
    def silu_with_slope(z):
        near = clipped(z, far)
        a, s, change = weighted(near, near, full_like(near, 0))
        return where(z > far, z, a), fma(near, change, s)

    @inline
    def gelu_tanh_with_slope(z):
        # z / 2 * (1 + tanh(x / 2)) = z * sigmoid(x), x = factor * z * (1 + cubic * z**2).
        near = clipped(z, cubic_end)
        square, square_low = product(near, near)
        bent, bent_low = product(full_like(near, cubic), square)
        bent_low = bent_low + fma(cubic, square_low, cubic_low * square)
        bent_more, more_low = total(where(bent > 1, bent, 1), where(bent > 1, 1, bent))
        line, line_low = product(full_like(near, factor), near)
        x, x_low = product(line, bent_more)
        line_low = fma(factor_low, near, line_low)
        x_low = x_low + fma(line, bent_low + more_low, line_low * bent_more)
        x, x_low = total(x, x_low)
        a, s, change = weighted(near, x, x_low)
        return where(z > cubic_end, z, a), fma(near * change, factor * fma(3, bent, 1), s)

    @inline
    def gelu_with_slope(z):
        # z * Q(-z), Q(x) = erfc(x / sqrt(2)) / 2 = 1 - Q(-x).
        near = clipped(z, tail_end)
        size = absolute(near)
        square, square_low = product(size, size)
        mantissa, mantissa_low, n = exponential(-0.5 * square, -0.5 * square_low)
        denominator = size + tail_k
        longer, shorter = where(size > tail_k, size, tail_k), where(size > tail_k, tail_k, size)
        denominator_low = shorter - (denominator - longer)
        h = tail_k / denominator
        back, back_low = product(h, denominator)
        h_low = ((tail_k - back) - back_low - h * denominator_low) / denominator
        # Near 0 all terms of q add up. So the line u in h is taken from 1 - h = x / (x + k), which
        # is exact there, and the last step of q is in two numbers.
        u = 1 - slope * (size / denominator)
        rest, rest_low = product(u, q_rest(u))
        ratio = rest + q_first
        larger = where(rest > q_first, rest, q_first)
        smaller = where(rest > q_first, q_first, rest)
        rest_low = rest_low + fma(u, q_low_slope, q_low)
        ratio_low = (smaller - (ratio - larger)) + rest_low
        ratio_low = fma(h, ratio_low, h_low * ratio)
        ratio, more = product(h, ratio)
        ratio_low = ratio_low + more
        tail = fma(mantissa, ratio, fma(mantissa, ratio_low, mantissa_low * ratio))
        beyond = scale(tail, n)
        a = where(z > 0, fma(-size, beyond, z), scale(near * tail, n))
        below = where(z > 0, 1 - beyond, beyond)
        return a, fma(near * _DENSITY, scale(mantissa, n), below)

    @inline
    def mish_with_slope(z):
        # With e = exp(z), tanh(log(1 + e)) = (e**2 + 2e) / (e**2 + 2e + 2); t = exp(-|z|) takes the
        # place of e or of 1 / e.
        near = clipped(z, far)
        positive = z > 0
        mantissa, mantissa_low, n = exponential(-absolute(near), full_like(near, 0))
        t = scale(mantissa, n)
        square = t * t
        upper = where(positive, fma(2, t, 1), fma(t, mantissa, mantissa + mantissa))
        upper_low = where(positive, 0, 2 * mantissa_low)
        lower = where(positive, fma(2, square, fma(2, t, 1)), fma(t, t + 2, 2))
        share = quotient(upper, upper_low, lower, 0)
        a = scale(near * share, where(positive, 0, n))
        change = 4 * (1 + t) * where(positive, square, t) / (lower * lower)
        return where(z > far, z, a), fma(near, change, scale(share, where(positive, 0, n)))

    @inline
    def softplus(z, beta):
        # log(1 + exp(x)) / beta = max(z, 0) + log(1 + t) / beta, x = beta * z.
        x, x_low = product(clipped(z, far / beta), full_like(z, beta))
        mantissa, mantissa_low, n = exponential(-absolute(x), where(x > 0, -x_low, x_low))
        t, t_low = scale(mantissa, n), scale(mantissa_low, n)
        denominator = t + 2
        s = quotient(t, t_low, denominator, (t - (denominator - 2)) + t_low)
        twice = s + s
        logarithm = fma(twice * (s * s), p(s * s), twice)
        # So far down log(1 + t) is t.
        rest = where(n < -64, scale(mantissa / beta, n), logarithm / beta)
        return where(z > 0, z + rest, rest)

    @inline
    def log(x):
        n = exponent(x)
        f = x * two_to_the(magic - n)
        upper = f > _SQRT_2
        f, n = where(upper, 0.5 * f, f), where(upper, n + 1, n)
        s = (f - 1) / (f + 1)
        twice = s + s
        return fma(n, ln2_high, twice + fma(twice * (s * s), p(s * s), n * ln2_low))

    @inline
    def silu(z):
        return silu_with_slope(z)[0]

    @inline
    def gelu(z):
        return gelu_with_slope(z)[0]

    @inline
    def gelu_tanh(z):
        return gelu_tanh_with_slope(z)[0]

    @inline
    def mish(z):
        return mish_with_slope(z)[0]

    functions = (
        silu, silu_with_slope, gelu, gelu_with_slope, gelu_tanh, gelu_tanh_with_slope, mish,
        mish_with_slope, softplus, log,
    )  # fmt: skip
    return {function.__name__: function for function in functions}


def silu(z):
    """z * sigmoid(z), at most 4 ULP off; 0 at -inf, NaN for NaN."""


def silu_with_slope(z):
    """(silu(z), its slope)."""


def gelu(z):
    """z * P(X < z) for a standard normal X, at most 4 ULP off; 0 at -inf, NaN for NaN."""


def gelu_with_slope(z):
    """(gelu(z), its slope)."""


def gelu_tanh(z):
    """z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 z**3))), as ``gelu``."""


def gelu_tanh_with_slope(z):
    """(gelu_tanh(z), its slope)."""


def mish(z):
    """z * tanh(log(1 + exp(z))), at most 4 ULP off; 0 at -inf, NaN for NaN."""


def mish_with_slope(z):
    """(mish(z), its slope)."""


def log(x):
    """Natural logarithm of normal numbers from 1, at most 4 ULP off; NaN for NaN."""


def softplus(z, beta):
    """log(1 + exp(beta * z)) / beta, at most 4 ULP off; 0 at -inf, NaN for NaN. beta : above 0."""


_COMPILED = {dtype: _compile(pieces, _CONSTANTS[dtype]) for dtype, pieces in FORMATS.items()}
for _stub in (
    silu, silu_with_slope, gelu, gelu_with_slope, gelu_tanh, gelu_tanh_with_slope, mish,
    mish_with_slope, log,
):  # fmt: skip
    by_format(_stub, {dtype: named[_stub.__name__] for dtype, named in _COMPILED.items()})


@overload(softplus, jit_options=HELPER_OPTIONS)
def _choose_softplus(z, beta):
    if not isinstance(z, VectorType):
        return None
    compiled = _COMPILED[z.dtype]["softplus"]

    def call(z, beta):
        return compiled(z, beta)

    # A name of its own, for the reason given in ``_jit.inline``.
    call.__qualname__ = f"softplus_{z.dtype}"
    return call
