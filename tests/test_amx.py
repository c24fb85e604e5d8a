"""The AMX unit: its layouts and arithmetic in software, its instructions in the assembly.

No instruction of AMX is run here. What its squares read and write is checked with the registers
in memory and the instructions as loops; that the compiler makes the instructions, by compiling.
"""

import platform

import numpy as np
import pytest

from fastmlp.kernels import _host, _rates
from fastmlp.kernels._tile_amx import _CONFIGURATION
from tests import test_bfloat16, test_epoch, test_fit, test_threads, test_vocabulary
from tests.networks import TOLERANCE, assert_close, batch, build
from tests.processes import output_of
from tests.software_amx import SoftwareAmxUnit, software_amx
from tests.whole import take_the_whole

pytestmark = pytest.mark.skipif(
    _host.lanes(4) != 16, reason="AMX comes with AVX-512, whose registers hold 16 numbers"
)


@pytest.fixture
def amx(monkeypatch):
    """bfloat16 is computed by the software's AMX."""
    with software_amx() as unit:
        monkeypatch.setattr(_rates, "bfloat16_unit", lambda: unit)
        take_the_whole(monkeypatch.setattr)
        yield unit


@pytest.mark.parametrize("rows", [1, 7, 16, 31, 32, 33, 700])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (31, 17), (32, 48), (33, 49), (97, 5)])
def test_products(amx, rows, inputs, outputs):
    test_bfloat16.check_products(amx, rows, inputs, outputs)


@pytest.mark.parametrize(("samples", "batch_size"), [(33, 1), (33, 7), (70, 32), (1200, 600)])
@pytest.mark.parametrize("network", test_fit.NETWORKS.values(), ids=test_fit.NETWORKS)
@pytest.mark.usefixtures("amx")
def test_fit_in_order_is_the_hand_written_loop(network, samples, batch_size):
    test_fit.test_fit_in_order_is_the_hand_written_loop(*network, "bfloat16", samples, batch_size)


@pytest.mark.long
@pytest.mark.parametrize("name", ["momentum", "adam"])
@pytest.mark.usefixtures("amx")
def test_all_vocabularies_end_in_the_same_bits(name, monkeypatch):
    test_vocabulary.test_all_vocabularies_end_in_the_same_bits(name, "bfloat16", monkeypatch)


@pytest.mark.parametrize("batch_size", [8, 40, 600])
@pytest.mark.parametrize("num_bn_layers", [0, 2])
@pytest.mark.usefixtures("amx")
def test_padding_holds_anything(batch_size, num_bn_layers, monkeypatch):
    test_epoch.test_padding_holds_anything(batch_size, num_bn_layers, "bfloat16", monkeypatch)


@pytest.mark.parametrize("train", [test_threads.by_hand, test_threads.by_fit])
@pytest.mark.usefixtures("amx")
def test_bits_do_not_depend_on_the_number_of_threads(train, monkeypatch):
    monkeypatch.setattr(test_threads.threads, "WORK_PER_THREAD", 1)
    before = test_threads.fastmlp.get_num_threads()
    try:
        network = test_threads.NETWORKS["around a tile"]
        test_threads.test_bits_do_not_depend_on_the_number_of_threads(network, train, "bfloat16")
    finally:
        test_threads.fastmlp.set_num_threads(before)


@pytest.mark.usefixtures("amx")
def test_a_few_rows_are_predicted_as_many_are():
    """Within rounding: AMX adds up in an order of its own."""
    mlp = build([97, 33, 5], dtype="bfloat16")
    x, _, _ = batch(9, 97, 5, dtype=np.float32)
    assert_close(mlp.predict_proba(x[:3]), mlp.predict_proba(x)[:3], TOLERANCE[np.dtype("f4")])


def test_the_fastest_unit_may_be_amx(monkeypatch):
    monkeypatch.setattr(_rates, "has_amx", lambda: True)
    monkeypatch.setattr(_rates, "peak_gflops", lambda unit, *rest: type(unit).__name__ == "AmxUnit")
    assert type(_rates.fastest_unit()).__name__ == "AmxUnit"


def test_the_configuration():
    """Palette 1 at byte 0; for registers 0 to 7 bytes of a row from 16 on, rows from 48 on."""
    words = np.frombuffer(_CONFIGURATION, np.uint16)
    assert len(_CONFIGURATION) == 64
    assert _CONFIGURATION[0] == 1
    assert not any(_CONFIGURATION[1:16])
    assert list(words[8:16]) == [64] * 8
    assert not any(_CONFIGURATION[32:48])
    assert list(_CONFIGURATION[48:56]) == [16] * 8
    assert not any(_CONFIGURATION[56:])


ASSEMBLY = """
import re
import numba
import numpy as np
from fastmlp.kernels import _tile, _tile_products
from fastmlp.kernels.present import ALL_FEATURES
from tests.numerics import compiled
from fastmlp.kernels._units import AmxUnit

@compiled
def product(unit, c, a, pitch, b, depth):
    _tile_products.tiles_begin(unit)
    tile = _tile.tile_zeros(unit, c, 3)
    tile = _tile_products.tile_multiply_blocks(unit, tile, a, 0, pitch, b, 0, depth, ALL_FEATURES)
    _tile.tile_store(tile, c, 0, 48, 16)
    _tile_products.tiles_end(unit)

floats, pairs = np.zeros(1, np.float32), np.zeros(1, np.uint32)
product.compile(tuple(map(numba.typeof, (AmxUnit(), floats, pairs, 1, pairs, 1))))
(assembly,) = product.inspect_asm().values()
order = re.findall("ldtilecfg|tileloadd|tdpbf16ps|tilestored|tilerelease", assembly)
print(*dict.fromkeys(order))
print(re.findall(r"tdpbf16ps\\s+(.*)", assembly)[:3])
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AMX is x86-64's")
def test_the_instructions_are_made():
    """b's register, a's, and that of the sums, in the assembler's order."""
    environment = {"NUMBA_CPU_NAME": "sapphirerapids", "NUMBA_CPU_FEATURES": ""}
    order, products = output_of("-c", ASSEMBLY, **environment).splitlines()
    assert order == "ldtilecfg tileloadd tdpbf16ps tilestored tilerelease"
    assert products == str([f"%tmm{4 + v}, %tmm3, %tmm{v}" for v in range(3)])


def test_software_is_not_taken_for_hardware():
    assert not any(isinstance(unit, SoftwareAmxUnit) for unit in test_bfloat16.PAIR_UNITS)
