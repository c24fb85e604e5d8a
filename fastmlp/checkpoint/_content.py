"""The bytes of a file: its checksum, and tensors of dtypes that NumPy does not have."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from .._safetensors import Tensor
from ._description import shapes_of
from ._unfinished import PREFIX

# What the field sha256 holds while the checksum of the file is taken.
NO_CHECKSUM = "0" * 64

_DTYPES = {"F32": "float32", "F64": "float64", "BF16": "bfloat16"}
# What may be stored as bfloat16: the most of a network.
WEIGHTS = ("W", "momentum_W")


def check_tensors(tensors: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Refuse missing, additional and misshapen tensors before any memory is taken for them."""
    if (layers := len(description["hiddens"]) + 1) > len(tensors):
        raise ValueError(f"{layers} layers must have more tensors than {len(tensors)}")
    shapes, held = shapes_of(description), set(tensors)
    if "fit" in description:
        held = {name for name in held if not name.startswith(PREFIX)}
    if missing := sorted(shapes.keys() - held):
        raise ValueError(f"it lacks {', '.join(missing)}")
    if additional := sorted(held - shapes.keys()):
        raise ValueError(f"it must not hold {', '.join(additional)}")
    for name, shape in shapes.items():
        found, tensor = tensors[name].shape, tensors[name].dtype
        dtype = _DTYPES.get(tensor, tensor)
        rounded = dtype == "bfloat16" and name.endswith(WEIGHTS) and description["format"] > 1
        expected = dtype if rounded and description["dtype"] == "float32" else description["dtype"]
        if found != shape or dtype != expected:
            raise ValueError(f"{name} must be {shape} {description['dtype']}, got {found} {dtype}")


def with_checksum(content: bytes) -> bytes:
    """The file with the checksum of its own bytes in the place kept for it."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(NO_CHECKSUM.encode(), digest.encode(), 1)


def check_content(header: bytes, data: bytes, description: dict[str, Any]) -> None:
    """Raise ValueError where the file's bytes are not those that `save` wrote."""
    if description["format"] < 3:
        return
    checksum = description["sha256"].encode()
    digest = hashlib.sha256(header.replace(checksum, NO_CHECKSUM.encode(), 1))
    digest.update(data)
    if digest.hexdigest().encode() != checksum:
        raise ValueError("its checksum does not fit: the file has been changed or damaged")


def to_bfloat16(array: np.ndarray) -> np.ndarray:
    """The bits of the nearest bfloat16s, ties to even, as uint16."""
    bits = array.view(np.uint32)
    odd = bits >> 16 & 1
    # A carry would make an infinity, or a zero, of a NaN.
    rounded = np.where(np.isnan(array), bits | 0x400000, bits + (0x7FFF + odd))
    return (rounded >> 16).astype(np.uint16)


def declare_bfloat16(content: bytes) -> bytes:
    """The file with its tensors of uint16, for which NumPy has no better name, called BF16.

    A file begins with the size of its header, 8 bytes, and the header, JSON filled up with spaces.
    """
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].rstrip().replace(b'"dtype":"U16"', b'"dtype":"BF16"')
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]
