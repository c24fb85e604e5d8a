"""What the nodes of a graph come to: the steps of a network, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..layers import Activation


@dataclass(frozen=True, eq=False)
class Step:
    """What comes after the step ``before``: ``width`` columns. ``where`` names the node."""

    before: Step | None
    width: int
    where: str

    def path(self) -> Iterator[Step]:
        """All steps up to this one."""
        steps = [self]
        while steps[-1].before is not None:
            steps.append(steps[-1].before)
        yield from reversed(steps)


@dataclass(frozen=True, eq=False)
class Input(Step):
    """The rows of x; as pixels, 0 to 255, in a graph that takes uint8."""

    pixels: bool


@dataclass(frozen=True, eq=False)
class Linear(Step):
    """x @ W * alpha + b * beta, without b where it is None."""

    W: np.ndarray
    b: np.ndarray | None
    alpha: float
    beta: float


@dataclass(frozen=True, eq=False)
class Line(Step):
    """x * scale + shift: numbers, or one for every column."""

    scale: Any
    shift: Any


@dataclass(frozen=True, eq=False)
class BatchNorm(Step):
    """By running statistics; ``alpha`` is their share of the old value."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    eps: float
    alpha: float


@dataclass(frozen=True, eq=False)
class LayerNorm(Step):
    """gamma and beta are 1 and 0 where they are None."""

    gamma: np.ndarray | None
    beta: np.ndarray | None
    eps: float


@dataclass(frozen=True, eq=False)
class Activated(Step):
    """An activation; of a parametric one with a weight for every neuron."""

    activation: Activation
    mix: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Residual(Step):
    """The input of the last linear layer is added."""


@dataclass(frozen=True, eq=False)
class Embedded(Step):
    """Periodic embeddings behind the columns; ``numbers`` as an ``Embedding`` has them."""

    numbers: np.ndarray
    columns: int
    frequencies: int
    outputs: int


def input_of_layer(step: Step) -> Step | None:
    """What the last linear layer up to a step took."""
    here: Step | None = step
    while here is not None and not isinstance(here, Linear):
        here = here.before
    return None if here is None else here.before
