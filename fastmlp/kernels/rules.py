"""Update rules, each written for one number; the same source runs on whole registers.

A rule maps (gradient, (parameter, states...), factors) to the new (parameter, states...). It keeps
one or two states per parameter. ``factors`` are ``FACTORS`` numbers of the parameters' dtype, which
Python computes for every step and group of parameters (see ``optimizers``):

    factors[0]      the step size
    factors[1]      coupled decay: what of the parameter is added to the gradient
    factors[2]      decoupled decay: what remains of the parameter before the update
    factors[3:]     the rule's own

To add one: the function, and its row in ``RULES``; a class in ``optimizers`` computes its factors.
A user's rule has none: it is called by its address, see ``OwnRule``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ._jit import inline
from ._memory import load_numbers
from ._own import address_of
from ._simd import absolute, sqrt, where

FACTORS = 8
# The first of a rule's own.
FIRST_OWN = 3
# What parameters are, by the names that users have for it.
KINDS = ("weights", "biases", "norms", "scales", "activations", "embeddings")
WEIGHTS, BIASES, NORMS, SCALES, MIXES, EMBEDDINGS = range(len(KINDS))


class Group(NamedTuple):
    """Parameters that have the same factors: a row of a step's schedule."""

    kind: int
    inputs: int = 0  # of the layer whose weights they are


@inline
def _coupled(gradient, parameter, factors):
    """The gradient with that of the decay."""
    return gradient + factors[1] * parameter


@inline
def momentum_rule(gradient, values, factors):
    """v = mu*v - lr*g; w = w + v, with mu = factors[3].

    Reference: CMU 11-785 HW1P1, section 3.5.3.
    """
    parameter, velocity = values
    velocity = factors[3] * velocity - factors[0] * _coupled(gradient, parameter, factors)
    return parameter + velocity, velocity


@inline
def _mean(old, new, share):
    """A running mean; infinities stay what they are, unlike in old + share * (new - old)."""
    return (1 - share) * old + share * new


@inline
def _sgd(gradient, values, factors):
    """v = mu*v + (1 - dampening)*g; w = w - lr*v, with (mu, 1 - dampening) = factors[3:5].

    Reference: torch.optim.SGD.
    """
    parameter, velocity = values
    gradient = _coupled(gradient, parameter, factors)
    velocity = factors[3] * velocity + factors[4] * gradient
    return factors[2] * parameter - factors[0] * velocity, velocity


@inline
def _nesterov(gradient, values, factors):
    """v = mu*v + a*g; w = w - ahead*v - lr*g, with (mu, a, ahead) = factors[3:6].

    With a = 1 and ahead = lr*mu torch.optim.SGD's; with a = lr and ahead = mu the velocity is a
    step, which keeps the rate of its time. Reference: Sutskever et al., "On the importance of
    initialization and momentum in deep learning", 2013, rearranged.
    """
    parameter, velocity = values
    gradient = _coupled(gradient, parameter, factors)
    velocity = factors[3] * velocity + factors[4] * gradient
    step = factors[5] * velocity + factors[0] * gradient
    return factors[2] * parameter - step, velocity


@inline
def _moments(gradient, first, second, factors):
    """Running means of the gradient and of its square: factors[3], factors[4] are the new shares.

    Reference: Kingma and Ba, "Adam", 2015, algorithm 1.
    """
    first = _mean(first, gradient, factors[3])
    second = _mean(second, gradient * gradient, factors[4])
    return first, second


@inline
def _adam(gradient, values, factors):
    """w = w - step * m / (root*sqrt(v) + eps), with (eps, root) = factors[5:7].

    ``step`` and ``root`` hold the bias corrections. Reference: Kingma and Ba, 2015, algorithm 1;
    with decoupled decay Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """
    parameter, first, second = values
    gradient = _coupled(gradient, parameter, factors)
    first, second = _moments(gradient, first, second, factors)
    update = factors[0] * first / (factors[6] * sqrt(second) + factors[5])
    return factors[2] * parameter - update, first, second


@inline
def _nadam(gradient, values, factors):
    """Adam with Nesterov's look ahead: m and the gradient have step sizes of their own.

    Reference: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """
    parameter, first, second = values
    gradient = _coupled(gradient, parameter, factors)
    first, second = _moments(gradient, first, second, factors)
    step = factors[0] * first + factors[7] * gradient
    return (
        factors[2] * parameter - step / (factors[6] * sqrt(second) + factors[5]),
        first,
        second,
    )


@inline
def _radam(gradient, values, factors):
    """w = w - plain*m - rectified*m / (sqrt(v) + eps), of which one factor is 0.

    Reference: Liu et al., "On the variance of the adaptive learning rate and beyond", 2020,
    algorithm 2.
    """
    parameter, first, second = values
    gradient = _coupled(gradient, parameter, factors)
    first, second = _moments(gradient, first, second, factors)
    step = factors[0] + factors[7] / (sqrt(second) + factors[5])
    return factors[2] * parameter - step * first, first, second


