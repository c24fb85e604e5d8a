"""Periodic embeddings of the first columns of the input, learnt numbers behind all columns.

    e_jm = c_jm + sum_k v_jmk * cos(2 pi * w_jk * x_j + b_jk)

A column j keeps its place; its embeddings e_j1 ... e_jM follow behind the last column. Reference:
Gorishniy, Rubachev and Babenko, "On embeddings for numerical features in tabular deep learning",
2022, with the bias of Holzmüller, Grinsztajn and Steinwart, "Better by default", 2024: PBLD.

The numbers of a network lie one after the other: w and b, (n, H) each, v, (n, M, H), c, (n, M).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ._jit import inline, kernel
from ._math_turns import cos_sin_turns
from ._memory import Place, load_partial, store, store_partial
from ._simd import sum_lanes, vector_lanes
from ._sync import barrier, share
from .packing import ceil_div

_TURN = 2 * math.pi


class EmbeddingSizes(NamedTuple):
    """How many columns are embedded, by how many frequencies, in how many numbers each."""

    columns: int
    frequencies: int
    outputs: int

    @property
    def numbers(self) -> int:
        """How many are learnt."""
        return self.columns * (2 * self.frequencies + self.outputs * (self.frequencies + 1))


@inline
def has_embedding(layer):
    """Whether a row of the layer table has embeddings before it."""
    return layer.flat_embed >= 0


@inline
def sizes_of(layer):
    """Of the embeddings before a row of the layer table."""
    return EmbeddingSizes(layer.embedded, layer.frequencies, layer.embeddings)


@inline
def raw_width(layer):
    """Columns of what comes before the embeddings; all inputs of a layer without."""
    return layer.inputs - layer.embedded * layer.embeddings


@inline
def _places(numbers, sizes, column):
    """Where w, b, v and c of a column begin in an array of the numbers."""
    columns, frequencies, outputs = sizes
    w_at = numbers.at + column * frequencies
    v_at = numbers.at + (2 * columns + column * outputs) * frequencies
    c_at = numbers.at + (2 + outputs) * columns * frequencies + column * outputs
    return w_at, w_at + columns * frequencies, v_at, c_at


@inline
def _waves(numbers, w_at, b_at, live, value):
    """(cos, sin) of some frequencies of a column; lanes beyond the live ones are finite."""
    w, b = load_partial(numbers.array, w_at, live), load_partial(numbers.array, b_at, live)
    return cos_sin_turns(value * w + b * (1 / _TURN))


@inline
def clear_row(x, at, step, begin, end):
    """A row's blocks, ``step`` apart, from the first that begins at ``begin`` or later on = 0."""
    lanes = vector_lanes(x)
    for block in range(ceil_div(begin, lanes), ceil_div(end, lanes)):
        store(x, at + block * step, load_partial(x, at, 0))


