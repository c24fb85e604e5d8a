"""What tests and benchmarks judge the library by: HW1P1 in plain NumPy, and finite differences.

The formulas are in ``fastmlp.recipes``, whose write-ups are raced with them, and in
``tests.activations``, ``tests.losses`` and ``tests.rules``; they use nothing of what they judge.
"""

import numpy as np

from fastmlp.recipes._numpy import relu, sigmoid, softmax
from fastmlp.recipes._numpy_mlp import (
    EPS,
    ReferenceMLP,
    batchnorm_backward,
    batchnorm_forward,
    linear_backward,
    linear_forward,
    momentum_update,
    reference_training_stats,
    softmax_cross_entropy,
    tanh,
    train_epoch,
)
from tests.activations import FROM_ACTIVATION, FUNCTIONS, SLOPES
from tests.losses import errors, loss_and_derivative, values
from tests.masks import dropout_factors
from tests.norms import layernorm_backward, layernorm_forward
from tests.rules import UPDATES

__all__ = [
    "ACTIVATIONS",
    "EPS",
    "SLOPES",
    "UPDATES",
    "ReferenceMLP",
    "batchnorm_backward",
    "batchnorm_forward",
    "dropout_factors",
    "embed",
    "embed_gradient",
    "errors",
    "finite_difference",
    "held",
    "layernorm_backward",
    "layernorm_forward",
    "linear_backward",
    "linear_forward",
    "loss_and_derivative",
    "mix_gradient",
    "momentum_update",
    "one_hot",
    "reference_training_stats",
    "relu",
    "scale_gradient",
    "sigmoid",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
    "train_epoch",
    "values",
]

# Of z the activation; of what is kept of it, the activation or the slope, the slope.
ACTIVATIONS = {
    name: (function, FROM_ACTIVATION.get(name, lambda slope: slope))
    for name, function in FUNCTIONS.items()
}


def scale_gradient(dw, w, scale):
    """The gradient of x * scale before x @ W, from that of W, (F, O); 0 where a scale is 0."""
    products = (dw * w.reshape(dw.shape)).sum(axis=1)
    return np.where(scale == 0, 0, products / np.where(scale == 0, 1, scale))


def mix_gradient(dy, bends, scale):
    """The gradient of w in z + w * (act(z) - z), from that of its rows and from act(z) - z."""
    return scale * (dy * bends).sum(axis=0)


def held(x, form):
    """Numbers in a smaller form: as pixels, k of k / 255, those outside of [0, 1] as 0."""
    if form != np.uint8:
        return x.astype(form)
    return np.rint(255 * np.where((x >= 0) & (x <= 1), x, 0)).astype(form)


def _embedding_parts(numbers, sizes):
    """(w, b, v, c) out of the numbers of an embedding."""
    n, h, m = sizes
    ends = np.cumsum([n * h, n * h, n * m * h])
    w, b, v, c = np.split(numbers, ends)
    return w.reshape(n, h), b.reshape(n, h), v.reshape(n, m, h), c.reshape(n, m)


def embed(x, numbers, sizes):
    """x and, behind its columns, c + v @ cos(2 pi w x + b) of the first n of them."""
    w, b, v, c = _embedding_parts(numbers, sizes)
    waves = np.cos(2 * np.pi * x[:, : sizes[0], None] * w + b)
    return np.hstack([x, ((waves[:, :, None] * v).sum(axis=3) + c).reshape(len(x), -1)])


def embed_gradient(dy, x, numbers, sizes, scale):
    """scale * the gradients of the numbers, from that of ``embed``'s result."""
    w, b, v, _ = _embedding_parts(numbers, sizes)
    n, _, m = sizes
    x, dy = x[:, :n, None], dy[:, x.shape[1] :].reshape(len(x), n, m, 1)
    angles = 2 * np.pi * x * w + b
    slopes = -np.sin(angles) * (dy * v).sum(axis=2)
    parts = 2 * np.pi * x * slopes, slopes, dy * np.cos(angles)[:, :, None], dy
    return scale * np.concatenate([part.sum(axis=0).ravel() for part in parts])


def one_hot(labels, num_classes, dtype=np.float64):
    """Integer classes (N,) → rows (N, num_classes) with a single 1."""
    return np.eye(num_classes, dtype=dtype)[labels]


def finite_difference(f, x, step=1e-6):
    """Central differences (f(x + h) - f(x - h)) / 2h of the scalar f for each entry of x.

    x is changed in place and restored, so f may also look at an object that x is a view into.
    """
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        value = x[index]
        x[index] = value + step
        above = f(x)
        x[index] = value - step
        below = f(x)
        x[index] = value
        gradient[index] = (above - below) / (2 * step)
    return gradient
