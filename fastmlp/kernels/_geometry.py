"""How a batch lies in memory: the sizes that the layouts of ``packing`` leave open."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._host import TILE_VECTORS, aligned_arrays, lanes
from ._units import FLOATS, FloatUnit, Unit, depth_multiple, step_depth, unit_rows

# A batch up to this size is one chunk: 256 rows of 512 float32 features fill half of a 1 MiB
# second-level cache. A larger one is cut into chunks of about CHUNK_ROWS. bfloat16 numbers are half
# as large, so for them both limits are doubled: a full batch of 784-1000-10 took 0.98 of the time.
WHOLE_ROWS = 256
CHUNK_ROWS = 128


class Geometry(NamedTuple):
    """How a batch is cut into chunks."""

    rows: int  # of the batch
    chunk_rows: int  # of every chunk but the last, which may be short
    pitch: int  # rows that a block has space for, of which the chunk's come first

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk_rows)


def geometry_of(rows: int, dtype, unit: Unit = FLOATS) -> Geometry:
    """The layout of a batch of ``rows`` rows of a dtype for a unit's products."""
    depth = step_depth(type(unit))
    chunks = 1 if rows <= depth * WHOLE_ROWS else -(-rows // (depth * CHUNK_ROWS))
    whole = max(unit_rows(type(unit), np.dtype(dtype).itemsize), depth_multiple(type(unit)))
    chunk_rows = padded(-(-rows // chunks), whole)
    return Geometry(rows, chunk_rows, pitch_of(chunk_rows))


def pitch_of(chunk_rows: int) -> int:
    """Rows that a block has space for: odd, since a chunk has whole tiles.

    Blocks a multiple of 2,048 bytes apart would share a few sets of the first-level cache.
    """
    return chunk_rows + 1


def padded(size: int, multiple: int) -> int:
    """``size`` rounded up to a multiple."""
    return -(-size // multiple) * multiple


def padded_width(width: int, dtype) -> int:
    """Features or columns, rounded up to whole vectors."""
    return padded(width, lanes(np.dtype(dtype).itemsize))


def blocks_size(geometry: Geometry, width: int, dtype) -> int:
    """Numbers in the blocks of a batch of that many features."""
    return geometry.chunks * geometry.pitch * padded_width(width, dtype)


def panels_size(rows: int, columns: int, dtype) -> int:
    """Numbers in the panels of a matrix of weights."""
    return padded_width(rows, dtype) * padded_width(columns, dtype)


def scratch_size(unit: Unit, widest_input: int, widest_output: int, dtype) -> int:
    """Numbers, or pairs, in the widest panel of weights that a thread prepares for a unit.

    A forward product reads a panel of ``widest_input`` rows, which a unit of floats reads in place.
    An input gradient reads a panel of the transpose, of ``widest_output`` rows.
    """
    count = lanes(np.dtype(dtype).itemsize)
    if isinstance(unit, FloatUnit):
        return TILE_VECTORS * count * padded_width(widest_output, dtype)
    squares = -(-max(widest_input, widest_output) // (2 * count))
    # One more square, in which transposes are prepared.
    return (squares * TILE_VECTORS + 1) * count * count


def lists_size(width: int, parts: int, dtype) -> int:
    """Numbers in the lists of so many features for each part: see ``present.Features``."""
    # Half of a list are runs, pairs of numbers: of at most every other feature there is one.
    return parts * 2 * padded_width(width, dtype)


# Rows of a matrix whose squares are one term of a norm: the same for every number of threads.
ROWS_OF_A_TERM = 64


def norm_terms(table) -> int:
    """Terms that the norm of a layer's weights has at most; ``table`` is the layer table."""
    # A panel has at least as many columns as the shortest vector.
    shortest = 2
    return max(
        -(-int(layer["inputs"]) // ROWS_OF_A_TERM) * -(-int(layer["outputs"]) // shortest)
        for layer in table
    )


class NormWork(NamedTuple):
    """What a pass of a norm works with: one argument, since each named tuple takes time to pass."""

    geometry: Geometry
    outputs: np.ndarray  # blocks of the batch
    normals: np.ndarray  # the same layout


def norm_work(x):
    """Buffers for a batch of x's shape and dtype."""
    geometry = geometry_of(len(x), x.dtype)
    return NormWork(
        geometry, *aligned_arrays([blocks_size(geometry, x.shape[1], x.dtype)] * 2, x.dtype)
    )
