"""Aarhus machine learning, Hand-in 2: a two-layer ReLU classifier with weight decay on MNIST.

``cost_grad`` and ``NetClassifier`` keep the hand-in's names, arguments and results. float32 stays
float32, all else computes in float64; uint8 pixels are numbers from 0 to 255, as for NumPy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..history import History
from ..layers import ReLU
from ..mlp import MLP
from . import _numpy
from ._experiment import Measure, Outcome, Recipe, Setting, compare, seconds_of, split_mnist
from ._figures import ACCURACY, LOSS, draw, percent, train_and_valid
from ._networks import as_numbers, check_together, gradients, parameters, two_layers

KEYS = "W1", "b1", "W2", "b2"

Params = Mapping[str, Any]


def cost_grad(
    X: Any, y: Any, params: Params, c: float = 0.0, *, reduction: str = "sum"
) -> tuple[float, dict[str, np.ndarray]]:
    """L = -sum_n log softmax(z_n)[y_n] + c (sum W1² + sum W2²), and its gradients.

    X : (N, D)    y : (N,) classes    params : W1 (D, H), b1 (1, H), W2 (H, K), b2 (1, K)
    reduction : "sum" over the samples, as the hand-in's code, or "mean", as its text says; the
        decay is the same in both
    Returns (L, {"d_w1", "d_b1", "d_w2", "d_b2"}), each of its parameter's shape, biases as rows.
    ReLU's derivative at 0 is 0. Reference: Hand-in 2, part II.
    """
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction must be 'sum' or 'mean', got {reduction!r}")
    x = as_numbers(X)
    mlp = _network(x, params)
    mlp.forward(x)
    mlp.backward(y)
    samples = len(x)
    scale = samples if reduction == "sum" else 1
    d_w1, d_b1, d_w2, d_b2 = (scale * gradient for gradient in gradients(mlp))
    w1, _, w2, _ = parameters(mlp)
    loss = scale / samples * float(mlp.total_loss(y)) + c * float(np.sum(w1**2) + np.sum(w2**2))
    return loss, {
        "d_w1": d_w1 + 2 * c * w1, "d_b1": d_b1, "d_w2": d_w2 + 2 * c * w2, "d_b2": d_b2,
    }  # fmt: skip


def get_init_params(input_dim: int, hidden_size: int, output_size: int, seed: Any = None) -> Params:
    """W1, b1, W2, b2, float64: weights N(0, 2 / (fan_in + fan_out)), biases 0."""
    generator = np.random.default_rng(seed)

    def weights(fan_in: int, fan_out: int) -> np.ndarray:
        return generator.normal(0, np.sqrt(2 / (fan_in + fan_out)), (fan_in, fan_out))

    return {
        "W1": weights(input_dim, hidden_size), "b1": np.zeros((1, hidden_size)),
        "W2": weights(hidden_size, output_size), "b2": np.zeros((1, output_size)),
    }  # fmt: skip


class NetClassifier:
    """A two-layer ReLU network, trained by mini-batch SGD on mean cross-entropy + c (ΣW1² + ΣW2²).

    After ``fit``, ``params`` has W1, b1, W2, b2, and ``hist`` lists per epoch, taken after it:
    train_loss, train_acc, val_loss, val_acc; losses are mean cross-entropies, without the decay.
    """

    cost_grad = staticmethod(cost_grad)

    def __init__(self, hidden_size: int = 256) -> None:
        """hidden_size : of the network that ``fit`` starts from when it is given no parameters."""
        self.hidden_size = hidden_size
        self.params: Params | None = None
        self.hist: dict[str, list[float]] = {}

    def fit(
        self, X_train: Any, y_train: Any, X_val: Any = None, y_val: Any = None,
        init_params: Params | None = None, batch_size: int = 32, lr: float = 0.1, c: float = 1e-4,
        epochs: int = 30, *, seed: Any = None, dtype: Any = None, callbacks: Sequence[Any] = (),
    ) -> NetClassifier:  # fmt: skip
        """Train on X_train (N, D), y_train (N,) classes; returns the classifier itself.

        X_val, y_val : evaluated after every epoch where given; init_params : copied, by default
        drawn by ``get_init_params`` from seed, which also fixes the order of the samples
        dtype : float32 or float64, by default that of X_train and the parameters
        callbacks : of ``MLP.fit``
        """
        check_together(("X_val", "y_val"), X_val, y_val)
        x = as_numbers(X_train, dtype)
        if init_params is None:
            classes = 1 + int(np.max(y_train, initial=0))
            sizes = x.shape[-1], self.hidden_size, classes
            init_params = get_init_params(*sizes, seed)
        mlp = _network(x, init_params, lr=lr, weight_decay=c, dtype=dtype)
        in_sample = _InSample(x, y_train)
        history = mlp.fit(
            x, y_train, epochs=epochs, batch_size=batch_size, seed=seed,
            validation_data=None if X_val is None else (as_numbers(X_val, dtype), y_val),
            callbacks=[*callbacks, in_sample],
        )  # fmt: skip
        self.params = dict(zip(KEYS, parameters(mlp), strict=True))
        self.hist = {
            "train_loss": in_sample.loss, "train_acc": in_sample.accuracy,
            "val_loss": history.val_loss, "val_acc": [1 - error for error in history.val_error],
        }  # fmt: skip
        return self

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of every row of X, (N,)."""
        return self._fitted(X).predict(as_numbers(X))

    def score(self, X: Any, y: Any) -> float:
        """The fraction of rows that are classified as y, (N,)."""
        return 1 - self._fitted(X).evaluate(as_numbers(X), y)[1]

    def _fitted(self, X: Any) -> MLP:
        if self.params is None:
            raise RuntimeError("NetClassifier: call fit before predict or score")
        return _network(as_numbers(X), self.params)


