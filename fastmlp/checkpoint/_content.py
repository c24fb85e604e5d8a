"""The bytes of a file: its checksum, and tensors of dtypes that NumPy does not have."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from ._description import shapes_of
from ._unfinished import PREFIX

# What the field sha256 holds while the checksum of the file is taken.
NO_CHECKSUM = "0" * 64

_DTYPES = {"F32": "float32", "F64": "float64", "BF16": "bfloat16"}
# What may be stored as bfloat16: the most of a network.
WEIGHTS = ("W", "momentum_W")


def check_tensors(file: Any, description: dict[str, Any]) -> None:
    """Refuse missing, additional and misshapen tensors before any memory is taken for them."""
    shapes, held = shapes_of(description), set(file.keys())
    if "fit" in description:
        held = {name for name in held if not name.startswith(PREFIX)}
    if missing := sorted(shapes.keys() - held):
        raise ValueError(f"it lacks {', '.join(missing)}")
    if additional := sorted(held - shapes.keys()):
        raise ValueError(f"it must not hold {', '.join(additional)}")
    for name, shape in shapes.items():
        tensor = file.get_slice(name)
        dtype = _DTYPES.get(tensor.get_dtype(), tensor.get_dtype())
        found = tuple(tensor.get_shape())
        rounded = dtype == "bfloat16" and name.endswith(WEIGHTS) and description["format"] > 1
        expected = dtype if rounded and description["dtype"] == "float32" else description["dtype"]
        if found != shape or dtype != expected:
            raise ValueError(f"{name} must be {shape} {description['dtype']}, got {found} {dtype}")


def with_checksum(content: bytes) -> bytes:
    """The file with the checksum of its own bytes in the place kept for it."""
    digest = hashlib.sha256(content).hexdigest()
    return content.replace(NO_CHECKSUM.encode(), digest.encode(), 1)


def check_content(path: Path, description: dict[str, Any]) -> None:
    """Raise ValueError where the file's bytes are not those that `save` wrote."""
    if description["format"] < 3:
        return
    checksum = description["sha256"].encode()
    content = path.read_bytes().replace(checksum, NO_CHECKSUM.encode(), 1)
    if hashlib.sha256(content).hexdigest().encode() != checksum:
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


def is_bfloat16(file: Any, name: str) -> bool:
    return bool(file.get_slice(name).get_dtype() == "BF16")


def read_bfloat16(path: Path) -> dict[str, np.ndarray]:
    """The tensors of bfloat16 in a file, as float32."""
    from safetensors import deserialize

    tensors = {}
    for name, tensor in deserialize(path.read_bytes()):
        if tensor["dtype"] == "BF16":
            bits = np.frombuffer(tensor["data"], np.uint16).astype(np.uint32) << 16
            tensors[name] = bits.view(np.float32).reshape(tensor["shape"])
    return tensors
