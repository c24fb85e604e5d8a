"""``predict`` on one row and on many."""

import numpy as np

from benchmarks.networks import NETWORKS


class Predict:
    param_names = ("rows", "dtype")
    params = ([1, 32, 10_000], ["float32", "float64"])

    def setup(self, rows, dtype):
        self.mlp = NETWORKS["784-512-512-10"].build(np.dtype(dtype).type)
        self.x = np.random.default_rng(0).random((rows, 784)).astype(dtype)
        self.mlp.predict(self.x)

    def time_predict(self, rows, dtype):
        self.mlp.predict(self.x)
