"""Activation functions and their derivatives, written for numbers and run on whole registers.

A function maps the pre-activation z to the activation a. Its slope da/dz is a formula in a, the
only thing that HW1P1 keeps (section 3.1), where there is one that loses nothing. Otherwise the
slope itself is kept: it is computed along with a, and what it takes is shared.

To add one: a row in ``ACTIVATIONS``, its formula in ``_activate_longer``, and its slope: from a in
``_slope_of_rare``, or, where the row says that it is kept, from z in ``activate_with_slope``.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ._jit import inline, kernel, stay_apart
from ._math import expm1, sigmoid, tanh
from ._math_smooth import (
    gelu,
    gelu_tanh,
    gelu_tanh_with_slope,
    gelu_with_slope,
    mish,
    mish_with_slope,
    silu,
    silu_with_slope,
    softplus,
)
from ._memory import Place, load_partial, store, store_partial
from ._own import address_of, call_address
from ._simd import absolute, copysign, full_like, vector_lanes, where
from ._sync import barrier, share
from ._vocabulary import RARE, WHOLE, Vocabulary, needs


def _loop_over(forward, slope):
    """a[i] = forward(z[i]), and slopes[i] = slope(z[i]) if wanted; a may be z.

    NaN where either raises: training then ends, before an update, as it does with any NaN.
    """

    def loop(a, slopes, z, count, with_slopes):
        for i in range(count):
            number = z[i]
            try:
                value = forward(number)
                if with_slopes != 0:
                    slopes[i] = slope(number)
                a[i] = value
            except Exception:
                a[i] = math.nan

    return loop


class Formula(NamedTuple):
    """An activation as compiled code is told of it."""

    code: int
    keeps_slope: bool = False  # the slope is kept, not taken from a
    parameter: float = 0.0
    address: int = 0  # of the code of a user's own
    vocabulary: Vocabulary = WHOLE  # of the kernel that it is told

    @staticmethod
    def of_own(forward, slope, dtype) -> Formula:
        """A user's own two functions of z, compiled for a dtype.

        Raises TypeError where they cannot be compiled.
        """
        address = address_of(_loop_over, (forward, slope), dtype, 3, 2)
        return Formula(OWN, keeps_slope=True, address=address)


IDENTITY, SIGMOID, TANH, RELU, LEAKY_RELU, ELU, SELU, SOFTPLUS, SOFTSIGN = range(9)
HARD_SIGMOID, HARD_SWISH, SILU, MISH, GELU, GELU_TANH = range(9, 15)
OWN = 15  # a user's, at an address
LAST_FREQUENT = LEAKY_RELU  # every vocabulary has the codes up to this

ACTIVATIONS = {
    "identity": Formula(IDENTITY),
    "sigmoid": Formula(SIGMOID),
    "tanh": Formula(TANH),
    "relu": Formula(RELU),
    "leaky_relu": Formula(LEAKY_RELU, parameter=0.01),
    "elu": Formula(ELU, parameter=1.0),
    "selu": Formula(SELU),
    "softplus": Formula(SOFTPLUS, parameter=1.0),
    "softsign": Formula(SOFTSIGN),
    "hard_sigmoid": Formula(HARD_SIGMOID),
    "hard_swish": Formula(HARD_SWISH, keeps_slope=True),
    "silu": Formula(SILU, keeps_slope=True),
    "mish": Formula(MISH, keeps_slope=True),
    "gelu": Formula(GELU, keeps_slope=True),
    "gelu_tanh": Formula(GELU_TANH, keeps_slope=True),
}
NO_ACTIVATION = ACTIVATIONS["identity"]

# Klambauer et al., Self-normalizing neural networks, 2017: their lambda, and lambda times alpha.
_SELU_SCALE, _SELU_ALPHA = 1.0507009873554805, 1.7580993408473766
# From here on z / (1 + |z|) is 1 or -1 in either dtype.
_SOFTSIGN_END = 2.0**60


@inline
def formula_of(layer, training, vocabulary):
    """The formula in a row of a layer table; slopes are kept for training alone."""
    keeps_slope = training and layer.keeps_slope != 0
    return Formula(layer.activation, keeps_slope, layer.parameter, layer.address, vocabulary)


@inline
def keeping(formula, keeps_slope):
    """A formula whose slope is kept, or is not."""
    code, parameter, address = formula.code, formula.parameter, formula.address
    return Formula(code, keeps_slope, parameter, address, formula.vocabulary)


@inline
def no_activation(vocabulary):
    """The identity's formula."""
    return Formula(IDENTITY, False, 0.0, 0, vocabulary)


