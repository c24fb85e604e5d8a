"""The data sets that come as four IDX files: their descriptions, mirrors and checksums."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ._errors import DatasetError
from ._idx import read_idx


@dataclass(frozen=True)
class IdxFile:
    """One file of a set.

    The MD5 is that of the gzipped file as the mirrors have it. The CRC-32 is that of the inflated
    bytes: it identifies a local file that is unpacked or was packed again.
    """

    name: str
    shape: tuple[int, ...]
    md5: str
    crc32: int

    def locate(self, folder: Path) -> Path | None:
        """The file in the folder, gzipped or plain, or None."""
        candidates = (folder / self.name, folder / self.name.removesuffix(".gz"))
        return next((path for path in candidates if os.path.isfile(path)), None)

    def read(self, folder: Path) -> np.ndarray:
        """The uint8 array of the file in the folder; DatasetError when it is another file's."""
        path = self.locate(folder) or folder / self.name
        data, crc32 = read_idx(path, self.shape)
        if crc32 != self.crc32:
            raise DatasetError(
                f"{path}: not the file of the data set asked for: "
                f"its content must have CRC-32 {self.crc32:08x}, got {crc32:08x}"
            )
        return data


@dataclass(frozen=True)
class IdxSet:
    """A set of four files: train images, train labels, test images, test labels."""

    description: str
    mirrors: tuple[str, ...]
    files: tuple[IdxFile, ...]

    def missing(self, folder: Path) -> list[str]:
        """The names of the files that are not in the folder."""
        return [file.name for file in self.files if file.locate(folder) is None]


def _files(*checksums: tuple[str, int]) -> tuple[IdxFile, ...]:
    layout: tuple[tuple[str, tuple[int, ...]], ...] = (
        ("train-images-idx3-ubyte.gz", (60_000, 28, 28)),
        ("train-labels-idx1-ubyte.gz", (60_000,)),
        ("t10k-images-idx3-ubyte.gz", (10_000, 28, 28)),
        ("t10k-labels-idx1-ubyte.gz", (10_000,)),
    )
    return tuple(IdxFile(*entry, *sums) for entry, sums in zip(layout, checksums, strict=True))


IDX_SETS = {
    "mnist": IdxSet(
        "handwritten digits, 28×28, 60,000 + 10,000",
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        _files(
            ("f68b3c2dcbeaaa9fbdd348bbdeb94873", 0xE9F4D8B3),
            ("d53e105ee54ea40749a09fcbcd1e9432", 0xE0CB4AD2),
            ("9fb629c4189551a2d022fa330f9573f3", 0x91373BDF),
            ("ec29112dd5afa0611ce80d1b7f02629c", 0x4AB9EFF9),
        ),
    ),
    "fashion-mnist": IdxSet(
        "articles of clothing, 28×28, 60,000 + 10,000",
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        _files(
            ("8d4fb7e6c68d591d4c3dfef9ec88bf0d", 0xB4F29F28),
            ("25c81989df183df01b3e8a0aad5dffbe", 0x741A4657),
            ("bef4ecab320f06d8554ea6380940ec79", 0x678FE0B1),
            ("bb300cfdad3c16e7a12a480ee83cd310", 0x80142C1F),
        ),
    ),
}
