"""Training by ``fit`` and by hand."""

import numpy as np

import fastmlp
from benchmarks.networks import NETWORKS

# Enough rows for a steady state; the full batch of 10,000 fits in as well.
_ROWS = 12_800


def _data():
    rng = np.random.default_rng(0)
    return rng.random((_ROWS, 784), dtype=np.float32), rng.integers(0, 10, _ROWS)


class Epoch:
    """``fit`` over 12,800 rows."""

    param_names = ("network", "threads")
    params = (list(NETWORKS), [1, 2])

    def setup(self, network, threads):
        fastmlp.set_num_threads(threads)
        self.x, self.y = _data()
        self.batch_size = NETWORKS[network].batch_size
        self.mlp = NETWORKS[network].build()
        self.mlp.fit(self.x[:100], self.y[:100], batch_size=50)

    def time_epoch(self, network, threads):
        self.mlp.fit(self.x, self.y, batch_size=self.batch_size, seed=0)


class Inputs:
    """The first network on other inputs: uint8, float64."""

    param_names = ("input", "network")
    params = (["uint8", "float32", "float64"], ["float32", "float64"])

    def setup(self, input, network):
        x, self.y = _data()
        self.x = (255 * x).astype(np.uint8) if input == "uint8" else x.astype(input)
        self.mlp = NETWORKS["784-512-512-10"].build(np.dtype(network).type)
        self.mlp.fit(self.x[:100], self.y[:100], batch_size=50)

    def time_epoch(self, input, network):
        self.mlp.fit(self.x, self.y, batch_size=128, seed=0)


class Step:
    """A step by hand through the layers, and by a ``fit`` of one batch, packing included."""

    param_names = ("network",)
    params = (["784-512-512-10", "784-512-512-10-bn", "784-128-10"],)

    def setup(self, network):
        x, y = _data()
        batch = NETWORKS[network].batch_size
        self.x, self.y = x[:batch], y[:batch]
        self.mlp = NETWORKS[network].build()
        self.time_step(network)
        self.time_fit_of_one_batch(network)

    def time_step(self, network):
        self.mlp.forward(self.x)
        self.mlp.backward(self.y)
        self.mlp.step()

    def time_fit_of_one_batch(self, network):
        self.mlp.fit(self.x, self.y, batch_size=len(self.x), shuffle=False)
