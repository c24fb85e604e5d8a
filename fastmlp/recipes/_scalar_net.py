"""VU Deep Learning, assignment 1, question 3: a network of Python numbers, one sample at a time.

Weights are lists per unit: ``weights_input_hidden[j]`` are those into hidden unit j.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]
Vectors = tuple[list[float], list[float], list[float], list[float]]


def sigmoid(x: float) -> float:
    """1 / (1 + exp(-x)), for large negative x too."""
    if x >= 0:
        return 1 / (1 + math.exp(-x))
    e = math.exp(x)
    return e / (1 + e)


def softmax(x: Vector) -> list[float]:
    """exp(x_j) / sum_k exp(x_k), after subtracting the largest."""
    largest = max(x)
    exps = [math.exp(v - largest) for v in x]
    total = sum(exps)
    return [e / total for e in exps]


def cross_entropy(output: Vector, target: Vector) -> float:
    """-sum_k t_k log y_k, an output below 1e-15 counting as that."""
    if len(target) != len(output):
        raise ValueError(f"target must have {len(output)} entries, got {len(target)}")
    pairs = zip(output, target, strict=True)
    return -sum(t * math.log(max(y, 1e-15)) for y, t in pairs)


def forward_pass(inputs: Vector, w1: Matrix, b1: Vector, w2: Matrix, b2: Vector) -> Vectors:
    """(hidden input, hidden output, output input, output)."""
    _check("weights_input_hidden", "biases_hidden", w1, b1, len(inputs))
    _check("weights_hidden_output", "biases_output", w2, b2, len(b1))
    hidden_in = _affine(inputs, w1, b1)
    hidden_out = [sigmoid(z) for z in hidden_in]
    output_in = _affine(hidden_out, w2, b2)
    return hidden_in, hidden_out, output_in, softmax(output_in)


def backward_pass(
    inputs: Vector, hidden_out: Vector, outputs: Vector, target: Vector, w2: Matrix,
    slope_of: Vector,
) -> tuple[list[list[float]], list[float], list[list[float]], list[float]]:  # fmt: skip
    """Gradients of w1, b1, w2, b2; the hidden units' slopes are s (1 - s) of ``slope_of``."""
    delta_out = [y - t for y, t in zip(outputs, target, strict=True)]
    arriving = [
        sum(d * w for d, w in zip(delta_out, column, strict=True))
        for column in zip(*w2, strict=True)
    ]
    delta_hidden = [d * s * (1 - s) for d, s in zip(arriving, slope_of, strict=True)]
    return (
        [[x * d for x in inputs] for d in delta_hidden], delta_hidden,
        [[d * a for a in hidden_out] for d in delta_out], delta_out,
    )  # fmt: skip


def _affine(x: Vector, w: Matrix, b: Vector) -> list[float]:
    return [
        sum(v * weight for v, weight in zip(x, row, strict=True)) + bias
        for row, bias in zip(w, b, strict=True)
    ]


def _check(name_w: str, name_b: str, w: Matrix, b: Vector, inputs: int) -> None:
    if len(w) != len(b):
        raise ValueError(f"{name_b} must have an entry per row of {name_w}, {len(w)}, got {len(b)}")
    for row in w:
        if len(row) != inputs:
            raise ValueError(f"{name_w} must have rows of {inputs} weights, got {len(row)}")
