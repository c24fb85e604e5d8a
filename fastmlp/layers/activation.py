"""Activation layers: the output is kept in ``state``, and the derivative is taken from it.

Reference: CMU 11-785 HW1P1, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ..kernels.activation import ACTIVATIONS, activation_backward, activation_forward
from ..validation import FLOATS, check_real, check_shape, contiguous


class Activation:
    """Base of the activations: subclasses define ``forward``, which keeps ``state``, and
    ``derivative``.

    One of a user's own works in ``forward``, ``backward`` and ``step``; ``fit`` trains only those
    that are compiled, the subclasses in this module. ``state`` must hold all that ``derivative``
    needs: an object may have several places, whose states a network keeps apart.
    """

    state: np.ndarray | None = None

    def __init__(self) -> None:
        self.state = None

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

    def forward(self, x: Any) -> np.ndarray:
        """The activation of x, element by element.

        x : array of any shape; float32 stays float32, other real dtypes become float64.
        Returns an array of that shape, also kept in ``state``.
        """
        z = _real_array(x)
        a = np.empty_like(z)
        activation_forward(a.reshape(-1), z.reshape(-1), ACTIVATIONS[self.name])
        self.state = a
        return a

    def derivative(self) -> np.ndarray:
        """The derivative at the last input, from the output kept in ``state``; its shape.

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
        activation_backward(
            dz.reshape(-1), delta.reshape(-1), state.reshape(-1), ACTIVATIONS[self.name]
        )
        return dz

    def _kept(self) -> np.ndarray:
        if self.state is None:
            raise RuntimeError(f"{type(self).__name__}: call forward before the derivative")
        return contiguous(self.state, self.state.dtype)


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


def activation_named(name: str) -> Activation:
    """A new layer of that name, a key of ``ACTIVATIONS``; ValueError for any other."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {sorted(ACTIVATIONS)}, got {name!r}")
    return _layers_by_name()[name]()


def is_compiled(activation: Any) -> bool:
    """Whether the engine knows the activation: its very class, not one derived from it."""
    cls = type(activation)
    return _Compiled in cls.__bases__ and "name" in vars(cls)


def name_of(activation: Any) -> str:
    """The name of a compiled activation; TypeError for one that is not compiled."""
    if not is_compiled(activation):
        raise TypeError(
            "fit, predict and evaluate need activations that fastmlp compiles, one of "
            f"{sorted(ACTIVATIONS)}, got {type(activation).__name__}; "
            "use forward, backward and step"
        )
    return type(activation).name


def check_activations_compiled(activations: Iterable[Any]) -> None:
    """Raise TypeError where one of them is not compiled."""
    for activation in activations:
        name_of(activation)


def _layers_by_name() -> dict[str, type[_Compiled]]:
    return {layer.name: layer for layer in _Compiled.__subclasses__() if "name" in vars(layer)}


def _real_array(x: Any) -> np.ndarray:
    """x as a C-contiguous float array: float32 stays, other real dtypes become float64."""
    x = check_real("x", x)
    return contiguous(x, x.dtype if x.dtype in FLOATS else np.float64)
