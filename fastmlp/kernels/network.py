"""A network as data: the layer table, the buffers it leads into, and the way between the two sets.

A user's network lies in flat buffers, row-major; tiles want panels. Training packs on entry and
unpacks when somebody looks.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ._jit import entry
from ._operands import Blocks
from ._sync import barrier
from ._units import Unit
from .packing import pack_panels, pack_vector, unpack_panels, unpack_vector

# One row per layer. The offsets lead into the flat buffers (what a user sees) and into the packed
# ones (what the tiles read); -1 where the layer has no such parameter.
LAYER = np.dtype(
    [
        ("inputs", np.int64),
        ("outputs", np.int64),
        ("activation", np.int64),
        ("flat_w", np.int64),
        ("flat_b", np.int64),
        ("flat_gamma", np.int64),
        ("flat_beta", np.int64),
        ("flat_mean", np.int64),
        ("flat_var", np.int64),
        ("packed_w", np.int64),
        ("packed_b", np.int64),
        ("activations", np.int64),
        ("alpha", np.float64),  # of the running statistics
    ],
    align=True,
)


class Flat(NamedTuple):
    """A network's own buffers, each (P,) but the statistics: running means and variances."""

    parameters: np.ndarray
    velocities: np.ndarray
    statistics: np.ndarray


class Packed(NamedTuple):
    """What the engine works on: panels and blocks, all 1-D; scratch and forms may hold pairs."""

    unit: Unit  # what multiplies
    weights: np.ndarray  # panels and biases
    velocities: np.ndarray  # the same layout
    gradients: np.ndarray  # the same layout; used only where a batch has several chunks
    scratch: np.ndarray  # room for every part's panel of weights, transposed or rounded
    gathered: np.ndarray  # room for the rows that every part is about to round
    inputs: Blocks  # of two batches: the present and the next
    labels: np.ndarray  # rows of labels, padded to whole vectors
    activations: Blocks  # of every layer's output
    normals: Blocks  # the same layout: normalised pre-activations
    deltas: Blocks  # the same layout: gradients with respect to pre-activations
    means: np.ndarray  # of the batch, before batch norm; a row per layer
    variances: np.ndarray  # the same layout


class Data(NamedTuple):
    """The training set, in place. ``classes`` is empty where ``y`` holds rows of labels."""

    x: tuple[int, int, int, int]
    y: tuple[int, int, int, int]
    classes: np.ndarray
    order: np.ndarray  # (n,) int64: the rows, in the order of training


class Plan(NamedTuple):
    """How to train: the batch, and the factors of the update rule."""

    batch_size: int
    chunk_rows: int
    pitch: int
    momentum: float
    decay: float
    mean_reduction: bool  # divide dgamma and dbeta by the rows of the batch


@entry
def pack_buffer(part, parts, sync, table, packed, flat):
    """A flat buffer of parameters, or of their velocities, into panels."""
    for index in range(len(table)):
        layer = table[index]
        pack_panels(
            part, parts, packed, layer.packed_w, flat, layer.flat_w, layer.inputs, layer.outputs
        )
        if layer.flat_b >= 0:
            pack_vector(part, parts, packed, layer.packed_b, flat, layer.flat_b, layer.outputs)
    barrier(sync, part, parts)


@entry
def unpack_buffer(part, parts, sync, table, flat, packed):
    """Panels back into a flat buffer."""
    one = flat.dtype.type(1)
    for index in range(len(table)):
        layer = table[index]
        unpack_panels(
            part, parts, flat, layer.flat_w, packed, layer.packed_w,
            layer.inputs, layer.outputs, one,
        )  # fmt: skip
        if layer.flat_b >= 0:
            unpack_vector(part, parts, flat, layer.flat_b, packed, layer.packed_b, layer.outputs)
    barrier(sync, part, parts)
