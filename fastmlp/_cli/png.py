"""PNG files that may come from anywhere, reduced to what a picture needs.

Reference: W3C, "Portable Network Graphics (PNG) Specification", sections 5 and 11.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from ..datasets._sizes import DEFLATE, check_stated

LARGEST = 50_000_000
"""Pixels; a page of A4 at 600 dots per inch has 35 million."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Texts, colour profiles and further frames can be far larger in memory than in the file.
_KEPT = b"PLTE", b"tRNS", b"IDAT"

# Numbers of a pixel, by the colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def read_png(path: Path) -> bytes:
    """The file without the chunks that do not make its pixels.

    Raises ValueError where it is no whole PNG file, has more than ``LARGEST`` pixels, or states
    more than its bytes can become; OSError where it cannot be read.
    """
    with path.open("rb") as file:
        if (first := file.read(8)) != _SIGNATURE:
            raise ValueError(f"must be a PNG file, begin with {_SIGNATURE!r}, got {first!r}")
        kind, header = _read_chunk(file)
        if kind != b"IHDR" or len(header) != 25:
            raise ValueError(f"the first chunk must be an IHDR of 13 bytes, got {kind!r}")
        chunks = [_SIGNATURE, header]
        while (chunk := _read_chunk(file))[0] != b"IEND":
            if chunk[0] in _KEPT:
                chunks.append(chunk[1])
            elif chunk[0][:1].isupper():
                raise ValueError(f"the chunk {chunk[0]!r} must not be there")
    content = b"".join([*chunks, chunk[1]])
    _check_pixels(header, len(content))
    return content


def _read_chunk(file: BinaryIO) -> tuple[bytes, bytes]:
    """(kind, the chunk as it stands in the file); of those that are not kept nothing is read."""
    size, kind = struct.unpack(">I4s", start) if len(start := file.read(8)) == 8 else (0, b"")
    left = os.fstat(file.fileno()).st_size - file.tell()
    if not kind or size + 4 > left:
        raise ValueError("it is cut short")
    if kind in (b"IHDR", *_KEPT, b"IEND"):
        return kind, start + file.read(size + 4)
    file.seek(size + 4, os.SEEK_CUR)
    return kind, b""


def _check_pixels(header: bytes, size: int) -> None:
    width, height, bits, colour = struct.unpack(">IIBB", header[8:18])
    if colour not in _CHANNELS:
        raise ValueError(f"the colour type must be 0, 2, 3, 4 or 6, got {colour}")
    if width * height > LARGEST:
        raise ValueError(f"must have at most {LARGEST:,} pixels, got {width}×{height}")
    check_stated(height * (1 + (width * bits * _CHANNELS[colour] + 7) // 8), size, DEFLATE)
