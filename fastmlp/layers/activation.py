"""Activation layers: ``state`` keeps what the derivative is taken from.

That is the output, or the derivative itself for those whose output does not tell it.
Reference: CMU 11-785 HW1P1, section 3.1; PyTorch's documentation for those that are not in it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ..kernels.activation import (
    ACTIVATIONS,
    NO_ACTIVATION,
    Formula,
    activation_backward,
    activation_forward,
)
from ..validation import (
    FLOATS,
    NearestNames,
    check_choice,
    check_number,
    check_real,
    check_shape,
    contiguous,
)
from ._state import Kept


class Activation(NearestNames):
    """Base of the activations: subclasses define ``forward``, which keeps ``state``, and
    ``derivative``.

    A subclass of a user's own works in ``forward``, ``backward`` and ``step``; ``fit`` trains only
    those that are compiled, the subclasses in this module and what ``of`` makes. ``state`` must
    hold all that ``derivative`` needs: an object may have several places, whose states a network
    keeps apart.
    """

    state: np.ndarray | None = Kept()  # type: ignore[assignment]

    def __init__(self) -> None:
        self.state = None

    @staticmethod
    def of(
        forward: Callable[[float], float],
        slope: Callable[[float], float],
        name: str | None = None,
    ) -> Activation:
        """An activation from two functions of one number, as fast as compiled code.

        forward, slope : z to the activation, and z to its derivative; of arithmetic, conditions
            and the functions of ``math``, which Numba compiles, half a second for each dtype. Where
            one of them raises an exception, the activation is NaN.
        name : for messages, by default that of ``forward``

        It works wherever the others do, but no file can keep its functions: ``save`` refuses it. It
        can be pickled if its functions are found by name in a module, as pickle wants them.
        """
        return _Own(forward, slope, name)

    def __call__(self, x: Any) -> np.ndarray:
        return self.forward(x)

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def forward(self, x: Any) -> np.ndarray:
        """The activation of x, element by element; also kept in ``state``."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def derivative(self) -> Any:
        """The derivative at the last input, from ``state``."""
        raise TypeError(f"{type(self).__name__} does not define derivative")

    def backward(self, delta: np.ndarray) -> np.ndarray:
        """delta * derivative(): the gradient with respect to the last input."""
        return delta * self.derivative()


class _Compiled(Activation):
    """An activation with a kernel; ``name`` is its key in ``ACTIVATIONS``."""

    name: str

    def formula(self, dtype: Any) -> Formula:
        """What tells compiled code for that dtype which activation this is."""
        return ACTIVATIONS[self.name]

    def forward(self, x: Any) -> np.ndarray:
        """The activation of x, element by element.

        x : array of any shape; float32 stays float32, other real dtypes become float64.
        Returns an array of that shape; ``state`` keeps it, or the derivative, as ``derivative``
        needs it.
        """
        z = _real_array(x)
        formula = self.formula(z.dtype)
        a = np.empty_like(z)
        kept = np.empty_like(z) if formula.keeps_slope else a
        activation_forward(a.reshape(-1), kept.reshape(-1), z.reshape(-1), formula)
        self.state = kept
        return a

    def derivative(self) -> np.ndarray:
        """The derivative at the last input, from what ``state`` keeps; its shape.

        Raises RuntimeError before the first ``forward``.
        """
        return self.backward(np.ones_like(self._kept()))

    def backward(self, delta: np.ndarray) -> np.ndarray:
        """delta * derivative(): the gradient with respect to the last input.

        delta : array of the shape of ``state``.
        Raises RuntimeError before the first ``forward``, ValueError on another shape.
        """
        state = self._kept()
        delta = contiguous(delta, state.dtype)
        check_shape("delta", delta, state.shape)
        dz = np.empty_like(state)
        formula = self.formula(state.dtype)
        activation_backward(dz.reshape(-1), delta.reshape(-1), state.reshape(-1), formula)
        return dz

    def _kept(self) -> np.ndarray:
        if self.state is None:
            raise RuntimeError(f"{type(self).__name__}: call forward before the derivative")
        return contiguous(self.state, self.state.dtype)


class _Parametric(_Compiled):
    """An activation with a number of its own, the attribute that ``parameter`` names."""

    parameter: str

    def formula(self, dtype: Any) -> Formula:
        """What tells compiled code for that dtype which activation this is.

        Where the number is negative, the sign of the activation is not that of z: the slope cannot
        be taken from it.
        """
        row, number = ACTIVATIONS[self.name], getattr(self, self.parameter)
        return row._replace(keeps_slope=row.keeps_slope or number < 0, parameter=number)

    def __setattr__(self, name: str, value: Any) -> None:
        # Checked here, so that it stays a number whoever sets it.
        if name == self.parameter:
            value = check_number(name, value)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.parameter}={getattr(self, self.parameter)!r})"


class _Own(_Compiled):
    """Two functions of a user's own."""

    def __init__(self, forward: Any, slope: Any, name: str | None) -> None:
        super().__init__()
        for argument, function in (("forward", forward), ("slope", slope)):
            if not callable(function):
                raise TypeError(f"{argument} must be a function of one number, got {function!r}")
        self._functions = forward, slope
        self.name = getattr(forward, "__name__", "forward") if name is None else str(name)

    def formula(self, dtype: Any) -> Formula:
        """Raises TypeError where the functions cannot be compiled for that dtype."""
        return Formula.of_own(*self._functions, dtype)

    def __repr__(self) -> str:
        return f"Activation.of({self.name})"


