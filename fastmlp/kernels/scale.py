"""Learnt numbers that every column of the input is multiplied by, before the first layer.

    x' = x * s,  y = x' @ W + b

Their gradient takes no product of its own. That of W is dW = x'.T @ dy, so that
sum_k dW_jk * W_jk = s_j * sum_n x_nj * (dy @ W.T)_nj, and the latter sum is the gradient of s_j.
Dividing by s_j costs no digits, since x' has it as a factor. A scale of exactly 0 gets the gradient
0: dW then says nothing about it. Dropout of x' changes none of this.
"""

from __future__ import annotations

from typing import NamedTuple

from ._jit import inline, kernel
from ._memory import Place, load, load_partial, store
from ._simd import sum_lanes, vector_lanes
from ._sync import barrier, share
from .packing import ceil_div, panel_count, panel_start


class ScaledLayer(NamedTuple):
    """Where the first layer's weights and the scales of its input lie, and their gradients."""

    w: Place
    dw: Place
    scale: Place
    dscale: Place
    inputs: int
    outputs: int
    packed: bool  # weights lie in panels, or row-major


@inline
def has_scale(layer):
    """Whether a row of the layer table has learnt scales of its input."""
    return layer.flat_scale >= 0


@inline
def scale_row(x, at, step, scale, width):
    """A row of blocks ``step`` apart, in place, times the numbers at place ``scale``."""
    lanes = vector_lanes(x)
    for block in range(ceil_div(width, lanes)):
        # Behind the last one there are zeros, whatever an update has made of the padding.
        live = min(lanes, width - block * lanes)
        i = at + block * step
        store(x, i, load(x, i) * load_partial(scale.array, scale.at + block * lanes, live))


@inline
def _row_product(layer, row, factor):
    """The sum of factor * dW * W over a row of weights; the same bits in either layout."""
    w, dw = layer.w, layer.dw
    lanes = vector_lanes(w.array)
    blocks = ceil_div(layer.outputs, lanes)
    padded_rows = ceil_div(layer.inputs, lanes) * lanes
    total = load_partial(w.array, w.at, 0)
    for panel in range(panel_count(blocks)):
        column = panel_start(blocks, panel) * lanes
        width = panel_start(blocks, panel + 1) * lanes - column
        at = row * layer.outputs + column
        if layer.packed:
            at = column * padded_rows + row * width
        for first in range(0, width, lanes):
            live = min(lanes, layer.outputs - column - first)
            gradient = factor * load_partial(dw.array, dw.at + at + first, live)
            total = total + gradient * load_partial(w.array, w.at + at + first, live)
    return sum_lanes(total)


@inline
def scale_gradients(team, layer, factor):
    """The gradients of the scales, this part's share, from those of the weights, times a factor.

    layer : ``ScaledLayer``
    """
    scales, dscales = layer.scale, layer.dscale
    lanes = vector_lanes(scales.array)
    width = ceil_div(layer.inputs, lanes) * lanes if layer.packed else layer.inputs
    begin, end = share(team, ceil_div(width, lanes))
    for row in range(begin * lanes, min(end * lanes, width)):
        # Also of the padding.
        gradient = dscales.array.dtype.type(0)
        if row < layer.inputs:
            scale = scales.array[scales.at + row]
            if scale != 0:
                gradient = _row_product(layer, row, factor) / scale
        dscales.array[dscales.at + row] = gradient


@kernel(cost=lambda dscale, dw, w, scale: w.size)
def scale_gradient(team, dscale, dw, w, scale):
    """The gradients of the scales from those of the weights.

    dscale : (F,), overwritten    dw, w : (F * O,), row-major    scale : (F,)
    """
    places = Place(w, 0), Place(dw, 0), Place(scale, 0), Place(dscale, 0)
    layer = ScaledLayer(*places, scale.size, w.size // scale.size, False)
    scale_gradients(team, layer, w.dtype.type(1))
    barrier(team)
