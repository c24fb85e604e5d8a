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
    check_matrix,
    check_number,
    check_shape,
    contiguous,
)
from ._state import FixedArray, ParameterLayer, fixed


class BatchNorm(ParameterLayer):
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
    statistics = ("running_mean", "running_var")

    in_feature: int = fixed()
    gamma, dgamma, momentum_gamma = FixedArray(), FixedArray(), FixedArray()
    beta, dbeta, momentum_beta = FixedArray(), FixedArray(), FixedArray()
    running_mean, running_var = FixedArray(), FixedArray()

    def __init__(self, in_feature: int, alpha: float = 0.9, dtype: Any = np.float64) -> None:
        self.in_feature = check_count("in_feature", in_feature)
        self.alpha = alpha
        dtype = check_dtype(dtype)
        shape = (1, self.in_feature)
        for name in ("gamma", "running_var"):
            self._set_array(name, np.ones(shape, dtype))
        for name in ("beta", "running_mean", "dgamma", "dbeta", "momentum_gamma", "momentum_beta"):
            self._set_array(name, np.zeros(shape, dtype))
        self.x: np.ndarray | None = None
        self.norm: np.ndarray | None = None
        self.out: np.ndarray | None = None
        self.mean: np.ndarray | None = None
        self.var: np.ndarray | None = None
        self._frozen: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def alpha(self) -> float:
        """Share of the old value in the running statistics."""
        return self._alpha

    @alpha.setter
    def alpha(self, value: float) -> None:
        alpha = check_number("alpha", value)
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha must be from 0 to 1, a share of the old mean, got {value!r}")
        self._alpha = alpha

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
        self.x = contiguous(x, x.dtype if x.dtype in FLOATS else self.gamma.dtype)
        self.out = np.empty_like(self.x)
        gamma, beta = self._as_input(self.gamma), self._as_input(self.beta)
        if eval:
            # Copies: the running statistics may move before the backward pass.
            moments = self.running_mean.astype(self.x.dtype), self.running_var.astype(self.x.dtype)
            self._frozen = moments
            self.norm = None
            batchnorm_inference(self.out, self.x, gamma, beta, *moments)
            return self.out
        self._frozen = None
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
        After a ``forward`` in eval mode the moments are constants, and dx is
        delta * gamma / sqrt(running_var + eps).
        Raises RuntimeError before the first ``forward``, ValueError on another shape. Reference:
        equations 15 to 37.
        """
        if self.x is None:
            raise RuntimeError("BatchNorm: call forward before backward")
        delta = contiguous(delta, self.x.dtype)
        check_shape("delta", delta, self.x.shape)
        norm, var = self._normalised()
        dx, dgamma, dbeta = np.empty_like(delta), np.empty_like(var), np.empty_like(var)
        gamma = self._as_input(self.gamma)
        batchnorm_backward(dx, dgamma, dbeta, delta, norm, var, gamma)
        self.dgamma, self.dbeta = dgamma, dbeta
        if self._frozen is not None:
            zero = np.zeros_like(gamma)
            batchnorm_inference(dx, delta, gamma, zero, zero, var)
        return dx

    def _normalised(self) -> tuple[np.ndarray, np.ndarray]:
        """(norm, variance) of the last forward; in eval mode ``norm`` is made here."""
        assert self.x is not None
        if self._frozen is not None:
            mean, var = self._frozen
            self.norm = np.empty_like(self.x)
            one, zero = np.ones_like(mean), np.zeros_like(mean)
            batchnorm_inference(self.norm, self.x, one, zero, mean, var)
            return self.norm, var
        assert self.norm is not None
        assert self.var is not None
        return self.norm, self.var
