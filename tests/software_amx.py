"""AMX's registers in memory and its instructions as loops, for processors that have none.

The kernels then compute what they would on AMX: the same tiles, squares, strides and padding. Only
the order of a sum differs, which the manual leaves to 32 products at a time.
"""

import contextlib

from llvmlite import ir
from numba.core import cgutils

from fastmlp.kernels import _tile_products
from fastmlp.kernels._simd import splat_ir
from fastmlp.kernels._tile_bf16 import multiply_emulated_ir
from fastmlp.kernels._units import AmxUnit

_INT32, _INT64 = ir.IntType(32), ir.IntType(64)
_PAIRS = ir.VectorType(_INT32, 16)
_SUMS = ir.VectorType(ir.FloatType(), 16)


class SoftwareAmxUnit(AmxUnit):
    """The unit whose instructions are loops."""


class SoftwareRegisters:
    """Eight registers of 16 rows of 64 bytes, each a place in the function's own memory."""

    def __init__(self, builder):
        self.builder = builder
        self.rows = []
        with builder.goto_entry_block():
            for _ in range(8):
                register = builder.alloca(_PAIRS, 16)
                register.align = 64
                self.rows.append(register)

    def configure(self):
        pass

    def release(self):
        pass

    def _row(self, register, row, kind=_PAIRS):
        address = self.builder.gep(self.rows[register], [row])
        return self.builder.bitcast(address, kind.as_pointer())

    def _outside(self, address, stride, row):
        start = self.builder.ptrtoint(address, _INT64)
        place = self.builder.add(start, self.builder.mul(row, _INT64(stride)))
        return self.builder.inttoptr(place, _PAIRS.as_pointer())

    def load(self, register, address, stride):
        with cgutils.for_range(self.builder, _INT64(16)) as loop:
            row = self.builder.load(self._outside(address, stride, loop.index), align=4)
            self.builder.store(row, self._row(register, loop.index), align=64)

    def store(self, register, address, stride):
        with cgutils.for_range(self.builder, _INT64(16)) as loop:
            row = self.builder.load(self._row(register, loop.index), align=64)
            self.builder.store(row, self._outside(address, stride, loop.index), align=4)

    def multiply(self, c, a, b):
        builder = self.builder
        with (
            cgutils.for_range(builder, _INT64(16)) as m,
            cgutils.for_range(builder, _INT64(16)) as k,
        ):
            numbers = builder.bitcast(self._row(a, m.index), _INT32.as_pointer())
            pair = builder.load(builder.gep(numbers, [k.index]))
            sums = self._row(c, m.index, _SUMS)
            columns = builder.load(self._row(b, k.index), align=64)
            total = multiply_emulated_ir(
                builder, splat_ir(builder, pair, 16), columns, builder.load(sums, align=64)
            )
            builder.store(total, sums, align=64)


@contextlib.contextmanager
def software_amx():
    """The unit, while kernels can be compiled for it."""
    _tile_products._SQUARES[SoftwareAmxUnit] = SoftwareRegisters
    try:
        yield SoftwareAmxUnit()
    finally:
        del _tile_products._SQUARES[SoftwareAmxUnit]
