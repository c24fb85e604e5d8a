"""What a training's options choose, and the checks of what the user gave."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import typer

from .. import datasets
from ..layers import activation_named
from ..presets import (
    OPTIMIZERS,
    PRESETS,
    SCHEDULES,
    Preset,
    has_momentum,
    preset_for,
    usual_rate,
)
from ..validation import check_choice, check_compute_dtype
from .lines import say

LARGEST = 1e30
"""Well inside the range of float32."""


def checked(o: SimpleNamespace) -> dict[str, Any]:
    """The fields of a preset that the options of `train` choose.

    Raises typer.BadParameter for an option that is not what it must be.
    """
    rate = o.lr
    if o.optimizer is not None:
        _check_optimizer(o.optimizer, o.momentum)
        rate = usual_rate(o.optimizer) if o.lr is None else o.lr
    given: dict[str, Any] = {
        "hidden": None if o.hidden is None else _sizes(o.hidden),
        "activation": None if o.activation is None else _activation(o.activation),
        "batchnorm": _batchnorm(o.batchnorm, o.layer_norm),
        "layernorm": o.layer_norm,
        "dropout": _fraction("--dropout", o.dropout),
        "epochs": at_least("--epochs", o.epochs, 1),
        "batch_size": at_least("--batch-size", o.batch_size, 1),
        "optimizer": o.optimizer,
        "lr": positive("--lr", rate),
        "lr_schedule": _one_of("lr-schedule", o.lr_schedule, SCHEDULES),
        "momentum": _fraction("--momentum", o.momentum),
    }
    at_least("--seed", o.seed, 0)
    check_dtypes(o.dtype, o.compute_dtype)
    if o.preset is not None and o.preset not in PRESETS:
        raise _bad("--preset", f"one of {', '.join(PRESETS)}", o.preset)
    _check_task(o.task, o.dataset)
    return {option: value for option, value in given.items() if value is not None}


def preset_of(o: SimpleNamespace, dataset: str, given: dict[str, Any]) -> Preset:
    """The preset that the options name, or the data set's, with what ``checked`` gave."""
    return replace(PRESETS[o.preset] if o.preset else preset_for(dataset), **given)


def data_of(o: SimpleNamespace) -> datasets.Dataset:
    """The data set that the options name. Raises DatasetError where it is not to be had."""
    if o.dataset is not None:
        return _named(o.dataset, o.data_dir, o.target, o.task)
    if o.target is not None:
        raise typer.BadParameter("needs a DATASET, a table", param_hint="--target")
    return _mnist_or_digits(o.data_dir)


def _check_task(task: str, dataset: str | None) -> None:
    _one_of("task", task, datasets.TASKS)
    if task != datasets.CLASSIFICATION and (dataset is None or Path(dataset).suffix == ""):
        raise typer.BadParameter(
            f"{task} is for a file with targets, an .npz, .csv or .parquet", param_hint="--task"
        )


def _named(name: str, data_dir: Path | None, target: str | None, task: str) -> datasets.Dataset:
    progress = sys.stderr.isatty()
    try:
        return datasets.load(name, data_dir, target=target, task=task, progress=progress)
    except ValueError as error:
        about_target = target is not None or Path(name).suffix in datasets.TABLE_SUFFIXES
        hint = "--target" if about_target else "DATASET"
        raise typer.BadParameter(str(error), param_hint=hint) from None


def _mnist_or_digits(data_dir: Path | None) -> datasets.Dataset:
    """MNIST; if it is neither found nor downloaded, say why and load the package's digits."""
    try:
        return datasets.load("mnist", data_dir, progress=sys.stderr.isatty())
    except datasets.DatasetError as error:
        say(f"{error}\ntraining on the embedded digits instead", sys.stderr)
        return datasets.load("digits")


def check_dtypes(dtype: str, compute_dtype: str | None) -> None:
    if dtype not in ("float32", "float64"):
        raise _bad("--dtype", "float32 or float64", dtype)
    try:
        check_compute_dtype(compute_dtype, np.dtype(dtype))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--compute-dtype") from None


def _bad(option: str, expected: str, got: object) -> typer.BadParameter:
    return typer.BadParameter(f"must be {expected}, got {got}", param_hint=option)


def _sizes(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    if not re.fullmatch(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", text):
        raise _bad("--hidden", "widths from 1 to 999999 like 512,256, or none", repr(text))
    return tuple(map(int, text.split(",")))


def _activation(name: str) -> str:
    try:
        activation_named(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--activation") from None
    return name


def _batchnorm(wanted: bool | None, layer_norm: bool) -> bool | None:
    if wanted and layer_norm:
        raise typer.BadParameter("takes the place of batch norm", param_hint="--layer-norm")
    return False if layer_norm else wanted


def _check_optimizer(name: str, momentum: float | None) -> None:
    _one_of("optimizer", name, tuple(OPTIMIZERS))
    if momentum is not None and not has_momentum(name):
        raise typer.BadParameter(f"{name} has no momentum", param_hint="--momentum")


def _one_of(option: str, name: str | None, known: Sequence[str]) -> str | None:
    try:
        return None if name is None else check_choice(option, name, known)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"--{option}") from None


def at_least(option: str, value: int | None, least: int) -> int | None:
    if value is not None and value < least:
        raise _bad(option, f"at least {least}", value)
    return value


def positive(option: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < LARGEST:
        raise _bad(option, f"above 0 and below {LARGEST:g}", value)
    return value


def _fraction(option: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < 1:
        raise _bad(option, "from 0 to less than 1", value)
    return value
