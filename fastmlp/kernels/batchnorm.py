"""Batch normalisation of blocks of features, forward and backward.

    xhat = (x - mean) / sqrt(var + eps),  y = act(gamma * xhat + beta)
    dgamma = sum dy * xhat,  dbeta = sum dy
    dx = gamma / sqrt(var + eps) * (dy - dbeta / N - xhat * dgamma / N)

The last line is equation 37 of CMU 11-785 HW1P1, appendix C, with 20 and 27 put in. Sums run over
the rows of a batch. Each of the first functions works on one block, a vector of features, which a
``BatchBlock`` describes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._geometry import Geometry, norm_work
from ._jit import inline, kernel
from ._memory import load, load_partial, store, store_partial
from ._simd import sqrt, vector_lanes
from ._sync import barrier, share
from .activation import NO_ACTIVATION, store_activated
from .packing import (
    block_stride,
    ceil_div,
    chunk_count,
    pack_matrix,
    rows_in_chunk,
    unpack_matrix,
)

EPS = 1e-8


class BatchBlock(NamedTuple):
    """Where the rows of a batch lie in one of the blocks of a layer."""

    at: int  # the first row of the first chunk
    stride: int  # numbers from chunk to chunk
    geometry: Geometry


class Affine(NamedTuple):
    """What normalises a block, registers or (F,) arrays: gamma * (x - mean) / sqrt(...) + beta."""

    mean: np.ndarray
    variance: np.ndarray
    gamma: np.ndarray
    beta: np.ndarray


@inline
def has_batchnorm(layer):
    """Whether a row of the layer table has batch norm: it alone has running statistics."""
    return layer.flat_mean >= 0


@inline
def batch_block(like, at, width, geometry, block):
    """Block ``block`` of a batch of ``width`` features that begins at ``at``."""
    stride = block_stride(like, width, geometry.pitch)
    return BatchBlock(at + block * geometry.pitch * vector_lanes(like), stride, geometry)


@inline
def column_sums(x, block, total):
    """``total``, a register, and the sum over the rows of a block."""
    lanes = vector_lanes(x)
    for chunk in range(chunk_count(block.geometry)):
        for row in range(rows_in_chunk(block.geometry, chunk)):
            total = total + load(x, block.at + chunk * block.stride + row * lanes)
    return total


@inline
def batchnorm_statistics(x, block):
    """(mean, biased variance) over the rows of a block."""
    lanes = vector_lanes(x)
    count = x.dtype.type(block.geometry.rows)
    mean = column_sums(x, block, load_partial(x, block.at, 0)) / count
    variance = mean * 0
    for chunk in range(chunk_count(block.geometry)):
        for row in range(rows_in_chunk(block.geometry, chunk)):
            centred = load(x, block.at + chunk * block.stride + row * lanes) - mean
            variance = variance + centred * centred
    return mean, variance / count


@inline
def batchnorm_normalise(y, slopes, x, block, affine, formula):
    """x becomes xhat in place; y = act(gamma * xhat + beta). y may be x if xhat is not needed.

    slopes : those of act, written where the formula keeps them
    """
    mean, variance, gamma, beta = affine
    lanes = vector_lanes(x)
    scale = 1 / sqrt(variance + EPS)
    for chunk in range(chunk_count(block.geometry)):
        for row in range(rows_in_chunk(block.geometry, chunk)):
            i = block.at + chunk * block.stride + row * lanes
            normalised = (load(x, i) - mean) * scale
            store(x, i, normalised)
            store_activated(y, slopes, i, gamma * normalised + beta, formula)


@inline
def affine_gradients(dy, xhat, block, dgamma, dbeta):
    """(dgamma, dbeta) of y = gamma * xhat + beta, to which a block's rows are added."""
    lanes = vector_lanes(dy)
    for chunk in range(chunk_count(block.geometry)):
        for row in range(rows_in_chunk(block.geometry, chunk)):
            i = block.at + chunk * block.stride + row * lanes
            delta = load(dy, i)
            dgamma = dgamma + delta * load(xhat, i)
            dbeta = dbeta + delta
    return dgamma, dbeta


@inline
def batchnorm_input_gradient(dy, xhat, block, variance, gamma):
    """dy becomes dx in place; returns (dgamma, dbeta), sums over the batch."""
    lanes = vector_lanes(dy)
    zero = load_partial(dy, block.at, 0)
    dgamma, dbeta = affine_gradients(dy, xhat, block, zero, zero)
    count = dy.dtype.type(block.geometry.rows)
    scale = gamma / sqrt(variance + EPS)
    mean_gamma, mean_beta = dgamma / count, dbeta / count
    for chunk in range(chunk_count(block.geometry)):
        for row in range(rows_in_chunk(block.geometry, chunk)):
            i = block.at + chunk * block.stride + row * lanes
            delta = load(dy, i) - mean_beta - load(xhat, i) * mean_gamma
            store(dy, i, scale * delta)
    return dgamma, dbeta


@inline
def running_average(statistics, at, count, value, keep):
    """running = keep * running + (1 - keep) * value, on ``count`` features."""
    running = load_partial(statistics, at, count)
    store_partial(statistics, at, count, keep * running + (1 - keep) * value)


