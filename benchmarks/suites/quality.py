"""What fixed trainings learn, so that a speed-up that breaks learning is seen."""

import numpy as np

from benchmarks.networks import Network
from fastmlp import datasets

_SEEDS = range(5)
_EPOCHS = 40


class Digits:
    """Handwritten digits, 8×8: means over five seeds."""

    param_names = ("activation", "batchnorm", "dtype")
    params = (["relu", "sigmoid"], [False, True], ["float32", "float64"])

    def setup(self, activation, batchnorm, dtype):
        digits = datasets.load("digits")
        x = np.concatenate([digits.train_x, digits.test_x]).astype(dtype)
        x /= x.max()
        split = len(digits.train_x)
        self.train = x[:split], digits.train_y
        self.test = x[split:], digits.test_y
        rate = 0.05 if activation == "relu" else 0.5
        self.network = Network((64, 64, 32, 10), activation, 32, rate, batchnorm=batchnorm)

    def _figures(self, dtype):
        found = []
        for seed in _SEEDS:
            mlp = self.network.build(np.dtype(dtype).type, seed=seed)
            mlp.fit(*self.train, epochs=_EPOCHS, batch_size=32, seed=seed)
            loss, error = mlp.evaluate(*self.test)
            found.append((loss, 1 - error))
        return np.mean(found, axis=0)

    def track_test_accuracy(self, activation, batchnorm, dtype):
        return float(self._figures(dtype)[1])

    track_test_accuracy.unit = "of the digits"

    def track_test_loss(self, activation, batchnorm, dtype):
        return float(self._figures(dtype)[0])

    track_test_loss.unit = "nats per digit"
