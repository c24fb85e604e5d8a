"""An activation of one's own, at the speed of the others: ``python examples/custom_activation.py``.

Squared ReLU, max(z, 0)**2 (So et al., "Primer: searching for efficient transformers for language
modeling", 2021), as two Python functions of a number, which Numba compiles.
"""

from __future__ import annotations

import numpy as np

from fastmlp import MLP, Activation, Identity, ReLU, SoftmaxCrossEntropy, datasets
from fastmlp.initializers import he_normal, zeros


def squared_relu(z: float) -> float:
    return z * z if z > 0 else 0.0


def slope(z: float) -> float:
    return 2 * z if z > 0 else 0.0


def check_slope(activation: Activation) -> None:
    """Raise AssertionError where the derivative is not that of the function."""
    z, step = np.linspace(-3, 3, 25), 1e-6
    differences = (activation.forward(z + step) - activation.forward(z - step)) / (2 * step)
    activation.forward(z)
    np.testing.assert_allclose(activation.derivative(), differences, atol=1e-5)


def accuracy(activation: Activation, epochs: int) -> float:
    """Of a network with that activation, on the digits."""
    data = datasets.load("digits")
    layers = [activation, Identity()]
    mlp = MLP(64, 10, [64], layers, he_normal(0), zeros, SoftmaxCrossEntropy(), lr=0.05)
    mlp.fit(data.train_x, data.train_y, epochs=epochs, batch_size=32, seed=0)
    return mlp.score(data.test_x, data.test_y)


def main(epochs: int = 20) -> dict[str, float]:
    """The accuracies with squared ReLU and with ReLU."""
    own = Activation.of(squared_relu, slope, name="squared ReLU")
    check_slope(own)
    return {"squared ReLU": accuracy(own, epochs), "ReLU": accuracy(ReLU(), epochs)}


if __name__ == "__main__":
    for name, share in main().items():
        print(f"{name}: {share:.1%}")
