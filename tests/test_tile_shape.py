"""The tile's shape from a processor's registers; on arm64 as its machine code shows it."""

import re

import llvmlite.binding as llvm
import pytest

from fastmlp.kernels._host import (
    ARM64,
    TILE_VECTORS,
    Registers,
    Shape,
    lanes,
    shape_for,
    tile_rows,
    vector_registers,
)
from tests.arm64 import assembly
from tests.processes import output_of

AVX512, AVX2, SSE2 = Registers(512, 32), Registers(256, 16), Registers(128, 16)
SHAPES = {
    (AVX512, 4): Shape(1, 16, 8),
    (AVX512, 8): Shape(1, 8, 8),
    (AVX2, 4): Shape(1, 8, 4),
    (AVX2, 8): Shape(1, 4, 4),
    (SSE2, 4): Shape(1, 4, 4),
    (SSE2, 8): Shape(1, 2, 2),
    (ARM64, 4): Shape(2, 8, 4),
    (ARM64, 8): Shape(2, 4, 4),
}


@pytest.mark.parametrize(("registers", "itemsize"), SHAPES)
def test_shape(registers, itemsize):
    """Registers of a vector, lanes, rows; accumulators, operands and a broadcast have a place."""
    shape = shape_for(registers, itemsize)
    assert shape == SHAPES[registers, itemsize]
    assert TILE_VECTORS * shape.registers * (shape.rows + 1) + 1 <= registers.count


def test_shape_here():
    registers = vector_registers()
    for itemsize in (4, 8):
        shape = SHAPES[registers, itemsize]
        assert (lanes(itemsize), tile_rows(itemsize)) == (shape.lanes, shape.rows)


# Apple's M1 and M4, Arm's Neoverse V1, V2 and N1, a Raspberry Pi, and any other.
PROCESSORS = "apple-m1", "apple-m4", "neoverse-v1", "neoverse-v2", "neoverse-n1", "cortex-a72", ""
# Where LLVM 20, which Numba has before 0.66, puts two of the accumulators elsewhere and back.
NOT_KEPT = {("transposed", 3, "neoverse-n1")} if llvm.llvm_version_info < (21,) else set()
PIPES, CYCLES, LOADS_A_CYCLE = 4, 4, 3
PRODUCTS = "blocks", "transposed"

COMPILE = """
import sys
from pathlib import Path
import numba
from tests import arm64
arm64.take_its_shape()
from fastmlp.kernels._units import FLOATS
from tests import test_tile

for vectors, (*products, _) in test_tile.PRODUCTS.items():
    for name, product in zip(("blocks", "transposed"), products, strict=True):
        for dtype in (numba.float32, numba.float64):
            array = dtype[::1]
            product.compile((numba.typeof(FLOATS), array, array, numba.intp, array, numba.intp))
            code = product.inspect_llvm(product.signatures[-1])
            Path(sys.argv[1], f"{name}-{dtype}-{vectors}").write_text(code)
"""


@pytest.fixture(scope="module")
def codes(tmp_path_factory):
    """A folder with the LLVM code of both products, for every dtype and width."""
    folder = tmp_path_factory.mktemp("codes")
    output_of("-c", COMPILE, str(folder))
    return folder


def stretches(text):
    """Instructions that run one after the other, without a branch in or out, if some multiply."""
    for stretch in re.split(r"^(?:\.?L\w+:|\t(?:b|cbn?z|tbn?z)\b).*", text, flags=re.MULTILINE):
        if "\tfmla\t" in stretch:
            yield stretch


def loads(stretch):
    return sum(1 + (name == "ldp") for name in re.findall(r"\t(ldu?r|ldp|ld1r)\t", stretch))


@pytest.mark.parametrize("vectors", range(1, TILE_VECTORS + 1))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("product", PRODUCTS)
def test_arm64_keeps_the_tile_in_registers(codes, product, dtype, vectors):
    """Nothing of it goes to memory in a loop; pipes never wait for a sum, nor for the loads.

    A panel of one vector has 8 accumulators, which suffice for half of the pipes.
    """
    code = (codes / f"{product}-{dtype}-{vectors}").read_text()
    shape = SHAPES[ARM64, 4]
    accumulators = shape.rows * shape.registers * vectors
    assert accumulators >= PIPES * CYCLES or vectors == 1
    # One of a's numbers at a time, or all of them by lane from as few registers as hold them.
    of_a = shape.rows if product == "blocks" else shape.rows * (4 if dtype == "float32" else 8) / 16
    for processor in PROCESSORS:
        if (product, vectors, processor) in NOT_KEPT:
            continue
        found = list(stretches(assembly(code, cpu=processor)))
        assert found
        for stretch in found:
            sums = re.findall(r"\tfmla\t(v\d+)", stretch)
            turns, rest = divmod(len(sums), accumulators)
            assert rest == 0, processor
            assert len(set(sums)) == accumulators, processor
            assert not re.search(r"\tf(mul|add)\t|\[sp", stretch), processor
            assert loads(stretch) <= turns * (shape.registers * vectors + of_a), processor
            assert loads(stretch) * PIPES <= len(sums) * LOADS_A_CYCLE, processor
