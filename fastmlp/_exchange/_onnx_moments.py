"""Layer norm written in single operators, as exporters write it before opset 17."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ._onnx_flow import Flow, Moments
from ._onnx_operands import is_numeric, number_of
from ._onnx_steps import LayerNorm

# Layer norm in single operators: what an operator makes of parts, from the parts' kinds.
_MOMENTS = {
    ("ReduceMean", "row"): "mean",
    ("Sub", "row", "mean"): "centred",
    ("Pow", "centred", "number"): "squares",
    ("Mul", "centred", "centred"): "squares",
    ("ReduceMean", "squares"): "variance",
    ("Add", "variance", "number"): "variance",
    ("Sqrt", "variance"): "deviation",
    ("Div", "centred", "deviation"): "normalised",
}


def of_moments(
    operator: str, operands: Sequence[Any], attributes: dict[str, Any], where: str
) -> Any:
    """A part of layer norm, or all of it."""
    if operator == "ReduceMean":
        axes = attributes.get("axes", operands[1] if len(operands) == 2 else ())
        if list(axes) not in ([1], [-1]) or not attributes.get("keepdims", 1):
            raise ValueError("must be the mean of the columns")
        operands = operands[:1]
    steps = {x.settle() if isinstance(x, Flow) else x.step for x in operands if not is_numeric(x)}
    kinds = tuple(_kind(x) for x in operands)
    kind = _MOMENTS.get((operator, *kinds))
    if kind is None or len(steps) != 1:
        raise ValueError("is no part of layer norm")
    step, eps = steps.pop(), max((x.eps for x in operands if isinstance(x, Moments)), default=0.0)
    numbers = [float(number_of(x)) for x in operands if is_numeric(x)]  # type: ignore[arg-type]
    if operator == "Pow" and numbers != [2.0]:
        raise ValueError("must square")
    if kind == "normalised":
        return Flow(LayerNorm(step, step.width, where, None, None, eps))
    return Moments(step, kind, eps + (numbers[0] if operator == "Add" else 0.0))


def _kind(value: Any) -> str:
    if isinstance(value, Moments):
        return value.kind
    return "row" if isinstance(value, Flow) else "number"