@inline
def _rmsprop(gradient, values, factors):
    """s = alpha*s + (1-alpha)*g*g; v = mu*v + g/(sqrt(s) + eps); w = w - lr*v.

    Reference: Tieleman and Hinton, "Lecture 6.5 - rmsprop", 2012; momentum as in torch.optim.
    """
    parameter, velocity, squares = values
    gradient = _coupled(gradient, parameter, factors)
    squares = _mean(squares, gradient * gradient, factors[4])
    velocity = factors[3] * velocity + gradient / (sqrt(squares) + factors[5])
    return factors[2] * parameter - factors[0] * velocity, velocity, squares


@inline
def _adagrad(gradient, values, factors):
    """s = s + g*g; w = w - lr * g / (sqrt(s) + eps).

    Reference: Duchi, Hazan and Singer, "Adaptive subgradient methods", 2011.
    """
    parameter, squares = values
    gradient = _coupled(gradient, parameter, factors)
    squares = squares + gradient * gradient
    return (
        factors[2] * parameter - factors[0] * gradient / (sqrt(squares) + factors[5]),
        squares,
    )


@inline
def _adamax(gradient, values, factors):
    """m as in Adam; u = max(b2*u, abs(g) + eps); w = w - step * m / u.

    Reference: Kingma and Ba, 2015, algorithm 2.
    """
    parameter, first, largest = values
    gradient = _coupled(gradient, parameter, factors)
    first = _mean(first, gradient, factors[3])
    faded, present = factors[4] * largest, absolute(gradient) + factors[5]
    # As np.maximum: NaN on either side stays.
    largest = where(faded == faded, where(faded > present, faded, present), faded)
    return factors[2] * parameter - factors[0] * first / largest, first, largest


@inline
def _lion(gradient, values, factors):
    """w = w - lr * sign(b1*m + (1-b1)*g); m = b2*m + (1-b2)*g.

    Reference: Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.
    """
    parameter, first = values
    gradient = _coupled(gradient, parameter, factors)
    mixed = _mean(first, gradient, factors[3])
    # A NaN stays one: it is no direction.
    direction = where(mixed > 0, factors[0], where(mixed < 0, -factors[0], factors[0] * mixed))
    first = _mean(first, gradient, factors[4])
    return factors[2] * parameter - direction, first


class Rule(NamedTuple):
    """A row of the table of rules; its number in the table is its code."""

    name: str
    function: Callable[..., Any]
    states: int  # that it keeps per parameter


RULES = (
    Rule("momentum", momentum_rule, 1),
    Rule("sgd", _sgd, 1),
    Rule("adam", _adam, 2),
    Rule("nesterov", _nesterov, 1),
    Rule("nadam", _nadam, 2),
    Rule("radam", _radam, 2),
    Rule("rmsprop", _rmsprop, 2),
    Rule("adagrad", _adagrad, 1),
    Rule("adamax", _adamax, 2),
    Rule("lion", _lion, 1),
)
CODES = {rule.name: code for code, rule in enumerate(RULES)}
MOMENTUM = CODES["momentum"]
OWN = len(RULES)  # a user's, at an address
LAST_FREQUENT = CODES["adam"]  # every vocabulary with updates apart has the codes up to this


@functools.cache
def _loops_over(states, count):
    """What makes a loop over consecutive parameters from a rule of so many states and numbers.

    The rule maps (gradient, parameter, states..., rate, numbers...) to the new (parameter,
    states...). Where it raises, the parameter becomes NaN: training then ends at the next loss.
    """

    def loop_over(rule):
        def loop(parameters, first, second, gradients, factors, size):
            rate, numbers = factors[0], load_numbers(factors, FIRST_OWN, count)
            for i in range(size):
                gradient = gradients[i] + factors[1] * parameters[i]
                decayed = factors[2] * parameters[i]
                try:
                    # Numba takes no other numbers beside unpacked ones in a call.
                    if states == 2:
                        given = gradient, decayed, first[i], second[i], rate
                        new, one, two = rule(*(given + numbers))
                        second[i] = two
                    else:
                        given = gradient, decayed, first[i], rate
                        new, one = rule(*(given + numbers))
                    parameters[i] = new
                    first[i] = one
                except Exception:
                    parameters[i] = math.nan

        return loop

    return loop_over


class OwnRule(NamedTuple):
    """A rule of a user's own, a function that ``_loops_over`` says more of."""

    function: Callable[..., Any]
    states: int  # 1 or 2
    count: int  # of the numbers that it takes after the rate

    def address(self, dtype):
        """The address of its code for parameters of a dtype, over a stretch of them.

        The code takes places of parameters, of both states (the second is left alone where there
        is one), of gradients and of factors, and how many parameters there are.

        Raises TypeError where the function cannot be compiled.
        """
        return address_of(_loops_over(self.states, self.count), (self.function,), dtype, 5, 1)