@inline
def _activate_stretch(a, slopes, z, count, formula):
    """a = act(z) for a user's own, and its slopes if they are kept; three places, a may be z."""
    call_address(formula.address, (a, slopes, z), (count, int(formula.keeps_slope)))


@inline
def relu(z):
    """max(z, 0); NaN stays."""
    return where(z <= 0, full_like(z, 0), z)


@inline
def softsign(z):
    """z / (1 + |z|), -1 and 1 at the infinities."""
    z = where(absolute(z) > _SOFTSIGN_END, copysign(_SOFTSIGN_END, z), z)
    return z / (1 + absolute(z))


@inline
def hard_sigmoid(z):
    """min(max(z + 3, 0), 6) / 6."""
    # From the nearer end: what is left to it is exact, so that 0 and 1 are reached only there.
    left = (3 - absolute(z)) / 6
    left = where(left <= 0, full_like(z, 0), left)
    return where(z > 0, 1 - left, left)


@inline
def hard_swish(z):
    """z * min(max(z + 3, 0), 6) / 6, 0 at -inf."""
    return where(z <= -3, full_like(z, 0), where(z >= 3, z, z * (z + 3) / 6))


@inline
def is_short(formula):
    """Whether ``activate_short`` is all that is to be done."""
    return formula.code <= LAST_FREQUENT and not formula.keeps_slope


@inline
def activate_short(z, formula):
    """The activation of z, for the most frequent ones."""
    code = formula.code
    if code == RELU:
        return relu(z)
    if code == SIGMOID:
        return sigmoid(z)
    if code == TANH:
        return tanh(z)
    if code == LEAKY_RELU:
        return where(z <= 0, formula.parameter * z, z)
    return z


@inline
def activate(z, formula):
    """The activation of z."""
    if formula.code <= LAST_FREQUENT:
        return activate_short(z, formula)
    return _activate_longer(z, formula.code, formula.parameter)


@inline
def _activate_longer(z, code, parameter):
    """``activate`` for the others."""
    stay_apart()
    if code == ELU:
        return where(z <= 0, parameter * expm1(z), z)
    if code == SELU:
        return where(z <= 0, _SELU_ALPHA * expm1(z), _SELU_SCALE * z)
    if code == SOFTPLUS:
        return softplus(z, parameter)
    if code == SOFTSIGN:
        return softsign(z)
    if code == HARD_SIGMOID:
        return hard_sigmoid(z)
    if code == HARD_SWISH:
        return hard_swish(z)
    if code == SILU:
        return silu(z)
    if code == MISH:
        return mish(z)
    if code == GELU:
        return gelu(z)
    return gelu_tanh(z)


@inline
def _slope_of_identity(a, side, formula):
    return full_like(a, 1)


@needs(RARE, _slope_of_identity)
def _slope_of_rare(a, side, formula):
    """``_slope`` of the others."""
    code, parameter = formula.code, formula.parameter
    if code == ELU:
        return where(side > 0, full_like(a, 1), a + parameter)
    if code == SELU:
        return where(side > 0, full_like(a, _SELU_SCALE), a + _SELU_ALPHA)
    if code == SOFTPLUS:
        return -expm1(-parameter * a)
    if code == SOFTSIGN:
        return (1 - absolute(a)) * (1 - absolute(a))
    if code == HARD_SIGMOID:
        return where(a > 0, where(a < 1, full_like(a, 1 / 6), 0), 0)
    return _slope_of_identity(a, side, formula)


