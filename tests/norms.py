"""Layer norm as its paper writes it, in plain NumPy."""

import numpy as np

EPS = 1e-5


def layernorm_forward(x, gamma, beta):
    """(y, normalised, 1 / deviations of the rows)."""
    centred = x - x.mean(axis=1, keepdims=True)
    scales = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPS)
    return gamma * (centred * scales) + beta, centred * scales, scales[:, 0]


def layernorm_backward(dy, normalised, scales, gamma):
    """(dx, dgamma, dbeta)."""
    g = dy * gamma
    mean, mean_product = (a.mean(axis=1, keepdims=True) for a in (g, g * normalised))
    dx = scales[:, None] * (g - mean - normalised * mean_product)
    return dx, (dy * normalised).sum(axis=0), dy.sum(axis=0)
