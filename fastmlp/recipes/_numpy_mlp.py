"""HW1P1 in plain NumPy: what the library is judged by, and what the write-up's run is raced with.

Every function keeps the dtype of its arguments (float32 or float64). Rows are samples: x is
(N, F); vectors over features are rows (1, F). Section and equation numbers are those of
CMU 11-785 HW1P1 (spring 2021) unless another source is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ._numpy import batches, relu, sigmoid

Array = np.ndarray
EPS = 1e-8  # added to the variance in batch normalisation (appendix C)


# Activations (section 3.1). A derivative is a function of the output, as the text asks.


def identity(x: Array) -> Array:
    """f(x) = x."""
    return x


def identity_derivative(state: Array) -> Array:
    """f'(x) = 1."""
    return np.ones_like(state)


def sigmoid_derivative(state: Array) -> Array:
    """S' = S (1 - S) (3.1.2)."""
    return state * (1 - state)


def tanh(x: Array) -> Array:
    """tanh(x) = (exp(x) - exp(-x)) / (exp(x) + exp(-x)) (3.1.3)."""
    return np.tanh(x)


def tanh_derivative(state: Array) -> Array:
    """tanh' = 1 - tanh² (3.1.4)."""
    return 1 - state**2


def relu_derivative(state: Array) -> Array:
    """R' = 1 where x > 0, else 0, so R'(0) = 0 (3.1.6); x > 0 exactly where R(x) > 0."""
    return (state > 0).astype(state.dtype)