@inline
def _slope(a, side, formula):
    """da/dz from the activation a; ``side`` has the sign of z."""
    code, parameter = formula.code, formula.parameter
    if code == RELU:
        return where(side > 0, full_like(a, 1), 0)
    if code == SIGMOID:
        return a * (1 - a)
    if code == TANH:
        return 1 - a * a
    if code == LEAKY_RELU:
        return where(side > 0, full_like(a, 1), parameter)
    return _slope_of_rare(a, side, formula)


@inline
def activation_slope(kept, formula):
    """da/dz, given what the formula keeps: the activation a, or the slope itself."""
    return kept if formula.keeps_slope else _slope(kept, kept, formula)


@inline
def activate_with_slope(z, formula):
    """(a, da/dz) for a formula that keeps its slope."""
    stay_apart()
    code = formula.code
    if code == SILU:
        return silu_with_slope(z)
    if code == MISH:
        return mish_with_slope(z)
    if code == GELU:
        return gelu_with_slope(z)
    if code == GELU_TANH:
        return gelu_tanh_with_slope(z)
    if code == HARD_SWISH:
        inside = where(z >= 3, full_like(z, 1), (2 * z + 3) / 6)
        return hard_swish(z), where(z <= -3, full_like(z, 0), inside)
    a = activate(z, formula)
    return a, _slope(a, z, formula)


@inline
def store_activated(y, slopes, at, z, formula):
    """A register of y = act(z); where its slope is kept, it goes to the same place of slopes."""
    if is_short(formula):
        store(y, at, activate_short(z, formula))
    else:
        store_longer(y, slopes, at, z, formula)


@needs(RARE)
def store_longer(y, slopes, at, z, formula):
    """``store_activated`` where ``activate_short`` is not all that is to be done."""
    if formula.code == OWN:
        store(y, at, z)
        here = Place(y, at)
        _activate_stretch(here, Place(slopes, at), here, vector_lanes(y), formula)
    elif formula.keeps_slope:
        a, slope = activate_with_slope(z, formula)
        store(y, at, a)
        store(slopes, at, slope)
    else:
        store(y, at, activate(z, formula))


@kernel(cost=lambda a, slopes, z, formula: 16 * z.size)
def activation_forward(team, a, slopes, z, formula):
    """a = act(z).

    a : (n,), overwritten    slopes : (n,), overwritten by act'(z) where the formula keeps it
    z : (n,)    formula : from ``ACTIVATIONS``
    """
    lanes = vector_lanes(z)
    first, last = share(team, (z.size + lanes - 1) // lanes)
    begin, end = first * lanes, min(last * lanes, z.size)
    if formula.code == OWN:
        places = Place(a, begin), Place(slopes, begin), Place(z, begin)
        _activate_stretch(*places, end - begin, formula)
    else:
        for i in range(begin, end, lanes):
            count = min(lanes, end - i)
            if formula.keeps_slope:
                value, slope = activate_with_slope(load_partial(z, i, count), formula)
                store_partial(slopes, i, count, slope)
            else:
                value = activate(load_partial(z, i, count), formula)
            store_partial(a, i, count, value)
    barrier(team)


@kernel(cost=lambda dz, da, kept, formula: 4 * da.size)
def activation_backward(team, dz, da, kept, formula):
    """dz = da * act'(z), from what was kept of the activation; with da = 1, the derivative itself.

    dz : (n,), overwritten, may be da    da : (n,)
    kept : (n,), the slopes where the formula keeps them, otherwise a    formula : from
    ``ACTIVATIONS``
    """
    lanes = vector_lanes(kept)
    begin, end = share(team, (kept.size + lanes - 1) // lanes)
    for i in range(begin * lanes, end * lanes, lanes):
        count = min(lanes, kept.size - i)
        slope = activation_slope(load_partial(kept, i, count), formula)
        store_partial(dz, i, count, load_partial(da, i, count) * slope)
    barrier(team)
