"""The most that the processor can do: fused multiply-adds of the register tile.

Its operands lie in the first-level cache, so nothing but the units that multiply limits it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .kernels import _rates

_BURST_SECONDS = 0.01
_BURSTS = 5
# Neighbours and the system's scheduler come and go in tenths of a second.
_TOGETHER_SECONDS = 0.2


def peak_gflops(dtype: Any) -> float:
    """Best of a few bursts of the register tile on one thread; "bfloat16" by the fastest unit."""
    unit, sums = _unit_and_sums(dtype)
    return _rates.peak_gflops(unit, sums, _BURST_SECONDS, _BURSTS)


def peak_together(dtype: Any, parts: int) -> float:
    """GFLOP/s of so many threads side by side, best of a few bursts: a tenth of a second."""
    unit, sums = _unit_and_sums(dtype)
    turns = int(_BURST_SECONDS / _rates.seconds_of_burst(unit, sums, 1, 1000, 3)) + 1
    seconds = _rates.seconds_of_burst(unit, sums, parts, turns, _BURSTS)
    return parts * _rates.flops_of_burst(unit, sums) / seconds / 1e9


def share_together(dtype: Any, parts: int, gflops: float) -> float:
    """Share of ``parts`` times a thread's peak that so many reach side by side for a while.

    1 where each has a core to itself; two virtual cores may be one of metal.
    """
    unit, sums = _unit_and_sums(dtype)
    flops = _rates.flops_of_burst(unit, sums)
    times = int(_TOGETHER_SECONDS * gflops * 1e9 / flops)
    return flops / _rates.seconds_of_burst(unit, sums, parts, times, 1) / 1e9 / gflops


def _unit_and_sums(dtype: Any) -> tuple[Any, Any]:
    """What multiplies operands of a dtype, and the dtype of its sums."""
    if dtype == "bfloat16":
        return _rates.unit_for("bfloat16"), np.float32
    return _rates.unit_for(np.dtype(dtype).name), dtype
