"""Periodic embeddings in a graph: the operators that the export writes, and their constants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..layers.embedding import MOST
from ._onnx_flow import Flow, Strand
from ._onnx_operands import is_numeric
from ._onnx_steps import Embedded, Input, Line, Step


def _with(*cosine: str) -> tuple[str, ...]:
    return (
        "Slice", "Transpose", "Unsqueeze", "Mul", "Mul", "Add", *cosine, "MatMul", "Add",
        "Transpose", "Reshape",
    )  # fmt: skip


_WAYS = _with("Cos"), _with("Add", "Sin")
"""What float32 networks have, and what float64 networks have."""
_AXES = {0: (1, 0), 1: (1, 0, 2)}
"""Of the transpositions, by how many come before."""


def begun(flow: Flow, constants: Sequence[Any]) -> Strand:
    """The first columns of x. Raises ValueError where it is something else."""
    step = flow.settle()
    if not _are_features(step):
        raise ValueError("takes columns from the midst of the network")
    if len(constants) != 3 or not all(is_numeric(x) and x.size == 1 for x in constants):
        raise ValueError("must take the first columns")
    first, last, axis = (int(x.reshape(())) for x in constants)
    if first != 0 or axis != 1 or not 1 <= last <= flow.step.width:
        raise ValueError("must take the first columns")
    return Strand(step, ("Slice",), (np.array(last),))


def _are_features(step: Step) -> bool:
    """Whether it gives the columns of x as an MLP takes them: pixels scaled to [0, 1]."""
    if isinstance(step, Line) and isinstance(step.before, Input) and step.before.pixels:
        scales = np.ndim(step.scale) == 0 and abs(255 * step.scale - 1) < 1e-6
        return bool(scales and not np.any(step.shift))
    return isinstance(step, Input) and not step.pixels


def continued(operator: str, operands: Sequence[Any], attributes: dict[str, Any]) -> Strand:
    """One operator more. Raises ValueError where the embeddings have another."""
    strand, constants = operands[0], operands[1:]
    before = strand.operators if isinstance(strand, Strand) else ()
    operators = (*before, operator)
    axes = _AXES.get(before.count("Transpose")) if operator == "Transpose" else None
    if (
        not before
        or all(operators != way[: len(operators)] for way in _WAYS)
        or attributes.get("perm") != axes
        or not all(is_numeric(x) for x in constants)
    ):
        raise ValueError("is not what periodic embeddings have there")
    return strand._replace(operators=operators, constants=(*strand.constants, *constants))


def ended(operands: Sequence[Any], where: str) -> Flow:
    """x with embeddings behind its columns. Raises ValueError where it is something else."""
    flow, strand = (*operands, None)[:2]
    whole = isinstance(strand, Strand) and strand.operators in _WAYS
    if not whole or not isinstance(flow, Flow) or flow.settle() is not strand.step:
        raise ValueError("must put embeddings behind the columns")
    columns, axis, w, turn, b, *quarter, v, c, shape = strand.constants
    n, h, m = int(columns), w.size // int(columns), c.size // int(columns)
    expected = [(n, 1, h), (n, 1, h), (n, h, m), (n, 1, m)]
    if [a.shape for a in (w, b, v, c)] != expected or not (1 <= h <= MOST and 1 <= m <= MOST):
        raise ValueError(f"must have embeddings of {n} columns")
    if axis.tolist() != [2] or shape.tolist() != [0, n * m]:
        raise ValueError("must put the embeddings of a row beside each other")
    for angle, whole_turns in zip((turn, *quarter), (1, 1 / 4), strict=False):
        if angle.size != 1 or abs(float(angle.reshape(())) - 2 * math.pi * whole_turns) > 1e-6:
            raise ValueError("must have cosines of so many turns")
    parts = [w, b, v.transpose(0, 2, 1), c]
    numbers = np.concatenate([part.astype(np.float64).ravel() for part in parts])
    step = strand.step
    return Flow(Embedded(step, step.width + n * m, where, numbers, n, h, m))
