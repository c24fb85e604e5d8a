"""The machine's own limits: FMA peak, memory bandwidth, and how fast weights come from cache.

The peak is ``fastmlp._speed``'s. Bandwidths count the bytes that the program reads or writes.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numba
import numpy as np

from fastmlp import threads
from fastmlp._speed import peak_gflops, share_together
from fastmlp.kernels._host import aligned_zeros, lanes
from fastmlp.kernels._jit import OPTIONS
from fastmlp.kernels._memory import load, store
from fastmlp.kernels._simd import vector_lanes
from fastmlp.kernels._sync import barrier, share

from ._workloads import Workload

_BURSTS = 5
_ARRAY_BYTES = 1 << 28


@numba.njit(**OPTIONS)
def _read(team, sums, x, times):
    """Sum of x in each part's first vector of sums, ``times`` over; eight sums hide the latency."""
    lanes = vector_lanes(x)
    begin, end = share(team, x.size // (8 * lanes))
    s0 = load(x, 0) * 0
    s1, s2, s3, s4, s5, s6, s7 = s0, s0, s0, s0, s0, s0, s0
    for _ in range(times):
        for i in range(begin * 8 * lanes, end * 8 * lanes, 8 * lanes):
            s0 = s0 + load(x, i)
            s1 = s1 + load(x, i + lanes)
            s2 = s2 + load(x, i + 2 * lanes)
            s3 = s3 + load(x, i + 3 * lanes)
            s4 = s4 + load(x, i + 4 * lanes)
            s5 = s5 + load(x, i + 5 * lanes)
            s6 = s6 + load(x, i + 6 * lanes)
            s7 = s7 + load(x, i + 7 * lanes)
    store(sums, team.part * lanes, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7)
    barrier(team)


@numba.njit(**OPTIONS)
def _triad(team, a, b, c):
    """a = b + 3 * c."""
    lanes = vector_lanes(a)
    begin, end = share(team, a.size // lanes)
    for i in range(begin * lanes, end * lanes, lanes):
        store(a, i, load(b, i) + 3 * load(c, i))
    barrier(team)


def read_gbytes(size: int, parts: int) -> float:
    """GB/s of reading an array of ``size`` bytes again and again on ``parts`` threads."""
    x = aligned_zeros(size // 4, np.float32)
    sums = aligned_zeros(parts * lanes(4), np.float32)
    times = max(1, _ARRAY_BYTES // size)
    return times * size / _on_threads(_read, parts, sums, x, times) / 1e9


def triad_gbytes(parts: int) -> float:
    """GB/s of a = b + 3 * c on arrays far larger than the cache, two reads and a write."""
    arrays = [aligned_zeros(_ARRAY_BYTES // 4, np.float32) for _ in range(3)]
    return 3 * _ARRAY_BYTES / _on_threads(_triad, parts, *arrays) / 1e9


def _on_threads(function: Any, parts: int, *arguments: Any, times: int = _BURSTS) -> float:
    return _best(lambda: threads.run(function, parts, arguments), times)


def _best(function: Any, times: int) -> float:
    """Least seconds of a few calls."""
    best = np.inf
    for _ in range(times):
        started = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - started)
    return best


class Peak:
    """The peak in what the workload computes in, and how much of it all threads reach together."""

    def __init__(self, workload: Workload) -> None:
        self.dtype = workload.compute_dtype or workload.dtype
        self.gflops = 0.0

    def run(self, seed: int) -> dict[str, float]:
        self.gflops = peak_gflops(self.dtype)
        together = share_together(self.dtype, threads.get_num_threads(), self.gflops)
        return {"gflops": self.gflops, "together": together}

    def figure(self) -> float:
        return self.gflops


def limits(weights_bytes: int, parts: int) -> dict[str, float]:
    """Peaks and bandwidths for the record; ``weights_bytes`` are the first network's."""
    return {
        "peak_float32_gflops": peak_gflops(np.float32),
        "peak_float64_gflops": peak_gflops(np.float64),
        "peak_bfloat16_gflops": peak_gflops("bfloat16"),
        "read_gbytes": read_gbytes(_ARRAY_BYTES, parts),
        "triad_gbytes": triad_gbytes(parts),
        "weights_read_1_thread_gbytes": read_gbytes(weights_bytes, 1),
        "weights_read_gbytes": read_gbytes(weights_bytes, parts),
    }


class Limits:
    """All of them at once."""

    def __init__(self, workload: Workload) -> None:
        sizes = workload.network.sizes
        self.weights = 4 * sum(a * b for a, b in pairwise(sizes))

    def run(self, seed: int) -> dict[str, float]:
        return limits(self.weights, threads.get_num_threads())

    def figure(self) -> float:
        return 0.0


JOBS = dict.fromkeys(("train", "course", "inference", "record"), Peak) | {"limits": Limits}
