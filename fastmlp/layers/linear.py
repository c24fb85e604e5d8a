"""The linear layer. Reference: CMU 11-785 HW1P1, section 3.4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..kernels._rates import unit_for
from ..kernels.linear import linear_backward, linear_forward
from ..validation import FLOATS, check_count, check_matrix, check_real, check_shape, contiguous
from ._state import FixedArray, Kept, ParameterLayer, fixed


class Linear(ParameterLayer):
    """y = x @ W + b.

    Parameters
    ----------
    in_feature, out_feature : int
        Widths of the input and the output.
    weight_init_fn : (in_feature, out_feature) -> (in_feature, out_feature) array
        Called first.
    bias_init_fn : (out_feature) -> (1, out_feature) array, or None for a layer without bias
        Called second.
    dtype : float32 or float64, optional
        Default: what ``weight_init_fn`` returns.

    Attributes ``W`` (in, out), ``b`` (1, out), their gradients ``dW``, ``db`` and velocities
    ``momentum_W``, ``momentum_b`` are fixed arrays: assigning to one copies into it. ``b``, ``db``
    and ``momentum_b`` are None without bias. ``compute_dtype``, None or "bfloat16", is what the
    operands of the three products are rounded to; a network sets its own.

    Raises ValueError where an initialiser returns another shape, TypeError another dtype.
    """

    parameters = (("W", "dW", "momentum_W"), ("b", "db", "momentum_b"))

    in_feature: int = fixed()
    out_feature: int = fixed()
    W, dW, momentum_W = FixedArray(), FixedArray(), FixedArray()
    b, db, momentum_b = FixedArray(), FixedArray(), FixedArray()
    x = Kept()

    def __init__(
        self,
        in_feature: int,
        out_feature: int,
        weight_init_fn: Callable[[int, int], Any],
        bias_init_fn: Callable[[int], Any] | None,
        dtype: Any = None,
    ) -> None:
        self.in_feature = check_count("in_feature", in_feature)
        self.out_feature = check_count("out_feature", out_feature)
        w = check_real("weight_init_fn's result", weight_init_fn(self.in_feature, self.out_feature))
        check_shape("weight_init_fn's result", w, (self.in_feature, self.out_feature))
        b = None
        if bias_init_fn is not None:
            b = check_real("bias_init_fn's result", bias_init_fn(self.out_feature))
            if b.shape == (self.out_feature,):
                b = b.reshape(1, -1)
            check_shape("bias_init_fn's result", b, (1, self.out_feature))
        if dtype is None:
            dtype = w.dtype if w.dtype in FLOATS else np.float64
        for names, value in zip(self.parameters, (w, b), strict=True):
            self._make_arrays(names, value, dtype)
        self.x = None
        self.compute_dtype: str | None = None

    def _make_arrays(self, names: Sequence[str], value: np.ndarray | None, dtype: Any) -> None:
        """A parameter with zeros for its gradient and velocity, or none of the three."""
        parameter, *others = names
        array = None if value is None else np.array(value, dtype, order="C")
        self._set_array(parameter, array)
        for name in others:
            self._set_array(name, None if array is None else np.zeros_like(array))

    def __call__(self, x: Any) -> np.ndarray:
        return self.forward(x)

    def __repr__(self) -> str:
        return f"Linear({self.in_feature}, {self.out_feature})"

    def forward(self, x: Any) -> np.ndarray:
        """x @ W + b, of the layer's dtype, (N, out); x, (N, in), is kept for ``backward``."""
        x = check_matrix("x", x, self.in_feature)
        w, b = self._own("W", "b")
        self.x = contiguous(x, w.dtype)
        y = np.empty((len(x), self.out_feature), w.dtype)
        linear_forward(y, self.x, w, b, unit=unit_for(self.compute_dtype))
        return y

    def backward(
        self, delta: Any, input_gradient: bool = True, scale: float | None = None
    ) -> np.ndarray | None:
        """Set dW = x.T @ delta / N and db, the mean of delta over the batch.

        delta : (N, out), the derivative of the loss with respect to the output of ``forward``.
        scale : what takes the place of 1 / N, where rows have weights
        Returns delta @ W.T, (N, in), not divided by N; None where ``input_gradient`` is False.
        Raises RuntimeError before the first ``forward``, ValueError on another shape.
        """
        if self.x is None:
            raise RuntimeError("Linear: call forward before backward")
        w, dw, db = self._own("W", "dW", "db")
        delta = contiguous(delta, w.dtype)
        check_shape("delta", delta, (len(self.x), self.out_feature))
        dx = np.empty_like(self.x) if input_gradient else None
        linear_backward(dw, db, dx, self.x, w, delta, unit_for(self.compute_dtype), scale)
        return dx
