"""A network described as data, and the buffers in which compiled code trains and evaluates it.

``Layout`` turns a network's sizes into the layer table and the sizes of its buffers. ``Trainer``
packs a network, runs training steps, and unpacks; ``infer`` runs the forward pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from . import threads
from .kernels._geometry import (
    Geometry,
    blocks_size,
    geometry_of,
    padded_width,
    panels_size,
    pitch_of,
    transposed_size,
)
from .kernels._host import aligned_empty, aligned_zeros
from .kernels.activation import ACTIVATIONS
from .kernels.epoch import train_steps
from .kernels.inference import infer_few_rows, infer_rows
from .kernels.network import (
    LAYER,
    Data,
    Flat,
    Packed,
    Plan,
    pack_buffer,
    unpack_buffer,
)
from .kernels.packing import source_of

# Multiply-adds of a training step per thread: its threads have their job already and only meet at
# barriers. Two threads broke even with one between 1.2 and 2.4 million per step.
STEP_WORK_PER_THREAD = 1_200_000

# Up to this many rows the weights are read once a row from where they are; packing them would cost
# more.
FEW_ROWS = 4

# Rows that a thread takes through all layers at once.
INFERENCE_ROWS = 64

# Rows that one call of the compiled forward pass takes: what keeps Ctrl-C alive.
ROWS_PER_CALL = 1 << 15


class LayerSpec(NamedTuple):
    """One layer of a network: widths, activation by name, and what else it has."""

    inputs: int
    outputs: int
    activation: str
    bias: bool
    batchnorm: bool
    alpha: float = 0.9


class Layout:
    """Where the parameters of a network lie in its flat and in its packed buffers.

    ``table`` is the layer table of ``kernels.network``; ``parameters``, ``statistics`` and
    ``packed`` are buffer sizes, ``widest`` is the greatest width, padded. ``dtype`` decides on the
    padding.
    """

    def __init__(self, layers: Sequence[LayerSpec], dtype: Any) -> None:
        self.layers = tuple(layers)
        self.dtype = np.dtype(dtype)
        self.table = np.zeros(len(layers), LAYER)
        self.widest = max(padded_width(max(layer[:2]), self.dtype) for layer in layers)
        self.parameters = self.statistics = self.packed = 0
        for row, layer in zip(self.table, layers, strict=True):
            self._place(row, layer)

    def _place(self, row: Any, layer: LayerSpec) -> None:
        inputs, outputs = layer.inputs, layer.outputs
        panels = panels_size(inputs, outputs, self.dtype)
        row["inputs"], row["outputs"], row["alpha"] = inputs, outputs, layer.alpha
        row["activation"] = ACTIVATIONS[layer.activation]
        row["flat_w"] = self._take("parameters", inputs * outputs)
        row["flat_b"] = self._take("parameters", outputs) if layer.bias else -1
        row["flat_gamma"] = self._take("parameters", outputs) if layer.batchnorm else -1
        row["flat_beta"] = self._take("parameters", outputs) if layer.batchnorm else -1
        row["flat_mean"] = self._take("statistics", outputs) if layer.batchnorm else -1
        row["flat_var"] = self._take("statistics", outputs) if layer.batchnorm else -1
        row["packed_w"] = self._take("packed", panels)
        row["packed_b"] = self._take("packed", padded_width(outputs, self.dtype))

    def _take(self, buffer: str, size: int) -> int:
        """Reserve ``size`` numbers at the end of a buffer; returns where they start."""
        start: int = getattr(self, buffer)
        setattr(self, buffer, start + size)
        return start

    @property
    def multiply_adds(self) -> int:
        """Of one row's forward pass."""
        return sum(layer.inputs * layer.outputs for layer in self.layers)


@lru_cache(maxsize=64)
def layout_of(
    sizes: tuple[int, ...],
    activations: tuple[str, ...],
    bias: bool,
    alphas: tuple[float, ...],
    dtype: Any,
) -> Layout:
    """The layout of a network; not to be changed, since the next caller gets the same.

    alphas : of the batch norms, which the first so many layers have
    """
    layers = [
        LayerSpec(*widths, activations[i], bias, i < len(alphas), *alphas[i : i + 1])
        for i, widths in enumerate(pairwise(sizes))
    ]
    return Layout(layers, dtype)


