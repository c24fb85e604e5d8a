"""Ratios of times that were taken in turns: they say more than times on a machine that varies."""

import time
from statistics import median

import numpy as np

import fastmlp
from benchmarks.compare._probe import read_gbytes
from benchmarks.networks import NETWORKS, Network

_DEFAULT_THREADS = fastmlp.get_num_threads()
_TURNS = 15

# Networks that are hardly worth a thread, down to a handful of units.
_SMALL = {
    "4-8-2, batch 1": Network((4, 8, 2), "relu", 1, 0.01),
    "16-32-4, batch 8": Network((16, 32, 4), "relu", 8, 0.01),
    "64-64-10, batch 32": Network((64, 64, 10), "relu", 32, 0.01),
    "784-32-32-32-10, batch 100": Network((784, 32, 32, 32, 10), "sigmoid", 100, 0.01),
    "784-64-64-32-10, batch 100": NETWORKS["784-64-64-32-10"],
    "784-128-10, batch 32": NETWORKS["784-128-10"],
}
_STEPS = 400


class SmallNetworks:
    """Training with the default number of threads over training on one: at most about 1."""

    param_names = ("network",)
    params = (list(_SMALL),)

    def setup(self, network):
        self.network = _SMALL[network]
        rows = _STEPS * self.network.batch_size
        rng = np.random.default_rng(0)
        self.x = rng.random((rows, self.network.sizes[0]), dtype=np.float32)
        self.y = rng.integers(0, self.network.sizes[-1], rows)
        self.mlp = self.network.build()
        self._seconds(_DEFAULT_THREADS)

    def teardown(self, network):
        fastmlp.set_num_threads(_DEFAULT_THREADS)

    def _seconds(self, threads):
        fastmlp.set_num_threads(threads)
        history = self.mlp.fit(self.x, self.y, batch_size=self.network.batch_size, seed=0)
        return history.epoch_seconds[0]

    def track_default_over_one_thread(self, network):
        turns = [(self._seconds(_DEFAULT_THREADS), self._seconds(1)) for _ in range(_TURNS)]
        return median(default for default, _ in turns) / median(one for _, one in turns)

    track_default_over_one_thread.unit = "of one thread's time"


class OneRow:
    """``predict`` of a row over reading the weights from cache, both on one thread."""

    _CALLS = 500

    def setup(self):
        self.mlp = NETWORKS["784-512-512-10"].build()
        self.row = np.random.default_rng(0).random((1, 784), dtype=np.float32)
        self.weights_bytes = sum(layer.W.nbytes for layer in self.mlp.linear_layers)
        self.mlp.predict(self.row)
        self._reading()

    def _reading(self):
        return self.weights_bytes / (1e9 * read_gbytes(self.weights_bytes, parts=1))

    def _predicting(self):
        started = time.perf_counter()
        for _ in range(self._CALLS):
            self.mlp.predict(self.row)
        return (time.perf_counter() - started) / self._CALLS

    def track_predict_over_reading_weights(self):
        return median(self._predicting() / self._reading() for _ in range(_TURNS))

    track_predict_over_reading_weights.unit = "of the time to read the weights"
