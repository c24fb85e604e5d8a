"""Measures how fast units multiply, and chooses the one for bfloat16 on this machine.

A flag says that a processor has an instruction, not that it is fast: of two Intel and AMD servers
with ``vdpbf16ps``, it runs at twice the rate of float32 on one and at half of it on the other.
"""

from __future__ import annotations

import time
import warnings

import numpy as np
from numba.core.compiler_lock import global_compiler_lock

from .. import threads
from ._host import TILE_VECTORS, aligned_zeros, has_amx, has_bfloat16, lanes
from ._jit import entry
from ._simd import vector_lanes
from ._sync import barrier
from ._tile import tile_store, tile_zeros
from ._tile_products import tile_multiply_transposed, tiles_begin, tiles_end
from ._units import (
    FLOATS,
    AmxUnit,
    Avx512Unit,
    EmulatedUnit,
    FloatUnit,
    Unit,
    step_depth,
    unit_rows,
)

# Steps of the product in one burst: its operands then take 16 KB, half of a first-level cache.
_STEPS = 64
_CHOICE_SECONDS = 0.002
_CHOICE_BURSTS = 5


@entry
def _multiply(team, unit, a, b, c, times):
    """The same burst on every thread; c is as large as all their tiles."""
    lanes = vector_lanes(c)
    barrier(team)
    tiles_begin(unit)
    tile = tile_zeros(unit, c, 3)
    for _ in range(times):
        tile = tile_multiply_transposed(unit, tile, a, 0, b, 0, _STEPS, _STEPS)
    tile_store(tile, c, team.part * (c.size // team.parts), 3 * lanes, lanes)
    tiles_end(unit)
    barrier(team)


def flops_of_burst(unit: Unit, dtype) -> int:
    """Multiplications and additions of one turn of the register tile."""
    itemsize = np.dtype(dtype).itemsize
    width, height = TILE_VECTORS * lanes(itemsize), unit_rows(type(unit), itemsize)
    return 2 * _STEPS * step_depth(type(unit)) * height * width


def seconds_of_burst(unit: Unit, dtype, parts: int, turns: int, bursts: int) -> float:
    """Of one turn of the register tile on ``parts`` threads at once, best of some bursts.

    The operands lie in the first-level cache and are zeros.
    """
    itemsize = np.dtype(dtype).itemsize
    width, height = lanes(itemsize), unit_rows(type(unit), itemsize)
    operand = dtype if isinstance(unit, FloatUnit) else np.uint32
    a = aligned_zeros(_STEPS * width, operand)
    b = aligned_zeros(_STEPS * width * TILE_VECTORS, operand)
    c = aligned_zeros(parts * height * TILE_VECTORS * width, dtype)
    best = np.inf
    for _ in range(bursts):
        started = time.perf_counter()
        threads.run(_multiply, parts, (unit, a, b, c, turns))
        best = min(best, time.perf_counter() - started)
    return best / turns


def peak_gflops(unit: Unit, dtype, seconds: float, bursts: int) -> float:
    """Best of a few bursts of the register tile on one thread, each of about ``seconds``."""
    # The first calls compile, and show how many turns make a burst of that length.
    turns = int(seconds / seconds_of_burst(unit, dtype, 1, 1000, 3)) + 1
    return flops_of_burst(unit, dtype) / seconds_of_burst(unit, dtype, 1, turns, bursts) / 1e9


# The unit for bfloat16, once it has been measured.
_fastest: list[Unit] = []


def bfloat16_unit() -> Unit:
    """The fastest unit of pairs that the processor has, measured once per process."""
    if not _fastest:
        # A fork waits for this lock.
        with global_compiler_lock:
            if not _fastest:
                _fastest.append(fastest_unit())
    return _fastest[0]


def fastest_unit() -> Unit:
    """The unit of pairs that is the fastest now.

    Warns with a RuntimeWarning where there is only the emulation.
    """
    candidates: list[Unit] = [EmulatedUnit()]
    if has_bfloat16():
        candidates.append(Avx512Unit())
    if has_amx():
        candidates.append(AmxUnit())
    if len(candidates) > 1:
        rates = [
            peak_gflops(unit, np.float32, _CHOICE_SECONDS, _CHOICE_BURSTS) for unit in candidates
        ]
        return candidates[int(np.argmax(rates))]
    warnings.warn(
        "this processor has no instruction that multiplies bfloat16: rounded operands are "
        "multiplied in float32, which is no faster than compute_dtype='float32'",
        RuntimeWarning,
        stacklevel=3,
    )
    return candidates[0]


def unit_for(compute_dtype: str | None) -> Unit:
    """The unit for a compute dtype: of pairs for "bfloat16", of floats for any other."""
    return bfloat16_unit() if compute_dtype == "bfloat16" else FLOATS
