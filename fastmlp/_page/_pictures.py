"""Pictures inside the page: PNG files as data URIs."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np

_LARGEST = 64
"""Pixels of a side; of a larger picture every second, third, ... row and column is taken."""


def data_uri(picture: np.ndarray) -> str:
    """(H, W) numbers in shades of gray: uint8 as they are, else from the least to the greatest."""
    step = -(-max(picture.shape) // _LARGEST)
    return (
        "data:image/png;base64," + base64.b64encode(_png(_gray(picture[::step, ::step]))).decode()
    )


def _gray(picture: np.ndarray) -> np.ndarray:
    if picture.dtype == np.uint8:
        return picture
    values = picture.astype(np.float64)
    low, high = values.min(), values.max()
    return np.rint(255 * (values - low) / (high - low or 1)).astype(np.uint8)


def _png(gray: np.ndarray) -> bytes:
    """The file of (H, W) uint8, no row filtered. Reference: PNG specification, third edition."""
    height, width = gray.shape
    rows = np.pad(gray, ((0, 0), (1, 0)))
    return b"\x89PNG\r\n\x1a\n" + b"".join((
        _chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)),
        _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)),
        _chunk(b"IEND", b""),
    ))  # fmt: skip


def _chunk(kind: bytes, content: bytes) -> bytes:
    length, checksum = len(content), zlib.crc32(kind + content)
    return struct.pack(">I", length) + kind + content + struct.pack(">I", checksum)
