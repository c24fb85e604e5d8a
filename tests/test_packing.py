"""Layouts: where each number of a matrix lies in blocks and panels, and that all come back."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastmlp.kernels import _host, packing
from fastmlp.kernels._geometry import (
    WHOLE_ROWS,
    blocks_size,
    geometry_of,
    padded_width,
    panels_size,
)
from fastmlp.kernels._host import lanes, tile_rows
from fastmlp.kernels._memory import Place
from fastmlp.threads import Team
from tests.numerics import compiled

panel_count, panel_start, panel_of = [
    compiled(helper.py_func)
    for helper in (packing.panel_count, packing.panel_start, packing.panel_of)
]

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PARTS = 3


# Kernels that only pack, run one part after the other.


@compiled
def _blocks_and_back(team, y, blocks, x, width, geometry):
    packing.pack_matrix(team, blocks, x, width, geometry)
    packing.unpack_matrix(team, y, blocks, width, geometry)


@compiled
def _panels(team, panels, w, rows, columns):
    packing.pack_panels(team, Place(panels, 0), Place(w, 0), rows, columns)


@compiled
def _panels_back(team, w, panels, rows, columns, scale):
    packing.unpack_panels(team, Place(w, 0), Place(panels, 0), rows, columns, scale)


@compiled
def _transposed(team, wt, panels, rows, columns):
    lanes = packing.vector_lanes(wt)
    blocks, height = packing.ceil_div(rows, lanes), packing.ceil_div(columns, lanes) * lanes
    for panel in range(*packing.share(team, packing.panel_count(blocks))):
        at = packing.panel_start(blocks, panel) * lanes * height
        packing.transpose_panel(Place(wt, at), Place(panels, 0), rows, columns, panel)


@compiled
def _read_rows(team, x, source, rows, width):
    padded = packing.ceil_div(width, packing.vector_lanes(x)) * packing.vector_lanes(x)
    for row in range(*packing.share(team, rows)):
        packing.read_row(x, row * padded, packing.vector_lanes(x), source, row, width)


def size_of(dtype):
    return np.dtype(dtype).itemsize


def in_parts(function, *arguments):
    for part in range(PARTS):
        function(Team(part, PARTS, np.zeros(0, np.int64)), *arguments)


def matrix(rows, columns, dtype):
    """Every entry another number, none of them 0."""
    return np.arange(1.0, rows * columns + 1).reshape(rows, columns).astype(dtype)


def panels_of(w):
    panels = np.full(panels_size(*w.shape, w.dtype), np.nan, w.dtype)
    in_parts(_panels, panels, w.reshape(-1), *w.shape)
    return panels


SIZES = [1, 2, 15, 16, 17, 31, 33, 47, 48, 49, 64, 65, 97, 113, 160]


@pytest.mark.parametrize("rows", [1, 7, 8, 9, 255, 256, 257, 600, 1000])
@pytest.mark.parametrize("width", [1, 15, 16, 17, 49])
@both_dtypes
def test_blocks(rows, width, dtype):
    """[chunk][feature // V][row][feature % V], zeros beyond the last feature, and back again."""
    x, geometry, count = matrix(rows, width, dtype), geometry_of(rows, dtype), lanes(size_of(dtype))
    blocks = np.full(blocks_size(geometry, width, dtype), np.nan, dtype)
    y = np.full(x.size, np.nan, dtype)
    in_parts(_blocks_and_back, y, blocks, x.reshape(-1), width, geometry)
    assert_array_equal(y.reshape(x.shape), x)
    chunks = blocks.reshape(geometry.chunks, -1, geometry.pitch, count)
    for row in {0, rows // 2, rows - 1}:
        chunk, place = divmod(row, geometry.chunk_rows)
        expected = np.zeros(padded_width(width, dtype), dtype)
        expected[:width] = x[row]
        assert_array_equal(chunks[chunk, :, place].reshape(-1), expected)


@settings(deadline=None, max_examples=300)
@given(rows=st.integers(1, 100_000), dtype=st.sampled_from([np.float32, np.float64]))
def test_geometry(rows, dtype):
    """Chunks hold all rows and none is empty; whole tiles fit; the pitch is odd."""
    geometry, height = geometry_of(rows, dtype), tile_rows(size_of(dtype))
    assert (geometry.chunks - 1) * geometry.chunk_rows < rows
    assert geometry.chunks * geometry.chunk_rows >= rows
    assert geometry.chunk_rows % height == 0
    assert geometry.pitch % 2 == 1
    assert geometry.pitch >= geometry.chunk_rows
    assert (geometry.chunks == 1) == (rows <= WHOLE_ROWS)


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("rows", [1, 16, 17, 50])
@both_dtypes
def test_panels(rows, columns, dtype):
    """[panel][row][column in panel] of at most three vectors, zeros in the padding, and back."""
    w, count = matrix(rows, columns, dtype), lanes(size_of(dtype))
    panels = panels_of(w)
    blocks, padded_rows = padded_width(columns, dtype) // count, padded_width(rows, dtype)
    padded = np.zeros((padded_rows, blocks * count), dtype)
    padded[:rows, :columns] = w
    starts = [panel_start(blocks, p) for p in range(panel_count(blocks) + 1)]
    assert starts[0] == 0
    assert starts[-1] == blocks
    assert set(np.diff(starts)) <= {1, 2, 3}
    for first, last in pairwise(starts):
        here = panels[padded_rows * count * first : padded_rows * count * last]
        assert_array_equal(here.reshape(padded_rows, -1), padded[:, first * count : last * count])
    back = np.full(w.size, np.nan, dtype)
    in_parts(_panels_back, back, panels, rows, columns, dtype(2))
    assert_array_equal(back.reshape(w.shape), 2 * w)


@pytest.mark.parametrize("columns", SIZES)
@pytest.mark.parametrize("rows", [1, 16, 17, 50, 97])
@both_dtypes
def test_transposed_panels_are_the_panels_of_the_transpose(rows, columns, dtype):
    w = matrix(rows, columns, dtype)
    transposed = np.full(panels_size(columns, rows, dtype), np.nan, dtype)
    in_parts(_transposed, transposed, panels_of(w), rows, columns)
    assert_array_equal(transposed, panels_of(w.T.copy()))


def test_every_block_is_found_in_its_panel():
    for blocks in range(1, 200):
        for panel in range(panel_count(blocks)):
            inside = range(panel_start(blocks, panel), panel_start(blocks, panel + 1))
            assert [panel_of(blocks, block) for block in inside] == [panel] * len(inside)


# A caller's rows, as they lie


def read_rows(source, dtype):
    rows, width = source.shape
    x = np.full((rows, padded_width(width, dtype)), np.nan, dtype)
    in_parts(_read_rows, x.reshape(-1), packing.strided(source), rows, width)
    assert_array_equal(x[:, width:], 0)
    return x[:, :width]


VIEWS = {
    "contiguous": lambda a: a,
    "Fortran order": np.asfortranarray,
    "rows reversed": lambda a: a[::-1],
    "columns reversed": lambda a: a[:, ::-1],
    "every other row and column": lambda a: np.repeat(np.repeat(a, 2, 0), 2, 1)[::2, ::2],
    "one row again and again": lambda a: np.broadcast_to(a[:1], a.shape),
    "unaligned": lambda a: unaligned(a),
}


def unaligned(a):
    raw = np.zeros(a.nbytes + 1, np.uint8)
    shifted = raw[1:].view(a.dtype).reshape(a.shape)
    shifted[...] = a
    return shifted


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
@pytest.mark.parametrize("source_dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("width", [1, 7, 16, 17, 50])
@both_dtypes
def test_rows_of_any_dtype_and_stride(view, source_dtype, width, dtype):
    """As NumPy converts them; bytes to the nearest number."""
    numbers = np.random.default_rng(0).random((5, width)) * 255
    source = view(numbers.astype(source_dtype))
    expected = source.astype(dtype)
    if source_dtype == np.uint8:
        expected = expected / dtype(255)
    assert_array_equal(read_rows(source, dtype), expected)


@both_dtypes
def test_every_byte_in_and_out_of_whole_vectors(dtype):
    """The nearest number to k / 255 wherever in a row a byte lies; by way of float64, too."""
    pixels = np.arange(256, dtype=np.uint8)
    whole = read_rows(pixels.reshape(1, -1), dtype)[0]
    alone = read_rows(pixels.reshape(-1, 1), dtype)[:, 0]
    assert_array_equal(whole, pixels.astype(dtype) / dtype(255))
    assert_array_equal(whole, (pixels / 255).astype(dtype))
    assert_array_equal(alone, whole)


@both_dtypes
@pytest.mark.parametrize("whole_bytes", [_host.WHOLE_BYTES, 0], ids=["one piece", "apart"])
def test_arrays_lie_on_cache_lines_and_apart(dtype, whole_bytes, monkeypatch):
    monkeypatch.setattr(_host, "WHOLE_BYTES", whole_bytes)
    sizes = (1, 0, 17, 16, 33)
    arrays = _host.aligned_arrays(sizes, dtype)
    for number, array in enumerate(arrays):
        array[:] = number
    for number, (array, size) in enumerate(zip(arrays, sizes, strict=True)):
        assert size == 0 or array.ctypes.data % 64 == 0
        assert_array_equal(array, np.full(size, number, dtype), strict=True)
