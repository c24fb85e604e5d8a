"""The register tile on pairs of bfloat16: what takes the place of a fused multiply-add.

Either function maps registers of pairs a and b and of float32 sums c to c + a1*b1 + a0*b0 in every
lane: the second numbers' product is added first, and each sum is rounded.
"""

from __future__ import annotations

from llvmlite import ir

from ._bfloat16 import BFloatType, call_ir, numbers_ir
from ._simd import fma_ir


def multiply_emulated_ir(builder, a, b, c):
    """By two fused multiply-adds on numbers taken out of the pairs."""
    for upper in (True, False):
        c = fma_ir(builder, numbers_ir(builder, a, upper), numbers_ir(builder, b, upper), c)
    return c


def multiply_avx512_ir(builder, a, b, c):
    """By AVX-512-BF16, which takes numbers and sums below 2**-126 for zeros."""
    halves = ir.VectorType(BFloatType(), 2 * c.type.count)
    operands = builder.bitcast(a, halves), builder.bitcast(b, halves)
    return call_ir(builder, "llvm.x86.avx512bf16.dpbf16ps.512", c.type, c, *operands)
