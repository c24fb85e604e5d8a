"""Several networks side by side, one per core, against one after the other."""

import time

import numpy as np

import fastmlp
from benchmarks.networks import NETWORKS
from fastmlp.sweeps import train_many

_TURNS = 5
_ROWS = 12_800
_CORES = 2


class Sweep:
    """Eight networks, an epoch of 12,800 rows each."""

    param_names = ("network",)
    params = (["784-300-10", "784-128-10"],)

    def setup(self, network):
        rng = np.random.default_rng(0)
        self.x = rng.random((_ROWS, 784), dtype=np.float32)
        self.labels = rng.integers(0, 10, _ROWS)
        self._seconds(network, 1)

    def _seconds(self, network, cores):
        """Of all of them, on that many cores with a thread each."""
        fastmlp.set_num_threads(cores)
        case = NETWORKS[network]
        fits = [
            (case.build(), {"x": self.x, "labels": self.labels, "batch_size": case.batch_size})
            for _ in range(8)
        ]
        started = time.perf_counter()
        train_many(fits, cores)
        return time.perf_counter() - started

    def track_two_cores_over_one(self, network):
        """Time on two cores over time on one: 0.5 at best."""
        ratios = [self._seconds(network, _CORES) / self._seconds(network, 1) for _ in range(_TURNS)]
        return float(np.median(ratios))
