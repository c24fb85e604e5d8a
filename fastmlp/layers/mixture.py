"""Parametric activations: a learnt mixture of the identity and an activation."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.mix import mix_gradient
from ._state import FixedArray, ParameterLayer
from .activation import Activation, is_compiled


class Mixture(ParameterLayer):
    """y = z + mix * (act(z) - z), with a number per neuron, all 1 at the start.

    ``mix``, its gradient ``dmix`` and its velocity ``momentum_mix``, all (1, F), are fixed arrays
    that assignment copies into.
    """

    parameters = (("mix", "dmix", "momentum_mix"),)

    mix, dmix, momentum_mix = FixedArray(), FixedArray(), FixedArray()

    def __init__(self, in_feature: int, dtype: Any) -> None:
        for names in self.parameters:
            for name in names:
                self._set_array(name, np.full((1, in_feature), name == "mix", dtype))
        self._bend: np.ndarray | None = None

    def forward(self, activation: Activation, z: np.ndarray) -> np.ndarray:
        """y, (N, F), of z, (N, F); the activation keeps its state, and this layer act(z) - z."""
        (mix,) = self._own("mix")
        bend = self._bend = activation.forward(z) - z
        y: np.ndarray = z + mix * bend
        return y

    def backward(
        self, activation: Activation, delta: np.ndarray, factors: np.ndarray | None, scale: float
    ) -> np.ndarray:
        """The gradient before the activation, and ``dmix``, the sums over the rows times scale.

        delta : (N, F), the gradient after dropout    factors : what dropout multiplied y by
        """
        mix, dmix = self._own("mix", "dmix")
        bend = self._bend
        assert bend is not None
        compiled = is_compiled(activation)
        if factors is not None:
            if not compiled:
                delta = delta * factors
            else:
                # In the order of the compiled epoch, which keeps all of them multiplied.
                bend = bend * factors
        mix_gradient(dmix, delta, np.ascontiguousarray(bend, delta.dtype), scale)
        if not compiled:
            through: np.ndarray = activation.backward(delta * mix)
            return delta - delta * mix + through
        slope = 1 + mix * (activation.backward(np.ones_like(delta)) - 1)
        dz: np.ndarray = delta * (slope if factors is None else factors * slope)
        return dz
