"""What networks have that torch.nn has not, as modules of PyTorch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from ..layers.embedding import PeriodicEmbeddings


class InputScale(nn.Module):
    """x * scale, with a learnt number per column, (D,)."""

    def __init__(self, scale: torch.Tensor) -> None:
        super().__init__()
        self.scale = nn.Parameter(scale)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale

    def extra_repr(self) -> str:
        return str(len(self.scale))


class PeriodicEmbedding(nn.Module):
    """x and, behind its columns, c + v cos(2 pi w x + b) of the first n of them.

    kind : the ``fastmlp.PeriodicEmbeddings`` that it computes
    numbers : as ``fastmlp.layers.embedding.Embedding`` has them: w and b, (n, H) each, v,
        (n, M, H), and c, (n, M), which become parameters of these names
    """

    def __init__(self, kind: PeriodicEmbeddings, numbers: torch.Tensor) -> None:
        super().__init__()
        self.kind = kind
        n, h, m = kind.sizes
        shapes = (n, h), (n, h), (n, m, h), (n, m)
        parts = numbers.split([math.prod(shape) for shape in shapes])
        self.w, self.b, self.v, self.c = (
            nn.Parameter(part.reshape(shape).clone())
            for part, shape in zip(parts, shapes, strict=True)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        waves = torch.cos(2 * math.pi * self.w * x[:, : len(self.w), None] + self.b)
        embedded = (self.v * waves[:, :, None]).sum(dim=3) + self.c
        return torch.cat([x, embedded.flatten(1)], dim=1)

    def extra_repr(self) -> str:
        return repr(self.kind)


class ParametricActivation(nn.Module):
    """z + weight * (act(z) - z), with a learnt weight per neuron, (F,)."""

    def __init__(self, activation: nn.Module, weight: torch.Tensor) -> None:
        super().__init__()
        self.activation = activation
        self.weight = nn.Parameter(weight)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z + self.weight * (self.activation(z) - z)


class Residual(nn.Sequential):
    """The modules one after the other, and their input added to the output."""

    def forward(self, input: Any) -> Any:
        return input + super().forward(input)
