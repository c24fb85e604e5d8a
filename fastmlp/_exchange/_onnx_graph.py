"""An ONNX model under construction."""

from __future__ import annotations

import math
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
        self._constants: list[Any] = []
        self._numbers: dict[tuple[Any, float], str] = {}
        self._inputs: list[Column] = []
        self._outputs: list[Column] = []
        self._names: set[str] = set()

    def __call__(self, operator: str, *operands: Any, domain: str = "", **attributes: Any) -> str:
        """Add a node; returns the name of its result."""
        inputs = [x if isinstance(x, str) else self.number(x) for x in operands]
        result = self._new_name(f"{operator.lower()}.{len(self._nodes)}")
        self._nodes.append(
            helper.make_node(operator, inputs, [result], result, domain=domain, **attributes)
        )
        return result

    def number(self, value: float) -> str:
        """The name of a scalar constant of the graph's dtype."""
        key = self.dtype, value
        if key not in self._numbers:
            self._numbers[key] = self.constant(f"number.{value!r}", np.array(value, self.dtype))
        return self._numbers[key]

    def constant(self, name: str, array: Any) -> str:
        """Add an array, which keeps its dtype; returns its name."""
        name = self._new_name(name)
        self._constants.append(numpy_helper.from_array(np.array(array, order="C"), name))
        return name

    def _new_name(self, name: str) -> str:
        """The name, with underscores behind it where it is taken: inputs are called by users."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def cast(self, value: str, dtype: Any) -> str:
        """A value as numbers of that dtype."""
        return self("Cast", value, to=ELEMENTS[np.dtype(dtype).name])

    def squeezed(self, value: str) -> str:
        """A value (N, 1) as (N,)."""
        return self("Squeeze", value, self.constant("axis", np.array([1])))

    def input(self, column: Column) -> str:
        """Declare an input; returns its name."""
        column = column._replace(name=self._new_name(column.name))
        self._inputs.append(column)
        return column.name

    def output(self, value: str, column: Column) -> None:
        """Make a value an output of the model."""
        column = column._replace(name=self._new_name(column.name))
        self._nodes.append(helper.make_node("Identity", [value], [column.name], column.name))
        self._outputs.append(column)

    def write(self, path: Any, title: str, properties: dict[str, str]) -> None:
        """Write the model, whole or not at all; the same model is the same bytes.

        Raises ValueError where it would be larger than a file of ONNX can be; OSError, which names
        the file, when it cannot be written.
        """
        # Counted before: beyond the limit protocol buffers fail while they write.
        size = sum(len(c.raw_data) for c in self._constants)
        if size + 1000 * len(self._nodes) > MOST_BYTES:
            raise ValueError(
                f"a file of ONNX holds at most {MOST_BYTES:,} bytes, and the constants of this "
                f"model have {size:,}"
            )
        graph = helper.make_graph(
            self._nodes, "fastmlp", [column.info() for column in self._inputs],
            [column.info() for column in self._outputs], self._constants,
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