class Identity(_Compiled):
    """I(z) = z."""

    name = "identity"


class Sigmoid(_Compiled):
    """S(z) = 1 / (1 + exp(-z)),  S' = S * (1 - S)."""

    name = "sigmoid"


class Tanh(_Compiled):
    """tanh(z),  tanh' = 1 - tanh**2."""

    name = "tanh"


class ReLU(_Compiled):
    """R(z) = max(z, 0),  R' = 1 where z > 0, 0 elsewhere, at z = 0 too."""

    name = "relu"


class LeakyReLU(_Parametric):
    """z where z > 0, negative_slope * z elsewhere."""

    name = "leaky_relu"
    parameter = "negative_slope"

    def __init__(self, negative_slope: float = 0.01) -> None:
        super().__init__()
        self.negative_slope = negative_slope


class ELU(_Parametric):
    """z where z > 0, alpha * (exp(z) - 1) elsewhere."""

    name = "elu"
    parameter = "alpha"

    def __init__(self, alpha: float = 1.0) -> None:
        super().__init__()
        self.alpha = alpha


class SELU(_Compiled):
    """1.0507 * z where z > 0, 1.7581 * (exp(z) - 1) elsewhere, with more digits."""

    name = "selu"


class Softplus(_Parametric):
    """log(1 + exp(beta * z)) / beta, for beta > 0."""

    name = "softplus"
    parameter = "beta"

    def __init__(self, beta: float = 1.0) -> None:
        super().__init__()
        self.beta = beta

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "beta" and not check_number(name, value) > 0:
            raise ValueError(f"beta must be greater than 0, got {value!r}")
        super().__setattr__(name, value)


class Softsign(_Compiled):
    """``z / (1 + |z|)``."""

    name = "softsign"


class HardSigmoid(_Compiled):
    """min(max(z + 3, 0), 6) / 6."""

    name = "hard_sigmoid"


class HardSwish(_Compiled):
    """z * min(max(z + 3, 0), 6) / 6."""

    name = "hard_swish"


class SiLU(_Compiled):
    """z * sigmoid(z)."""

    name = "silu"


class Mish(_Compiled):
    """z * tanh(log(1 + exp(z)))."""

    name = "mish"


class GELU(_Compiled):
    """z * P(X < z) for a standard normal X.

    approximate : "tanh" takes z / 2 * (1 + tanh(sqrt(2 / pi) * (z + 0.044715 * z**3))) instead
    """

    name = "gelu"

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = check_choice("approximate", approximate, ("none", "tanh"))
        self.name = "gelu" if approximate == "none" else "gelu_tanh"

    def __repr__(self) -> str:
        return f"GELU(approximate={self.approximate!r})"


def activation_named(name: str, parameter: float | None = None) -> Activation:
    """A new layer of that name, a key of ``ACTIVATIONS``; ValueError for any other.

    parameter : the number that it has, by default its usual one
    """
    layer: Activation = _layers_by_name()[check_choice("activation", name, sorted(ACTIVATIONS))]()
    if parameter is not None:
        if not isinstance(layer, _Parametric):
            raise ValueError(f"{name} has no number of its own, got {parameter!r}")
        setattr(layer, layer.parameter, parameter)
    return layer


def is_compiled(activation: Any) -> bool:
    """Whether the engine knows the activation: its very class, not one derived from it."""
    return isinstance(activation, _Compiled) and type(activation).__module__ == __name__


def name_of(activation: Any) -> str:
    """The name of a compiled activation; TypeError for one that is not compiled."""
    if not is_compiled(activation):
        raise TypeError(
            "fit, predict and evaluate need activations that fastmlp compiles, one of "
            f"{sorted(ACTIVATIONS)} or one made by Activation.of, got {type(activation).__name__}; "
            "use forward, backward and step"
        )
    return str(activation.name)


def is_own(activation: Any) -> bool:
    """Whether it is made of a user's own functions."""
    return isinstance(activation, _Own)


def parameter_of(activation: Any) -> float | None:
    """The number that an activation has, None where it has none."""
    if not isinstance(activation, _Parametric):
        return None
    return float(getattr(activation, activation.parameter))


def formula_of(activation: Any, dtype: Any) -> Formula:
    """What tells compiled code of an activation; for one that is not compiled, the identity's."""
    return activation.formula(dtype) if is_compiled(activation) else NO_ACTIVATION


def check_activations_compiled(activations: Iterable[Any]) -> None:
    """Raise TypeError where one of them is not compiled."""
    for activation in activations:
        name_of(activation)


def _layers_by_name() -> dict[str, Any]:
    classes = [*_Compiled.__subclasses__(), *_Parametric.__subclasses__()]
    by_name: dict[str, Any] = {cls.name: cls for cls in classes if "name" in vars(cls)}
    return by_name | {"gelu_tanh": functools.partial(GELU, approximate="tanh")}


def _real_array(x: Any) -> np.ndarray:
    """x as a C-contiguous float array: float32 stays, other real dtypes become float64."""
    x = check_real("x", x)
    return contiguous(x, x.dtype if x.dtype in FLOATS else np.float64)
