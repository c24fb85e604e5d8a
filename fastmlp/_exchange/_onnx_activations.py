"""Activations in operators of ONNX, in float32 and in float64.

Where ONNX has an operator for an activation, a float32 network takes it. onnxruntime has most of
these in float32 alone, and their numbers are attributes in float32: a float64 network takes
formulas of operators that exist in float64 as well. Only the error function does not, and is
computed in float32: a GELU of a float64 network has float32's digits.

Reference: the ONNX operator schemas, opset 17.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.activation import _SELU_ALPHA, _SELU_SCALE
from ..layers.activation import is_compiled, is_own, parameter_of
from ._onnx_graph import Graph

Formula = Callable[[Graph, str, Any], str]


def _below(g: Graph, z: str) -> str:
    """exp(min(z, 0)) - 1."""
    return g("Sub", g("Exp", g("Min", z, 0.0)), 1.0)


def _elu(g: Graph, z: str, alpha: float) -> str:
    return g("Add", g("Max", z, 0.0), g("Mul", _below(g, z), alpha))


def _selu(g: Graph, z: str, _: None) -> str:
    above = g("Mul", g("Max", z, 0.0), _SELU_SCALE)
    return g("Add", above, g("Mul", _below(g, z), _SELU_ALPHA))


def _softplus(g: Graph, z: str, beta: float) -> str:
    scaled = z if beta == 1 else g("Mul", z, beta)
    if g.dtype == np.float32:
        value = g("Softplus", scaled)
    else:
        rest = g("Log", g("Add", g("Exp", g("Neg", g("Abs", scaled))), 1.0))
        value = g("Add", g("Max", scaled, 0.0), rest)
    return value if beta == 1 else g("Div", value, beta)


def _softsign(g: Graph, z: str, _: None) -> str:
    return g("Div", z, g("Add", g("Abs", z), 1.0))


def _hard_sigmoid(g: Graph, z: str, _: None) -> str:
    return g("Div", g("Min", g("Max", g("Add", z, 3.0), 0.0), 6.0), 6.0)


def _hard_swish(g: Graph, z: str, _: None) -> str:
    return g("Mul", z, _hard_sigmoid(g, z, None))


def _silu(g: Graph, z: str, _: None) -> str:
    if g.dtype == np.float32:
        return g("Mul", z, g("Sigmoid", z))
    # onnxruntime before 1.31 fuses that into an operator that it has in float32 alone.
    return g("Div", z, g("Add", g("Exp", g("Neg", z)), 1.0))


def _mish(g: Graph, z: str, _: None) -> str:
    return g("Mul", z, g("Tanh", _softplus(g, z, 1.0)))


def _gelu(g: Graph, z: str, _: None) -> str:
    scaled = g("Mul", z, math.sqrt(0.5))
    if g.dtype == np.float32:
        error = g("Erf", scaled)
    else:
        error = g.cast(g("Erf", g.cast(scaled, np.float32)), g.dtype)
    return g("Mul", g("Mul", z, 0.5), g("Add", error, 1.0))


def _gelu_tanh(g: Graph, z: str, _: None) -> str:
    cube = g("Mul", g("Mul", z, z), z)
    inner = g("Mul", g("Add", z, g("Mul", cube, 0.044715)), math.sqrt(2 / math.pi))
    return g("Mul", g("Mul", z, 0.5), g("Add", g("Tanh", inner), 1.0))


_FORMULAS: dict[str, Formula] = {
    "identity": lambda g, z, _: z,
    "sigmoid": lambda g, z, _: g("Sigmoid", z),
    "tanh": lambda g, z, _: g("Tanh", z),
    "relu": lambda g, z, _: g("Relu", z),
    # LeakyRelu keeps its slope in float32.
    "leaky_relu": lambda g, z, slope: g("PRelu", z, slope),
    "elu": _elu,
    "selu": _selu,
    "softplus": _softplus,
    "softsign": _softsign,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "silu": _silu,
    "mish": _mish,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}

_OPERATORS: dict[str, Formula] = {
    "elu": lambda g, z, alpha: g("Elu", z, alpha=alpha),
    "selu": lambda g, z, _: g("Selu", z, alpha=_SELU_ALPHA / _SELU_SCALE, gamma=_SELU_SCALE),
    "softsign": lambda g, z, _: g("Softsign", z),
    "hard_sigmoid": lambda g, z, _: g("HardSigmoid", z, alpha=1 / 6, beta=0.5),
    "hard_swish": lambda g, z, _: g("HardSwish", z),
}
"""Of float32."""


def check_exportable(activations: Any) -> None:
    """Raise ValueError where one of them is not fastmlp's own."""
    for activation in activations:
        if is_own(activation) or not is_compiled(activation):
            own = repr(activation) if is_own(activation) else type(activation).__name__
            raise ValueError(
                "only networks of fastmlp's own activations can be written to ONNX, which has no "
                f"operator for a Python function, got the activation {own}"
            )


def activated(g: Graph, z: str, activation: Any) -> str:
    """The activation of a value z."""
    operators = _OPERATORS if g.dtype == np.float32 else {}
    formula = operators.get(activation.name) or _FORMULAS[activation.name]
    return formula(g, z, parameter_of(activation))