ACTIVATIONS: dict[str, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {
    "identity": (identity, identity_derivative),
    "sigmoid": (sigmoid, sigmoid_derivative),
    "tanh": (tanh, tanh_derivative),
    "relu": (relu, relu_derivative),
}


# Layers and loss


def linear_forward(
    x: Array, w: Array, b: Array | None = None, activation: str | None = None
) -> Array:
    """act(x W + b) (3.4.1): x (N, I), w (I, O), b (1, O) or None, activation in ACTIVATIONS."""
    z = x @ w if b is None else x @ w + b
    return z if activation is None else ACTIVATIONS[activation][0](z)


def linear_backward(
    x: Array, w: Array, delta: Array, need_dx: bool = True
) -> tuple[Array, Array, Any]:
    """(dW, db, dx) (3.4.2): dW = xᵀ delta / N, db = mean of delta (1, O), dx = delta Wᵀ, no 1/N.

    dx is None where need_dx is False: the first layer of a network never needs it.
    """
    dx = delta @ w.T if need_dx else None
    return x.T @ delta / len(x), delta.mean(axis=0, keepdims=True), dx


def softmax_cross_entropy(logits: Array, labels: Array) -> tuple[Array, Array]:
    """(loss (N,), dlogits (N, K)): loss = -Σ_k y_k log softmax(x)_k, dlogits = softmax(x) - y.

    Appendices A and B: log softmax(x)_k = x_k - a - log Σ_j exp(x_j - a) with a = max x. Rows of y
    need not sum to 1; the derivative keeps this form all the same.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=1, keepdims=True)
    loss = -(labels * (shifted - np.log(sums))).sum(axis=1)
    return loss, exps / sums - labels


def batchnorm_forward(
    x: Array, gamma: Array, beta: Array, running_mean: Array, running_var: Array,
    alpha: float = 0.9, training: bool = True, eps: float = EPS,
) -> tuple[Array, Array, Array, Array, Array, Array]:  # fmt: skip
    """(y, norm, mean, var, running_mean, running_var), equations 1 to 6; var is biased.

    In training the batch's own mean and variance normalise, and the running ones move by 1 - alpha
    towards them; otherwise the running ones normalise and are returned unchanged.
    """
    if training:
        mean, var = x.mean(axis=0, keepdims=True), x.var(axis=0, keepdims=True)
        running_mean = alpha * running_mean + (1 - alpha) * mean
        running_var = alpha * running_var + (1 - alpha) * var
    else:
        mean, var = running_mean, running_var
    norm = (x - mean) / np.sqrt(var + eps)
    return gamma * norm + beta, norm, mean, var, running_mean, running_var


def batchnorm_backward(
    delta: Array, x: Array, norm: Array, mean: Array, var: Array, gamma: Array, eps: float = EPS
) -> tuple[Array, Array, Array]:
    """(dgamma, dbeta, dx), equations 15 to 37; dgamma and dbeta (1, F) are sums over the batch."""
    m = len(x)
    inverse_std = (var + eps) ** -0.5
    dnorm = delta * gamma
    dvar = -0.5 * (dnorm * (x - mean)).sum(axis=0, keepdims=True) * inverse_std**3
    dmean = -dnorm.sum(axis=0, keepdims=True) * inverse_std
    dx = dnorm * inverse_std + dvar * (2 / m) * (x - mean) + dmean / m
    dgamma = (delta * norm).sum(axis=0, keepdims=True)
    return dgamma, delta.sum(axis=0, keepdims=True), dx


def momentum_update(
    w: Array, velocity: Array, grad: Array, lr: float, momentum: float = 0.0,
    weight_decay: float = 0.0,
) -> None:  # fmt: skip
    """velocity ← momentum · velocity - lr · (grad + 2 c w), w ← w + velocity (3.5.3), in place.

    c is the weight decay: 2 c w is the gradient of c Σ w² (Aarhus machine learning, Hand-in 2).
    """
    if weight_decay:
        grad = grad + 2 * weight_decay * w
    velocity *= momentum
    velocity -= lr * grad
    w += velocity


# The network


class ReferenceLinear:
    """HW1P1's Linear: W (I, O), b (1, O) or None, their gradients and momenta."""

    def __init__(
        self, in_feature: int, out_feature: int, weight_init_fn: Callable[[int, int], Any],
        bias_init_fn: Callable[[int], Any] | None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self.W = np.array(weight_init_fn(in_feature, out_feature), dtype=dtype)
        self.dW, self.momentum_W = np.zeros_like(self.W), np.zeros_like(self.W)
        self.b: Any = None
        self.db: Any = None
        self.momentum_b: Any = None
        if bias_init_fn is not None:
            self.b = np.array(bias_init_fn(out_feature), dtype=self.W.dtype).reshape(1, -1)
            self.db, self.momentum_b = np.zeros_like(self.b), np.zeros_like(self.b)

    def forward(self, x: Array) -> Array:
        self.x = x
        return linear_forward(x, self.W, self.b)

    def backward(self, delta: Array, need_dx: bool = True) -> Any:
        self.dW, db, dx = linear_backward(self.x, self.W, delta, need_dx)
        if self.b is not None:
            self.db = db
        return dx


class ReferenceBatchNorm:
    """HW1P1's BatchNorm over F features; every array (1, F)."""

    def __init__(self, in_feature: int, alpha: float = 0.9, dtype: Any = np.float64) -> None:
        self.alpha, self.eps = alpha, EPS
        self.gamma, self.running_var = np.ones((2, 1, in_feature), dtype)
        self.beta, self.dgamma, self.dbeta, self.running_mean = np.zeros((4, 1, in_feature), dtype)

    def forward(self, x: Array, eval: bool = False) -> Array:
        self.x = x
        result = batchnorm_forward(
            x, self.gamma, self.beta, self.running_mean, self.running_var, self.alpha, not eval
        )
        self.out, self.norm, self.mean, self.var, self.running_mean, self.running_var = result
        return self.out

    def backward(self, delta: Array) -> Array:
        self.dgamma, self.dbeta, dx = batchnorm_backward(
            delta, self.x, self.norm, self.mean, self.var, self.gamma
        )
        return dx


class ReferenceMLP:
    """HW1P1's MLP in NumPy; takes the arguments of fastmlp.MLP.

    activations : names from ACTIVATIONS, or objects whose class has such a name in any case
    criterion : softmax cross-entropy whatever is passed
    dtype : of all parameters; by default that of the first weight_init_fn result
    batchnorm_reduction : "sum" as in the text, or "mean": step() divides dgamma, dbeta by N
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hiddens: Sequence[int],
        activations: Sequence[Any],
        weight_init_fn: Callable[[int, int], Any],
        bias_init_fn: Callable[[int], Any] | None,
        criterion: Any = None,
        lr: float = 0.01,
        momentum: float = 0.0,
        num_bn_layers: int = 0,
        *,
        dtype: Any = None,
        batchnorm_reduction: str = "sum",
        weight_decay: float = 0.0,
    ) -> None:
        self.train_mode = True
        self.lr, self.momentum, self.weight_decay = lr, momentum, weight_decay
        self.batchnorm_reduction = batchnorm_reduction
        names = [a if isinstance(a, str) else type(a).__name__.lower() for a in activations]
        self.activations = [ACTIVATIONS[name] for name in names]
        sizes = [input_size, *hiddens, output_size]
        self.linear_layers: list[ReferenceLinear] = []
        for fan_in, fan_out in pairwise(sizes):
            layer = ReferenceLinear(fan_in, fan_out, weight_init_fn, bias_init_fn, dtype)
            dtype = layer.W.dtype
            self.linear_layers.append(layer)
        self.dtype = dtype
        self.bn_layers = [ReferenceBatchNorm(f, dtype=dtype) for f in sizes[1 : num_bn_layers + 1]]

    def forward(self, x: Array) -> Array:
        x = np.asarray(x, dtype=self.dtype)
        self.states: list[Array] = []
        for k, layer in enumerate(self.linear_layers):
            x = layer.forward(x)
            if k < len(self.bn_layers):
                x = self.bn_layers[k].forward(x, eval=not self.train_mode)
            x = self.activations[k][0](x)
            self.states.append(x)
        self.output = x
        return x

    __call__ = forward

    def backward(self, labels: Array) -> None:
        delta = softmax_cross_entropy(self.output, np.asarray(labels, dtype=self.dtype))[1]
        for k in reversed(range(len(self.linear_layers))):
            delta = delta * self.activations[k][1](self.states[k])
            if k < len(self.bn_layers):
                delta = self.bn_layers[k].backward(delta)
            delta = self.linear_layers[k].backward(delta, need_dx=k > 0)

    def zero_grads(self) -> None:
        for layer in self.linear_layers:
            layer.dW[:] = 0
            if layer.b is not None:
                layer.db[:] = 0
        for norm in self.bn_layers:
            norm.dgamma[:] = 0
            norm.dbeta[:] = 0

    def step(self) -> None:
        for layer in self.linear_layers:
            momentum_update(
                layer.W, layer.momentum_W, layer.dW, self.lr, self.momentum, self.weight_decay
            )
            if layer.b is not None:
                momentum_update(layer.b, layer.momentum_b, layer.db, self.lr, self.momentum)
        scale = self.lr / len(self.output) if self.batchnorm_reduction == "mean" else self.lr
        for norm in self.bn_layers:
            norm.gamma -= scale * norm.dgamma
            norm.beta -= scale * norm.dbeta

    def train(self) -> None:
        self.train_mode = True

    def eval(self) -> None:
        self.train_mode = False

    def error(self, labels: Array) -> int:
        return int((self.output.argmax(axis=1) != np.argmax(labels, axis=1)).sum())

    def total_loss(self, labels: Array) -> Any:
        return softmax_cross_entropy(self.output, labels)[0].sum()


# Training


def train_epoch(
    mlp: Any, x: Array, y: Array, batch_size: int, order: Array | None = None
) -> tuple[float, int]:
    """One epoch of forward, backward, step; (sum of losses, wrong samples) seen on the way.

    mlp : ReferenceMLP or any object with HW1P1's methods      x : (N, D)      y : (N, K) rows
    order : indices (N,), by default 0 … N-1. The last batch may be short.
    """
    order = np.arange(len(x)) if order is None else order
    loss, wrong = 0.0, 0
    mlp.train()
    for batch in batches(order, batch_size):
        labels = y[batch]
        mlp.zero_grads()
        mlp.forward(x[batch])
        mlp.backward(labels)
        mlp.step()
        loss += float(mlp.total_loss(labels))
        wrong += int(mlp.error(labels))
    return loss, wrong


def reference_training_stats(
    mlp: Any, dset: Sequence[Any], nepochs: int, batch_size: int
) -> tuple[Array, ...]:
    """HW1P1's get_training_stats (section 3.6) for any object with HW1P1's MLP methods.

    dset : ((train_x, train_y), (val_x, val_y), test), labels one-hot; test is not read.
    One index array lives through all epochs and np.random.shuffle reorders it before each.
    Returns four (nepochs,) arrays: training losses and errors, validation losses and errors.
    """
    (train_x, train_y), (val_x, val_y), _ = dset
    stats = np.zeros((4, nepochs))
    order = np.arange(len(train_x))
    for epoch in range(nepochs):
        np.random.shuffle(order)
        stats[:2, epoch] = np.divide(
            train_epoch(mlp, train_x, train_y, batch_size, order), len(train_x)
        )
        mlp.eval()
        mlp.forward(val_x)
        stats[2:, epoch] = np.divide((mlp.total_loss(val_y), mlp.error(val_y)), len(val_x))
    return tuple(stats)
