"""Criteria: a loss per sample, and its derivative with respect to the logits."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.loss import softmax_cross_entropy_backward, softmax_cross_entropy_forward
from ..validation import FLOATS, check_labels, check_matrix, contiguous, label_rows


class Criterion:
    """Base of the criteria: keeps the last ``logits``, ``labels`` and ``loss``."""

    def __init__(self) -> None:
        self.logits: np.ndarray | None = None
        self.labels: np.ndarray | None = None
        self.loss: np.ndarray | None = None

    def __call__(self, x: Any, y: Any) -> np.ndarray:
        return self.forward(x, y)

    def forward(self, x: Any, y: Any) -> np.ndarray:
        """The loss of every sample, (N,)."""
        raise TypeError(f"{type(self).__name__} does not define forward")

    def derivative(self) -> np.ndarray:
        """The derivative of each sample's loss with respect to its logits, (N, K)."""
        raise TypeError(f"{type(self).__name__} does not define derivative")


class SoftmaxCrossEntropy(Criterion):
    """Softmax followed by cross-entropy, through LogSumExp.

    Reference: CMU 11-785 HW1P1, section 3.2 and appendices A and B.
    """

    def __repr__(self) -> str:
        return "SoftmaxCrossEntropy()"

    def forward(self, x: Any, y: Any) -> np.ndarray:
        """loss_n = -sum_k y_nk log softmax(x_n)_k.

        x : (N, K) logits    y : (N, K) rows of labels, which need not sum to 1, or (N,) classes
        Returns (N,), of the dtype of x. Raises ValueError or TypeError where shapes or dtypes do
        not fit.
        """
        x = np.asarray(x)
        logits = check_matrix("x", x, x.shape[-1] if x.ndim else 0)
        dtype = logits.dtype if logits.dtype in FLOATS else np.dtype(np.float64)
        labels = check_labels("y", y, *logits.shape)
        logits = contiguous(logits, dtype)
        labels = label_rows(labels, logits.shape[1], dtype)
        loss = np.empty(len(logits), dtype)
        softmax_cross_entropy_forward(loss, logits, labels)
        self.logits, self.labels, self.loss = logits, labels, loss
        return loss

    def derivative(self) -> np.ndarray:
        """softmax(x) - y of the last forward, (N, K), not divided by N.

        Raises RuntimeError before the first ``forward``.
        """
        if self.logits is None or self.labels is None:
            raise RuntimeError("SoftmaxCrossEntropy: call forward before derivative")
        dz = np.empty_like(self.logits)
        softmax_cross_entropy_backward(dz, self.logits, self.labels)
        return dz
