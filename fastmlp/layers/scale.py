"""Learnt numbers that every column of a network's input is multiplied by."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.scale import scale_gradient
from ._state import FixedArray, ParameterLayer
from .linear import Linear


class InputScale(ParameterLayer):
    """x * scale before the first layer, with a number per column, all 1 at the start.

    ``scale``, its gradient ``dscale`` and its velocity ``momentum_scale``, all (D,), are fixed
    arrays that assignment copies into.
    """

    parameters = (("scale", "dscale", "momentum_scale"),)

    scale, dscale, momentum_scale = FixedArray(), FixedArray(), FixedArray()

    def __init__(self, in_feature: int, dtype: Any) -> None:
        for names in self.parameters:
            for name in names:
                self._set_array(name, np.full(in_feature, name == "scale", dtype))

    def forward(self, x: np.ndarray) -> np.ndarray:
        """x * scale, of the layer's dtype, (N, D)."""
        (scale,) = self._own("scale")
        scaled: np.ndarray = x.astype(scale.dtype, copy=False) * scale
        return scaled

    def backward_from(self, linear: Linear) -> None:
        """Set dscale from the gradient of the layer that takes the output.

        0 where a scale is exactly 0: the layer's gradient then says nothing about it.
        """
        scale, dscale = self._own("scale", "dscale")
        w, dw = linear._own("W", "dW")
        scale_gradient(dscale, dw.reshape(-1), w.reshape(-1), scale)
