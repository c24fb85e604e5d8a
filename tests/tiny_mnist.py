"""A stand-in for MNIST's files: 20 + 10 images, by default of 4×4, known by its name."""

import gzip
import hashlib
import struct
import zlib

import numpy as np

from fastmlp.datasets._known import IDX_SETS, IdxFile, IdxSet

NAMES = [
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
]


def isolate(monkeypatch, tmp_path):
    """Give the test a cache folder of its own and no other source; the folder's path."""
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.delenv("FASTMLP_MIRRORS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "cache" / "fastmlp"


def idx_bytes(array, shape=None):
    """The IDX file of a uint8 array; with a shape, one whose header claims that shape instead."""
    shape = array.shape if shape is None else shape
    return struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape) + array.tobytes()


def pack(content):
    return gzip.compress(content, mtime=0)


class TinySet:
    """The files by name: contents inflated, packed as a mirror serves them."""

    def __init__(self, monkeypatch, side=4):
        rng = np.random.default_rng(0)
        self.arrays = [
            rng.integers(0, 256, (20, side, side), np.uint8),
            rng.integers(0, 10, 20, np.uint8),
            rng.integers(0, 256, (10, side, side), np.uint8),
            rng.integers(0, 10, 10, np.uint8),
        ]
        self.contents = dict(zip(NAMES, map(idx_bytes, self.arrays), strict=True))
        self.packed = {name: pack(content) for name, content in self.contents.items()}
        self._monkeypatch = monkeypatch
        self.know_md5_of(self.packed)

    def know_md5_of(self, packed):
        """Let the table hold these files' MD5, and the shape and CRC-32 of the right content."""
        files = (
            IdxFile(
                name,
                array.shape,
                hashlib.md5(packed[name]).hexdigest(),
                zlib.crc32(self.contents[name]),
            )
            for name, array in zip(NAMES, self.arrays, strict=True)
        )
        self._monkeypatch.setitem(IDX_SETS, "mnist", IdxSet("tiny", (), tuple(files)))

    def write(self, folder, *, plain=False):
        folder.mkdir(parents=True, exist_ok=True)
        for name in NAMES:
            if plain:
                (folder / name.removesuffix(".gz")).write_bytes(self.contents[name])
            else:
                (folder / name).write_bytes(self.packed[name])

    def check(self, dataset):
        """The data set holds this set's arrays, flattened, in the promised types."""
        images, labels = dataset.train_x, dataset.train_y
        np.testing.assert_array_equal(images, self.arrays[0].reshape(20, 16))
        np.testing.assert_array_equal(labels, self.arrays[1])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        images, labels = dataset.test_x, dataset.test_y
        np.testing.assert_array_equal(images, self.arrays[2].reshape(10, 16))
        np.testing.assert_array_equal(labels, self.arrays[3])
        assert (images.dtype, labels.dtype) == (np.uint8, np.int64)
        assert dataset.valid_x is dataset.valid_y is None
        assert dataset.image_shape == (4, 4)
