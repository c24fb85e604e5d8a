"""Reading safetensors files that may come from anywhere.

Layout: the size of the header, 8 bytes, little-endian; the header, a JSON object with dtype, shape
and place of each tensor by its name, and texts in "__metadata__"; the tensors, end to end.
Reference: github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
import math
import os
from typing import Any, BinaryIO, NamedTuple

import numpy as np

LARGEST_HEADER = 4 << 20
"""Bytes: 10,000 layers. What JSON takes in memory may be 30 times as much."""

_MOST_DIMENSIONS = 8

_METADATA = "__metadata__"

# Little-endian; NumPy has no bfloat16, whose bits stand for it.
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "|b1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1",
}  # fmt: skip


class Tensor(NamedTuple):
    """What a header says of a tensor; its bytes are data[start:stop]."""

    dtype: str  # one of the format's names
    shape: tuple[int, ...]
    start: int
    stop: int

    def array(self, data: bytes) -> np.ndarray:
        """A read-only view of its bytes; bfloat16 as a copy in float32."""
        flat = np.frombuffer(memoryview(data)[self.start : self.stop], _DTYPES[self.dtype])
        if self.dtype == "BF16":
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        return flat.reshape(self.shape)


class Header(NamedTuple):
    """A header that fits the file it stands in."""

    content: bytes  # with the 8 bytes of its size
    metadata: dict[str, str]
    tensors: dict[str, Tensor]

    def read_data(self, file: BinaryIO) -> bytes:
        """The bytes of all tensors, from behind the header. Raises ValueError if some lack."""
        wanted = max((tensor.stop for tensor in self.tensors.values()), default=0)
        data = file.read(wanted)
        if len(data) != wanted:
            raise ValueError(f"it must have {wanted} bytes of tensors, got {len(data)}")
        return data


def read_header(file: BinaryIO) -> Header:
    """The header of a file that has just been opened.

    Takes no more memory than the header does; whatever it says of the sizes and places of tensors
    is true of the file afterwards. Raises ValueError, or RecursionError for JSON that is nested too
    deeply.
    """
    behind = os.fstat(file.fileno()).st_size - 8
    first = file.read(8)
    # Of a text, say, these are the size of no header.
    if int.from_bytes(first, "little") > LARGEST_HEADER and file.read(1) != b"{":
        raise ValueError("it is no .safetensors file")
    size = check_header_size(first)
    if size > behind:
        raise ValueError(f"its header must have at most {max(behind, 0)} bytes, got {size}")
    content = file.read(size)
    fields = parse_json(content.decode("utf-8"))
    if not isinstance(fields, dict):
        raise ValueError("its header must be a JSON object")
    metadata = fields.pop(_METADATA, {})
    if not isinstance(metadata, dict) or any(type(text) is not str for text in metadata.values()):
        raise ValueError("its metadata must be texts")
    tensors = {name: _tensor(name, entry) for name, entry in fields.items()}
    _check_places(tensors, behind - size)
    return Header(first + content, metadata, tensors)


def check_header_size(content: bytes) -> int:
    """The size of a header, from the 8 bytes before it. Raises ValueError where it is too large."""
    size = int.from_bytes(content[:8], "little")
    if size > LARGEST_HEADER:
        raise ValueError(f"a file's header must have at most {LARGEST_HEADER} bytes, got {size}")
    return size


def parse_json(text: str) -> Any:
    """The JSON value. Raises ValueError, also for an object with two fields of one name."""
    return json.loads(text, object_pairs_hook=_different)


def _different(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise ValueError("a JSON object must not have two fields of one name")
    return fields


def _tensor(name: str, entry: Any) -> Tensor:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(stop)]}:
            if (
                len(entry) == 3
                and dtype in _DTYPES
                and len(shape) <= _MOST_DIMENSIONS
                and all(type(size) is int and 0 <= size < 1 << 63 for size in shape)
                and math.prod(shape) * np.dtype(_DTYPES[dtype]).itemsize == stop - start
            ):
                return Tensor(dtype, tuple(shape), start, stop)
    raise ValueError(f"its header must give dtype, shape and place of {name}, got {entry!r:.200}")


def _check_places(tensors: dict[str, Tensor], size: int) -> None:
    """Refuse tensors that overlap, leave gaps, or do not end where the file does."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if tensor.start != end:
            raise ValueError(f"{name} must begin at byte {end} of the data, got {tensor.start}")
        end = tensor.stop
    if end != size:
        raise ValueError(f"its header promises {end} bytes of tensors, {size} follow")
