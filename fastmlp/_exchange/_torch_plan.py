"""What a module of PyTorch is made of: the layers of an MLP, or a reason why it is none."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from torch import nn

from ..layers import Activation, Identity
from ..layers.layernorm import EPS as LAYERNORM_EPS
from ..validation import FLOATS
from ._to_torch import ACTIVATIONS
from ._torch_modules import InputScale, ParametricActivation, PeriodicEmbedding, Residual

_BY_MODULE = {theirs: (ours, names) for ours, (theirs, names) in ACTIVATIONS.items()}

# How far a layer has come: what is to follow must be of a higher number.
_LINEAR, _NORM, _ACTIVATION, _END = range(4)

# Where PyTorch's softplus goes on as a straight line, by default: fastmlp's is 2e-9 above it there.
_SOFTPLUS_END = 20


@dataclass
class PlannedLayer:
    """One layer, in PyTorch's modules.

    dropout : the share of its input    residual : whether its input is added to its output
    """

    place: str
    linear: nn.Linear
    dropout: float
    norm: Any = None
    activation: Activation | None = None
    mixture: ParametricActivation | None = None
    residual: bool = False
    reached: int = _LINEAR

    @property
    def is_square(self) -> bool:
        return self.linear.in_features == self.linear.out_features


class Plan:
    """The layers of a module. Raises ValueError, with name and place, for what no MLP can have."""

    def __init__(self, module: nn.Module) -> None:
        self.layers: list[PlannedLayer] = []
        self.embedding: PeriodicEmbedding | None = None
        self.scale: InputScale | None = None
        self.dtype: np.dtype[Any] | None = None
        self._dropout: tuple[str, nn.Dropout] | None = None
        self._seen: dict[int, str] = {}
        for place, part in _parts("module", module):
            self._add(place, part)
        self._check_whole()

    def _add(self, place: str, part: Any) -> None:
        kind = type(part)
        if part._forward_hooks or part._forward_pre_hooks:
            _refuse(place, part, "its hooks would be lost")
        self._check_tensors(place, part)
        if kind is nn.Linear:
            self._add_linear(place, part)
        elif kind is nn.Dropout:
            self._add_dropout(place, part)
        elif kind is Residual:
            self._add_residual(place, part)
        elif kind in (nn.Flatten, PeriodicEmbedding, InputScale):
            self._add_front(place, part)
        elif kind in (nn.BatchNorm1d, nn.LayerNorm):
            _check_norm(place, part)
            self._follow(place, part, _NORM).norm = part
        elif kind is ParametricActivation:
            activation = _activation(place, part.activation)
            layer = self._follow(place, part, _ACTIVATION)
            layer.activation, layer.mixture = activation, part
        elif kind is not nn.Identity:
            activation = _activation(place, part)
            self._follow(place, part, _ACTIVATION).activation = activation

    def _add_linear(self, place: str, part: nn.Linear) -> None:
        before = self.layers[-1].linear if self.layers else None
        if before is not None and part.in_features != before.out_features:
            _refuse(place, part, f"the layer before it has {before.out_features} outputs")
        if before is None and self.scale is not None and _width(self.scale) != part.in_features:
            _refuse(place, part, f"there are {_width(self.scale)} scales before it")
        share = 0.0 if self._dropout is None else self._dropout[1].p
        self.layers.append(PlannedLayer(place, part, share))
        self._dropout = None

    def _add_dropout(self, place: str, part: nn.Dropout) -> None:
        if part.p == 0:
            return
        if self._dropout is not None:
            _refuse(place, part, "there is a dropout before it already")
        if self.layers:
            self.layers[-1].reached = _END
        self._dropout = place, part

    def _add_residual(self, place: str, part: Residual) -> None:
        count = len(self.layers)
        for child_place, child in _parts(place, nn.Sequential(*part)):
            if type(child) is nn.Dropout:
                _refuse(child_place, child, "dropout comes before the residual connection")
            self._add(child_place, child)
        if len(self.layers) != count + 1 or type(part[0]) is not nn.Linear:
            _refuse(place, part, "a residual connection goes around one layer")
        self.layers[-1].residual, self.layers[-1].reached = True, _END

    def _add_front(self, place: str, part: Any) -> None:
        behind = self.layers or self._dropout or self.scale
        if behind or (self.embedding is not None and type(part) is not InputScale):
            _refuse(place, part, "it must come first")
        if type(part) is PeriodicEmbedding:
            self.embedding = part
        elif type(part) is InputScale:
            self.scale = part
        elif (part.start_dim, part.end_dim) != (1, -1):
            _refuse(place, part, "it must keep the samples apart, as Flatten() does")

    def _follow(self, place: str, part: Any, rank: int) -> PlannedLayer:
        """The layer that the part belongs to, which then has come so far."""
        if not self.layers or self.layers[-1].reached >= rank:
            _refuse(place, part, "the order is linear, norm, activation, dropout")
        layer = self.layers[-1]
        if _width(part) not in (None, layer.linear.out_features):
            _refuse(place, part, f"the layer before it has {layer.linear.out_features} outputs")
        layer.reached = rank
        return layer

    def _check_tensors(self, place: str, part: nn.Module) -> None:
        """All of one dtype that fastmlp has, and each at one place only."""
        parameters = list(part.named_parameters(recurse=False))
        for name, tensor in itertools.chain(parameters, part.named_buffers(recurse=False)):
            if tensor.is_floating_point():
                found = str(tensor.dtype).removeprefix("torch.")
                allowed = [str(d) for d in (FLOATS if self.dtype is None else [self.dtype])]
                if found not in allowed:
                    _refuse(place, part, f"its {name} must be {' or '.join(allowed)}, got {found}")
                self.dtype = np.dtype(found)
        for name, tensor in parameters:
            if id(tensor) in self._seen:
                _refuse(place, part, f"its {name} is that of {self._seen[id(tensor)]}, too")
            self._seen[id(tensor)] = place

    def _check_whole(self) -> None:
        if not self.layers:
            raise ValueError("module must have an nn.Linear, got none")
        if self._dropout is not None:
            _refuse(*self._dropout, "a linear layer must follow")
        for before, layer in itertools.pairwise(self.layers):
            if layer.norm is not None and type(layer.norm) is not type(before.norm):
                _refuse(layer.place, layer.linear, "norms must be of one kind, from the first on")
        adds = any(layer.residual for layer in self.layers)
        mixes = any(layer.mixture is not None for layer in self.layers)
        for layer in self.layers:
            hidden = layer is not self.layers[-1]
            if layer.residual != (adds and hidden and layer.is_square):
                _refuse(
                    layer.place, layer.linear,
                    "residual connections must be around all layers as wide as their input, but "
                    "not the last, or around none",
                )  # fmt: skip
            if (layer.mixture is not None) != (mixes and hidden):
                _refuse(
                    layer.place, layer.linear,
                    "activations must be parametric in all layers but the last, or in none",
                )  # fmt: skip


def _parts(place: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """All modules that are no Sequential, nested ones too, each with its place."""
    if type(module) is not nn.Sequential:
        yield place, module
        return
    for i, child in enumerate(module):
        yield from _parts(f"{place}[{i}]", child)


def _activation(place: str, module: Any) -> Activation:
    """fastmlp's activation for one of PyTorch's. Raises ValueError where there is none."""
    if type(module) is nn.Identity:
        return Identity()
    if type(module) not in _BY_MODULE:
        _refuse(place, module, "it takes nn.Sequential of linear layers, norms and activations")
    if type(module) is nn.Softplus and module.threshold < _SOFTPLUS_END:
        _refuse(place, module, f"its threshold must be at least {_SOFTPLUS_END}")
    cls, names = _BY_MODULE[type(module)]
    return cls(**{name: getattr(module, name) for name in names})


def _check_norm(place: str, norm: Any) -> None:
    if norm.weight is None or norm.bias is None:
        _refuse(place, norm, "it must have a learnt weight and bias")
    if type(norm) is nn.BatchNorm1d:
        if norm.running_mean is None or norm.momentum is None:
            _refuse(place, norm, "it must have running statistics and a momentum")
    elif len(norm.normalized_shape) != 1 or norm.eps != LAYERNORM_EPS:
        _refuse(place, norm, f"it must be of one axis, with an eps of {LAYERNORM_EPS}")


def _width(part: Any) -> int | None:
    """How many columns a module is for, None where any number will do."""
    if type(part) is InputScale:
        return len(part.scale)
    weight = getattr(part, "weight", None)
    return None if weight is None else len(weight)


def _refuse(place: str, part: nn.Module, reason: str) -> NoReturn:
    name = f"{type(part).__name__}({part.extra_repr()})"
    raise ValueError(f"MLP cannot express {place}, {name}: {reason}")
