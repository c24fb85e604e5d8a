"""What the page on threads and containers says of machine code on other processors."""

import platform
import re

import pytest

from tests.processes import ROOT, output_of
from tests.small_kernels import files

PAGE = (ROOT / "docs" / "threads.md").read_text(encoding="utf-8")
# The page's own words: the variables of an image for several processors.
LEAST = dict(re.findall(r'(NUMBA_CPU_\w+)=("[^"]*"|[\w-]+)', PAGE))
LEAST = {name: value.strip('"') for name, value in LEAST.items()}


@pytest.fixture
def least(monkeypatch):
    """Numba compiles for the processor that the page names."""
    if platform.machine() not in ("x86_64", "AMD64"):
        pytest.skip("the page names a processor of x86-64")
    assert LEAST.keys() == {"NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"}
    for name, value in LEAST.items():
        monkeypatch.setenv(name, value)


def test_the_processor_that_the_page_names_has_avx2(least):
    program = "from fastmlp.kernels._host import vector_registers; print(vector_registers())"
    assert output_of("-c", program) == "Registers(bits=256, count=16, by_lane=False)\n"


TINY = """
from fastmlp.kernels import _jit

@_jit.entry
def increased(x):
    return x + 1

increased(1)
print(sum(increased.stats.cache_misses.values()), sum(increased.stats.cache_hits.values()))
"""


def compiled_and_loaded(program, cache):
    return tuple(map(int, output_of(program, NUMBA_CACHE_DIR=str(cache)).split()))


def test_code_serves_one_version_in_one_place(tmp_path):
    """There and unchanged it is loaded; changed, or elsewhere, it is compiled."""
    program, cache = tmp_path / "tiny.py", tmp_path / "kernels"
    program.write_text(TINY)
    assert [compiled_and_loaded(program, cache) for _ in range(2)] == [(1, 0), (0, 1)]
    program.write_text(TINY.replace("x + 1", "x + 2"))
    assert compiled_and_loaded(program, cache) == (1, 0)
    elsewhere = tmp_path / "elsewhere" / "tiny.py"
    elsewhere.parent.mkdir()
    elsewhere.write_text(program.read_text())
    assert compiled_and_loaded(elsewhere, cache) == (1, 0)


def test_code_serves_the_processor_that_it_was_made_for(tmp_path, least, monkeypatch):
    """One folder has that of both; neither is taken for the other's."""
    program, cache = tmp_path / "tiny.py", tmp_path / "kernels"
    program.write_text(TINY)
    assert compiled_and_loaded(program, cache) == (1, 0)
    for name in LEAST:
        monkeypatch.delenv(name)
    assert compiled_and_loaded(program, cache) == (1, 0)
    assert len(files(cache)) == 2
