"""What a page says of the training, of the network and of the machine."""

from __future__ import annotations

import dataclasses
import math
import platform
from collections.abc import Iterator, Sequence
from typing import Any

from .._cores import usable_cores
from .._machine import cpu_model, installed_version, system
from .._version import __version__
from ..kernels._host import vector_registers
from ..layers.activation import name_of
from ..layers.loss import arguments_of
from ..threads import get_num_threads
from ._html import facts, figures, grid, more, section
from ._subject import percent, words
from ._svg import Axes, chart, figure, line

_MOST_EPOCHS = 200
_PACKAGES = "numpy", "numba", "llvmlite"


def summary(mlp: Any, found: Any, samples: int) -> list[tuple[str, str]]:
    """found : the ``Figures`` of the test set"""
    history = mlp.history
    if found.r2 is None:
        rows = [("test error", percent(found.error)), ("test accuracy", percent(1 - found.error))]
    else:
        rows = [("test R²", f"{found.r2:.4f}"), ("test mean absolute error", f"{found.error:.4g}")]
    rows.append(("test loss", f"{found.loss:.4g}"))
    if history is not None and history.train_loss:
        rows.append(("epochs", f"{len(history.train_loss):,}"))
        rows.append(("training time", f"{sum(history.epoch_seconds):.2f} s"))
    rows.append(("parameters", f"{mlp.parameters.size:,}"))
    rows.append(("test samples", f"{samples:,}"))
    return rows


def curves(history: Any) -> Iterator[str]:
    """The section of a history, if it has an epoch."""
    if history is None or not history.train_loss:
        return
    in_percent = history.error_name != "mean absolute error"
    scale, unit = (100, " (%)") if in_percent else (1, "")
    errors = [
        [scale * value for value in values] for values in (history.train_error, history.val_error)
    ]
    drawn = [
        _curve("loss per sample", [history.train_loss, history.val_loss]),
        _curve(f"{history.error_name}{unit}", errors),
    ]
    if history.step_learning_rate:
        drawn.append(_curve("learning rate", [history.step_learning_rate], "step"))
    yield section(
        "curves", "Training", grid(drawn), more("Figures of every epoch", _epochs(history))
    )


def _curve(name: str, pair: Sequence[Sequence[float]], unit: str = "epoch") -> str:
    finite = [value for values in pair for value in values if math.isfinite(value)]
    axes = Axes((1, max(map(len, pair))), (min([0.0, *finite]), 1.04 * max([0.0, *finite])))
    marks = [
        line(axes, values, kind) for values, kind in zip(pair, ("first", "second"), strict=False)
    ]
    both = len(pair) > 1 and len(pair[1]) > 0
    label = f"{name} by {unit}"
    caption = f"{label}: training; dashed, with squares, validation" if both else label
    return figure(chart(axes, label, unit, name, marks), f"{caption}.")


def _epochs(history: Any) -> str:
    count = len(history.train_loss)
    every = -(-count // _MOST_EPOCHS)
    shown = [i for i in range(count) if i % every == 0 or i == count - 1]
    rows = [[_number(value) for value in history.row(epoch)] for epoch in shown]
    names = [name.replace("_", " ") for name in history.columns()]
    # Without validation, or of classes, some have nothing in any row.
    filled = [place for place in range(len(names)) if any(row[place] for row in rows)]
    return figures([names[k] for k in filled], [[row[k] for k in filled] for row in rows])


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def network(mlp: Any) -> list[tuple[str, str]]:
    """What it is made of, and what trains it."""
    norms = {"batch norm": mlp.num_bn_layers, "layer norm": mlp.num_ln_layers}
    computed = "" if mlp.compute_dtype == mlp.dtype.name else f", products in {mlp.compute_dtype}"
    rows = [
        ("widths", "-".join(map(str, (mlp.input_size, *mlp.hiddens, mlp.output_size)))),
        ("activations", ", ".join(map(name_of, mlp.activations))),
        *((name, f"first {count} layers") for name, count in norms.items() if count),
        ("dropout", words(mlp.dropout)),
        ("dtype", f"{mlp.dtype}{computed}"),
        ("criterion", type(mlp.criterion).__name__),
        *((f"criterion: {name}", words(v)) for name, v in arguments_of(mlp.criterion).items()),
        ("optimizer", type(mlp.optimizer).__name__),
    ]
    for field in dataclasses.fields(mlp.optimizer):
        rows.append((f"optimizer: {field.name}", words(getattr(mlp.optimizer, field.name))))
    return [*rows, ("updates", f"{mlp.updates:,}")]


def machine() -> str:
    """The table of what it was trained on: the machine that writes the page."""
    registers = vector_registers()
    found = {"fastmlp": __version__, "Python": platform.python_version()}
    found |= {name: installed_version(name) or "of unknown version" for name in _PACKAGES}
    return facts([
        ("processor", cpu_model()),
        ("vectors", f"{registers.bits} bits"),
        ("cores", str(usable_cores())),
        ("threads", str(get_num_threads())),
        ("system", system()),
        ("versions", ", ".join(f"{name} {version}" for name, version in found.items())),
    ])  # fmt: skip
