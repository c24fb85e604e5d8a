"""Batch normalisation of blocks of features, forward and backward.

    xhat = (x - mean) / sqrt(var + eps),  y = act(gamma * xhat + beta)
    dgamma = sum dy * xhat,  dbeta = sum dy
    dx = gamma / sqrt(var + eps) * (dy - dbeta / N - xhat * dgamma / N)

The last line is equation 37 of CMU 11-785 HW1P1, appendix C, with 20 and 27 put in. Sums run over
the rows of a batch, which lies in chunks: ``geometry`` = (rows of the batch, rows of a chunk,
pitch), ``stride`` leads from chunk to chunk. Each function works on one block, a vector of
features.
"""

from __future__ import annotations

import numpy as np

from ._geometry import blocks_size, geometry_of
from ._host import aligned_rooms
from ._jit import inline, kernel
from ._memory import load, load_partial, store, store_partial
from ._simd import sqrt, vector_lanes
from ._sync import barrier, share
from .activation import IDENTITY, activate
from .packing import (
    block_stride,
    ceil_div,
    chunk_count,
    pack_matrix,
    rows_in_chunk,
    unpack_matrix,
)

EPS = 1e-8


@inline
def column_sums(x, at, stride, geometry):
    """Sum over the rows of a block."""
    lanes = vector_lanes(x)
    total = load(x, at) * 0
    for chunk in range(chunk_count(geometry)):
        for row in range(rows_in_chunk(geometry, chunk)):
            total = total + load(x, at + chunk * stride + row * lanes)
    return total


@inline
def batchnorm_statistics(x, at, stride, geometry):
    """(mean, biased variance) over the rows of a block."""
    lanes = vector_lanes(x)
    count = x.dtype.type(geometry[0])
    mean = column_sums(x, at, stride, geometry) / count
    variance = mean * 0
    for chunk in range(chunk_count(geometry)):
        for row in range(rows_in_chunk(geometry, chunk)):
            centred = load(x, at + chunk * stride + row * lanes) - mean
            variance = variance + centred * centred
    return mean, variance / count


@inline
def batchnorm_normalise(y, x, at, stride, geometry, mean, variance, gamma, beta, activation):
    """x becomes xhat in place; y = act(gamma * xhat + beta). y may be x if nobody needs xhat."""
    lanes = vector_lanes(x)
    scale = 1 / sqrt(variance + EPS)
    for chunk in range(chunk_count(geometry)):
        for row in range(rows_in_chunk(geometry, chunk)):
            i = at + chunk * stride + row * lanes
            normalised = (load(x, i) - mean) * scale
            store(x, i, normalised)
            store(y, i, activate(gamma * normalised + beta, activation))


@inline
def batchnorm_input_gradient(dy, xhat, at, stride, geometry, variance, gamma):
    """dy becomes dx in place; returns (dgamma, dbeta), sums over the batch."""
    lanes = vector_lanes(dy)
    dgamma = load(dy, at) * 0
    dbeta = dgamma
    for chunk in range(chunk_count(geometry)):
        for row in range(rows_in_chunk(geometry, chunk)):
            i = at + chunk * stride + row * lanes
            delta = load(dy, i)
            dgamma = dgamma + delta * load(xhat, i)
            dbeta = dbeta + delta
    count = dy.dtype.type(geometry[0])
    scale = gamma / sqrt(variance + EPS)
    mean_gamma, mean_beta = dgamma / count, dbeta / count
    for chunk in range(chunk_count(geometry)):
        for row in range(rows_in_chunk(geometry, chunk)):
            i = at + chunk * stride + row * lanes
            delta = load(dy, i) - mean_beta - load(xhat, i) * mean_gamma
            store(dy, i, scale * delta)
    return dgamma, dbeta


@inline
def running_average(statistics, at, count, value, keep):
    """running = keep * running + (1 - keep) * value, on ``count`` features."""
    running = load_partial(statistics, at, count)
    store_partial(statistics, at, count, keep * running + (1 - keep) * value)


def _room(geometry, features, dtype, count):
    """``count`` arrays for the blocks of a batch."""
    return aligned_rooms([blocks_size(geometry, features, dtype)] * count, dtype)


def batchnorm_forward(y, normalised, mean, var, x, gamma, beta):
    """Training mode: mean, var = moments of x;  y = gamma * normalised + beta.

    y, normalised : (N, F), overwritten    mean, var : (F,), overwritten, var is biased
    x : (N, F)    gamma, beta : (F,)       all C-contiguous, float32 or float64
    Reference: CMU 11-785 HW1P1, equations 1 to 4.
    """
    geometry = geometry_of(len(x), x.dtype)
    room = _room(geometry, x.shape[1], x.dtype, 2)
    _batchnorm_forward(
        y.reshape(-1), normalised.reshape(-1), mean.reshape(-1), var.reshape(-1), x.reshape(-1),
        gamma.reshape(-1), beta.reshape(-1), tuple(geometry), room, True,
    )  # fmt: skip


