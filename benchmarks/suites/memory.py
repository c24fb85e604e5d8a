"""Memory of a training; it must not grow with the number of epochs."""

import numpy as np

from benchmarks.networks import NETWORKS

_ROWS = 12_800


class Fit:
    param_names = ("epochs",)
    params = ([1, 10, 40],)

    def setup_cache(self):
        # In a process of its own: the compiler's memory would count as the training's.
        self.setup(1)
        self.peakmem_fit(1)

    def setup(self, epochs):
        rng = np.random.default_rng(0)
        self.x, self.y = rng.random((_ROWS, 784), dtype=np.float32), rng.integers(0, 10, _ROWS)
        self.mlp = NETWORKS["784-128-10"].build()

    def peakmem_fit(self, epochs):
        self.mlp.fit(self.x, self.y, epochs=epochs, batch_size=128)
