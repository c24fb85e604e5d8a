"""The IDX format of MNIST: big-endian header, then unsigned bytes, often gzipped.

Format: LeCun, Cortes, Burges, "The MNIST database of handwritten digits". Two zero bytes, the
element type (8: unsigned byte), the number of dimensions, one 4-byte size per dimension, the data.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ._errors import DatasetError

_CHUNK = 1 << 20


def read_idx(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """A plain or gzipped IDX file of uint8, and the CRC-32 of its inflated bytes.

    The file must have the given shape, and reading stops one byte past the end of that, so memory
    is bounded whatever the file says of itself or inflates to.
    Raises DatasetError, which names the file, when it is anything else.
    """
    try:
        with path.open("rb") as file:
            # The content decides, not the suffix: some browsers unpack a .gz and keep its name.
            if file.peek(2)[:2] == b"\x1f\x8b":
                with gzip.GzipFile(fileobj=file) as stream:
                    return _read(stream, shape)
            return _read(file, shape)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None
    except EOFError:
        raise DatasetError(f"{path}: the gzip stream is cut short") from None
    except (OSError, zlib.error) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error


def _read(stream: BinaryIO | gzip.GzipFile, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    crc32 = zlib.crc32(_read_header(stream, shape))
    size = math.prod(shape)
    data = np.empty(size, np.uint8)
    done = 0
    while done < size:
        chunk = stream.read(min(_CHUNK, size - done))
        if not chunk:
            raise DatasetError(f"the header promises {size} bytes of data, only {done} follow")
        data[done : done + len(chunk)] = np.frombuffer(chunk, np.uint8)
        crc32 = zlib.crc32(chunk, crc32)
        done += len(chunk)
    if stream.read(1):
        raise DatasetError(f"the header promises {size} bytes of data, more follow")
    return data.reshape(shape), crc32


def _read_header(stream: BinaryIO | gzip.GzipFile, shape: tuple[int, ...]) -> bytes:
    magic = bytes([0, 0, 8, len(shape)])
    length = len(magic) + 4 * len(shape)
    header = stream.read(length)
    if header[:4] != magic:
        raise DatasetError(
            f"not an IDX file of {len(shape)}-dimensional bytes: "
            f"must begin with {magic.hex(' ')}, got {header[:4].hex(' ') or 'nothing'}"
        )
    if len(header) < length:
        raise DatasetError(f"the header must have {length} bytes, got {len(header)}")
    found = struct.unpack(f">{len(shape)}I", header[4:])
    if found != shape:
        raise DatasetError(f"the header must give the shape {shape}, got {found}")
    return header
