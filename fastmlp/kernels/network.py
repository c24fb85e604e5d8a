"""A network as data: the layer table, the buffers its offsets lead into, packing and unpacking.

A user's network lies in flat buffers, row-major; tiles read panels. So a training packs the flat
buffers first, works on packed ones, and unpacks them before the user may look.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import entry, inline
from ._memory import Place
from ._operands import Blocks
from ._sync import barrier
from ._units import Unit
from ._vocabulary import Vocabulary
from .packing import StridedMatrix, pack_panels, pack_vector, unpack_panels, unpack_vector
from .pointwise import Loss
from .update import Learnt, UpdateOptions

# One row per layer. The offsets lead into the flat buffers (what a user sees) and into the packed
# ones (what the tiles read); -1 where the layer has no such parameter.
LAYER = np.dtype(
    [
        ("inputs", np.int64),
        ("outputs", np.int64),
        ("activation", np.int64),  # this and the next three: a ``Formula``
        ("keeps_slope", np.int64),
        ("parameter", np.float64),
        ("address", np.int64),
        ("flat_w", np.int64),
        ("flat_b", np.int64),
        ("flat_gamma", np.int64),
        ("flat_beta", np.int64),
        ("flat_mean", np.int64),
        ("flat_var", np.int64),
        ("packed_w", np.int64),
        ("packed_b", np.int64),
        ("packed_gamma", np.int64),
        ("packed_beta", np.int64),
        ("activations", np.int64),
        ("alpha", np.float64),  # of the running statistics
        ("dropout", np.float64),  # share of its input that a training step drops
        ("residual", np.int64),  # 1: its input is added to its output
        ("group_w", np.int64),  # this and the next five: rows of a step's schedule
        ("group_b", np.int64),
        ("group_norm", np.int64),
        ("group_scale", np.int64),
        ("group_mix", np.int64),
        ("group_embed", np.int64),
        ("flat_scale", np.int64),  # learnt numbers that its input is multiplied by
        ("packed_scale", np.int64),
        ("flat_mix", np.int64),  # the weights of a parametric activation
        ("packed_mix", np.int64),
        ("flat_embed", np.int64),  # the numbers of the embeddings of its first inputs
        ("packed_embed", np.int64),
        ("embed_numbers", np.int64),  # so many
        ("embedded", np.int64),  # this and the next two: ``embed.EmbeddingSizes``
        ("frequencies", np.int64),
        ("embeddings", np.int64),
    ],
    align=True,
)


class Flat(NamedTuple):
    """What of a network's own buffers a forward pass reads."""

    parameters: np.ndarray  # (P,)
    statistics: np.ndarray  # (S,), running means and variances; a training moves them


class Packed(NamedTuple):
    """What a training works on: panels and blocks, all 1-D; scratch and forms may hold pairs."""

    unit: Unit  # what multiplies
    learnt: Learnt  # panels, biases, gammas and betas, and what is kept of each
    gradients: np.ndarray  # the same layout; of weights not written where they are used at once
    staged: np.ndarray  # for every part a piece of gradients on the way to their update
    terms: np.ndarray  # float64, of the norm of all gradients
    scratch: np.ndarray  # for every part a panel of weights, transposed or rounded
    gathered: np.ndarray  # for every part the rows that it is about to round
    inputs: Blocks  # of two microbatches: the present and the next
    labels: np.ndarray  # rows of labels, padded to whole vectors
    row_weights: np.ndarray  # of the microbatch
    activations: Blocks  # of every layer's output
    normals: Blocks  # the same layout: normalised pre-activations
    slopes: np.ndarray  # the same layout: slopes of activations that are kept
    bends: np.ndarray  # the same layout: act(z) - z of parametric activations; empty without
    deltas: Blocks  # the same layout: gradients with respect to pre-activations
    input_deltas: Blocks  # of the first layer's input, where embeddings learn from them
    skips: np.ndarray  # blocks of one layer: the gradient that passes by it; empty if none does
    means: np.ndarray  # of the batch, before batch norm; a row per layer
    variances: np.ndarray  # the same layout
    row_scales: np.ndarray  # of layer norm: what rows were multiplied by; so many per layer
    row_losses: np.ndarray  # of the microbatch, float64
    row_errors: np.ndarray  # the same
    seen: np.ndarray  # for every part a number of each feature other than 0, if its rows have one
    lists: np.ndarray  # for every part a list of features: see ``present.Features``
    masks: np.ndarray  # (2,) int64: dropout's key, and the step that an epoch's first one counts as