@inline
def embed_row(x, at, step, raw, sizes, numbers):
    """The embeddings of a row of blocks ``step`` apart, behind its ``raw`` columns.

    numbers : a ``Place``
    """
    lanes = vector_lanes(x)
    columns, frequencies, outputs = sizes
    for column in range(columns):
        value = x[at + column // lanes * step + column % lanes]
        w_at, b_at, v_at, c_at = _places(numbers, sizes, column)
        feature = raw + column * outputs
        for first in range(0, frequencies, lanes):
            live = min(lanes, frequencies - first)
            cos, _ = _waves(numbers, w_at + first, b_at + first, live, value)
            for m in range(outputs):
                i = at + (feature + m) // lanes * step + (feature + m) % lanes
                v = load_partial(numbers.array, v_at + m * frequencies + first, live)
                before = numbers.array[c_at + m] if first == 0 else x[i]
                x[i] = before + sum_lanes(cos * v)


@inline
def _multiply(target, at, count, factor):
    """Consecutive numbers times a factor; anything becomes 0 by a factor of 0."""
    for i in range(at, at + count):
        target[i] = factor * target[i] if factor != 0 else factor


@inline
def multiply_gradients(gradients, sizes, column, factor):
    """The gradients of a column's numbers times a factor; anything becomes 0 by a factor of 0."""
    dw_at, db_at, dv_at, dc_at = _places(gradients, sizes, column)
    _multiply(gradients.array, dw_at, sizes.frequencies, factor)
    _multiply(gradients.array, db_at, sizes.frequencies, factor)
    _multiply(gradients.array, dv_at, sizes.outputs * sizes.frequencies, factor)
    _multiply(gradients.array, dc_at, sizes.outputs, factor)


@inline
def _add(target, at, live, v):
    store_partial(target, at, live, load_partial(target, at, live) + v)


@inline
def add_gradients(gradients, numbers, sizes, column, value, deltas):
    """Add those of one row to the gradients of a column's numbers.

    value : of the column in that row    deltas : ``Place`` of the gradients of its embeddings
    """
    frequencies, outputs = sizes.frequencies, sizes.outputs
    lanes = vector_lanes(numbers.array)
    w_at, b_at, v_at, _ = _places(numbers, sizes, column)
    dw_at, db_at, dv_at, dc_at = _places(gradients, sizes, column)
    g = gradients.array
    for m in range(outputs):
        g[dc_at + m] += deltas.array[deltas.at + m]
    for first in range(0, frequencies, lanes):
        live = min(lanes, frequencies - first)
        cos, sin = _waves(numbers, w_at + first, b_at + first, live, value)
        total = load_partial(numbers.array, w_at, 0)
        for m in range(outputs):
            delta, row = deltas.array[deltas.at + m], m * frequencies + first
            total = total + delta * load_partial(numbers.array, v_at + row, live)
            _add(g, dv_at + row, live, delta * cos)
        slope = -(sin * total)
        _add(g, db_at + first, live, slope)
        _add(g, dw_at + first, live, _TURN * value * slope)


def embed_forward(y, x, numbers, sizes):
    """y = x and, behind its columns, the embeddings of the first n of them.

    y : (N, D + n * M), overwritten    x : (N, D)    numbers : (P,), see above
    sizes : ``EmbeddingSizes`` n, H and M
    """
    _embed_forward(y.reshape(-1), x.reshape(-1), numbers, sizes, len(x))


@kernel(cost=lambda y, x, numbers, sizes, rows: 16 * sizes.frequencies * y.size)
def _embed_forward(team, y, x, numbers, sizes, rows):
    raw, width = x.size // rows, y.size // rows
    lanes = vector_lanes(y)
    for row in range(*share(team, rows)):
        for column in range(raw):
            y[row * width + column] = x[row * raw + column]
        embed_row(y, row * width, lanes, raw, sizes, Place(numbers, 0))
    barrier(team)


def embed_backward(dnumbers, dy, x, numbers, sizes, scale):
    """dnumbers = scale * the gradients of the numbers, sums over the rows.

    dnumbers : (P,), overwritten    dy : (N, D + n * M), of which the first D are not looked at
    x : (N, D)    numbers : (P,)    sizes : ``EmbeddingSizes``
    """
    arrays = dnumbers, dy.reshape(-1), x.reshape(-1), numbers
    _embed_backward(*arrays, sizes, dy.dtype.type(scale), len(x))


@kernel(cost=lambda dnumbers, dy, x, numbers, sizes, *rest: 32 * sizes.frequencies * dy.size)
def _embed_backward(team, dnumbers, dy, x, numbers, sizes, scale, rows):
    raw, width = x.size // rows, dy.size // rows
    gradients = Place(dnumbers, 0)
    for column in range(*share(team, sizes.columns)):
        multiply_gradients(gradients, sizes, column, dy.dtype.type(0))
        for row in range(rows):
            value = x[row * raw + column]
            deltas = Place(dy, row * width + raw + column * sizes.outputs)
            add_gradients(gradients, Place(numbers, 0), sizes, column, value, deltas)
        multiply_gradients(gradients, sizes, column, scale)
    barrier(team)
