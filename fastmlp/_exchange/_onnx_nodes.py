"""From the nodes of a graph to the steps of a network, node by node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from ._onnx_embedding import begun, continued, ended
from ._onnx_file import PlacedError, constants_of, name_of, shortened
from ._onnx_flow import Flow, Head, Moments, Rows, Strand, added, by_columns, together
from ._onnx_functions import FUNCTIONS
from ._onnx_moments import of_moments
from ._onnx_operands import (
    attribute_of,
    call,
    constant_of,
    flow_of,
    is_numeric,
    number_of,
    vector_of,
)
from ._onnx_steps import BatchNorm, Input, LayerNorm, Linear, Residual, input_of_layer

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml")
# What leaves the outputs of a network what they are, in another shape or by the names of classes.
_AFTER_HEADS = (
    "ArrayFeatureExtractor", "Cast", "Concat", "Flatten", "Gather", "Identity", "LabelEncoder",
    "Normalizer", "Reshape", "Squeeze", "Sub", "ZipMap",
)  # fmt: skip

# Of what nodes compute from constants alone, as multiples of the file.
_MOST_COMPUTED = 16


class Reader:
    """Reads a graph; ``values`` has what every name stands for by then."""

    def __init__(self, model: Any) -> None:
        self._graph = model.graph
        self._opset = next((i.version for i in model.opset_import if i.domain in _DOMAINS[:2]), 1)
        self.values: dict[str, Any] = dict(constants_of(model.graph))
        self._room = _MOST_COMPUTED * model.ByteSize()
        self._read_input()

    def _read_input(self) -> None:
        inputs = [i for i in self._graph.input if i.name not in self.values]
        if len(inputs) != 1:
            names = ", ".join(repr(shortened(i.name)) for i in inputs[:5])
            raise ValueError(f"it must have one input, rows of features, got {names or 'none'}")
        name, tensor = shortened(inputs[0].name), inputs[0].type.tensor_type
        sizes = [d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim]
        if len(sizes) < 2 or min(sizes[1:]) < 1:
            raise ValueError(
                f"its input {name!r} must be rows of a stated number of features, "
                f"got the sizes {sizes[:8]}"
            )
        pixels = tensor.elem_type == TensorProto.UINT8
        step = Input(None, math.prod(sizes[1:]), f"input {name!r}", pixels)
        self.values[inputs[0].name] = Flow(step) if len(sizes) == 2 else Rows(step)

    def read(self) -> list[tuple[str, Any]]:
        """(name, what it is) of every output."""
        for node in self._graph.node:
            try:
                value = self._value(node)
            except PlacedError:
                raise
            except (ValueError, TypeError) as error:
                raise ValueError(f"{name_of(node)} {error}") from None
            if node.output:
                self.values[node.output[0]] = value
        outputs = [(output.name, self.values.get(output.name)) for output in self._graph.output]
        if not outputs:
            raise ValueError("it has no output")
        return outputs

    def _value(self, node: Any) -> Any:
        if node.domain not in _DOMAINS:
            raise ValueError("is of a domain of its own: only standard operators are read")
        attributes = {a.name: attribute_of(a) for a in node.attribute}
        if node.op_type == "Constant":
            return constant_of(attributes)
        operands = [self._operand(name) for name in node.input]
        if not operands:
            raise ValueError("has no operand, as no operator of an MLP")
        operator, where = node.op_type, name_of(node)
        if all(x is None or isinstance(x, np.ndarray) for x in operands):
            return self._computed(operator, operands, attributes)
        kinds = {type(x) for x in operands}
        if Rows in kinds:
            return _flattened(operator, operands, attributes)
        if Head in kinds:
            return _after_head(operator, operands)
        if Strand in kinds:
            return _of_strand(operator, operands, attributes, where)
        if Moments in kinds:
            return of_moments(operator, operands, attributes, where)
        if operator in _OPERATORS:
            return _OPERATORS[operator](self, operands, attributes, where)
        if operator in FUNCTIONS:
            return self._function(operator, operands, attributes, where)
        raise ValueError("is no operator of an MLP")

    def _operand(self, name: str) -> Any:
        if not name:
            return None
        if name not in self.values:
            raise ValueError(f"takes {shortened(name)!r}, which is no first result of a node")
        return self.values[name]

    def _take(self, size: int) -> None:
        """Account for numbers that are computed. Raises ValueError where they are too many."""
        self._room -= 8 * size
        if self._room < 0:
            raise ValueError(
                f"computes constants of more than {_MOST_COMPUTED} times the size of the file"
            )

    def _computed(self, operator: str, operands: Sequence[Any], attributes: dict[str, Any]) -> Any:
        """A constant from constants."""
        array = operands[0]
        if operator == "Identity" and array is not None:
            return array
        if operator == "Transpose" and array is not None:
            axes = attributes.get("perm", tuple(range(array.ndim))[::-1])
            if sorted(axes) != list(range(array.ndim)):
                raise ValueError(f"must have the axes of {array.ndim} in some order, got {axes}")
            return array.transpose(axes)
        if operator not in FUNCTIONS or any(x is not None and x.dtype == object for x in operands):
            raise ValueError("computes constants as no MLP needs")
        shapes = [x.shape for x in operands if x is not None]
        size = math.prod(np.broadcast_shapes(*shapes))
        if size > max(math.prod(shape) for shape in shapes):
            raise ValueError("computes a constant that is larger than those it is made of")
        self._take(size)
        return call(operator, operands, attributes)

    # Operators on rows

    def _function(
        self, operator: str, operands: Sequence[Any], attributes: dict[str, Any], where: str
    ) -> Any:
        """An operator that acts on every number."""
        flows = [x for x in operands if isinstance(x, Flow)]
        arrays = [x for x in operands if isinstance(x, np.ndarray)]
        width = flows[0].step.width
        # Of a single column, an axis tells a number of the column from one of the function.
        of_one = width == 1 and operator in (*_SUM, "Mul")
        vectors = [a for a in arrays if a.size != 1 or (of_one and a.ndim)]
        if vectors:
            if len(operands) != 2 or operator not in (*_SUM, "Mul", "Div", "Pow", "PRelu"):
                raise ValueError("has a number for every column, which only +, -, * and / may have")
            array = vector_of(vectors[0], width, "operand")
            self._take(3 * array.size)
            return by_columns(flows[0], operator, array, operands[0] is vectors[0], where)
        if operator not in _SUM:
            flows = [f if f.bend is None else Flow(f.settle(), where) for f in flows]
        same = together(flows)
        if same is None:
            return _joined(operator, flows, where)
        bend = same[0].bend
        if any(flow.bend is not None for flow in same):
            bend = added(bend, same[1].bend, operator) if len(same) == 2 else bend
            if operator == "Sub" and operands[0] is not flows[0]:
                raise ValueError("subtracts a function that has a number for every column")
        left = iter(same)
        values = [next(left).values if isinstance(x, Flow) else number_of(x) for x in operands]
        return Flow(same[0].step, where, call(operator, values, attributes), bend)

    def _matmul(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        return self._gemm(operands, attributes, where)

    def _gemm(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        flow, weights, bias = (*operands, None)[:3]
        if not isinstance(flow, Flow) or not is_numeric(weights, 2) or attributes.get("transA"):
            raise ValueError("must multiply rows by a matrix of constants")
        weights = weights.T if attributes.get("transB") else weights
        rows, columns = weights.shape
        if rows != flow.step.width or columns < 1:
            raise ValueError(
                f"must multiply {flow.step.width} columns by as many rows, got {weights.shape}"
            )
        if bias is not None:
            if not is_numeric(bias):
                raise ValueError("must add a constant")
            if bias.size == 1:
                self._take(columns)
                bias = np.full(columns, bias.reshape(()))
            bias = vector_of(bias, columns, "bias")
        factors = (float(attributes.get(name, 1.0)) for name in ("alpha", "beta"))
        return Flow(Linear(flow.settle(), columns, where, weights, bias, *factors))

    def _batchnorm(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        flow, *arrays = operands
        if not isinstance(flow, Flow) or len(arrays) != 4 or attributes.get("training_mode"):
            raise ValueError("must normalise rows by constants")
        gamma, beta, mean, var = (vector_of(a, flow.step.width, "operand") for a in arrays)
        eps = float(attributes.get("epsilon", 1e-5))
        if not (np.isfinite(eps) and np.all(var + eps > 0)):
            raise ValueError(f"must have variances above -epsilon, {-eps:g}")
        alpha = float(attributes.get("momentum", 0.9))
        step = flow.settle()
        return Flow(BatchNorm(step, step.width, where, gamma, beta, mean, var, eps, alpha))

    def _layernorm(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        flow, gamma, beta = (*operands, None, None)[:3]
        if not isinstance(flow, Flow) or attributes.get("axis", -1) not in (1, -1):
            raise ValueError("must normalise the columns of rows")
        width, eps = flow.step.width, float(attributes.get("epsilon", 1e-5))
        gamma, beta = (None if a is None else vector_of(a, width, "operand") for a in (gamma, beta))
        return Flow(LayerNorm(flow.settle(), width, where, gamma, beta, eps))

    def _same(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        flow = operands[0]
        if len(operands) == 3 and operands[2] is not None and np.any(operands[2]):
            raise ValueError("drops in training mode")
        return flow_of(flow)

    def _identity(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        """What follows an Identity is no part of the activation before, if that is one."""
        flow = flow_of(operands[0])
        try:
            return Flow(flow.settle())
        except ValueError:
            return flow

    def _reshaped(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Any:
        flow, shapes = flow_of(operands[0]), operands[1:]
        if len(shapes) == 1 and is_numeric(shapes[0], 1) and tuple(shapes[0]) in ((-1,), (-1, 1)):
            return Head(flow, "values") if flow.step.width > 1 or len(shapes[0]) == 1 else flow
        return _rows(flow, shapes, attributes)

    def _scaled(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Flow:
        """(x - offset) * scale."""
        flow = flow_of(operands[0])
        for name, operator in (("offset", "Sub"), ("scale", "Mul")):
            numbers, width = np.array(attributes.get(name, ()), np.float64), flow.step.width
            self._take(3 * width)
            array = vector_of(
                np.full(width, numbers) if numbers.size == 1 else numbers, width, name
            )
            flow = by_columns(flow, operator, array, False, where)
        return flow

    def _squeezed(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Head:
        return Head(flow_of(operands[0]), "values")

    def _softmax(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Head:
        if attributes.get("axis", -1 if self._opset >= 13 else 1) not in (1, -1):
            raise ValueError("must be a softmax of the columns")
        return Head(flow_of(operands[0]), "softmax")

    def _argmax(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Head:
        if attributes.get("axis", 0) not in (1, -1):
            raise ValueError("must tell the largest of the columns")
        return Head(flow_of(operands[0]), "decision")

    def _binarized(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Any:
        threshold = np.array(float(attributes.get("threshold", 0.0)))
        return self._function("Greater", [operands[0], threshold], {}, where)

    def _pair(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Head:
        """A probability beside what is left to 1."""
        flows = together([x for x in operands if isinstance(x, Flow)]) or []
        if len(flows) == len(operands) == 2 and attributes.get("axis") in (1, -1):
            rest, flow = flows
            if np.allclose(rest.values, 1 - flow.values, rtol=0, atol=1e-6):
                return Head(flow, "pair")
        raise ValueError("puts columns beside each other as no MLP does")

    def _sliced(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Strand:
        return begun(flow_of(operands[0]), operands[1:])

    def _mean(self, operands: Sequence[Any], attributes: dict[str, Any], where: str) -> Any:
        return of_moments("ReduceMean", operands, attributes, where)


_OPERATORS: dict[str, Callable[..., Any]] = {
    "ArgMax": Reader._argmax,
    "BatchNormalization": Reader._batchnorm,
    "Binarizer": Reader._binarized,
    "Concat": Reader._pair,
    "Dropout": Reader._same,
    "Flatten": Reader._reshaped,
    "Gemm": Reader._gemm,
    "Identity": Reader._identity,
    "LayerNormalization": Reader._layernorm,
    "LogSoftmax": Reader._softmax,
    "MatMul": Reader._matmul,
    "ReduceMean": Reader._mean,
    "Reshape": Reader._reshaped,
    "Scaler": Reader._scaled,
    "Slice": Reader._sliced,
    "Softmax": Reader._softmax,
    "Squeeze": Reader._squeezed,
}
_SUM = ("Add", "Sub")


def _joined(operator: str, flows: Sequence[Flow], where: str) -> Flow:
    """The sum of what a layer gives and what it takes."""
    if operator == "Add" and len(flows) == 2:
        one, other = (flow.settle() for flow in flows)
        for step, source in ((one, other), (other, one)):
            if input_of_layer(step) is source and step.width == source.width:
                return Flow(Residual(step, step.width, where))
    raise ValueError("joins two branches, of which one is not the input of the other's layer")


def _rows(value: Any, shapes: Sequence[Any], attributes: dict[str, Any]) -> Any:
    """Rows of as many columns as before: Flatten, or Reshape to (-1, D), (0, D) or (0, -1).

    Or to (N, D), of a file that was written for so many rows.
    """
    if shapes:
        shape = shapes[0]
        if len(shapes) != 1 or not is_numeric(shape, 1) or len(shape) != 2:
            raise ValueError("must give rows")
        width = value.step.width
        if tuple(shape) != (0, -1) and not (shape[0] >= -1 and shape[1] == width):
            raise ValueError(f"must give rows of {width} columns, got {shape.tolist()}")
    elif attributes.get("axis", 1) != 1:
        raise ValueError("must give rows")
    return value


def _flattened(operator: str, operands: Sequence[Any], attributes: dict[str, Any]) -> Flow:
    """The rows of an input of more axes."""
    if operator not in ("Flatten", "Reshape") or not isinstance(operands[0], Rows):
        raise ValueError("takes an input of more than two axes, which must be flattened first")
    return Flow(_rows(operands[0], operands[1:], attributes).step)


def _after_head(operator: str, operands: Sequence[Any]) -> Head:
    heads = [x for x in operands if isinstance(x, Head)]
    if operator == "ArgMax":
        return heads[0]._replace(kind="decision") if heads[0].kind != "pair" else heads[0]
    if operator not in _AFTER_HEADS:
        raise ValueError("follows the end of the network")
    return heads[0]


def _of_strand(
    operator: str, operands: Sequence[Any], attributes: dict[str, Any], where: str
) -> Any:
    if operator == "Concat":
        return ended(operands, where)
    return continued(operator, operands, attributes)
