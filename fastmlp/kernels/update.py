"""Update rules, each written for one number; the same source runs on whole registers.

A rule maps (gradient, (parameter, states...), factors) to the new (parameter, states...).
``factors`` are (learning rate, weight decay, rule's own factors), of the parameters' dtype. The
compiled epoch applies a rule to the weight gradient before it leaves the registers;
``momentum_update`` applies it to whole flat buffers.
"""

from __future__ import annotations

import numpy as np

from ._jit import inline, kernel
from ._memory import load_partial, store_partial
from ._simd import vector_lanes
from ._sync import barrier, share


@inline
def momentum_rule(gradient, values, factors):
    """v = mu*v - lr*(g + 2*c*w); w = w + v.

    Reference: CMU 11-785 HW1P1, section 3.5.3; the decay is the gradient of c * sum(w**2).
    """
    parameter, velocity = values
    rate, decay, momentum = factors
    gradient = gradient + (decay + decay) * parameter
    velocity = momentum * velocity - rate * gradient
    return parameter + velocity, velocity


# Stretches of the flat buffers that share factors; gradients are multiplied by ``scale`` first.
SEGMENT = np.dtype(
    [
        ("start", np.int64),
        ("stop", np.int64),
        ("momentum", np.float64),
        ("decay", np.float64),
        ("scale", np.float64),
    ],
    align=True,
)


@kernel(cost=lambda parameters, *rest: 8 * parameters.size)
def momentum_update(team, parameters, velocities, gradients, segments, rate):
    """Momentum update of all parameters in place.

    parameters, velocities : (P,), updated    gradients : (P,)
    segments : (S,) of dtype ``SEGMENT``      rate : learning rate
    Reference: CMU 11-785 HW1P1, section 3.5.3.
    """
    lanes = vector_lanes(parameters)
    number = parameters.dtype.type
    for s in range(segments.size):
        segment = segments[s]
        factors = number(rate), number(segment.decay), number(segment.momentum)
        size = segment.stop - segment.start
        begin, end = share(team, (size + lanes - 1) // lanes)
        for i in range(begin * lanes, end * lanes, lanes):
            at, count = segment.start + i, min(lanes, size - i)
            gradient = load_partial(gradients, at, count) * number(segment.scale)
            update_partial(parameters, velocities, at, count, gradient, factors)
    barrier(team)


@inline
def update_partial(parameters, velocities, at, count, gradient, factors):
    """Update ``count`` parameters, at most a vector, in place."""
    values = load_partial(parameters, at, count), load_partial(velocities, at, count)
    parameter, velocity = momentum_rule(gradient, values, factors)
    store_partial(parameters, at, count, parameter)
    store_partial(velocities, at, count, velocity)
