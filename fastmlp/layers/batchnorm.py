"""Batch normalisation. Reference: CMU 11-785 HW1P1, section 3.3 and appendix C."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.batchnorm import (
    EPS,
    batchnorm_backward,
    batchnorm_forward,
    batchnorm_inference,
    batchnorm_running,
)
from ..validation import (
    FLOATS,
    check_count,
    check_dtype,
    check_finite,
    check_matrix,
    check_shape,
    plain,
)
from ._state import Held, hold


class BatchNorm:
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, per feature.

    Parameters
    ----------
    in_feature : int
        Number of features.
    alpha : float
        Share of the old value in the running statistics.
    dtype : float32 or float64

    Attributes, all (1, in_feature): ``gamma``, ``beta``, their gradients ``dgamma``, ``dbeta``
    (sums over the batch), ``running_mean``, ``running_var``, fixed arrays that assignment copies
    into; ``mean``, ``var`` of the last batch. ``x``, ``norm``, ``out``, (N, in_feature): the last
    batch, its normalised form, the output.
    """

    parameters = (
        ("gamma", "dgamma", "momentum_gamma"),
        ("beta", "dbeta", "momentum_beta"),
    )

    gamma, dgamma, momentum_gamma = Held(), Held(), Held()
    beta, dbeta, momentum_beta = Held(), Held(), Held()
    running_mean, running_var = Held(), Held()

    def __init__(self, in_feature: int, alpha: float = 0.9, dtype: Any = np.float64) -> None:
        self.in_feature = check_count("in_feature", in_feature)
        self.alpha = alpha
        dtype = check_dtype(dtype)
        shape = (1, self.in_feature)
        hold(self, "gamma", np.ones(shape, dtype))
        hold(self, "running_var", np.ones(shape, dtype))
        hold(self, "beta", np.zeros(shape, dtype))
        hold(self, "running_mean", np.zeros(shape, dtype))
        hold(self, "dgamma", np.zeros(shape, dtype))
        hold(self, "dbeta", np.zeros(shape, dtype))
        hold(self, "momentum_gamma", np.zeros(shape, dtype))
        hold(self, "momentum_beta", np.zeros(shape, dtype))
        self.x: np.ndarray | None = None
        self.norm: np.ndarray | None = None
        self.out: np.ndarray | None = None
        self.mean: np.ndarray | None = None
        self.var: np.ndarray | None = None

    @property
    def alpha(self) -> float:
        """Share of the old value in the running statistics."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        self._alpha = check_finite("alpha", value)

    @property
    def eps(self) -> float:
        """What is added to the variance, fixed."""
        return EPS

    def __call__(self, x: Any, eval: bool = False) -> np.ndarray:
        return self.forward(x, eval)

    def __repr__(self) -> str:
        return f"BatchNorm({self.in_feature}, alpha={self.alpha})"

    def forward(self, x: Any, eval: bool = False) -> np.ndarray:
        """Normalise x, (N, in_feature), by its own moments, or by the running ones if ``eval``.

        In training mode the running statistics move: running = alpha*running + (1-alpha)*batch,
        with the biased variance. Returns an array of x's shape and floating dtype.
        """
        x = check_matrix("x", x, self.in_feature)
        self.x = plain(x, x.dtype if x.dtype in FLOATS else self.gamma.dtype)
        self.out = np.empty_like(self.x)
        gamma, beta = self._as_input(self.gamma), self._as_input(self.beta)
        if eval:
            mean, var = self._as_input(self.running_mean), self._as_input(self.running_var)
            batchnorm_inference(self.out, self.x, gamma, beta, mean, var)
            return self.out
        self.norm = np.empty_like(self.x)
        self.mean, self.var = np.empty_like(gamma), np.empty_like(gamma)
        batchnorm_forward(self.out, self.norm, self.mean, self.var, self.x, gamma, beta)
        self._average(self.running_mean, self.mean)
        self._average(self.running_var, self.var)
        return self.out

    def _average(self, running: np.ndarray, moment: np.ndarray) -> None:
        moment = moment.astype(running.dtype, copy=False)
        batchnorm_running(running.reshape(-1), moment.reshape(-1), self.alpha)

    def _as_input(self, parameter: np.ndarray) -> np.ndarray:
        """A parameter in the dtype of the last input, which decides on that of the output."""
        assert self.x is not None
        return parameter.astype(self.x.dtype, copy=False)

    def backward(self, delta: Any) -> np.ndarray:
        """Set dgamma = sum of delta * norm and dbeta = sum of delta; return dx.

        delta : (N, in_feature), the derivative of the loss with respect to the output.
        Raises RuntimeError before the first ``forward`` in training mode, ValueError on another
        shape. Reference: equations 15 to 37.
        """
        if self.norm is None or self.var is None:
            raise RuntimeError("BatchNorm: call forward in training mode before backward")
        delta = plain(delta, self.norm.dtype)
        check_shape("delta", delta, self.norm.shape)
        dx, dgamma, dbeta = np.empty_like(delta), np.empty_like(self.var), np.empty_like(self.var)
        gamma = self._as_input(self.gamma)
        batchnorm_backward(dx, dgamma, dbeta, delta, self.norm, self.var, gamma)
        self.dgamma, self.dbeta = dgamma, dbeta
        return dx
