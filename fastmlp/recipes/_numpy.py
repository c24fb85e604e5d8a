"""The write-ups' formulas in plain NumPy: what the recipes are checked against and raced with.

They are in the package and not among its tests because ``fastmlp reproduce --compare`` needs them
wherever it is installed. They use nothing else of the package, so that they can judge it; HW1P1's
network is in ``_numpy_mlp``. Rows are samples.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

Arrays = list[np.ndarray]
Part = tuple[np.ndarray, np.ndarray]


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)); exp may overflow to infinity, which gives the right limit 0."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def relu(x: np.ndarray) -> np.ndarray:
    """max(x, 0)."""
    return np.maximum(x, 0)


def softmax(x: np.ndarray) -> np.ndarray:
    """exp(x_j) / sum_k exp(x_k) of every row, after subtracting its maximum."""
    exps = np.exp(x - x.max(axis=1, keepdims=True))
    return exps / exps.sum(axis=1, keepdims=True)


def cross_entropies(labels: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """-sum_k y_k log p_k of every row, (N,); a p of 0 counts as the smallest normal number."""
    tiny = np.finfo(probabilities.dtype).tiny
    return -(labels * np.log(np.maximum(probabilities, tiny))).sum(axis=1)


def accuracy(labels: np.ndarray, outputs: np.ndarray) -> float:
    """The fraction of rows whose largest output is at the label's 1."""
    return float(np.mean(outputs.argmax(axis=1) == labels.argmax(axis=1)))


