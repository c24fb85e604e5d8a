"""The page on data larger than the memory: what it says of files and sizes is so."""

from fastmlp._windows import STOP_SECONDS
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "large-data.md").read_text(encoding="utf-8")


def test_every_kind_of_file_is_named():
    from fastmlp.datasets import _blocks

    for suffix in _blocks.SUFFIXES:
        assert f"`{suffix}`" in PAGE


def test_its_numbers_are_those_of_the_code():
    from fastmlp._blocks import WINDOW_BYTES
    from fastmlp.datasets._block_files import BLOCK_BYTES

    assert f"{WINDOW_BYTES >> 20} MB of x" in PAGE
    text = " ".join(PAGE.split())
    assert f"default has {WINDOW_BYTES // BLOCK_BYTES} blocks of a megabyte" in text
    assert BLOCK_BYTES == 1 << 20
    assert "have a megabyte of x" in PAGE
    assert STOP_SECONDS == 0.5
    assert "half a second" in PAGE
