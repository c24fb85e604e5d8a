"""Losses of one output and its target, written for numbers and run on whole registers.

With z the output, y the target and e = z - y; the derivative is with respect to z. All are finite
where |z| and |y| are below 1e19 in float32, 1e154 in float64.

To add one: a code; its branches in ``point_loss`` and ``point_slope``, and in ``point_value`` where
an output stands for something else than itself; and a class in ``layers/loss.py``.
"""

from __future__ import annotations

from typing import NamedTuple

from ._jit import inline
from ._math import exp, sigmoid
from ._math_smooth import softplus
from ._own import address_of
from ._simd import absolute, full_like, where

# Softmax cross-entropy is the only one whose outputs depend on each other: see ``loss``.
SOFTMAX, BINARY, SQUARED, ABSOLUTE, HUBER, POISSON, QUANTILE = range(7)
OWN = 7  # a user's, at an address

# exp(z) of a rate goes on linearly from here, half the largest exponent.
LARGEST_LOG_RATE = {"float32": 44.0, "float64": 354.0}


class Loss(NamedTuple):
    """A criterion as compiled code is told of it."""

    code: int
    parameter: float = 0.0  # its number: smoothing, delta, largest log-rate or quantile
    scale: float = 1.0  # of the sum over a row's outputs
    address: int = 0  # of a user's own
    slope_address: int = 0

    @staticmethod
    def of_own(loss, derivative, scale, dtype) -> Loss:
        """A user's own two functions of (z, y), compiled for a dtype.

        Raises TypeError where they cannot be compiled.
        """
        address = address_of(_sum_over, (loss,), dtype, 3, 1)
        slope_address = address_of(_each, (derivative,), dtype, 3, 1)
        return Loss(OWN, 0.0, scale, address, slope_address)


def _sum_over(loss):
    """total[0] += loss(z[i], y[i]); NaN where it raises, as for activations."""

    def loop(total, z, y, count):
        for i in range(count):
            try:
                total[0] += loss(z[i], y[i])
            except Exception:
                total[0] = float("nan")

    return loop


def _each(derivative):
    """out[i] = derivative(z[i], y[i])."""

    def loop(out, z, y, count):
        for i in range(count):
            try:
                out[i] = derivative(z[i], y[i])
            except Exception:
                out[i] = float("nan")

    return loop


@inline
def rate(z, largest):
    """(exp(z), its slope), but of a straight line beyond ``largest``: the rate of PoissonNLL."""
    slope = exp(where(z > largest, full_like(z, largest), z))
    return where(z > largest, slope * (z - (largest - 1)), slope), slope


@inline
def point_loss(z, y, loss):
    """The loss of outputs z and targets y."""
    code, parameter = loss.code, loss.parameter
    e = z - y
    if code == BINARY:
        # The difference first: where a label is met it is 0, or the digits of softplus, small then,
        # would be lost.
        return (where(z <= 0, full_like(z, 0), z) - z * y) + softplus(-absolute(z), 1)
    if code == SQUARED:
        return e * e
    if code == ABSOLUTE:
        return absolute(e)
    if code == HUBER:
        size = absolute(e)
        return where(size > parameter, parameter * (size - parameter / 2), e * e / 2)
    if code == POISSON:
        return rate(z, parameter)[0] - y * z
    return where(e > 0, (1 - parameter) * e, -parameter * e)


@inline
def point_slope(z, y, loss):
    """The derivative of the loss with respect to z; 0 at a kink."""
    code, parameter = loss.code, loss.parameter
    e = z - y
    if code == BINARY:
        return sigmoid(z) - y
    if code == SQUARED:
        return 2 * e
    if code == ABSOLUTE:
        return where(e > 0, full_like(e, 1), where(e < 0, full_like(e, -1), e))
    if code == HUBER:
        return where(e > parameter, parameter, where(e < -parameter, -parameter, e))
    if code == POISSON:
        return rate(z, parameter)[1] - y
    above, below = full_like(e, 1 - parameter), full_like(e, -parameter)
    return where(e > 0, above, where(e < 0, below, e))


@inline
def point_value(z, loss):
    """What an output stands for: a label, 1 or 0; a rate; or itself."""
    if loss.code == BINARY:
        return where(z > 0, full_like(z, 1), 0)
    if loss.code == POISSON:
        return rate(z, loss.parameter)[0]
    return z


@inline
def point_error(z, y, loss):
    """Whether a label is missed, 1 or 0; of other losses how far the value is off."""
    target = where(y > 0.5, full_like(y, 1), 0) if loss.code == BINARY else y
    return absolute(point_value(z, loss) - target)