class _InSample:
    """A callback that evaluates the training part after every epoch."""

    def __init__(self, x: Any, labels: Any) -> None:
        self._x, self._labels = x, labels
        self.loss: list[float] = []
        self.accuracy: list[float] = []

    def on_epoch_end(self, mlp: MLP, history: History) -> None:
        loss, error = mlp.evaluate(self._x, self._labels)
        self.loss.append(loss)
        self.accuracy.append(1 - error)


def _network(x: np.ndarray, params: Params, **options: Any) -> MLP:
    if not isinstance(params, Mapping):
        raise TypeError(f"params must be a mapping of {', '.join(KEYS)}, got {params!r:.60}")
    missing = [key for key in KEYS if key not in params]
    if missing:
        raise ValueError(f"params must have the keys {', '.join(KEYS)}, lacks {', '.join(missing)}")
    w1, b1, w2, b2 = (params[key] for key in KEYS)
    return two_layers(x, KEYS, (w1, b1, w2, b2), ReLU(), **options)


HIDDEN_SIZE, BATCH_SIZE, LR, DECAY = 512, 32, 0.1, 5e-5


def mnist_sgd(setting: Setting) -> Outcome:
    """Mini-batch SGD on MNIST: in-sample and validation figures per epoch (part II, "Tests")."""
    data = split_mnist(setting, valid=5000)
    x, xv, test_x = (part / np.float32(255) for part in (data.train_x, data.valid_x, data.test_x))
    epochs = setting.choose(20, 3)

    def run(epochs: int, callbacks: Sequence[Any] = ()) -> NetClassifier:
        return NetClassifier(HIDDEN_SIZE).fit(
            x, data.train_y, xv, data.valid_y, None, BATCH_SIZE, LR, DECAY,
            epochs, seed=0, dtype=np.float32, callbacks=callbacks,
        )  # fmt: skip

    callbacks = setting.begin("Hand-in 2: MNIST", epochs)
    net, seconds = seconds_of(lambda: run(epochs, callbacks))
    hist = net.hist
    picture = draw(
        setting.out / "loss_and_accuracy.png",
        f"Hand-in 2: MNIST, 784-{HIDDEN_SIZE}-10 ReLU, SGD, lr {LR:g}, batch {BATCH_SIZE}, "
        f"c {DECAY:g}",
        train_and_valid(LOSS, hist["train_loss"], hist["val_loss"]),
        train_and_valid(ACCURACY, percent(hist["train_acc"]), percent(hist["val_acc"])),
    )

    def transcription() -> Any:
        train, valid = (x.astype(float), data.train_y), (xv.astype(float), data.valid_y)
        params = dict(get_init_params(784, HIDDEN_SIZE, 10, 0))
        return lambda: _numpy.handin2_fit(train, valid, params, BATCH_SIZE, LR, DECAY, 1)

    timing = compare(
        setting, "1 epoch, then both parts evaluated", transcription,
        lambda: run(1),
    )  # fmt: skip
    return Outcome(
        "handin2",
        f"784-{HIDDEN_SIZE}-10 ReLU, {epochs} epochs, batch {BATCH_SIZE}, lr {LR:g}, c {DECAY:g}, "
        "float32",
        [
            Measure("in-sample accuracy", 0.998, hist["train_acc"][-1], at_least=0.998),
            Measure("validation accuracy", 0.983, hist["val_acc"][-1], at_least=0.983),
            Measure("test accuracy", None, net.score(test_x, data.test_y)),
        ],
        [picture],
        seconds,
        timing,
    )


RECIPE = Recipe("handin2", "Aarhus Hand-in 2: SGD with weight decay on MNIST", (mnist_sgd,))
