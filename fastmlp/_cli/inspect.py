"""`fastmlp inspect`: what is in a model's file, layer by layer, and what a prediction costs."""

from __future__ import annotations

import dataclasses
import json
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .._exchange._stages import Stage, stages_of
from ..layers import BatchNorm
from ..layers.activation import name_of, parameter_of
from ..layers.loss import arguments_of
from .classes import schema_remarks
from .lines import say
from .models import ModelFile, load
from .report import records, table
from .units import in_bytes, in_seconds

if TYPE_CHECKING:
    from ..mlp import MLP

# How long predictions of a kind are timed, and how many at least and at most.
_SECONDS, _LEAST, _MOST = 0.1, 3, 1001
_ROWS = 1000

_COLUMNS = "layer", "widths", "norm", "activation", "dropped", "parameters", "range"


def inspect(model: ModelFile) -> None:
    """Describe the network in a model's file.

    Its layers, each with the share of its input that training drops and the range of its
    parameters; the columns and classes of the table that it has learnt from; what it was trained
    by, and how far; its sizes, and what a prediction costs.

    Memory is that of its arrays. Predictions are timed, on random rows.
    """
    mlp = load(model)
    records(_COLUMNS, list(_layers(mlp)))
    print()
    if mlp.schema is not None:
        say("\n".join(schema_remarks(mlp.schema)) + "\n")
    table(("", ""), [*_training(mlp), *_sizes(mlp, model), *_costs(mlp)])


def _layers(mlp: MLP) -> Iterator[tuple[str, ...]]:
    """A line for what comes before the layers, for each of them, and for their sum."""
    first = mlp.linear_layers[0].in_feature
    if mlp._embedding is not None:
        kind, numbers = mlp._embedding.kind, mlp._embedding.numbers
        widths = f"{kind.columns}-{kind.width}"
        yield "embeddings", widths, "", "", "", f"{numbers.size:,}", _range(numbers)
    if mlp.input_scale is not None:
        yield "scales", str(first), "", "", "", f"{first:,}", _range(mlp.input_scale)
    for number, stage in enumerate(stages_of(mlp), 1):
        yield _layer(str(number), stage)
    widths = f"{mlp.input_size}-{mlp.output_size}"
    yield "all", widths, "", "", "", f"{mlp.parameters.size:,}", _range(mlp.parameters)


def _layer(number: str, stage: Stage) -> tuple[str, ...]:
    parts = stage.linear, stage.norm, stage.mixture
    arrays = [
        getattr(part, names[0]).reshape(-1)
        for part in parts
        if part is not None
        for names in part.parameters
        if getattr(part, names[0]) is not None
    ]
    numbers = np.concatenate(arrays)
    linear = stage.linear
    norm = "" if stage.norm is None else "batch" if isinstance(stage.norm, BatchNorm) else "layer"
    return (
        number, f"{linear.in_feature}-{linear.out_feature}", norm, _activation(stage),
        f"{100 * stage.dropout:.3g} %" if stage.dropout else "", f"{numbers.size:,}",
        _range(numbers),
    )  # fmt: skip


def _activation(stage: Stage) -> str:
    """Its name, with its number, and how it is changed: learnt, or with the input added to it."""
    parameter = parameter_of(stage.activation)
    words = [
        "parametric" if stage.mixture is not None else "",
        name_of(stage.activation),
        "" if parameter is None else f"{parameter:g}",
        "+ input" if stage.adds_input else "",
    ]
    return " ".join(word for word in words if word)


def _range(numbers: np.ndarray) -> str:
    """The least and the greatest number, and how many are not finite."""
    finite = numbers[np.isfinite(numbers)]
    found = f"{finite.min():.3g} to {finite.max():.3g}" if finite.size else ""
    others = numbers.size - finite.size
    return ", ".join([*filter(None, [found]), *[f"{others:,} not finite"] * (others > 0)])


def _training(mlp: MLP) -> Iterator[tuple[str, str]]:
    """What a training went by, and how far it came."""
    computes = "" if mlp.compute_dtype == mlp.dtype.name else f", products in {mlp.compute_dtype}"
    yield "dtype", f"{mlp.dtype}{computes}"
    yield "criterion", type(mlp.criterion).__name__
    for name, value in arguments_of(mlp.criterion).items():
        yield f"  {name}", _value(value)
    yield "optimizer", type(mlp.optimizer).__name__
    for field in dataclasses.fields(mlp.optimizer):
        value = getattr(mlp.optimizer, field.name)
        if not field.kw_only or value != field.default:
            yield f"  {field.name}", _value(value)
    yield "updates", f"{mlp.updates:,}"
    if mlp.drops:
        yield "dropout seed", str(mlp.dropout_seed)
        yield "  steps since", f"{mlp.dropout_steps:,}"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _sizes(mlp: MLP, path: Path) -> Iterator[tuple[str, str]]:
    """Of the file and of its arrays in memory."""
    version, stored = _header(path)
    rounded = "" if stored == mlp.dtype.name else f", weights in {stored}"
    yield "file", f"format {version}{rounded}, {in_bytes(path.stat().st_size)}"
    predicting = [mlp.parameters, mlp.statistics]
    training = [*predicting, mlp.gradients, mlp.velocities, mlp.squares, mlp.averages]
    yield "memory to train", in_bytes(sum(array.nbytes for array in training))
    yield "memory to predict", in_bytes(sum(array.nbytes for array in predicting))


def _header(path: Path) -> tuple[int, str]:
    """(the format of the file, the dtype of its weights)."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        version = json.loads(file.metadata()["fastmlp"])["format"]
        dtype = file.get_slice("layers.0.W").get_dtype()
    return version, {"F32": "float32", "F64": "float64", "BF16": "bfloat16"}[dtype]


def _costs(mlp: MLP) -> Iterator[tuple[str, str]]:
    """Of a row by count, and of one and many as they were measured."""
    yield "a row takes", f"{mlp.layout.multiply_adds:,} multiply-adds"
    read = mlp.parameters.nbytes + mlp.statistics.nbytes
    yield "and reads", in_bytes(read + mlp.input_size * mlp.dtype.itemsize)
    x = np.random.default_rng(0).standard_normal((_ROWS, mlp.input_size)).astype(mlp.dtype)
    for rows in (1, _ROWS):
        seconds = _median_seconds(mlp, x[:rows])
        yield f"{rows:,} row{'s' * (rows > 1)} in", in_seconds(seconds)


def _median_seconds(mlp: MLP, x: np.ndarray) -> float:
    """Of a prediction, after one that does not count: it may compile."""
    mlp.predict(x)
    seconds: list[float] = []
    while len(seconds) < _LEAST or (sum(seconds) < _SECONDS and len(seconds) < _MOST):
        started = time.perf_counter()
        mlp.predict(x)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)