def batches(order: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """The indices, batch by batch; the last may be short."""
    for start in range(0, len(order), batch_size):
        yield order[start : start + batch_size]


# ECE421 A2: both write-ups


def average_ce(target: np.ndarray, prediction: np.ndarray) -> float:
    """-1/N sum_n sum_k y log p (both write-ups, section 1.1)."""
    return float(cross_entropies(target, prediction).mean())


def grad_ce(target: np.ndarray, logits: np.ndarray) -> np.ndarray:
    """1/N sum_n (softmax - target), (1, K) (write-up one, equation 3)."""
    return (softmax(logits) - target).mean(axis=0, keepdims=True)


def ece421_gradients(x: np.ndarray, y: np.ndarray, params: Arrays, total: bool) -> Arrays:
    """Gradients of w1, b1, w2, b2 (write-up two, section 1.2); without 1/N for the total loss."""
    w1, b1, w2, b2 = params
    z1 = x @ w1 + b1
    a1 = relu(z1)
    delta2 = softmax(a1 @ w2 + b2) - y
    if not total:
        delta2 /= len(x)
    slopes = np.zeros_like(z1)
    slopes[z1 > 0] = 1
    delta1 = delta2 @ w2.T * slopes
    return [
        x.T @ delta1, delta1.sum(axis=0, keepdims=True),
        a1.T @ delta2, delta2.sum(axis=0, keepdims=True),
    ]  # fmt: skip


def ece421_training(
    train: Part, valid: Part, params: Arrays, epochs: int, alpha: float, gamma: float,
    total: bool = False,
) -> tuple[Arrays, np.ndarray]:  # fmt: skip
    """Full-batch momentum descent: the parameters, and (epochs, 4) figures taken after each epoch.

    v = gamma v + alpha grad, w = w - v, v starting at 1e-5 (write-up two, section 1.3). The figures
    are training loss and accuracy, validation loss and accuracy.
    """
    params = [p.copy() for p in params]
    velocities = [np.full_like(p, 1e-5) for p in params]
    stats = np.zeros((epochs, 4))
    for epoch in range(epochs):
        grads = ece421_gradients(*train, params, total)
        for p, v, g in zip(params, velocities, grads, strict=True):
            v *= gamma
            v += alpha * g
            p -= v
        for column, (x, y) in enumerate((train, valid)):
            probabilities = softmax(relu(x @ params[0] + params[1]) @ params[2] + params[3])
            stats[epoch, 2 * column] = average_ce(y, probabilities)
            stats[epoch, 2 * column + 1] = accuracy(y, probabilities)
    return params, stats


# Aarhus machine learning, Hand-in 2


def cost_grad(
    x: np.ndarray, y: np.ndarray, params: dict[str, np.ndarray], c: float = 0.0, mean: bool = False
) -> tuple[float, dict[str, np.ndarray]]:
    """Cross-entropy plus c (sum W1² + sum W2²), and its gradients (part II); y are classes."""
    w1, b1, w2, b2 = (params[name] for name in ("W1", "b1", "W2", "b2"))
    labels = np.eye(w2.shape[1])[y]
    z1 = x @ w1 + b1
    a1 = relu(z1)
    probabilities = softmax(a1 @ w2 + b2)
    share = 1 / len(x) if mean else 1.0
    decay = c * ((w1**2).sum() + (w2**2).sum())
    loss = share * cross_entropies(labels, probabilities).sum() + decay
    delta2 = share * (probabilities - labels)
    delta1 = delta2 @ w2.T * np.heaviside(z1, 0)
    return float(loss), {
        "d_w1": x.T @ delta1 + 2 * c * w1, "d_b1": delta1.sum(axis=0, keepdims=True),
        "d_w2": a1.T @ delta2 + 2 * c * w2, "d_b2": delta2.sum(axis=0, keepdims=True),
    }  # fmt: skip


def handin2_fit(
    train: Part, valid: Part, params: dict[str, np.ndarray], batch_size: int, lr: float, c: float,
    epochs: int,
) -> np.ndarray:  # fmt: skip
    """Mini-batch SGD on the mean loss; (epochs, 4) figures: loss and accuracy of both parts."""
    params = {name: p.copy() for name, p in params.items()}
    stats = np.zeros((epochs, 4))
    for epoch in range(epochs):
        for batch in batches(np.random.permutation(len(train[0])), batch_size):
            grads = cost_grad(train[0][batch], train[1][batch], params, c, mean=True)[1]
            for name in params:
                params[name] -= lr * grads[f"d_{name.lower()}"]
        for column, (x, y) in enumerate((train, valid)):
            hidden = relu(x @ params["W1"] + params["b1"])
            probabilities = softmax(hidden @ params["W2"] + params["b2"])
            labels = np.eye(probabilities.shape[1])[y]
            stats[epoch, 2 * column] = cross_entropies(labels, probabilities).mean()
            stats[epoch, 2 * column + 1] = accuracy(labels, probabilities)
    return stats


# VU Deep Learning, assignment 1


def vu_forward(
    x: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Z1, A1, Z2, A2 of a batch."""
    z1 = x @ w1 + b1
    a1 = sigmoid(z1)
    z2 = a1 @ w2 + b2
    return z1, a1, z2, softmax(z2)


def vu_backward(
    x: np.ndarray, y: np.ndarray, a1: np.ndarray, a2: np.ndarray, w2: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """dW1, db1, dW2, db2 of the mean loss."""
    delta2 = a2 - y
    delta1 = delta2 @ w2.T * (a1 * (1 - a1))
    return (
        x.T @ delta1 / len(x), delta1.sum(axis=0, keepdims=True) / len(x),
        a1.T @ delta2 / len(x), delta2.sum(axis=0, keepdims=True) / len(x),
    )  # fmt: skip


def vu_training(
    train: Part, valid: Part, params: Arrays, epochs: int, lr: float, batch_size: int | None = None
) -> tuple[Arrays, np.ndarray]:
    """Gradient descent: the parameters and (epochs, 4) figures.

    The figures are training loss and accuracy, taken before each update and averaged, and
    validation loss and accuracy after the epoch. batch_size None is the full batch, unshuffled.
    """
    (x, y), rows = train, len(train[0])
    params = [p.copy() for p in params]
    stats = np.zeros((epochs, 4))
    for epoch in range(epochs):
        order = np.arange(rows) if batch_size is None else np.random.permutation(rows)
        for batch in batches(order, batch_size or rows):
            xb, yb = (x, y) if batch_size is None else (x[batch], y[batch])
            _, a1, _, a2 = vu_forward(xb, *params)
            stats[epoch, 0] += cross_entropies(yb, a2).sum() / rows
            stats[epoch, 1] += accuracy(yb, a2) * len(xb) / rows
            for p, g in zip(params, vu_backward(xb, yb, a1, a2, params[2]), strict=True):
                p -= lr * g
        a2 = vu_forward(valid[0], *params)[3]
        stats[epoch, 2:] = cross_entropies(valid[1], a2).mean(), accuracy(valid[1], a2)
    return params, stats
