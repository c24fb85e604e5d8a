"""Data larger than the memory: a fit reads its batches, and takes no copy of the rest."""

import mmap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from tests.networks import build

GIGABYTES = 20
COLUMNS = 3072
BATCH, STEPS = 16, 4
SMAPS = Path("/proc/self/smaps")

pytestmark = pytest.mark.skipif(not SMAPS.exists(), reason="Linux says which pages are in memory")


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """What compiling takes is not counted."""
    build([2, 8, 2], dtype=np.float32).fit(np.zeros((2, 2), np.float32), [0, 1])


def mapped(path, dtype, fortran_order=False):
    """20 GB of zeros, read-only, in a file that takes no room on the disk."""
    rows = GIGABYTES * 10**9 // (COLUMNS * np.dtype(dtype).itemsize)
    np.lib.format.open_memmap(path, "w+", dtype, (rows, COLUMNS), fortran_order)
    assert path.stat().st_blocks * 512 < 10**6
    x = np.load(path, mmap_mode="r")
    # No page is read before it is asked for, so that pages can be counted.
    x._mmap.madvise(mmap.MADV_RANDOM)
    return x


def bytes_in_memory(path):
    """What this process has of a file that it maps."""
    total, inside = 0, False
    for line in SMAPS.read_text().splitlines():
        if not line.partition(" ")[0].endswith(":"):
            inside = line.endswith(str(path))
        elif inside and line.startswith("Rss:"):
            total += 1024 * int(line.split()[1])
    return total


def bytes_of_pages(x, rows):
    """Of all pages that rows of x lie in."""
    start = x.__array_interface__["data"][0]
    places = start + rows[:, None] * x.strides[0] + np.arange(COLUMNS) * x.strides[1]
    return mmap.PAGESIZE * len(np.unique(places // mmap.PAGESIZE))


def rows_of_fit(samples, shuffle):
    """The rows of its steps, for a seed of 0."""
    order = np.arange(samples)
    if shuffle:
        np.random.default_rng(0).shuffle(order)
    return order[: BATCH * STEPS]


@pytest.mark.parametrize(
    ("kind", "shuffle"),
    [("uint8", True), ("float32", True), ("float32", False), ("strided", True),
     ("columns first", False), ("labels too", True)],
)  # fmt: skip
def test_a_fit_reads_the_pages_of_its_batches(kind, shuffle, tmp_path):
    """By the default call, of 20 GB. Beside them it takes some bytes a row, of 12,288."""
    path = tmp_path / "x.npy"
    dtype = "uint8" if kind == "uint8" else "float32"
    x = mapped(path, dtype, fortran_order=kind == "columns first")
    if kind == "strided":
        x = x[::2, ::-1]
    # An autoencoder's labels are x itself.
    labels = x if kind == "labels too" else np.zeros(len(x), np.uint8)
    mlp = build([COLUMNS, 8, COLUMNS if kind == "labels too" else 10], dtype=np.float32)
    tracemalloc.start()
    try:
        history = mlp.fit(x, labels, batch_size=BATCH, max_steps=STEPS, shuffle=shuffle, seed=0)
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(history.step_loss) == STEPS
    rows = rows_of_fit(len(x), shuffle)
    # The file's first pages were read with its header, and may be mapped with their neighbours.
    assert 0 < bytes_in_memory(path) <= bytes_of_pages(x, rows) + 2**17
    assert taken < 32 * len(x) + 2**22
    # That the rows are those is seen by a fit on them alone.
    alone = build([COLUMNS, 8, mlp.output_size], dtype=np.float32)
    alone.fit(x[rows], labels[rows], batch_size=BATCH, shuffle=False)
    assert_array_equal(alone.parameters, mlp.parameters)


def test_pages_that_are_read_are_counted(tmp_path):
    path = tmp_path / "x.npy"
    x = mapped(path, "uint8")
    before = bytes_in_memory(path)
    rows = np.arange(10**6, 10**6 + 100)
    assert x[rows].sum() == 0
    assert bytes_in_memory(path) - before == bytes_of_pages(x, rows)
