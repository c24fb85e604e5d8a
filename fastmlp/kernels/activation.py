"""Activation functions and their derivatives, written for numbers and run on whole registers.

A function maps the pre-activation z to the activation a; its slope da/dz is a formula in a, the
only thing that HW1P1 keeps (section 3.1). To add one: the two formulas, a branch in ``activate``
and in ``activation_slope``, a name in ``ACTIVATIONS``.
"""

from __future__ import annotations

from ._jit import inline, kernel
from ._math import sigmoid, tanh
from ._memory import load_partial, store_partial
from ._simd import full_like, vector_lanes, where
from ._sync import barrier, share

IDENTITY, SIGMOID, TANH, RELU = 0, 1, 2, 3
ACTIVATIONS = {"identity": IDENTITY, "sigmoid": SIGMOID, "tanh": TANH, "relu": RELU}


@inline
def relu(z):
    """max(z, 0); NaN stays."""
    return where(z <= 0, full_like(z, 0), z)


@inline
def activate(z, code):
    """The activation of z; code from ``ACTIVATIONS``."""
    if code == RELU:
        return relu(z)
    if code == SIGMOID:
        return sigmoid(z)
    if code == TANH:
        return tanh(z)
    return z


@inline
def activation_slope(a, code):
    """da/dz, given the activation a."""
    if code == RELU:
        return where(a > 0, full_like(a, 1), 0)
    if code == SIGMOID:
        return a * (1 - a)
    if code == TANH:
        return 1 - a * a
    return full_like(a, 1)


@kernel(cost=lambda a, z, activation: 16 * z.size)
def activation_forward(team, a, z, activation):
    """a = act(z).

    a : (n,), overwritten    z : (n,)    activation : code from ``ACTIVATIONS``
    """
    lanes = vector_lanes(z)
    begin, end = share(team, (z.size + lanes - 1) // lanes)
    for i in range(begin * lanes, end * lanes, lanes):
        count = min(lanes, z.size - i)
        store_partial(a, i, count, activate(load_partial(z, i, count), activation))
    barrier(team)


@kernel(cost=lambda dz, da, a, activation: 4 * a.size)
def activation_backward(team, dz, da, a, activation):
    """dz = da * act'(z), from the activation's value; with da = 1, the derivative itself.

    dz : (n,), overwritten, may be da    da, a : (n,)    activation : code from ``ACTIVATIONS``
    """
    lanes = vector_lanes(a)
    begin, end = share(team, (a.size + lanes - 1) // lanes)
    for i in range(begin * lanes, end * lanes, lanes):
        count = min(lanes, a.size - i)
        slope = activation_slope(load_partial(a, i, count), activation)
        store_partial(dz, i, count, load_partial(da, i, count) * slope)
    barrier(team)
