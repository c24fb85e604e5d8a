"""What the processor offers: vector registers, and what the kernels make of them: vectors, a tile.

LLVM is asked for the machine it will compile for, which ``NUMBA_CPU_NAME`` and
``NUMBA_CPU_FEATURES`` may have changed, so that tests can run the code of an older processor.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import platform
import re
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numba.core import config

_PROBE = """
define <16 x float> @probe(<16 x float> %a, <16 x float> %b) {
  %c = fadd <16 x float> %a, %b
  ret <16 x float> %c
}
"""


def _target_machine():
    """The machine that Numba compiles for, chosen as Numba's code generator chooses it."""
    name = config.CPU_NAME or llvm.get_host_cpu_name()
    if config.CPU_FEATURES is not None:
        features = config.CPU_FEATURES
    else:
        features = "" if config.CPU_NAME else llvm.get_host_cpu_features().flatten()
    target = llvm.Target.from_default_triple()
    return target.create_target_machine(cpu=name, features=features, opt=1)


class Registers(NamedTuple):
    """The vector registers of a processor."""

    bits: int  # of each
    count: int
    by_lane: bool = False  # a multiply-add can take one lane of a register as a factor for all


ARM64 = Registers(128, 32, by_lane=True)


@functools.cache
def vector_registers() -> Registers:
    """Those that the compiler uses, read off a compiled addition."""
    assembly = _assembly(_PROBE)
    if re.search(r"%zmm", assembly):
        return Registers(512, 32)
    if re.search(r"%ymm", assembly):
        return Registers(256, 16)
    if llvm.get_process_triple().startswith(("aarch64", "arm64")):
        return ARM64
    return Registers(128, 16)


_ROUNDING = """
define <16 x bfloat> @probe(<16 x float> %a) {
  %b = fptrunc <16 x float> %a to <16 x bfloat>
  ret <16 x bfloat> %b
}
"""


def _assembly(source: str) -> str:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return _target_machine().emit_assembly(llvm.parse_assembly(source))


@functools.cache
def has_bfloat16() -> bool:
    """Whether the processor has AVX-512-BF16, read off a compiled rounding to bfloat16."""
    return bool(re.search(r"vcvtneps?2bf16.*%zmm", _assembly(_ROUNDING)))


# Processors whose names stand for AMX with bfloat16, where Numba compiles for a name.
_AMX_NAMES = "sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d", "diamondrapids"
# Linux, arch/x86/include/uapi/asm/prctl.h: permission to use a part of the register state.
_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA = 158, 0x1023, 18


@functools.cache
def has_amx() -> bool:
    """Whether code for AMX's bfloat16 can run: processor, compiler and system let it.

    Linux wants to be asked, once per process and before any thread uses it.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    if config.CPU_NAME:
        compiled = config.CPU_NAME in _AMX_NAMES or "+amx-bf16" in (config.CPU_FEATURES or "")
    else:
        compiled = True
    if not (compiled and llvm.get_host_cpu_features().get("amx-bf16")):
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.syscall(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA) == 0)


# A vector of the kernels is a register, or some side by side: so many may be.
_REGISTERS_OF_A_VECTOR = 1, 2, 4

TILE_VECTORS = 3


class Shape(NamedTuple):
    """What the kernels make of registers for numbers of one size."""

    registers: int  # that make a vector
    lanes: int  # numbers in a vector
    rows: int  # of the register tile


def _shape_with(registers: Registers, itemsize: int, group: int) -> Shape:
    """The tile of most rows, a power of two, where ``group`` registers make a vector.

    A tile of r rows and 3 vectors of g registers keeps 3rg accumulators, 3g operands and a
    broadcast in registers. It never spans two blocks of features, so it has no more rows than a
    vector has lanes.
    """
    count = group * registers.bits // (8 * itemsize)
    most = (registers.count - 1) // (TILE_VECTORS * group) - 1
    return Shape(group, count, min(count, 1 << most.bit_length() >> 1))


def shape_for(registers: Registers, itemsize: int) -> Shape:
    """The shape with the most accumulators; among equals, with the shortest vectors.

    A multiply-add waits for the last one into its accumulator: to keep all pipes busy takes as many
    accumulators as there are pipes, times the cycles until a sum is there. AVX-512 and AVX2, with
    two pipes of 4 or 5 cycles, want 10, and get 24 and 12. Four pipes of 4 cycles, as in Apple's M1
    (Johnson, "Apple Microarchitecture Research") and Arm's Neoverse V1 and V2 (their "Software
    Optimization Guide"s), want 16. One register of 128 bits a vector would give arm64 12, and 6 in
    float64, with more loads than their three a cycle; two give it 24, for 10 loads in 6 cycles, and
    16 in a panel of two vectors.
    """
    shapes = [_shape_with(registers, itemsize, group) for group in _REGISTERS_OF_A_VECTOR]
    return max(shapes, key=lambda shape: shape.registers * shape.rows)


def multiplies_by_lane() -> bool:
    """Whether a register of numbers serves a multiply-add lane by lane, without broadcasts."""
    return vector_registers().by_lane


@functools.cache
def lanes(itemsize: int) -> int:
    """Numbers of ``itemsize`` bytes in a vector."""
    return shape_for(vector_registers(), itemsize).lanes


@functools.cache
def tile_rows(itemsize: int) -> int:
    """Rows of the register tile for accumulators of ``itemsize`` bytes."""
    return shape_for(vector_registers(), itemsize).rows


def aligned_empty(size: int, dtype, allocate: Callable[..., np.ndarray] = np.empty) -> np.ndarray:
    """An uninitialised 1-D array that starts on a cache line, so that no vector straddles two.

    With ``allocate=np.zeros`` it holds zeros, and pages that are never touched take no memory.
    """
    dtype = np.dtype(dtype)
    raw = allocate(size * dtype.itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size * dtype.itemsize].view(dtype)


# Arrays of more bytes in all are allocated one by one: C libraries ask the system for the largest
# pieces of memory anew in every call.
WHOLE_BYTES = 1 << 24


def aligned_arrays(
    sizes: Sequence[int], dtype, allocate: Callable[..., np.ndarray] = np.empty
) -> tuple[np.ndarray, ...]:
    """1-D arrays of those sizes, each like ``aligned_empty``; one allocation for small ones.

    A step by hand of 784-32-32-32-10 makes 36 such arrays: with this it took 0.94 of the time.
    """
    line = 64 // np.dtype(dtype).itemsize
    starts = [0, *itertools.accumulate(-(-size // line) * line for size in sizes)]
    if starts[-1] * np.dtype(dtype).itemsize > WHOLE_BYTES:
        return tuple([aligned_empty(size, dtype, allocate) for size in sizes])
    whole = aligned_empty(starts[-1], dtype, allocate)
    return tuple([whole[at : at + size] for at, size in zip(starts[:-1], sizes, strict=True)])


def aligned_zeros(size: int, dtype) -> np.ndarray:
    """A 1-D array of zeros that starts on a cache line; all its pages have been written to."""
    array = aligned_empty(size, dtype)
    array[:] = 0
    return array
