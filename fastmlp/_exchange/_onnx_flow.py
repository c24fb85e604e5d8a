"""What travels along the edges of a graph, as far as an MLP has it.

A ``Flow`` is a function of every number of the rows that a step gives: an activation that is being
put together. Operators that act on numbers act on its values at ``PROBES``; where a product or a
norm follows, the function is recognised, and becomes a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..layers import Identity
from ._onnx_file import PlacedError
from ._onnx_functions import PROBES, activation_of, line_of
from ._onnx_steps import Activated, Line, Step


class Bend(NamedTuple):
    """A function times a number for every column, (F,)."""

    weights: np.ndarray
    values: np.ndarray


class Flow:
    """f(z), or f(z) + w * g(z), of what a step gives.

    values : f at ``PROBES``    bend : w, and g at ``PROBES``
    where : the node that it comes from
    """

    def __init__(
        self, step: Step, where: str = "", values: np.ndarray = PROBES, bend: Bend | None = None
    ) -> None:
        self.step, self.where, self.values, self.bend = step, where, values, bend
        self.settled: Step | None = step if self.is_plain else None

    @property
    def is_plain(self) -> bool:
        """Whether it is what the step gives, as it is."""
        return self.bend is None and np.array_equal(self.values, PROBES)

    def settle(self) -> Step:
        """The step that the function is. Raises ValueError where it is none."""
        if self.settled is None:
            self.settled = self._step()
        return self.settled

    def _step(self) -> Step:
        before, width, where = self.step, self.step.width, self.where
        if self.bend is None:
            line = line_of(self.values)
            if line is not None:
                return Line(before, width, where, *line)
            activation = activation_of(self.values)
            if activation is not None:
                return Activated(before, width, where, activation, None)
        else:
            weights, bent = self.bend
            base = line_of(self.values)
            if base == (0, 0):
                step = Flow(before, where, bent).settle()
                return Line(step, width, where, weights, 0.0)
            if base == (1, 0):
                activation = activation_of(bent + PROBES) if bent.any() else Identity()
                if activation is not None:
                    return Activated(before, width, where, activation, weights)
        raise PlacedError(f"{self.where} ends a function that is none of fastmlp's activations")


class Head(NamedTuple):
    """What a graph makes of the outputs of a network.

    kind : "softmax", "pair" of a probability and its complement, "decision" for a class, or
        "values" that have another shape
    """

    flow: Flow
    kind: str


class Moments(NamedTuple):
    """A part of layer norm written in single operators; ``kind`` says which."""

    step: Step
    kind: str
    eps: float = 0.0


class Strand(NamedTuple):
    """Operators, with their constants, on the first columns of x: a part of the embeddings."""

    step: Step
    operators: tuple[str, ...]
    constants: tuple[np.ndarray, ...]


class Rows(NamedTuple):
    """An input of more than two axes, which must be flattened first."""

    step: Step


def together(flows: Sequence[Flow]) -> list[Flow] | None:
    """Flows of the same functions as functions of one step, where there is one."""
    for target in {id(flow.step): flow.step for flow in flows}.values():
        if all(target in (flow.step, flow.settled) for flow in flows):
            return [f if f.step is target else Flow(target, f.where) for f in flows]
    return None


def added(one: Bend | None, other: Bend | None, operator: str) -> Bend | None:
    """The bend of a sum or a difference. Raises ValueError where there would be two of them."""
    if other is None:
        return one
    if one is not None or operator == "Sub":
        raise ValueError("adds two functions with a number for every column")
    return other


def by_columns(flow: Flow, operator: str, array: np.ndarray, first: bool, where: str) -> Flow:
    """A flow and a number for every column, (F,), under one of +, -, * and /.

    first : whether the array is the first operand
    """
    if operator == "Mul" and not flow.is_plain and flow.bend is None:
        return Flow(flow.step, where, np.zeros(len(PROBES)), Bend(array, flow.values))
    lines: dict[tuple[str, bool], Any] = {
        ("Add", False): (1.0, array), ("Add", True): (1.0, array),
        ("Sub", False): (1.0, -array), ("Sub", True): (-1.0, array),
        ("Mul", False): (array, 0.0), ("Mul", True): (array, 0.0),
    }  # fmt: skip
    if operator == "Div" and not first:
        with np.errstate(all="ignore"):
            lines["Div", False] = 1 / array.astype(np.float64), 0.0
    if (operator, first) not in lines:
        raise ValueError("has a number for every column, which only +, -, * and / may have")
    before = flow.settle()
    return Flow(Line(before, before.width, where, *lines[operator, first]))