def batchnorm_inference(y, x, gamma, beta, mean, var):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, with given moments.

    y : (N, F), overwritten    x : (N, F)    gamma, beta, mean, var : (F,)
    Reference: CMU 11-785 HW1P1, appendix C, "Inference".
    """
    geometry = geometry_of(len(x), x.dtype)
    room = _room(geometry, x.shape[1], x.dtype, 2)
    _batchnorm_forward(
        y.reshape(-1), np.empty(0, x.dtype), mean.reshape(-1), var.reshape(-1), x.reshape(-1),
        gamma.reshape(-1), beta.reshape(-1), tuple(geometry), room, False,
    )  # fmt: skip


@kernel(cost=lambda y, normalised, *rest: 8 * y.size)
def _batchnorm_forward(
    part, parts, sync, y, normalised, mean, var, x, gamma, beta, geometry, room, training
):
    y_blocks, x_blocks = room
    lanes = vector_lanes(x)
    features, pitch = gamma.size, geometry[2]
    stride = block_stride(x, features, pitch)
    pack_matrix(part, parts, x_blocks, x, features, geometry)
    barrier(sync, part, parts)
    for block in range(*share(part, parts, ceil_div(features, lanes))):
        column = block * lanes
        count, at = min(lanes, features - column), column * pitch
        if training:
            batch_mean, variance = batchnorm_statistics(x_blocks, at, stride, geometry)
            store_partial(mean, column, count, batch_mean)
            store_partial(var, column, count, variance)
        else:
            batch_mean = load_partial(mean, column, count)
            variance = load_partial(var, column, count)
        batchnorm_normalise(
            y_blocks, x_blocks, at, stride, geometry, batch_mean, variance,
            load_partial(gamma, column, count), load_partial(beta, column, count), IDENTITY,
        )  # fmt: skip
    barrier(sync, part, parts)
    unpack_matrix(part, parts, y, y_blocks, features, geometry)
    if normalised.size > 0:
        unpack_matrix(part, parts, normalised, x_blocks, features, geometry)
    barrier(sync, part, parts)


def batchnorm_backward(dx, dgamma, dbeta, dy, normalised, var, gamma):
    """dgamma = sum of dy * normalised,  dbeta = sum of dy,  dx by equation 37.

    dx : (N, F), overwritten     dgamma, dbeta : (F,), overwritten, sums over the batch
    dy, normalised : (N, F)      var, gamma : (F,)
    Reference: CMU 11-785 HW1P1, appendix C, equations 15 to 37.
    """
    geometry = geometry_of(len(dy), dy.dtype)
    room = _room(geometry, dy.shape[1], dy.dtype, 2)
    _batchnorm_backward(
        dx.reshape(-1), dgamma.reshape(-1), dbeta.reshape(-1), dy.reshape(-1),
        normalised.reshape(-1), var.reshape(-1), gamma.reshape(-1), tuple(geometry), room,
    )  # fmt: skip


@kernel(cost=lambda dx, *rest: 8 * dx.size)
def _batchnorm_backward(
    part, parts, sync, dx, dgamma, dbeta, dy, normalised, var, gamma, geometry, room
):
    dy_blocks, normal_blocks = room
    lanes = vector_lanes(dy)
    features, pitch = gamma.size, geometry[2]
    stride = block_stride(dy, features, pitch)
    pack_matrix(part, parts, dy_blocks, dy, features, geometry)
    pack_matrix(part, parts, normal_blocks, normalised, features, geometry)
    barrier(sync, part, parts)
    for block in range(*share(part, parts, ceil_div(features, lanes))):
        column = block * lanes
        count = min(lanes, features - column)
        sum_gamma, sum_beta = batchnorm_input_gradient(
            dy_blocks, normal_blocks, column * pitch, stride, geometry,
            load_partial(var, column, count), load_partial(gamma, column, count),
        )  # fmt: skip
        store_partial(dgamma, column, count, sum_gamma)
        store_partial(dbeta, column, count, sum_beta)
    barrier(sync, part, parts)
    unpack_matrix(part, parts, dx, dy_blocks, features, geometry)
    barrier(sync, part, parts)


@kernel(cost=lambda running, *rest: 4 * running.size)
def batchnorm_running(part, parts, sync, running, value, alpha):
    """running = alpha * running + (1 - alpha) * value.

    running : (F,), updated    value : (F,)    alpha : number
    Reference: CMU 11-785 HW1P1, equations 5 and 6.
    """
    lanes = vector_lanes(running)
    keep = running.dtype.type(alpha)
    for block in range(*share(part, parts, ceil_div(running.size, lanes))):
        at = block * lanes
        count = min(lanes, running.size - at)
        running_average(running, at, count, load_partial(value, at, count), keep)
    barrier(sync, part, parts)
