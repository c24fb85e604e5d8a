"""A network's sizes as the layer table, and where its parameters lie in its buffers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise, zip_longest
from typing import Any, NamedTuple

import numpy as np

from .kernels._geometry import padded_width, panels_size
from .kernels.activation import Formula
from .kernels.embed import EmbeddingSizes
from .kernels.network import LAYER
from .kernels.rules import BIASES, EMBEDDINGS, MIXES, NORMS, SCALES, WEIGHTS, Group


class LayerSpec(NamedTuple):
    """One layer of a network; ``alpha`` is of batch norm's running statistics.

    batchnorm, layernorm : not both
    residual : whether its input is added to its output, which is as wide
    dropout : share of its input that is dropped in training
    scaled : whether its input is multiplied by learnt numbers; of the first layer alone
    parametric : whether its activation has learnt weights; not of the last layer
    embedding : of columns that come before ``inputs``; of the first layer alone
    """

    inputs: int
    outputs: int
    activation: Formula
    bias: bool
    batchnorm: bool
    alpha: float = 0.9
    dropout: float = 0.0
    layernorm: bool = False
    residual: bool = False
    scaled: bool = False
    parametric: bool = False
    embedding: EmbeddingSizes | None = None

    @property
    def columns(self) -> int:
        """Of what comes before embeddings; its inputs where there are none."""
        sizes = self.embedding
        return self.inputs - (sizes.columns * sizes.outputs if sizes else 0)

    @property
    def normalised(self) -> bool:
        """Whether it has gammas and betas."""
        return self.batchnorm or self.layernorm

    @property
    def has_extras(self) -> bool:
        """Whether it is more than products, biases and an activation."""
        return self.batchnorm or self.dropout > 0 or self.has_rare_extras

    @property
    def has_rare_extras(self) -> bool:
        """Whether it is more than these, batch norm and dropout."""
        rare = self.layernorm or self.residual or self.scaled or self.parametric
        return rare or self.embedding is not None


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
        self._groups: dict[Group, int] = {}
        for row, layer in zip(self.table, layers, strict=True):
            self._place(row, layer)
            row["group_w"] = self._group(Group(WEIGHTS, layer.inputs))
            row["group_b"] = self._group(Group(BIASES)) if layer.bias else -1
            row["group_norm"] = self._group(Group(NORMS)) if layer.normalised else -1
            row["group_scale"] = self._group(Group(SCALES)) if layer.scaled else -1
            row["group_mix"] = self._group(Group(MIXES)) if layer.parametric else -1
            row["group_embed"] = self._group(Group(EMBEDDINGS)) if layer.embedding else -1

    def _place(self, row: Any, layer: LayerSpec) -> None:
        inputs, outputs = layer.inputs, layer.outputs
        panels = panels_size(inputs, outputs, self.dtype)
        row["inputs"], row["outputs"], row["alpha"] = inputs, outputs, layer.alpha
        row["dropout"], row["residual"] = layer.dropout, layer.residual
        formula = layer.activation
        row["activation"], row["keeps_slope"] = formula.code, formula.keeps_slope
        row["parameter"], row["address"] = formula.parameter, formula.address
        row["flat_w"] = self._take("parameters", inputs * outputs)
        row["flat_b"] = self._take("parameters", outputs) if layer.bias else -1
        row["flat_gamma"] = self._take("parameters", outputs) if layer.normalised else -1
        row["flat_beta"] = self._take("parameters", outputs) if layer.normalised else -1
        row["flat_mean"] = self._take("statistics", outputs) if layer.batchnorm else -1
        row["flat_var"] = self._take("statistics", outputs) if layer.batchnorm else -1
        row["packed_w"] = self._take("packed", panels)
        padded = padded_width(outputs, self.dtype)
        row["packed_b"] = self._take("packed", padded)
        row["packed_gamma"] = self._take("packed", padded) if layer.normalised else -1
        row["packed_beta"] = self._take("packed", padded) if layer.normalised else -1
        row["flat_mix"] = self._take("parameters", outputs) if layer.parametric else -1
        row["packed_mix"] = self._take("packed", padded) if layer.parametric else -1
        row["flat_embed"] = row["packed_embed"] = -1
        if layer.embedding is not None:
            row["embedded"], row["frequencies"], row["embeddings"] = layer.embedding
            numbers = row["embed_numbers"] = layer.embedding.numbers
            row["flat_embed"] = self._take("parameters", numbers)
            row["packed_embed"] = self._take("packed", padded_width(numbers, self.dtype))
        row["flat_scale"] = row["packed_scale"] = -1
        if layer.scaled:
            row["flat_scale"] = self._take("parameters", inputs)
            row["packed_scale"] = self._take("packed", padded_width(inputs, self.dtype))

    def _take(self, buffer: str, size: int) -> int:
        """Reserve ``size`` numbers at the end of a buffer; returns where they start."""
        start: int = getattr(self, buffer)
        setattr(self, buffer, start + size)
        return start

    def _group(self, group: Group) -> int:
        """The number of a group, a new one where it is the first of its kind."""
        return self._groups.setdefault(group, len(self._groups))

    @property
    def groups(self) -> tuple[Group, ...]:
        """What the rows of a step's schedule are for."""
        return tuple(self._groups)

    def of_weights(self) -> np.ndarray:
        """Which of the flat parameters are weights, (P,) bool."""
        mask = np.zeros(self.parameters, bool)
        for row, layer in zip(self.table, self.layers, strict=True):
            mask[row["flat_w"] :][: layer.inputs * layer.outputs] = True
        return mask

    @property
    def has_extras(self) -> bool:
        """Whether one of its layers has."""
        return any(layer.has_extras for layer in self.layers)

    @property
    def has_rare_extras(self) -> bool:
        """Whether one of its layers has."""
        return any(layer.has_rare_extras for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of one row's forward pass."""
        return sum(layer.inputs * layer.outputs for layer in self.layers)


@lru_cache(maxsize=64)
def layout_of(
    sizes: tuple[int, ...],
    activations: tuple[Formula, ...],
    bias: bool,
    alphas: tuple[float, ...],
    dropout: tuple[float, ...],
    layernorms: int,
    residual: bool,
    scaled: bool,
    parametric: bool,
    embedding: EmbeddingSizes | None,
    dtype: Any,
) -> Layout:
    """The layout of a network, from a cache: callers share it and must not change it.

    alphas : of the batch norms, which the first so many layers have
    layernorms : how many have layer norm instead
    residual : whether the input is added to the output, where widths agree but in the last layer
    scaled : whether the first layer's input is multiplied by learnt numbers
    parametric : whether the activations of hidden layers have learnt weights
    embedding : of the first columns, which the first of ``sizes`` counts already
    """
    layers = [
        LayerSpec(
            inputs, outputs, formula, bias, alpha is not None,
            1.0 if alpha is None else alpha, share, i < layernorms,
            residual and inputs == outputs and i < len(sizes) - 2, scaled and i == 0,
            parametric and i < len(sizes) - 2, embedding if i == 0 else None,
        )
        for i, ((inputs, outputs), formula, alpha, share) in enumerate(
            zip_longest(pairwise(sizes), activations, alphas, dropout)
        )
    ]  # fmt: skip
    return Layout(layers, dtype)
