"""Functions of a number as ONNX's operators make them up, and which activation one of them is.

An activation is recognised by its values at ``PROBES``, in float64: how it is written, which
differs between exporters and versions of operators, does not matter.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from onnx import TensorProto

from ..kernels.activation import ACTIVATIONS
from ..layers import Activation, activation_named

Arrays = Sequence[Any]

_FAR = np.array([30, 43, 70, 300, 1e4])
PROBES = np.concatenate([[-1.0, 0.0, 1.0], -_FAR, np.linspace(-12, 12, 65), _FAR])
"""Where functions are compared, (P,): about the kinks and bends of all activations, and far out."""
_AT_MINUS_1, _AT_0, _AT_1, _FARTHEST_BELOW = 0, 1, 2, 7

# Constants in a graph have float32's digits.
_TOLERANCE = 2e-6

_erf = np.vectorize(math.erf, otypes=[np.float64])
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def _softplus(z: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, z)


def _below(z: np.ndarray) -> np.ndarray:
    return np.expm1(np.minimum(z, 0))


def _leaky_relu(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    return np.where(x[0] < 0, a.get("alpha", 0.01) * x[0], x[0])


def _elu(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    return np.where(x[0] < 0, a.get("alpha", 1.0) * _below(x[0]), x[0])


def _selu(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    alpha, gamma = a.get("alpha", 1.6732632), a.get("gamma", 1.0507010)
    return gamma * np.where(x[0] <= 0, alpha * _below(x[0]), x[0])


def _hard_sigmoid(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    return np.clip(a.get("alpha", 0.2) * x[0] + a.get("beta", 0.5), 0, 1)


def _gelu(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    z = x[0]
    if a.get("approximate", b"none") == b"tanh":
        return z / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))
    return z / 2 * (1 + _erf(z * math.sqrt(0.5)))


def _clip(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    """By operands, which may be left out, or as before opset 11 by attributes."""
    least, most = (*x[1:], None, None)[:2]
    least = a.get("min") if least is None else least
    most = a.get("max") if most is None else most
    z = x[0] if least is None else np.maximum(x[0], least)
    return z if most is None else np.minimum(z, most)


def _cast(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    if a.get("to") in _FLOATS:
        return x[0].astype(np.float64)
    return (x[0] != 0) * 1.0 if a.get("to") == TensorProto.BOOL else np.trunc(x[0])


def _where(x: Arrays, a: dict[str, Any]) -> np.ndarray:
    condition, yes, no = (np.asarray(operand, np.float64) for operand in x)
    return np.where(condition != 0, yes, no)


FUNCTIONS: dict[str, Callable[[Arrays, dict[str, Any]], np.ndarray]] = {
    "Abs": lambda x, a: np.abs(x[0]),
    "Add": lambda x, a: x[0] + x[1],
    "Cast": _cast,
    "Clip": _clip,
    "Div": lambda x, a: x[0] / x[1],
    "Elu": _elu,
    "Erf": lambda x, a: _erf(x[0]),
    "Exp": lambda x, a: np.exp(x[0]),
    "Gelu": _gelu,
    "Greater": lambda x, a: (x[0] > x[1]) * 1.0,
    "GreaterOrEqual": lambda x, a: (x[0] >= x[1]) * 1.0,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": lambda x, a: x[0] * np.clip(x[0] / 6 + 0.5, 0, 1),
    "LeakyRelu": _leaky_relu,
    "Less": lambda x, a: (x[0] < x[1]) * 1.0,
    "LessOrEqual": lambda x, a: (x[0] <= x[1]) * 1.0,
    "Log": lambda x, a: np.log(x[0]),
    "Max": lambda x, a: functools.reduce(np.maximum, x),
    "Min": lambda x, a: functools.reduce(np.minimum, x),
    "Mish": lambda x, a: x[0] * np.tanh(_softplus(x[0])),
    "Mul": lambda x, a: x[0] * x[1],
    "Neg": lambda x, a: -x[0],
    "PRelu": lambda x, a: np.where(x[0] < 0, x[1] * x[0], x[0]),
    "Pow": lambda x, a: x[0] ** x[1],
    "Reciprocal": lambda x, a: 1 / x[0],
    "Relu": lambda x, a: np.maximum(x[0], 0),
    "Selu": _selu,
    "Sigmoid": lambda x, a: _sigmoid(x[0]),
    "Softplus": lambda x, a: _softplus(x[0]),
    "Softsign": lambda x, a: x[0] / (1 + np.abs(x[0])),
    "Sqrt": lambda x, a: np.sqrt(x[0]),
    "Sub": lambda x, a: x[0] - x[1],
    "Swish": lambda x, a: x[0] * _sigmoid(a.get("alpha", 1.0) * x[0]),
    "Tanh": lambda x, a: np.tanh(x[0]),
    "Where": _where,
}
"""Operators that act on every number by itself: of operands in float64, and attributes."""


class Line(NamedTuple):
    """The function a z + b."""

    a: float
    b: float


def line_of(values: np.ndarray) -> Line | None:
    """The straight line that a function is, from its values at ``PROBES``."""
    b = float(values[_AT_0])
    a = float(values[_AT_1]) - b
    return Line(a, b) if _alike(values, a * PROBES + b, scale=max(abs(a), abs(b))) else None


def activation_of(values: np.ndarray) -> Activation | None:
    """The activation, other than the identity, that a function is, from its values at ``PROBES``.

    The number of one that has one is taken from a value that tells it: of LeakyReLU at -1, of
    ELU far below 0, of Softplus, log(2) / beta, at 0.
    """
    for name in ACTIVATIONS:
        if name == "identity":
            continue
        parameter = _shortest(_TELLING[name](values)) if name in _TELLING else None
        if parameter is not None and not math.isfinite(parameter):
            continue
        if _alike(values, _values_of(name, parameter)):
            return activation_named(name, parameter)
    return None


def is_activation(values: np.ndarray, name: str) -> bool:
    """Whether a function is the activation of that name."""
    return _alike(values, _values_of(name, None))


def is_step(values: np.ndarray) -> bool:
    """Whether it says yes or no: 1 or 0, and either of them somewhere."""
    return set(np.unique(values)) == {0.0, 1.0}


def is_rate(values: np.ndarray) -> bool:
    """Whether it is exp, at least as far as PoissonNLL takes exp itself."""
    near = PROBES < 44
    with np.errstate(all="ignore"):
        return _alike(values[near], np.exp(PROBES[near]))


_TELLING: dict[str, Callable[[np.ndarray], float]] = {
    "leaky_relu": lambda values: -float(values[_AT_MINUS_1]),
    "elu": lambda values: -float(values[_FARTHEST_BELOW]),
    "softplus": lambda values: math.log(2) / max(float(values[_AT_0]), 1e-9),
}


def _shortest(number: float) -> float:
    """0.01 for what float32 has in its place; others as they are."""
    with np.errstate(all="ignore"):
        single = np.float32(number)
    return float(str(single)) if float(single) == number else number


@functools.lru_cache(maxsize=64)
def _values_of(name: str, parameter: float | None) -> np.ndarray:
    return activation_named(name, parameter).forward(PROBES)


def _alike(values: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> bool:
    """Whether they are the same to float32's digits of them, or of a smaller ``scale`` than 1."""
    size = np.maximum(np.abs(expected), min(1.0, scale))
    with np.errstate(all="ignore"):
        return bool(np.all(np.abs(values - expected) <= _TOLERANCE * size))