class Trainer:
    """Trains a network in packed buffers, between ``pack`` and ``unpack``."""

    def __init__(self, layout: Layout, flat: Flat, batch_size: int) -> None:
        self.layout, self.flat = layout, flat
        self.geometry = geometry_of(batch_size, layout.dtype)
        self.table = layout.table.copy()
        # Forward, weight gradient and input gradient.
        work = 3 * layout.multiply_adds * batch_size
        self.threads = threads.worth(work, STEP_WORK_PER_THREAD)
        self.packed = self._buffers()
        self._rows_out = np.zeros(batch_size), np.zeros(batch_size)

    def _buffers(self) -> Packed:
        layout, dtype = self.layout, self.layout.dtype
        outputs = [layer.outputs for layer in layout.layers]
        sizes = [blocks_size(self.geometry, width, dtype) for width in outputs]
        self.table["activations"] = np.cumsum([0, *sizes[:-1]])
        activations = sum(sizes)
        normalised = any(layer.batchnorm for layer in layout.layers)
        widest = max(padded_width(width, dtype) for width in outputs)
        inputs = blocks_size(self.geometry, layout.layers[0].inputs, dtype)

        def zeros(size: int) -> np.ndarray:
            return aligned_zeros(size, dtype)

        return Packed(
            weights=zeros(layout.packed),
            velocities=zeros(layout.packed),
            gradients=zeros(layout.packed if self.geometry.chunks > 1 else 0),
            transposed=zeros(self.threads * transposed_size(max(outputs), dtype)),
            inputs=zeros(2 * inputs),
            labels=zeros(self.geometry.rows * padded_width(outputs[-1], dtype)),
            activations=zeros(activations),
            normals=zeros(activations if normalised else 0),
            deltas=zeros(activations),
            variances=zeros(len(outputs) * widest if normalised else 0),
        )

    def _run(self, function: Any, *arguments: Any) -> None:
        threads.run(function, self.threads, arguments)

    def pack(self, momentum: float, weight_decay: float, mean_reduction: bool) -> None:
        """Take over the flat buffers, and the factors of the update rule."""
        self.plan = Plan(*self.geometry, momentum, weight_decay, mean_reduction)
        self._run(pack_buffer, self.table, self.packed.weights, self.flat.parameters)
        self._run(pack_buffer, self.table, self.packed.velocities, self.flat.velocities)

    def train(
        self, data: Data, rates: np.ndarray, first: int, last: int,
        steps_out: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        """Run steps first ... last-1 of an epoch; see ``kernels.epoch.train_steps``."""
        self._run(
            train_steps, self.table, self.flat, self.packed, data, self.plan, rates, first, last,
            self._rows_out, steps_out,
        )  # fmt: skip

    def unpack(self) -> None:
        """Bring the flat parameters and velocities up to date."""
        self._run(unpack_buffer, self.table, self.flat.parameters, self.packed.weights)
        self._run(unpack_buffer, self.table, self.flat.velocities, self.packed.velocities)


def infer(layout: Layout, flat: Flat, x: np.ndarray) -> np.ndarray:
    """The network's outputs for the rows of x, (N, K), batch norm by its running statistics.

    x : (N, D) uint8, float32 or float64, any strides, read in place.
    """
    dtype = layout.dtype
    out = np.empty((len(x), layout.layers[-1].outputs), dtype)
    if len(x) <= FEW_ROWS:
        infer_few_rows(out, layout.table, flat, source_of(x))
        return out
    weights = aligned_zeros(layout.packed, dtype)
    threads.run(
        pack_buffer, threads.worth(layout.parameters), (layout.table, weights, flat.parameters)
    )
    for first in range(0, len(x), ROWS_PER_CALL):
        _infer_packed(out[first : first + ROWS_PER_CALL], layout, flat, weights, x, first)
    return out


def _infer_packed(
    out: np.ndarray, layout: Layout, flat: Flat, weights: np.ndarray, x: np.ndarray, first: int
) -> None:
    """``infer`` for as many rows of x from ``first`` as ``out`` has, from packed weights."""
    # A chunk for every thread even where the rows would fit in one.
    wanted = threads.worth(layout.multiply_adds * len(out))
    chunk_rows = geometry_of(min(INFERENCE_ROWS, -(-len(out) // wanted)), layout.dtype).chunk_rows
    geometry = Geometry(len(out), chunk_rows, pitch_of(chunk_rows))
    size = wanted * layout.widest * geometry.pitch
    room = aligned_empty(size, layout.dtype), aligned_empty(size, layout.dtype)
    arguments = (
        out.reshape(-1), layout.table, flat, weights, source_of(x), first, tuple(geometry), room
    )  # fmt: skip
    threads.run(infer_rows, wanted, arguments)
