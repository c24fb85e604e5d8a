"""Reading .npz archives that may come from anywhere."""

import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

import numpy as np
from numpy.lib import format as npy

from .._files import in_one_line
from ._errors import DatasetError
from ._sizes import DEFLATE, check_stated

LARGEST_CLASS = np.iinfo(np.int64).max
"""Labels of uint64 may be larger."""

MOST_NAMES = 20
"""That are told of an archive which lacks what it should hold."""

PIECE = 1 << 20
"""Bytes that are read at a time."""

# By the archive's methods of compression: how many bytes one can become.
_MOST_TIMES = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE}

_HEADER_READERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Header(NamedTuple):
    """Of an array in the .npy format."""

    shape: tuple[int, ...]
    fortran: bool
    dtype: np.dtype
    offset: int  # bytes before its data


def read_npz(path: Path, *choices: Sequence[str]) -> list[np.ndarray]:
    """The arrays of the first of the choices, each a group of keys, that the archive has whole.

    Never unpickles, and writes nothing. No memory is taken for an array before its size, as the
    archive states it and as its own header does, is one that the bytes in the file can have.
    Raises DatasetError, which names the file, when it is no readable .npz archive, holds none of
    the groups, or an array twice.
    """
    return _of_members(path, _read_member, *choices)


def npz_headers(path: Path, *choices: Sequence[str]) -> list[Header]:
    """The headers of the arrays that ``read_npz`` would read; raises as it does."""
    return _of_members(path, _read_header, *choices)


def read_npz_again(path: Path, headers: Mapping[str, Header]) -> list[np.ndarray]:
    """The arrays whose headers ``npz_headers`` gave, by their keys; raises as ``read_npz``.

    Other threads may read warnings meanwhile, which ``read_npz`` silences for all.
    """
    left = iter(headers.values())

    def read(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
        header = next(left)
        array = np.empty(math.prod(header.shape), header.dtype)
        if member.file_size != header.offset + array.nbytes:
            raise ValueError("it must not change while it is read")
        with archive.open(member) as stream:
            stream.read(header.offset)
            read_into(array, stream)
        return array.reshape(header.shape, order="F" if header.fortran else "C")

    return _of_members(path, read, tuple(headers))


_Taken = TypeVar("_Taken")


def _of_members(
    path: Path, take: Callable[[zipfile.ZipFile, zipfile.ZipInfo], _Taken], *choices: Sequence[str]
) -> list[_Taken]:
    """What ``take`` makes of each array of the first of the choices that is there whole."""
    try:
        # numpy.load would take what is not a zip file for a pickle, and report that.
        with zipfile.ZipFile(path) as archive:
            names = [member.filename.removesuffix(".npy") for member in archive.infolist()]
            for keys in choices:
                if set(keys).issubset(names):
                    members = [archive.infolist()[_only(names, key)] for key in keys]
                    return [_of_member(path, take, archive, member) for member in members]
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


def _of_member(
    path: Path, take: Callable[[zipfile.ZipFile, zipfile.ZipInfo], _Taken],
    archive: zipfile.ZipFile, member: zipfile.ZipInfo,
) -> _Taken:  # fmt: skip
    try:
        _check_compression(member, path.stat().st_size)
        return take(archive, member)
    # numpy's parser of array headers raises errors of a dozen types, MemoryError among them.
    except Exception as error:
        name = in_one_line(member.filename)
        raise DatasetError(
            f"{path}: the array {name} cannot be read: {in_one_line(error)}"
        ) from error


def _read_header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Header:
    with archive.open(member) as stream:
        return read_npy_header(stream, member.file_size)


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    _read_header(archive, member)
    with archive.open(member) as stream, _no_warnings():
        return npy.read_array(stream, allow_pickle=False)


@contextmanager
def _no_warnings() -> Iterator[None]:
    """Python 2 wrote longer headers, which NumPy says take longer to read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_into(array: np.ndarray, stream: IO[bytes] | RawIOBase) -> None:
    """Fill a C-contiguous array. Raises ValueError where the stream ends before."""
    left = memoryview(array.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    while len(left):
        # Of an archive, what is read comes as a copy.
        read = stream.readinto(left[:PIECE])  # type: ignore[union-attr]
        if not read:
            raise ValueError(f"{len(left)} bytes are missing at its end")
        left = left[read:]


def _check_compression(member: zipfile.ZipInfo, file_size: int) -> None:
    """Refuse what NumPy does not write, and a size that the compressed bytes cannot have."""
    if member.compress_type not in _MOST_TIMES:
        # LZMA takes gigabytes for a dictionary if a file says so.
        raise ValueError(f"it must be stored or deflated, got method {member.compress_type}")
    held = min(member.compress_size, file_size)
    check_stated(member.file_size, held, _MOST_TIMES[member.compress_type])


def read_npy_header(stream: IO[bytes], size: int) -> Header:
    """Of the array in a stream of so many bytes, which then stands where its data begin.

    Raises ValueError, among others, where it claims another size than follows: no memory has been
    taken for it.
    """
    version = npy.read_magic(stream)
    if version not in _HEADER_READERS:
        raise ValueError(f"the .npy version must be 1.0 or 2.0, got {version}")
    with _no_warnings():
        shape, fortran, dtype = _HEADER_READERS[version](stream)
    offset = stream.tell()
    claimed, held = math.prod(shape) * dtype.itemsize, size - offset
    if claimed != held and not dtype.hasobject:
        raise ValueError(f"the header promises {claimed} bytes of data, {held} follow")
    return Header(shape, fortran, dtype, offset)


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
