"""An ONNX model under construction."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .._files import write_whole
from .._version import __version__

OPSET = 17
"""The first with LayerNormalization, and of 2022: what runs models by now has all its operators.
Of later ones only Mish and Gelu would be of use, which have formulas."""
IR_VERSION = 8
"""The version of the file's format that came with it."""

# Protocol buffers hold no more.
MOST_BYTES = 2**31 - 1

ROWS = "N"
"""The name of the axis of rows, of any length."""

ELEMENTS = {
    "float32": TensorProto.FLOAT, "float64": TensorProto.DOUBLE, "uint8": TensorProto.UINT8,
    "int64": TensorProto.INT64, "bool": TensorProto.BOOL, "str": TensorProto.STRING,
}  # fmt: skip
"""What ONNX calls the dtypes of arrays, by NumPy's names."""


class Column(NamedTuple):
    """An input or an output: its name in the graph, its dtype, its shape and what it is."""

    name: str
    dtype: str
    shape: tuple[Any, ...]
    meaning: str

    def info(self) -> Any:
        """As ONNX declares it."""
        return helper.make_tensor_value_info(
            self.name, ELEMENTS[self.dtype], self.shape, self.meaning
        )


class Graph:
    """Nodes that are added one after the other; called with an operator and its operands.

    Operands are the names of results before, or numbers, which become constants of ``dtype``.
    """

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._inputs: list[Column] = []
        self._outputs: list[Column] = []
        self._counts: Counter[str] = Counter()

    def __call__(self, operator: str, *operands: Any, domain: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its result."""
        inputs = [x if isinstance(x, str) else self.number(x) for x in operands]
        result = self._new_name(operator.lower())
        self._nodes.append(
            helper.make_node(operator, inputs, [result], result, domain=domain, **attributes)
        )
        return result

    def number(self, value: float) -> str:
        """The name of a scalar constant of the graph's dtype."""
        name = f"number.{self.dtype}.{value!r}"
        if name not in self._constants:
            self._add_constant(name, np.array(value, self.dtype))
        return name

    def constant(self, name: str, array: Any) -> str:
        """Add an array, which keeps its dtype; returns its name."""
        self._add_constant(name, np.asarray(array))
        return name

    def _add_constant(self, name: str, array: np.ndarray) -> None:
        array = array.astype(object) if array.dtype.kind == "U" else np.ascontiguousarray(array)
        self._constants[name] = numpy_helper.from_array(array, name)

    def _new_name(self, stem: str) -> str:
        self._counts[stem] += 1
        return f"{stem}.{self._counts[stem]}"

    def cast(self, value: str, dtype: Any) -> str:
        """A value as numbers of that dtype."""
        return self("Cast", value, to=ELEMENTS[np.dtype(dtype).name])

    def squeezed(self, value: str) -> str:
        """A value (N, 1) as (N,)."""
        axes = "axis.1"
        if axes not in self._constants:
            self._add_constant(axes, np.array([1]))
        return self("Squeeze", value, axes)

    def input(self, column: Column) -> str:
        """Declare an input; returns its name."""
        self._inputs.append(column)
        return column.name

    def output(self, value: str, column: Column) -> None:
        """Make a value an output of the model."""
        self._nodes.append(helper.make_node("Identity", [value], [column.name], column.name))
        self._outputs.append(column)

    def write(self, path: Any, title: str, properties: dict[str, str]) -> None:
        """Write the model, whole or not at all; the same model is the same bytes.

        Raises ValueError where it would be larger than a file of ONNX can be; OSError, which names
        the file, when it cannot be written.
        """
        # Counted before: beyond the limit protocol buffers fail while they write.
        size = sum(len(c.raw_data) for c in self._constants.values())
        if size + 1000 * len(self._nodes) > MOST_BYTES:
            raise ValueError(
                f"a file of ONNX holds at most {MOST_BYTES:,} bytes, and the constants of this "
                f"model have {size:,}"
            )
        graph = helper.make_graph(
            self._nodes, "fastmlp", [column.info() for column in self._inputs],
            [column.info() for column in self._outputs], list(self._constants.values()),
        )  # fmt: skip
        model = helper.make_model(
            graph, producer_name="fastmlp", producer_version=__version__, doc_string=title,
            opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", 3)],
            ir_version=IR_VERSION,
        )  # fmt: skip
        helper.set_model_props(model, properties)
        content = model.SerializeToString(deterministic=True)
        onnx.checker.check_model(content)
        write_whole(Path(path), content)


def is_single(shape: tuple[Any, ...]) -> bool:
    """Whether a shape (N, K) has one column."""
    return len(shape) == 2 and math.prod(shape[1:]) == 1