class Network(NamedTuple):
    """A network in training."""

    table: np.ndarray  # of dtype ``LAYER``
    statistics: np.ndarray  # batch norm's, flat: updated here
    packed: Packed
    vocabulary: Vocabulary  # all that its table and the plan may name


class PackedWeights(NamedTuple):
    """A network for the forward pass over many rows."""

    table: np.ndarray  # of dtype ``LAYER``
    flat: Flat
    weights: np.ndarray  # panels and biases, see ``move_buffer``
    unit: Unit  # what multiplies


class Data(NamedTuple):
    """The training set, in place, and what an epoch makes of it."""

    x: StridedMatrix
    y: StridedMatrix  # rows of labels or other targets
    classes: np.ndarray  # (N,) int64 in their place, or empty
    weights: np.ndarray  # (N,) of the rows, or empty
    class_weights: np.ndarray  # (K,) or empty
    order: np.ndarray  # (n,) int64: the rows, in the order of training
    scales: np.ndarray  # (steps,) what multiplies the sums over a batch in its update
    dropout: np.ndarray  # (steps,) float64, what multiplies the shares that are dropped, or empty


# What of a step is done: all of it, or one of the parts of a network that is trained by hand.
WHOLE_STEP, FORWARD, BACKWARD, UPDATE = range(4)


class Plan(NamedTuple):
    """How to train: the batch, what is minimised, and how gradients become an update."""

    batch_size: int
    microbatch_rows: int  # which go through the network at a time
    chunk_rows: int
    pitch: int
    options: UpdateOptions
    apart: bool  # gradients go to memory, the update is a phase of its own
    accumulate: int  # batches whose gradients are added up for one update; apart only
    mean_reduction: bool  # scale dgamma and dbeta as other gradients
    loss: Loss
    squares: bool  # tell the sum of the squares of all weights before every step
    shard: int = 0  # of every batch, the part that is trained on
    shards: int = 1  # how many of these there are; of several, gradients are left in memory
    part: int = WHOLE_STEP  # the others need gradients apart


class StepFigures(NamedTuple):
    """What an epoch tells of its steps, (steps,) float64 each."""

    losses: np.ndarray  # sums over the batch, weighted
    errors: np.ndarray  # the same
    squares: np.ndarray  # of all weights before the step; empty unless wanted


@inline
def _vectors_of(layer):
    """Where all lies that a layer learns beside its weights: (packed, flat, how many numbers).

    ``flat`` is -1 where it has none.
    """
    return (
        (layer.packed_b, layer.flat_b, layer.outputs),
        (layer.packed_gamma, layer.flat_gamma, layer.outputs),
        (layer.packed_beta, layer.flat_beta, layer.outputs),
        (layer.packed_embed, layer.flat_embed, layer.embed_numbers),
        (layer.packed_mix, layer.flat_mix, layer.outputs),
        (layer.packed_scale, layer.flat_scale, layer.inputs),
    )


@entry
def move_buffer(team, table, packed, flat, back):
    """A flat buffer of parameters, or of what is kept of each, into panels; or back from there."""
    one = flat.dtype.type(1)
    for index in range(len(table)):
        layer = table[index]
        panels, weights = Place(packed, layer.packed_w), Place(flat, layer.flat_w)
        if back:
            unpack_panels(team, weights, panels, layer.inputs, layer.outputs, one)
        else:
            pack_panels(team, panels, weights, layer.inputs, layer.outputs)
        for packed_at, flat_at, count in _vectors_of(layer):
            if flat_at >= 0 and back:
                unpack_vector(team, Place(flat, flat_at), Place(packed, packed_at), count)
            elif flat_at >= 0:
                pack_vector(team, Place(packed, packed_at), Place(flat, flat_at), count)
    barrier(team)
