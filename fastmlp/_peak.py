"""The machine's own limit: how much arithmetic its threads can do."""

from __future__ import annotations

from .kernels._rates import flops_of_burst, seconds_of_burst, unit_for

_BURST_SECONDS = 0.02
_BURSTS = 5


def peak_gflops(dtype: str, threads: int) -> float:
    """GFLOP/s of so many threads together, in the register tile on operands in their caches.

    The best of five bursts, a tenth of a second in all; the first call may compile besides.

    dtype : "float32", "float64", or "bfloat16" by the unit that is fastest for it
    """
    unit, sums = unit_for(dtype), "float32" if dtype == "bfloat16" else dtype
    # How many turns make a burst is found on one thread.
    turns = int(_BURST_SECONDS / seconds_of_burst(unit, sums, 1, 1000, 3)) + 1
    seconds = seconds_of_burst(unit, sums, threads, turns, _BURSTS)
    return threads * flops_of_burst(unit, sums) / seconds / 1e9
