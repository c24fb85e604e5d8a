"""Attributes and operands of nodes, checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from ._onnx_file import array_of
from ._onnx_flow import Flow
from ._onnx_functions import FUNCTIONS


def attribute_of(attribute: Any) -> Any:
    if attribute.HasField("t"):
        return array_of(attribute.t)
    value = helper.get_attribute_value(attribute)
    return tuple(value) if not isinstance(value, (int, float, bytes)) else value


def constant_of(attributes: dict[str, Any]) -> np.ndarray:
    if len(attributes) == 1:
        (value,) = attributes.values()
        if isinstance(value, np.ndarray):
            return value
        if isinstance(value, (int, float)) or all(isinstance(v, (int, float)) for v in value):
            return np.array(value)
    raise ValueError("must have a number, or an array of them")


def call(operator: str, operands: Sequence[Any], attributes: dict[str, Any]) -> np.ndarray:
    """An operator of ``FUNCTIONS`` on arrays, in float64."""
    floats = [None if x is None else np.asarray(x, np.float64) for x in operands]
    with np.errstate(all="ignore"):
        try:
            return np.asarray(FUNCTIONS[operator](floats, attributes), np.float64)
        except (IndexError, TypeError) as error:
            raise ValueError(f"has other operands than the operator: {error}") from None


def flow_of(value: Any) -> Flow:
    if not isinstance(value, Flow):
        raise ValueError("must take rows first")
    return value


def is_numeric(value: Any, axes: int | None = None) -> bool:
    if not isinstance(value, np.ndarray) or value.dtype == object:
        return False
    return axes is None or value.ndim == axes


def number_of(value: Any) -> np.ndarray | None:
    if value is None:
        return None
    if not is_numeric(value) or value.size != 1:
        raise ValueError("must have numbers for operands")
    return np.asarray(value, np.float64).reshape(())


def vector_of(value: Any, width: int, what: str) -> np.ndarray:
    """(width,) numbers, from (width,), or (1, width) and so on."""
    if not is_numeric(value) or value.size != width or value.shape[-1:] != (width,):
        shape = value.shape if isinstance(value, np.ndarray) else "no constant"
        raise ValueError(f"must have an {what} of the {width} columns, got {shape}")
    array: np.ndarray = value.reshape(width)
    return array