def batchnorm_forward(y, normalised, mean, var, x, gamma, beta):
    """Training mode: mean, var = moments of x;  y = gamma * normalised + beta.

    y, normalised : (N, F), overwritten    mean, var : (F,), overwritten, var is biased
    x : (N, F)    gamma, beta : (F,)       all C-contiguous, float32 or float64
    Reference: CMU 11-785 HW1P1, equations 1 to 4.
    """
    affine = Affine(mean.reshape(-1), var.reshape(-1), gamma.reshape(-1), beta.reshape(-1))
    _batchnorm_forward(
        y.reshape(-1), normalised.reshape(-1), x.reshape(-1), affine, norm_work(x), True
    )


def batchnorm_inference(y, x, gamma, beta, mean, var):
    """y = gamma * (x - mean) / sqrt(var + eps) + beta, with given moments.

    y : (N, F), overwritten    x : (N, F)    gamma, beta, mean, var : (F,)
    Reference: CMU 11-785 HW1P1, appendix C, "Inference".
    """
    affine = Affine(mean.reshape(-1), var.reshape(-1), gamma.reshape(-1), beta.reshape(-1))
    nothing = np.empty(0, x.dtype)
    _batchnorm_forward(y.reshape(-1), nothing, x.reshape(-1), affine, norm_work(x), False)


@kernel(cost=lambda y, *rest: 8 * y.size)
def _batchnorm_forward(team, y, normalised, x, affine, work, training):
    """Either of the two above: in training affine's moments are written, otherwise read."""
    geometry, y_blocks, x_blocks = work
    mean, var, gamma, beta = affine
    lanes = vector_lanes(x)
    features = gamma.size
    pack_matrix(team, x_blocks, x, features, geometry)
    barrier(team)
    for number in range(*share(team, ceil_div(features, lanes))):
        column = number * lanes
        count = min(lanes, features - column)
        block = batch_block(x, 0, features, geometry, number)
        if training:
            batch_mean, variance = batchnorm_statistics(x_blocks, block)
            store_partial(mean, column, count, batch_mean)
            store_partial(var, column, count, variance)
        else:
            batch_mean = load_partial(mean, column, count)
            variance = load_partial(var, column, count)
        here = Affine(
            batch_mean,
            variance,
            load_partial(gamma, column, count),
            load_partial(beta, column, count),
        )
        batchnorm_normalise(y_blocks, y_blocks, x_blocks, block, here, NO_ACTIVATION)
    barrier(team)
    unpack_matrix(team, y, y_blocks, features, geometry)
    if normalised.size > 0:
        unpack_matrix(team, normalised, x_blocks, features, geometry)
    barrier(team)


def batchnorm_backward(dx, dgamma, dbeta, dy, normalised, var, gamma):
    """dgamma = sum of dy * normalised,  dbeta = sum of dy,  dx by equation 37.

    dx : (N, F), overwritten     dgamma, dbeta : (F,), overwritten, sums over the batch
    dy, normalised : (N, F)      var, gamma : (F,)
    Reference: CMU 11-785 HW1P1, appendix C, equations 15 to 37.
    """
    gradients = dx.reshape(-1), dgamma.reshape(-1), dbeta.reshape(-1)
    _batchnorm_backward(
        gradients, dy.reshape(-1), normalised.reshape(-1), var.reshape(-1), gamma.reshape(-1),
        norm_work(dy),
    )  # fmt: skip


@kernel(cost=lambda gradients, *rest: 8 * gradients[0].size)
def _batchnorm_backward(team, gradients, dy, normalised, var, gamma, work):
    dx, dgamma, dbeta = gradients
    geometry, dy_blocks, normal_blocks = work
    lanes = vector_lanes(dy)
    features = gamma.size
    pack_matrix(team, dy_blocks, dy, features, geometry)
    pack_matrix(team, normal_blocks, normalised, features, geometry)
    barrier(team)
    for number in range(*share(team, ceil_div(features, lanes))):
        column = number * lanes
        count = min(lanes, features - column)
        sum_gamma, sum_beta = batchnorm_input_gradient(
            dy_blocks, normal_blocks, batch_block(dy, 0, features, geometry, number),
            load_partial(var, column, count), load_partial(gamma, column, count),
        )  # fmt: skip
        store_partial(dgamma, column, count, sum_gamma)
        store_partial(dbeta, column, count, sum_beta)
    barrier(team)
    unpack_matrix(team, dx, dy_blocks, features, geometry)
    barrier(team)


@kernel(cost=lambda running, *rest: 4 * running.size)
def batchnorm_running(team, running, value, alpha):
    """running = alpha * running + (1 - alpha) * value.

    running : (F,), updated    value : (F,)    alpha : number
    Reference: CMU 11-785 HW1P1, equations 5 and 6.
    """
    lanes = vector_lanes(running)
    keep = running.dtype.type(alpha)
    for block in range(*share(team, ceil_div(running.size, lanes))):
        at = block * lanes
        count = min(lanes, running.size - at)
        running_average(running, at, count, load_partial(value, at, count), keep)
    barrier(team)
