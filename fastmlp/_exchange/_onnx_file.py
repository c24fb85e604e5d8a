"""Reading an ONNX file that nobody vouches for: what is refused before memory is taken for it."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from ._onnx_graph import MOST_BYTES

MOST_NODES = 10_000
"""Of a graph. An MLP of a hundred layers has about a thousand."""

# The dtypes of constants, and the field that has their numbers where there are no raw bytes.
_DTYPES = {
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.FLOAT16: ("<f2", None),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.UINT8: ("u1", "int32_data"),
    TensorProto.INT8: ("i1", "int32_data"),
    TensorProto.BOOL: ("?", "int32_data"),
}


def read_model(path: str | os.PathLike[str]) -> Any:
    """The model in a file, checked; every constant lies in the file itself.

    Raises ValueError where it is no ONNX file, or one that no MLP is in; OSError when it cannot be
    read. As large in memory as the file, and what protocol buffers make of it.
    """
    path = Path(path)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size > MOST_BYTES:
            raise ValueError(f"it must have at most {MOST_BYTES:,} bytes, got {size:,}")
        # No more than that, of a file that grows or has no end.
        content = file.read(size)
    try:
        model = onnx.ModelProto.FromString(content)
    # The pure Python of protocol buffers goes as deep as the file does.
    except (DecodeError, RecursionError) as error:
        raise ValueError(f"it is no ONNX model: {error}") from None
    _check_graph(model)
    try:
        onnx.checker.check_model(content)
    except (onnx.checker.ValidationError, UnicodeDecodeError, RuntimeError) as error:
        first_line = shortened(str(error).partition("\n")[0])
        raise ValueError(f"onnx's checker finds fault with it: {first_line}") from None
    return model


class PlacedError(ValueError):
    """An error whose message begins with the node that it is about."""


def name_of(node: Any) -> str:
    """A node in words: its name, or that of its result, and its operator."""
    name = node.name or ", ".join(node.output[:3])
    operator = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    return f"node {shortened(name)!r} ({shortened(operator)})"


def shortened(name: str) -> str:
    """A text from a file, as much of it as a message can hold."""
    return name if len(name) <= 120 else f"{name[:117]}..."


def constants_of(graph: Any) -> dict[str, np.ndarray]:
    """The initializers by name, views of the model's bytes where they can be."""
    return {tensor.name: array_of(tensor) for tensor in graph.initializer}


def array_of(tensor: Any) -> np.ndarray:
    """A tensor's numbers; of strings an array of objects, all empty.

    Raises ValueError where there are more or fewer than its shape says.
    """
    shape = tuple(tensor.dims)
    count = math.prod(shape)
    named = f"the constant {shortened(tensor.name)!r} of shape {_shown(shape)}"
    if any(size < 0 for size in shape):
        raise ValueError(f"{named} has a negative size")
    if tensor.data_type == TensorProto.STRING:
        if count != len(tensor.string_data):
            raise ValueError(f"{named} must have {count:,} texts, got {len(tensor.string_data):,}")
        return np.full(shape, "", object)
    if tensor.data_type not in _DTYPES:
        raise ValueError(f"{named} is of the type {tensor.data_type}, which no MLP has")
    code, field = _DTYPES[tensor.data_type]
    dtype = np.dtype(code)
    if tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * dtype.itemsize:
            raise ValueError(
                f"{named} must have {count * dtype.itemsize:,} bytes, got {len(tensor.raw_data):,}"
            )
        return np.frombuffer(tensor.raw_data, dtype).reshape(shape)
    numbers = () if field is None else getattr(tensor, field)
    if len(numbers) != count:
        raise ValueError(f"{named} must have {count:,} numbers, got {len(numbers):,}")
    with np.errstate(all="ignore"):
        return np.array(numbers, np.int64 if dtype.kind in "iub" else dtype).reshape(shape)


def _check_graph(model: Any) -> None:
    """Refuse what no MLP needs and what a checker might follow out of the file."""
    graph = model.graph
    if len(model.functions):
        raise ValueError("it has functions of its own, which are not read")
    if len(graph.node) > MOST_NODES:
        raise ValueError(f"it must have at most {MOST_NODES:,} nodes, got {len(graph.node):,}")
    if len(graph.sparse_initializer):
        raise ValueError("it has sparse constants, which are not read")
    for tensor, owner in _tensors(graph):
        if tensor.data_location != TensorProto.DEFAULT or len(tensor.external_data):
            raise ValueError(f"{owner} has its data in another file, which is not read")
        array_of(tensor)


def _tensors(graph: Any) -> Iterator[tuple[Any, str]]:
    """All tensors of a graph, and whose they are; refuses graphs inside of nodes."""
    for tensor in graph.initializer:
        yield tensor, f"the constant {shortened(tensor.name)!r}"
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g") or len(attribute.graphs):
                raise ValueError(f"{name_of(node)} has branches of its own, which are not read")
            if attribute.HasField("sparse_tensor") or len(attribute.sparse_tensors):
                raise ValueError(f"{name_of(node)} has sparse constants, which are not read")
            for tensor in [attribute.t] if attribute.HasField("t") else attribute.tensors:
                yield tensor, name_of(node)


def _shown(shape: tuple[int, ...]) -> str:
    """A shape that fits into a line."""
    return str(shape) if len(shape) <= 8 else f"of {len(shape)} axes"
