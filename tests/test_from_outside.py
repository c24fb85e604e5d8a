"""One of each from outside the package: activation, criterion, update rule, schedule, callback."""

import math

import numpy as np
from numpy.testing import assert_allclose

from fastmlp import MLP, Activation, Criterion, Identity, datasets, optimizers
from fastmlp.initializers import he_normal, zeros
from fastmlp.kernels.epoch import train_steps
from tests.networks import assert_same_state, build, state


def bent_identity(z):
    return (math.sqrt(z * z + 1) - 1) / 2 + z


def bent_slope(z):
    return z / (2 * math.sqrt(z * z + 1)) + 1


def log_cosh(z, y):
    e = abs(z - y)
    return e + math.log1p(math.exp(-2 * e)) - math.log(2)


def log_cosh_slope(z, y):
    return math.tanh(z - y)


def signed_mean(gradient, parameter, mean, lr, beta):
    """Sign of the running mean, softened where it is small."""
    mean = beta * mean + (1 - beta) * gradient
    return parameter - lr * mean / (abs(mean) + 1e-3), mean


def warm_then_square_root(progress):
    return 0.004 * min(1.0, 10 * progress) / math.sqrt(1 + progress)


class Watch:
    def __init__(self):
        self.losses = []

    def on_epoch_end(self, mlp, history):
        self.losses.append(history.train_loss[-1])


def network(dtype):
    return MLP(
        64, 10, [48], [Activation.of(bent_identity, bent_slope), Identity()],
        he_normal(0, dtype), zeros, Criterion.of(log_cosh, log_cosh_slope),
        optimizer=optimizers.rule(signed_mean, lr=0.004, beta=0.9), num_bn_layers=1,
    )  # fmt: skip


def digits(dtype):
    """Rows in [0, 1], and a column per class to come near to."""
    data = datasets.load("digits")
    x = data.train_x[:600].astype(dtype) / data.train_x.max()
    return x, np.eye(10)[data.train_y[:600]], data.train_y[:600]


def test_all_together_learn_digits_without_compiling_the_epoch_again():
    x, y, labels = digits(np.float32)
    build([64, 48, 10], dtype=np.float32, num_bn_layers=1).fit(x, labels)
    compiled = set(train_steps.signatures)
    mlp, watch = network(np.float32), Watch()
    history = mlp.fit(
        x, y, epochs=12, batch_size=32, seed=0, lr_schedule=warm_then_square_root, callbacks=[watch]
    )
    assert set(train_steps.signatures) == compiled
    assert watch.losses == history.train_loss
    assert np.mean(mlp.predict(x).argmax(axis=1) == labels) > 0.95


def test_in_the_loop_as_in_fit():
    x, y, _ = digits(np.float64)
    fitted, looped = network(np.float64), network(np.float64)
    fitted.fit(x, y, batch_size=64, shuffle=False)
    losses = []
    for first in range(0, 600, 64):
        looped.forward(x[first : first + 64])
        looped.backward(y[first : first + 64])
        losses.append(looped.criterion.loss.mean())
        looped.step()
    assert_same_state(state(fitted), state(looped))
    assert_allclose(fitted.history.step_loss, losses, rtol=1e-13)
