"""PNG files that may come from anywhere, reduced to what a picture needs.

Reference: W3C, "Portable Network Graphics (PNG) Specification", sections 5 and 11.
"""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

from ..datasets._sizes import DEFLATE, check_stated

LARGEST = 50_000_000
"""Pixels; a page of A4 at 600 dots per inch has 35 million."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The others are texts, colour profiles and frames, far larger in memory than they may look.
_BEFORE_PIXELS = b"PLTE", b"tRNS"
_CRITICAL = b"PLTE", b"IDAT", b"IEND"

# The colour type of pixels that are places in a PLTE.
_OF_A_PALETTE = 3

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
        pixels = palette = False
        while kind != b"IEND":
            kind, chunk = _read_chunk(file)
            pixels = pixels or kind == b"IDAT"
            palette = palette or kind == b"PLTE"
            unknown = kind[:1].isupper() and kind not in _CRITICAL
            if unknown or (pixels and kind in _BEFORE_PIXELS):
                raise ValueError(f"the chunk {kind!r} must not be there")
            chunks.append(chunk)
    content = b"".join(chunks)
    _check_pixels(header, len(content))
    if header[17] == _OF_A_PALETTE and not palette:
        raise ValueError(f"with the colour type {_OF_A_PALETTE} it must have a chunk b'PLTE'")
    return content


def _read_chunk(file: BinaryIO) -> tuple[bytes, bytes]:
    """(kind, the chunk as it stands in the file, or nothing where the picture does not need it)."""
    size, kind = struct.unpack(">I4s", start) if len(start := file.read(8)) == 8 else (0, b"")
    left = os.fstat(file.fileno()).st_size - file.tell()
    if not kind or size + 4 > left:
        raise ValueError("it is cut short")
    if kind in (b"IHDR", *_BEFORE_PIXELS, *_CRITICAL):
        chunk = start + file.read(size + 4)
        # Pillow does not look at that of the pixels.
        if (expected := zlib.crc32(chunk[4:-4]).to_bytes(4, "big")) != chunk[-4:]:
            raise ValueError(f"the chunk {kind!r} must have the checksum {expected.hex()}")
        return kind, chunk
    file.seek(size + 4, os.SEEK_CUR)
    return kind, b""


def _check_pixels(header: bytes, size: int) -> None:
    width, height, bits, colour = struct.unpack(">IIBB", header[8:18])
    if colour not in _CHANNELS:
        raise ValueError(f"the colour type must be 0, 2, 3, 4 or 6, got {colour}")
    if width * height > LARGEST:
        raise ValueError(f"must have at most {LARGEST:,} pixels, got {width}×{height}")
    check_stated(height * (1 + (width * bits * _CHANNELS[colour] + 7) // 8), size, DEFLATE)
