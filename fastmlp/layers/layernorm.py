"""Layer normalisation. Reference: Ba, Kiros and Hinton, "Layer normalization", 2016."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.layernorm import EPS, layernorm_backward, layernorm_forward
from ..validation import (
    FLOATS,
    check_count,
    check_dtype,
    check_matrix,
    check_shape,
    contiguous,
)
from ._state import FixedArray, ParameterLayer, fixed


class LayerNorm(ParameterLayer):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, with the moments of each row of x.

    Parameters
    ----------
    in_feature : int
        Number of features.
    dtype : float32 or float64

    Attributes, all (1, in_feature): ``gamma``, ``beta`` and their gradients ``dgamma``, ``dbeta``
    (sums over the batch), fixed arrays that assignment copies into. ``x``, ``norm``, ``out``,
    (N, in_feature): the last batch, its normalised form, the output.
    """

    parameters = (
        ("gamma", "dgamma", "momentum_gamma"),
        ("beta", "dbeta", "momentum_beta"),
    )

    in_feature: int = fixed()
    gamma, dgamma, momentum_gamma = FixedArray(), FixedArray(), FixedArray()
    beta, dbeta, momentum_beta = FixedArray(), FixedArray(), FixedArray()

    def __init__(self, in_feature: int, dtype: Any = np.float64) -> None:
        self.in_feature = check_count("in_feature", in_feature)
        shape, dtype = (1, self.in_feature), check_dtype(dtype)
        for names in self.parameters:
            for name in names:
                self._set_array(name, np.full(shape, name == "gamma", dtype))
        self.x: np.ndarray | None = None
        self.norm: np.ndarray | None = None
        self.out: np.ndarray | None = None
        self._scales: np.ndarray | None = None

    @property
    def eps(self) -> float:
        """What is added to the variance, fixed."""
        return EPS

    def __call__(self, x: Any) -> np.ndarray:
        return self.forward(x)

    def __repr__(self) -> str:
        return f"LayerNorm({self.in_feature})"

    def forward(self, x: Any) -> np.ndarray:
        """Normalise x, (N, in_feature), row by row; an array of x's shape and floating dtype."""
        x = check_matrix("x", x, self.in_feature)
        self.x = contiguous(x, x.dtype if x.dtype in FLOATS else self.gamma.dtype)
        self.out, self.norm = np.empty_like(self.x), np.empty_like(self.x)
        self._scales = np.empty(len(x), self.x.dtype)
        gamma, beta = (a.astype(self.x.dtype, copy=False) for a in (self.gamma, self.beta))
        layernorm_forward(self.out, self.norm, self._scales, self.x, gamma, beta)
        return self.out

    def backward(self, delta: Any) -> np.ndarray:
        """Set dgamma = sum of delta * norm and dbeta = sum of delta; return dx.

        delta : (N, in_feature), the derivative of the loss with respect to the output.
        Raises RuntimeError before the first ``forward``, ValueError on another shape.
        """
        if self.x is None or self.norm is None or self._scales is None:
            raise RuntimeError("LayerNorm: call forward before backward")
        delta = contiguous(delta, self.x.dtype)
        check_shape("delta", delta, self.x.shape)
        gamma = self.gamma.astype(delta.dtype, copy=False)
        dx, dgamma, dbeta = np.empty_like(delta), np.empty_like(gamma), np.empty_like(gamma)
        layernorm_backward(dx, dgamma, dbeta, delta, self.norm, self._scales, gamma)
        self.dgamma, self.dbeta = dgamma, dbeta
        return dx
