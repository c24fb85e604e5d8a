"""Reading .npz archives that may come from anywhere."""

import math
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from .._files import in_one_line
from ._errors import DatasetError
from ._sizes import DEFLATE, check_stated

LARGEST_CLASS = np.iinfo(np.int64).max
"""Labels of uint64 may be larger."""

MOST_NAMES = 20
"""That are told of an archive which lacks what it should hold."""

# By the archive's methods of compression: how many bytes one can become.
_MOST_TIMES = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE}

_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(path: Path, *choices: Sequence[str]) -> list[np.ndarray]:
    """The arrays of the first of the choices, each a group of keys, that the archive has whole.

    Never unpickles, and writes nothing. No memory is taken for an array before its size, as the
    archive states it and as its own header does, is one that the bytes in the file can have.
    Raises DatasetError, which names the file, when it is no readable .npz archive, holds none of
    the groups, or an array twice.
    """
    try:
        # numpy.load would take what is not a zip file for a pickle, and report that.
        with zipfile.ZipFile(path) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
            for keys in choices:
                if set(keys).issubset(names):
                    members = [archive.infolist()[_only(names, key)] for key in keys]
                    return [_read_member(path, archive, member) for member in members]
    except DatasetError:
        raise
    # zipfile raises errors of many types, those of struct among them.
    except Exception as error:
        raise DatasetError(f"{path}: cannot be read as .npz: {in_one_line(error)}") from error
    wanted = " or ".join(", ".join(keys) for keys in choices)
    held = in_one_line(", ".join(names[:MOST_NAMES]) or "none")
    raise DatasetError(f"{path}: must hold the arrays {wanted}, got {held}")


def _only(names: list[str], key: str) -> int:
    """The place of the only one of that name."""
    if names.count(key) > 1:
        raise ValueError(f"the array {key} is there {names.count(key)} times")
    return names.index(key)


def _read_member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        _check_compression(member, path.stat().st_size)
        with warnings.catch_warnings():
            # Python 2 wrote longer headers, which NumPy says take longer to read.
            warnings.simplefilter("ignore")
            with archive.open(member) as stream:
                _check_size(stream, member.file_size)
            with archive.open(member) as stream:
                return npy.read_array(stream, allow_pickle=False)
    # numpy's parser of array headers raises errors of a dozen types, MemoryError among them.
    except Exception as error:
        name = in_one_line(member.filename)
        raise DatasetError(
            f"{path}: the array {name} cannot be read: {in_one_line(error)}"
        ) from error


def _check_compression(member: zipfile.ZipInfo, file_size: int) -> None:
    """Refuse what NumPy does not write, and a size that the compressed bytes cannot have."""
    if member.compress_type not in _MOST_TIMES:
        # LZMA takes gigabytes for a dictionary if a file says so.
        raise ValueError(f"it must be stored or deflated, got method {member.compress_type}")
    held = min(member.compress_size, file_size)
    check_stated(member.file_size, held, _MOST_TIMES[member.compress_type])


def _check_size(stream: IO[bytes], size: int) -> None:
    """Refuse a header that claims another size than the member has, before memory is taken."""
    version = npy.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"the .npy version must be 1.0 or 2.0, got {version}")
    shape, _, dtype = _HEADER_READERS[version](stream)
    claimed, held = math.prod(shape) * dtype.itemsize, size - stream.tell()
    if claimed != held and not dtype.hasobject:
        raise ValueError(f"the header promises {claimed} bytes of data, {held} follow")


def as_rows(where: str, x: np.ndarray) -> np.ndarray:
    """x (N, ...), all of it finite, as a C-contiguous (N, D) array of uint8, float32 or float64.

    Raises DatasetError, which begins with where, the file's and the array's name.
    """
    # A file may be of the other byte order, which the kernels do not take.
    native = x.dtype.newbyteorder("=")
    if native not in (np.uint8, np.float32, np.float64):
        raise DatasetError(f"{where} must be uint8, float32 or float64, got {x.dtype}")
    if x.ndim < 2 or x.size == 0:
        raise DatasetError(f"{where} must be (N, D) or (N, ...) and not empty, got {x.shape}")
    if x.dtype.kind == "f":
        _check_finite(where, x)
    return np.ascontiguousarray(x.reshape(len(x), -1), dtype=native)


def _check_finite(where: str, x: np.ndarray) -> None:
    """Refuse NaN and infinity, by the place in the file: after loading, rows are held out."""
    finite = np.isfinite(x)
    if not finite.all():
        place = np.unravel_index(int(finite.argmin()), x.shape)
        index = ", ".join(map(str, place))
        raise DatasetError(f"{where}[{index}] must be finite, got {x[place]}")


def image_shape(x: np.ndarray) -> tuple[int, int] | None:
    """(H, W) if x holds pictures, else None.

    It does if it is (N, H, W), or (N, D) uint8 with D a square number of at least 8×8: a table may
    well have 4, 9 or 16 columns, or 64 of floats.
    """
    if x.ndim == 3:
        return x.shape[1:]
    side = math.isqrt(x.shape[1]) if x.ndim == 2 and x.dtype == np.uint8 else 0
    return (side, side) if side >= 8 and side * side == x.shape[1] else None


def as_classes(where: str, y: np.ndarray, samples: int) -> np.ndarray:
    """y (N,) as int64 classes, one for each of the samples, none negative."""
    if y.dtype.kind not in "iu":
        raise DatasetError(f"{where} must be integer classes, got {y.dtype}")
    if y.shape != (samples,):
        raise DatasetError(f"{where} must be ({samples},), one class for each row, got {y.shape}")
    if y.min() < 0:
        raise DatasetError(f"{where} must not be negative, got {y.min()}")
    if y.max() > LARGEST_CLASS:
        raise DatasetError(f"{where} must be at most {LARGEST_CLASS}, got {y.max()}")
    return y.astype(np.int64)


def as_targets(where: str, y: np.ndarray, samples: int) -> np.ndarray:
    """y (N,) or (N, K), finite numbers for each of the samples, as float32 if it is, or float64."""
    if y.dtype.kind not in "biuf":
        raise DatasetError(f"{where} must be numbers, got {y.dtype}")
    if y.ndim not in (1, 2) or len(y) != samples or y.size == 0:
        raise DatasetError(
            f"{where} must be ({samples},) or ({samples}, K), numbers for each row, got {y.shape}"
        )
    single = y.dtype.newbyteorder("=") == np.float32
    targets = np.ascontiguousarray(y, np.float32 if single else np.float64)
    _check_finite(where, targets)
    return targets
