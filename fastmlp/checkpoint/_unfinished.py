"""An unfinished fit in a file: numbers in the field ``fit`` of the metadata, arrays as tensors."""

from __future__ import annotations

import json
from dataclasses import fields
from typing import Any

import numpy as np

from .._fit_state import (
    NETWORK_ARRAYS,
    NETWORK_COUNTERS,
    EpochSoFar,
    FitState,
    generator_of,
)
from ..history import History

PREFIX = "fit."
"""What the names of its tensors begin with."""

_LISTS = tuple(f.name for f in fields(History) if f.name != "error_name")

# What JSON gives for each.
_FIELDS: dict[str, tuple[type, ...]] = {
    "arguments": (dict,),
    "generator": (dict,),
    "epoch": (int,),
    "seconds": (float,),
    "told": (list,),
    "ended": (bool,),
    "lost": (str, type(None)),
    "error_name": (str,),
    "callbacks": (list,),
}
# Of a callback's arrays. 16 bits would be taken for bfloat16.
_DTYPES = ("float32", "float64", "int64", "int32", "uint64", "uint32", "uint8", "int8", "bool")


def fit_to_file(state: FitState) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """(the field, the tensors by name).

    Raises TypeError, which names it, for what a callback's state must not have.
    """
    tensors = {
        "losses": state.done.losses,
        "errors": state.done.errors,
        "rates": state.done.rates,
        **{f"history.{name}": np.array(getattr(state.history, name), float) for name in _LISTS},
        **{f"network.{name}": values for name, values in state.network.items()},
    }
    callbacks = []
    for index, (name, values) in enumerate(state.callbacks):
        arrays = {key: value for key, value in values.items() if isinstance(value, np.ndarray)}
        numbers = {key: value for key, value in values.items() if key not in arrays}
        for key, value in values.items():
            _check_value(f"{name}.state_dict()[{key!r}]", value)
        callbacks.append({"name": name, "values": numbers, "arrays": list(arrays)})
        tensors |= {f"callbacks.{index}.{key}": value for key, value in arrays.items()}
    field = {
        "arguments": state.arguments,
        "generator": state.generator,
        "epoch": state.epoch,
        "seconds": float(state.done.seconds),
        "told": list(state.told),
        "ended": state.ended,
        "lost": state.lost,
        "error_name": state.history.error_name,
        "callbacks": callbacks,
    }
    return field, {PREFIX + n: np.asarray(a, order="C") for n, a in tensors.items()}


def _check_value(name: str, value: Any) -> None:
    if isinstance(value, np.ndarray):
        if value.dtype.name not in _DTYPES or not value.dtype.isnative:
            known = ", ".join(_DTYPES)
            raise TypeError(f"{name} must be of a dtype among {known}, got {value.dtype}")
        return
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        raise TypeError(
            f"{name} must be a number, a text, a list of them or an array, got {value!r:.60}"
        ) from None


def fit_from_file(field: dict[str, Any], tensors: dict[str, np.ndarray]) -> FitState:
    """What ``fit_to_file`` gave these for. Raises ValueError for anything else."""
    names = _FIELDS.keys() | field.keys()
    if wrong := [n for n in names if type(field.get(n, ...)) not in _FIELDS.get(n, ())]:
        raise ValueError(f"its unfinished fit has the field {min(wrong)} wrong")
    left = {name.removeprefix(PREFIX): values for name, values in tensors.items()}
    losses, errors, rates = (_numbers(left, name) for name in ("losses", "errors", "rates"))
    lists = {name: _numbers(left, f"history.{name}").tolist() for name in _LISTS}
    known = NETWORK_ARRAYS + NETWORK_COUNTERS
    network = {name: left.pop(f"network.{name}", None) for name in known}
    for name in NETWORK_COUNTERS:
        if (counter := network[name]) is not None and counter.dtype != np.uint64:
            raise ValueError(f"{PREFIX}network.{name} must be uint64, got {counter.dtype}")
    callbacks = tuple(_callback(left, i, entry) for i, entry in enumerate(field["callbacks"]))
    if left:
        raise ValueError(f"it must not hold {PREFIX}{min(left)}")
    done = len(lists["train_loss"])
    if not (len(losses) == len(errors) == len(rates) and 0 <= done - field["epoch"] <= 1):
        raise ValueError(
            f"its unfinished fit must have as many losses as errors and rates, and a history of "
            f"the epochs before the present one, {field['epoch']}; got {len(losses)}, "
            f"{len(errors)}, {len(rates)} and {done}"
        )
    if not all(isinstance(name, str) for name in field["told"]):
        raise ValueError("its unfinished fit has the field told wrong")
    if type(field["arguments"].get("epochs")) is not int:
        raise ValueError("its unfinished fit must have its number of epochs")
    generator_of(field["generator"])
    return FitState(
        field["arguments"], field["generator"], field["epoch"],
        EpochSoFar(losses, errors, rates, field["seconds"]),
        tuple(field["told"]), field["ended"], field["lost"],
        History(**lists, error_name=field["error_name"]), callbacks,
        {name: values for name, values in network.items() if values is not None},
    )  # fmt: skip


def _numbers(left: dict[str, np.ndarray], name: str) -> np.ndarray:
    """Take a row of float64 out of the tensors."""
    values = left.pop(name, None)
    if values is None or values.dtype != np.float64 or values.ndim != 1:
        got = "none" if values is None else f"{values.shape} {values.dtype}"
        raise ValueError(f"{PREFIX}{name} must be (n,) float64, got {got}")
    return values


def _callback(left: dict[str, np.ndarray], index: int, entry: Any) -> tuple[str, dict[str, Any]]:
    """(class, state) of one callback, its arrays taken out of the tensors."""
    kinds = {"name": str, "values": dict, "arrays": list}
    if not isinstance(entry, dict) or {k: type(v) for k, v in entry.items()} != kinds:
        raise ValueError(f"its unfinished fit has the callback {index} wrong")
    names = [f"callbacks.{index}.{key}" for key in entry["arrays"]]
    if len(set(names)) < len(names):
        raise ValueError(f"its unfinished fit names an array of the callback {index} twice")
    if missing := [name for name in names if name not in left]:
        raise ValueError(f"it lacks {PREFIX}{missing[0]}")
    arrays = {key: left.pop(name) for key, name in zip(entry["arrays"], names, strict=True)}
    return entry["name"], entry["values"] | arrays
