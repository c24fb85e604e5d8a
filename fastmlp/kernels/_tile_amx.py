"""The register tile on AMX: squares of 16 x 16 sums or pairs, in registers of their own.

    C[m, n] += sum over k < 16 of a(m, k) * b(k, n), pairs of bfloat16

A tile of C is up to three squares side by side. It lies in memory before and after: AMX's registers
are numbered in the instruction, and hold nothing that the compiler could keep. a's square has a row
of C in each of its rows; b's has 16 pairs of a panel's rows. Both are read where they lie, rows a
stride apart, and depths are padded to whole squares with zeros.

Reference: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2, TDPBF16PS; volume
1, chapter 18, for the configuration.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from ._bfloat16 import call_ir
from ._memory import load_ir, store_ir

SIDE = 16
_INT8, _INT64 = ir.IntType(8), ir.IntType(64)
_VOID = ir.VoidType()
_POINTER = _INT8.as_pointer()
_ROW_BYTES = 64

# Numbers of registers: three of sums, one of a, three of b.
_C, _A, _B = 0, 3, 4

# Palette 1, from row 0 on; 64 bytes a row and 16 rows in each of the eight registers.
_CONFIGURATION = bytes([1, 0, *[0] * 14, *[_ROW_BYTES, 0] * 8, *[0] * 16, *[SIDE] * 8, *[0] * 8])


def _number(register):
    return ir.Constant(_INT8, register)


class Registers:
    """AMX's instructions, on registers by number."""

    def __init__(self, builder):
        self.builder = builder

    def configure(self):
        content = cgutils.add_global_variable(
            self.builder.module, ir.ArrayType(_INT8, 64), "amx_configuration"
        )
        content.initializer = ir.Constant(content.type.pointee, bytearray(_CONFIGURATION))
        content.global_constant, content.linkage = True, "internal"
        pointer = self.builder.bitcast(content, _POINTER)
        call_ir(self.builder, "llvm.x86.ldtilecfg", _VOID, pointer)

    def release(self):
        call_ir(self.builder, "llvm.x86.tilerelease", _VOID)

    def load(self, register, address, stride):
        """A square whose rows lie ``stride`` bytes apart."""
        pointer = self.builder.bitcast(address, _POINTER)
        call_ir(
            self.builder, "llvm.x86.tileloadd64", _VOID, _number(register), pointer, _INT64(stride)
        )

    def store(self, register, address, stride):
        pointer = self.builder.bitcast(address, _POINTER)
        call_ir(
            self.builder, "llvm.x86.tilestored64", _VOID, _number(register), pointer, _INT64(stride)
        )

    def multiply(self, c, a, b):
        """c += a @ b."""
        call_ir(self.builder, "llvm.x86.tdpbf16ps", _VOID, _number(c), _number(a), _number(b))


def multiply_ir(builder, registers, tile, cells, a_of, b_of, b_stride, squares):
    """The tile's cells after ``squares`` more squares along the depth.

    a_of(square), b_of(square, vector) : their addresses; a's rows lie 64 bytes apart
    """
    with builder.goto_entry_block():
        memory = builder.alloca(cells[0].type, len(cells))
    memory.align = _ROW_BYTES
    for number, cell in enumerate(cells):
        store_ir(builder, cell, builder.gep(memory, [_INT64(number)]))
    row_stride = tile.vectors * _ROW_BYTES
    columns = [builder.gep(memory, [_INT64(v)]) for v in range(tile.vectors)]
    for v, column in enumerate(columns):
        registers.load(_C + v, column, row_stride)
    with cgutils.for_range(builder, squares) as loop:
        registers.load(_A, a_of(loop.index), _ROW_BYTES)
        for v in range(tile.vectors):
            registers.load(_B + v, b_of(loop.index, v), b_stride)
            registers.multiply(_C + v, _A, _B + v)
    for v, column in enumerate(columns):
        registers.store(_C + v, column, row_stride)
    return [
        load_ir(builder, builder.gep(memory, [_INT64(number)]), tile.vector)
        for number in range(len(cells))
    ]
