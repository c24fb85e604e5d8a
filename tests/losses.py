"""Losses as the papers and torch.nn's documentation write them, in plain NumPy.

Each takes (criterion, z, y), outputs and rows of targets, and returns the loss of every output of
every row, (N, K), and its derivative. Softmax's has the terms of its sum.
"""

import numpy as np

from fastmlp.recipes._numpy import sigmoid, softmax


def softmax_cross_entropy(c, z, y):
    targets = (1 - c.label_smoothing) * y + c.label_smoothing / z.shape[1]
    mass = 1.0
    if c.class_weights is not None:
        targets = targets * np.asarray(c.class_weights)
        mass = targets.sum(axis=1, keepdims=True)
    shifted = z - z.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        terms = targets * (np.log(np.exp(shifted).sum(axis=1, keepdims=True)) - shifted)
    return np.where(targets == 0, 0, terms), mass * softmax(z) - targets


def binary_cross_entropy(c, z, y):
    return np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z))), sigmoid(z) - y


def mean_squared_error(c, z, y):
    return (z - y) ** 2, 2 * (z - y)


def mean_absolute_error(c, z, y):
    return np.abs(z - y), np.sign(z - y)


def huber(c, z, y):
    size = np.abs(z - y)
    outside = c.delta * (size - c.delta / 2)
    return np.where(size > c.delta, outside, size**2 / 2), np.clip(z - y, -c.delta, c.delta)


def poisson(c, z, y):
    return np.exp(z) - y * z, np.exp(z) - y


def quantile(c, z, y):
    above, below = (1 - c.q) * (z - y), c.q * (y - z)
    slope = np.where(z > y, 1 - c.q, np.where(z < y, -c.q, z - y))
    return np.maximum(above, below), slope


LOSSES = {
    "SoftmaxCrossEntropy": softmax_cross_entropy,
    "BinaryCrossEntropy": binary_cross_entropy,
    "MeanSquaredError": mean_squared_error,
    "MeanAbsoluteError": mean_absolute_error,
    "Huber": huber,
    "PoissonNLL": poisson,
    "Quantile": quantile,
}


def loss_and_derivative(criterion, z, y):
    """((N,) losses, (N, K) derivatives) of a criterion, in the widest dtype of z and y."""
    terms, slopes = LOSSES[type(criterion).__name__](criterion, z, y)
    scale = 1 / z.shape[1] if getattr(criterion, "reduction", "sum") == "mean" else 1
    return scale * terms.sum(axis=1), scale * slopes


def values(criterion, z):
    """What outputs stand for; of softmax the classes, (N,)."""
    name = type(criterion).__name__
    if name == "SoftmaxCrossEntropy":
        return z.argmax(axis=1)
    if name == "BinaryCrossEntropy":
        return np.where(z > 0, 1.0, 0.0)
    return np.exp(z) if name == "PoissonNLL" else z


def errors(criterion, z, y):
    """(N,): whether a class is missed, the share of labels missed, or the mean absolute error."""
    name = type(criterion).__name__
    if name == "SoftmaxCrossEntropy":
        return (values(criterion, z) != y.argmax(axis=1)).astype(float)
    truth = np.where(y > 0.5, 1.0, 0.0) if name == "BinaryCrossEntropy" else y
    return np.abs(values(criterion, z) - truth).mean(axis=1)
