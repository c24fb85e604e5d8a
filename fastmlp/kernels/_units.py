"""Arithmetic units: what multiplies the operands of the three products, and in which form.

A unit is a type. The compiler sees it as it sees a dtype, so one source of a product serves all,
and the machine code of several can live side by side, in one process and in one cache. (Its code
tells it from the others where Python compares units by value: empty tuples are all equal.)

- ``FloatUnit``: fused multiply-adds of the parameters' own dtype, on operands as they are.
- The others: operands rounded to bfloat16 (nearest, ties to even), two of them side by side in a
  uint32, a *pair*; sums in float32. What follows each other along the sum makes a pair, so a step
  of a product takes a pair from either side: c + a1*b1, rounded, + a0*b0, rounded. That is what
  ``vdpbf16ps`` was seen to do on Zen 4, and what ``EmulatedUnit`` does with fused multiply-adds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from numba.core.extending import overload

from ._host import tile_rows
from ._jit import HELPER_OPTIONS


class FloatUnit(NamedTuple):
    """Fused multiply-adds."""

    code: int = 0


class EmulatedUnit(NamedTuple):
    """Pairs, taken apart and multiplied by fused multiply-adds: for any processor."""

    code: int = 1


class Avx512Unit(NamedTuple):
    """Pairs, multiplied by AVX-512's ``vdpbf16ps``."""

    code: int = 2


class AmxUnit(NamedTuple):
    """Pairs, multiplied by AMX's ``tdpbf16ps``."""

    code: int = 3


Unit = FloatUnit | EmulatedUnit | Avx512Unit | AmxUnit
FLOATS = FloatUnit()

# A register of AMX has 16 rows of 16 pairs.
AMX_ROWS = AMX_PAIRS = 16


def unit_rows(unit: type[Unit], itemsize: int) -> int:
    """Rows of a unit's tile for accumulators of ``itemsize`` bytes."""
    return AMX_ROWS if issubclass(unit, AmxUnit) else tile_rows(itemsize)


def rows_together(unit: type[Unit]) -> int:
    """Rows of a batch that are put into operands at once, by one thread."""
    if issubclass(unit, FloatUnit):
        return 1
    return AMX_ROWS if issubclass(unit, AmxUnit) else 2


def depth_multiple(unit: type[Unit]) -> int:
    """Numbers that depths are padded to whole multiples of, with zeros."""
    if issubclass(unit, FloatUnit):
        return 1
    return 2 * AMX_PAIRS if issubclass(unit, AmxUnit) else 2


def step_depth(unit: type[Unit]) -> int:
    """Numbers that a step of a product takes from a row or column."""
    return 1 if issubclass(unit, FloatUnit) else 2


def by_unit(stub: Callable[..., Any]) -> Callable[..., None]:
    """Let compiled code call ``stub(unit, ...)``, which runs the function for that unit.

    ``by_unit(stub)(floats, pairs, squares)`` runs ``floats`` for ``FloatUnit``, ``squares`` for
    ``AmxUnit`` where it is given, and ``pairs`` for all others.
    """

    def implement(
        floats: Callable[..., Any],
        pairs: Callable[..., Any],
        squares: Callable[..., Any] | None = None,
    ) -> None:
        @overload(stub, strict=False, jit_options=HELPER_OPTIONS)
        def choose(unit, *rest):
            if issubclass(unit.instance_class, FloatUnit):
                return floats
            return squares if squares and issubclass(unit.instance_class, AmxUnit) else pairs

    return implement
