"""The benchmark of files larger than the memory, on few rows."""

import numpy as np
import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks import blocks
from benchmarks.compare._readme import marks
from fastmlp import datasets

NAME = "784-64-64-32-10"


def test_the_rows_that_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "PIECE", 100)
    x, y = (np.load(path) for path in blocks.write_rows(tmp_path, 250))
    assert (x.shape, x.dtype, y.shape, y.dtype) == ((250, 784), np.uint8, (250,), np.uint8)
    assert set(y) == set(range(10))
    assert len(np.unique(x)) == 256


def test_a_line_for_every_network_and_a_cell_for_every_way():
    heads, (line,) = blocks.speed([NAME], 300, 1)
    assert len(heads) == len(line) == 6
    assert line[:2] == [NAME, "100"]
    assert all(float(cell.split()[0]) > 0 for cell in line[2:])


def test_errors_by_blocks_and_windows(monkeypatch):
    """Three clusters that lie close together: in sorted order the last is learnt alone."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 200)
    x = rng.integers(0, 60, (600, 784), np.uint8)
    x[np.arange(784) % 3 == y[:, None]] += 2
    data = datasets.Dataset("clusters", x[::-1], y[::-1], x[::5], y[::5])
    monkeypatch.setattr(datasets, "load", lambda name: data)
    sorted_x, sorted_y, _ = blocks.sorted_mnist()
    assert (np.diff(sorted_y) >= 0).all()
    assert sorted_x.shape == (600, 784)
    heads, lines = blocks.accuracy(2, 4, [50], [300, 600])
    assert heads == ["rows of a block", "window 300", "window 600"]
    assert [line[0] for line in lines] == ["full shuffle", "sorted, no shuffle", "50"]
    assert all(len(line) == 3 for line in lines)
    full, none = (float(line[1].split()[0]) for line in lines[:2])
    assert full < none


def test_a_process_that_is_held_to_two_gigabytes_reads_more_than_it_may_have(tmp_path):
    """Of a file that takes no room on the disk, and says it has ten million rows."""
    rows = 10_000_000
    paths = tmp_path / "x.npy", tmp_path / "y.npy"
    np.lib.format.open_memmap(paths[0], "w+", np.uint8, (rows, 784))
    np.lib.format.open_memmap(paths[1], "w+", np.uint8, (rows,))
    found = blocks.in_a_process(NAME, paths, blocks.LIMIT, rows, max_steps=100)
    assert found["microseconds"] > 0
    assert 0 < found["peak"] < 1 << 30
    with pytest.raises(RuntimeError, match="MemoryError"):
        blocks.in_a_process(NAME, paths, blocks.LIMIT // 8, rows, max_steps=100)


@pytest.mark.parametrize("what", ["speed", "accuracy", "large"])
def test_the_page_has_a_place_for_the_table(what):
    first, last = marks(f"blocks-{what}")
    page = blocks.PAGE.read_text(encoding="utf-8")
    assert first in page
    assert last in page
    assert "| a | b |" in blocks.markdown(["a", "b"], [["1", "2"]], "Note.")
