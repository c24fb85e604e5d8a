"""Blocks of rows for the tests: arrays that are cut, and sequences that say who reads them."""

import threading

import numpy as np

THREAD = "fastmlp-blocks"


def cut(arrays, places):
    """A list of blocks, which may be empty, of arrays that are cut before these rows."""
    return list(zip(*(np.split(array, places) for array in arrays), strict=True))


class Watched:
    """Blocks whose reads are written down: (number, the name of the thread)."""

    def __init__(self, blocks, counted=True):
        self._blocks, self.reads = blocks, []
        if counted:
            self.row_counts = [len(block[0]) for block in blocks]

    def __len__(self):
        return len(self._blocks)

    def __getitem__(self, number):
        self.reads.append((number, threading.current_thread().name))
        return self._blocks[number]

    @property
    def numbers(self):
        """Of the blocks that threads of a fit have read."""
        return [number for number, name in self.reads if name == THREAD]


class Broken(Watched):
    """Raises an error instead of one of them, until it is mended."""

    def __init__(self, blocks, number, error):
        super().__init__(blocks)
        self.number, self._error = number, error

    def __getitem__(self, number):
        if number == self.number:
            raise self._error
        return super().__getitem__(number)


def order_of(rng, counts, window, rows):
    """The rows that an epoch takes, as ``fit`` draws them from its generator: what the tests think
    it is.

    window : rows of one, whole batches    rows : of the epoch, whose last ones may be left out
    """
    starts = np.cumsum([0, *counts])
    blocks = rng.permutation(len(counts))
    seed = int(rng.integers(1 << 63))
    stream = np.concatenate([np.arange(starts[b], starts[b + 1]) for b in blocks])
    windows = [stream[first : min(first + window, rows)] for first in range(0, rows, window)]
    return np.concatenate([
        each[np.random.default_rng([seed, number]).permutation(len(each))]
        for number, each in enumerate(windows)
    ])  # fmt: skip


def readers_alive():
    """Threads that read blocks."""
    return [t for t in threading.enumerate() if t.name == THREAD]
