"""Layer normalisation of rows in blocks, forward and backward.

    xhat = (x - mean) / sqrt(var + eps),  y = act(gamma * xhat + beta)
    dgamma = sum dy * xhat,  dbeta = sum dy
    dx = (g - mean(g) - xhat * mean(g * xhat)) / sqrt(var + eps),  g = dy * gamma

Moments and means are over the features of a row, the variance is biased; sums are over the rows of
a batch. Reference: Ba, Kiros and Hinton, "Layer normalization", 2016, with the eps of
torch.nn.LayerNorm.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._geometry import norm_work
from ._jit import inline, kernel
from ._memory import Place, load, load_partial, store, store_partial
from ._simd import first_lanes, sum_lanes, vector_lanes, where
from ._sync import barrier, share
from .activation import NO_ACTIVATION, store_activated
from .batchnorm import affine_gradients, batch_block
from .packing import ceil_div, pack_matrix, row_start, unpack_matrix

EPS = 1e-5


class Row(NamedTuple):
    """Where a row lies in blocks."""

    at: int
    step: int  # from block to block
    width: int  # features


class RowAffine(NamedTuple):
    """What follows the normalisation: gamma * xhat + beta."""

    gamma: Place
    beta: Place


@inline
def has_layernorm(layer):
    """Whether a row of the layer table has layer norm: it has gammas, but no statistics."""
    return layer.flat_gamma >= 0 and layer.flat_mean < 0


@inline
def layernorm_row(y, slopes, x, row, affine, formula):
    """x becomes xhat in place; y = act(gamma * xhat + beta). y may be x if xhat is not needed.

    slopes : those of act, written where the formula keeps them
    Returns 1 / sqrt(var + eps).
    """
    lanes = vector_lanes(x)
    blocks, count = ceil_div(row.width, lanes), x.dtype.type(row.width)
    total = load_partial(x, row.at, 0)
    squares = total
    for block in range(blocks):
        v, live = load(x, row.at + block * row.step), row.width - block * lanes
        total = total + where(first_lanes(v, live), v, 0)
    mean = sum_lanes(total) / count
    for block in range(blocks):
        v, live = load(x, row.at + block * row.step), row.width - block * lanes
        centred = where(first_lanes(v, live), v - mean, 0)
        squares = squares + centred * centred
    scale = x.dtype.type(1) / np.sqrt(sum_lanes(squares) / count + x.dtype.type(EPS))
    for block in range(blocks):
        at, column = row.at + block * row.step, block * lanes
        live = min(lanes, row.width - column)
        gamma = load_partial(affine.gamma.array, affine.gamma.at + column, live)
        beta = load_partial(affine.beta.array, affine.beta.at + column, live)
        normalised = (load(x, at) - mean) * scale
        store(x, at, normalised)
        store_activated(y, slopes, at, gamma * normalised + beta, formula)
    return scale


@inline
def layernorm_row_gradient(dy, xhat, row, gamma, scale):
    """A row of dy becomes dx in place.

    gamma : a ``Place``    scale : what ``layernorm_row`` returned
    """
    lanes = vector_lanes(dy)
    blocks, count = ceil_div(row.width, lanes), dy.dtype.type(row.width)
    total = load_partial(dy, row.at, 0)
    products = total
    for block in range(blocks):
        at, column = row.at + block * row.step, block * lanes
        live = min(lanes, row.width - column)
        g = load_partial(gamma.array, gamma.at + column, live) * load_partial(dy, at, live)
        total = total + g
        products = products + g * load_partial(xhat, at, live)
    mean, mean_product = sum_lanes(total) / count, sum_lanes(products) / count
    for block in range(blocks):
        at, column = row.at + block * row.step, block * lanes
        g = load_partial(gamma.array, gamma.at + column, min(lanes, row.width - column))
        store(dy, at, scale * (g * load(dy, at) - mean - load(xhat, at) * mean_product))


def layernorm_forward(y, normalised, scales, x, gamma, beta):
    """y = gamma * normalised + beta, and what each row was divided by.

    y, normalised : (N, F), overwritten    scales : (N,), overwritten by 1 / sqrt(var + eps)
    x : (N, F)    gamma, beta : (F,)       all C-contiguous, float32 or float64
    """
    outputs = y.reshape(-1), normalised.reshape(-1), scales
    _layernorm_forward(outputs, x.reshape(-1), gamma.reshape(-1), beta.reshape(-1), norm_work(x))


@kernel(cost=lambda outputs, *rest: 8 * outputs[0].size)
def _layernorm_forward(team, outputs, x, gamma, beta, work):
    y, normalised, scales = outputs
    geometry, y_blocks, x_blocks = work
    features, step = gamma.size, geometry.pitch * vector_lanes(x)
    affine = RowAffine(Place(gamma, 0), Place(beta, 0))
    # What is packed and unpacked here are this part's rows, too.
    pack_matrix(team, x_blocks, x, features, geometry)
    for number in range(*share(team, geometry.rows)):
        row = Row(row_start(x, features, geometry, number), step, features)
        scales[number] = layernorm_row(y_blocks, y_blocks, x_blocks, row, affine, NO_ACTIVATION)
    unpack_matrix(team, y, y_blocks, features, geometry)
    unpack_matrix(team, normalised, x_blocks, features, geometry)
    barrier(team)


def layernorm_backward(dx, dgamma, dbeta, dy, normalised, scales, gamma):
    """dgamma = sum of dy * normalised,  dbeta = sum of dy,  dx as above.

    dx : (N, F), overwritten     dgamma, dbeta : (F,), overwritten, sums over the batch
    dy, normalised : (N, F)      scales : (N,)    gamma : (F,)
    """
    gradients = dx.reshape(-1), dgamma.reshape(-1), dbeta.reshape(-1)
    _layernorm_backward(
        gradients, dy.reshape(-1), normalised.reshape(-1), scales, gamma.reshape(-1), norm_work(dy)
    )


@kernel(cost=lambda gradients, *rest: 8 * gradients[0].size)
def _layernorm_backward(team, gradients, dy, normalised, scales, gamma, work):
    dx, dgamma, dbeta = gradients
    geometry, dy_blocks, normal_blocks = work
    lanes, features = vector_lanes(dy), gamma.size
    pack_matrix(team, dy_blocks, dy, features, geometry)
    pack_matrix(team, normal_blocks, normalised, features, geometry)
    barrier(team)
    for number in range(*share(team, ceil_div(features, lanes))):
        block = batch_block(dy, 0, features, geometry, number)
        zero = load_partial(dy, 0, 0)
        sum_gamma, sum_beta = affine_gradients(dy_blocks, normal_blocks, block, zero, zero)
        count = min(lanes, features - number * lanes)
        store_partial(dgamma, number * lanes, count, sum_gamma)
        store_partial(dbeta, number * lanes, count, sum_beta)
    barrier(team)
    for number in range(*share(team, geometry.rows)):
        row = Row(row_start(dy, features, geometry, number), geometry.pitch * lanes, features)
        layernorm_row_gradient(dy_blocks, normal_blocks, row, Place(gamma, 0), scales[number])
    unpack_matrix(team, dx, dy_blocks, features, geometry)
    barrier(team)
