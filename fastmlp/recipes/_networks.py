"""The one network that all write-ups but HW1P1 train: two linear layers, given as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..kernels.linear import linear_forward
from ..kernels.loss import softmax
from ..layers import Activation, Identity, SoftmaxCrossEntropy
from ..mlp import MLP
from ..validation import check_matrix, check_real, check_shape

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
Names = tuple[str, str, str, str]


def float_dtype(*arrays: Any) -> np.dtype[Any]:
    """float32 where all arrays of floats are, else float64."""
    dtypes = {np.asarray(array).dtype for array in arrays}
    floats = {dtype for dtype in dtypes if dtype.kind == "f"}
    return np.dtype(np.float32 if floats == {np.dtype(np.float32)} else np.float64)


def as_numbers(x: Any, dtype: Any = None) -> np.ndarray:
    """x as floats: integers become ``dtype``, unscaled, uint8 pixels too, as NumPy has it."""
    x = np.asarray(x)
    return x if x.dtype.kind not in "iub" else x.astype(dtype or np.float64)


def as_rows(name: str, x: Any) -> np.ndarray:
    """x, (N, K), C-contiguous, float32 if it is that, else float64."""
    x = np.asarray(x)
    if x.ndim == 0:
        raise ValueError(f"{name} must be (N, K), got a single number")
    check_matrix(name, x, x.shape[-1])
    return np.ascontiguousarray(x, float_dtype(x))


def check_together(names: tuple[str, str], x: Any, labels: Any) -> None:
    """Both or neither; ValueError names the one that is missing."""
    if (x is None) != (labels is None):
        given, missing = names if labels is None else names[::-1]
        raise ValueError(f"{missing} must be given with {given}, got None")


def softmax_rows(name: str, x: Any) -> np.ndarray:
    """softmax of every row of x, (N, K)."""
    logits = as_rows(name, x)
    p = np.empty_like(logits)
    softmax(p, logits)
    return p


def affine(names: tuple[str, str, str], x: Any, w: Any, b: Any) -> np.ndarray:
    """x @ w + b; ValueError names the array that does not fit."""
    name_x, name_w, name_b = names
    dtype = float_dtype(x, w, b)
    x, w, b = (np.ascontiguousarray(array, dtype) for array in (x, w, b))
    if w.ndim != 2 or 0 in w.shape:
        raise ValueError(f"{name_w} must be a matrix, got shape {w.shape}")
    check_matrix(name_x, x, w.shape[0])
    _check_bias(name_b, b, w.shape[1])
    y = np.empty((len(x), w.shape[1]), dtype)
    linear_forward(y, x, w, b)
    return y


def two_layers(
    x: np.ndarray, names: Names, arrays: Any, activation: Activation, lr: float = 0.0, *,
    dtype: Any = None, **options: Any,
) -> MLP:  # fmt: skip
    """The network x @ w1 + b1 → activation → @ w2 + b2 → softmax, holding copies of the arrays.

    x : (N, D)    arrays : w1 (D, H), b1 (1, H) or (H,), w2 (H, K), b2 (1, K) or (K,)
    names : what the caller's user calls the arrays; ValueError names the one that does not fit.
    dtype : by default float32 where x and the arrays are    options : of MLP
    """
    w1, b1, w2, b2 = map(check_real, names, arrays)
    for name, w in zip(names[::2], (w1, w2), strict=True):
        if w.ndim != 2 or 0 in w.shape:
            raise ValueError(f"{name} must be a matrix, got shape {w.shape}")
    hidden, outputs = w1.shape[1], w2.shape[1]
    check_shape(names[0], w1, (x.shape[-1] if x.ndim else 0, hidden))
    _check_bias(names[1], b1, hidden)
    check_shape(names[2], w2, (hidden, outputs))
    _check_bias(names[3], b2, outputs)
    weights, biases = iter((w1, w2)), iter((b1, b2))
    return MLP(
        len(w1), outputs, [hidden], [activation, Identity()], lambda *sizes: next(weights),
        lambda size: next(biases), SoftmaxCrossEntropy(), lr,
        dtype=dtype or float_dtype(x, w1, b1, w2, b2), **options,
    )  # fmt: skip


def _check_bias(name: str, b: np.ndarray, width: int) -> None:
    if b.shape not in ((width,), (1, width)):
        raise ValueError(f"{name} must be (1, {width}), got {b.shape}")


def parameters(mlp: MLP) -> Arrays:
    """Copies of w1, b1, w2, b2."""
    first, second = mlp.linear_layers
    return first.W.copy(), first.b.copy(), second.W.copy(), second.b.copy()


def gradients(mlp: MLP) -> Arrays:
    """The gradients of w1, b1, w2, b2 of the mean loss, as ``backward`` left them."""
    first, second = mlp.linear_layers
    return first.dW, first.db, second.dW, second.db
