"""Archives and gzip streams from strangers: stated sizes, methods, names, headers."""

import gzip
import io
import os
import struct
import warnings
import zipfile

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import DatasetError, _sizes
from fastmlp.datasets._idx import read_idx
from tests.memory import peak_memory
from tests.test_dataset_files import X, Y, npy_bytes, write_archive
from tests.tiny_mnist import idx_bytes


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.npz"


def refused(path, message, **options):
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(path, **options)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


def refused_for_nothing(path, message, megabytes=2.0):
    refused(path, message)
    assert peak_memory(lambda: refused(path, message)) < megabytes * 2**20


ROWS = X.tobytes()


def with_header(text, data=ROWS):
    """The bytes of an .npy file with that header."""
    text = text.encode() + b"\n"
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(text)) + text + data


def header(descr="'<f4'", shape="(6, 2)"):
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}"


def stating(size, content, member="x.npy"):
    """The archive with another uncompressed size for a member, in both places of a zip file."""
    content = bytearray(content)
    for signature, name_at, size_at in ((b"PK\3\4", 30, 22), (b"PK\1\2", 46, 24)):
        at = 0
        while (at := content.find(signature, at)) >= 0:
            if content[at + name_at :].startswith(member.encode()):
                content[at + size_at : at + size_at + 4] = struct.pack("<I", size)
            at += 1
    return bytes(content)


# .npz


def test_a_size_that_deflate_cannot_reach(path):
    """The array's own header agrees with the archive, and nothing is there."""
    claimed = 500_000_000
    x = with_header(header("'|u1'", f"({claimed}, 1)"), bytes(1000))
    write_archive(path, x, npy_bytes(Y))
    path.write_bytes(stating(len(x) - 1000 + claimed, path.read_bytes()))
    refused_for_nothing(path, r"x\.npy cannot be read: 5000\d+ bytes are promised, more than \d+ ")


def test_a_compressed_size_that_is_larger_than_the_file(path):
    x = with_header(header("'|u1'", "(500000000, 1)"), b"")
    write_archive(path, x, npy_bytes(Y))
    content = bytearray(stating(len(x) + 500_000_000, path.read_bytes()))
    at = content.find(b"PK\1\2")
    content[at + 20 : at + 24] = struct.pack("<I", 2**31)
    path.write_bytes(content)
    refused_for_nothing(path, r"bytes are promised, more than \d{3} can become")


def test_a_decompression_bomb_is_refused_by_its_size(path, monkeypatch):
    """A gigabyte of zeros in a megabyte; here the limit is lower, so that it is quick to write."""
    monkeypatch.setattr(_sizes, "BELIEVED", 1 << 20)
    write_archive(path, npy_bytes(np.zeros((3 << 20, 1), np.uint8)), npy_bytes(Y))
    refused_for_nothing(path, r"3145\d+ bytes are promised by \d+: a decompression bomb", 1.0)


def test_much_that_is_compressed_little_is_no_bomb(path, monkeypatch):
    monkeypatch.setattr(_sizes, "BELIEVED", 1000)
    x = np.random.default_rng(0).integers(0, 4, (500, 64), np.uint8)
    np.savez_compressed(path, x=x, y=np.arange(500) % 3)
    assert datasets.load(path).train_x.shape == (400, 64)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_numpy_does_not_write(method, path):
    """LZMA would take the gigabytes of a dictionary that the file asks for."""
    write_archive(path, npy_bytes(X), npy_bytes(Y), method)
    refused_for_nothing(
        path, rf"x\.npy cannot be read: it must be stored or deflated, got .*{method}"
    )


def test_an_array_that_is_there_twice(path):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
        warnings.simplefilter("ignore")
        for name, array in (("x.npy", X), ("x.npy", X + 1), ("y.npy", Y)):
            archive.writestr(name, npy_bytes(array))
    refused(path, "cannot be read as .npz: the array x is there 2 times")


def test_names_lead_nowhere(tmp_path):
    """Members are never written anywhere, whatever they are called."""
    folder = tmp_path / "inner"
    folder.mkdir()
    names = ["../x.npy", f"{tmp_path}/absolute/x.npy", "..\\x.npy", "a/../../x.npy"]
    with zipfile.ZipFile(folder / "a.npz", "w") as archive:
        for name in names:
            archive.writestr(name, npy_bytes(X))
        link = zipfile.ZipInfo("x.npy")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, npy_bytes(X))
        archive.writestr("y.npy", npy_bytes(Y))
    assert datasets.load(folder / "a.npz").train_x.shape == (4, 2)
    assert sorted(os.listdir(tmp_path)) == ["inner"]
    assert os.listdir(folder) == ["a.npz"]


def test_thousands_of_members_are_not_told(path):
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(3000):
            archive.writestr(f"\x1b[2J{number}", b"")
    refused(path, r"must hold the arrays .*, got \[2J0, ")


HEADERS = {
    "a structure": (header("[('a', '<f4')]"), "must be uint8, float32 or float64"),
    "texts": (header("'<U1'"), "must be uint8, float32 or float64, got <U1"),
    "objects": (header("'|O'"), "x.npy cannot be read: Object arrays cannot be loaded"),
    "nothing of much": (header("'|V0'", "(10000000000, 9)"), "promises 0 bytes of data, 48 "),
    "negative sizes": (header(shape="(-6, -2)"), "x.npy cannot be read"),
    "sizes of 300 digits": (header(shape=f"({'9' * 300}, 1)"), "promises 3999"),
    "no sizes": (header(shape="()"), "promises 4 bytes of data, 48 follow"),
    "a size of 0": (header(shape="(0, 2)"), "promises 0 bytes of data, 48 follow"),
    "half a header": (header()[:30], "x.npy cannot be read"),
    "a header that nests": ("(" * 5000, "x.npy cannot be read"),
    "code": ("__import__('os').system('touch ran')", "x.npy cannot be read"),
    "a header of 60,000": (" " * 60_000 + "{}", "x.npy cannot be read"),
}


@pytest.mark.parametrize("name", HEADERS)
def test_headers_of_arrays(name, path, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text, message = HEADERS[name]
    write_archive(path, with_header(text), npy_bytes(Y))
    refused_for_nothing(path, message)
    assert os.listdir(tmp_path) == ["a.npz"]


@pytest.mark.parametrize("dtype", ["<f4", ">f4", ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_orders_of_bytes_and_of_axes(dtype, order, path):
    np.savez(path, x=np.asarray(X, dtype, order=order), y=Y)
    data = datasets.load(path)
    rows = np.concatenate([data.train_x, data.test_x])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], X)
    assert data.train_x.dtype.isnative
    assert data.train_x.flags.c_contiguous


def test_a_header_of_python_2_is_no_warning(path):
    write_archive(path, with_header(header(shape="(6L, 2L)")), npy_bytes(Y))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert datasets.load(path).train_x.shape == (4, 2)
    assert said == []


def test_reading_takes_at_most_twice_what_the_arrays_are(path):
    x = np.random.default_rng(0).standard_normal((5000, 100))
    np.savez_compressed(path, x=x, y=np.arange(5000) % 3)
    datasets.load(path)
    assert peak_memory(lambda: datasets.load(path)) < 2.2 * x.nbytes


# IDX


def test_a_gzip_header_that_never_ends(tmp_path):
    """A name of ten megabytes, as long as there are no zero bytes."""
    path = tmp_path / "a.gz"
    path.write_bytes(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 1_000_000)

    def load():
        with pytest.raises(DatasetError, match=r"a\.gz: the gzip stream is cut short"):
            read_idx(path, (4,))

    assert peak_memory(load) < 1 << 20


def test_many_empty_streams_before_the_first(tmp_path):
    path, array = tmp_path / "a.gz", np.arange(4, dtype=np.uint8)
    empty, whole = gzip.compress(b"", mtime=0), gzip.compress(idx_bytes(array), mtime=0)
    path.write_bytes(empty * 2000 + whole + bytes(100))
    np.testing.assert_array_equal(read_idx(path, (4,))[0], array)


def test_a_stated_size_that_is_wrong_is_an_error(tmp_path):
    content = gzip.compress(idx_bytes(np.arange(4, dtype=np.uint8)), mtime=0)
    for size in (0, 2**32 - 1):
        (tmp_path / "a.gz").write_bytes(content[:-4] + struct.pack("<I", size))
        with pytest.raises(DatasetError, match="cannot be read: Incorrect length of data produced"):
            read_idx(tmp_path / "a.gz", (4,))


def test_a_stream_of_zeros_is_not_read_to_its_end(tmp_path):
    stream = io.BytesIO()
    with gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) as file:
        file.write(idx_bytes(np.arange(4, dtype=np.uint8)))
        file.write(bytes(20_000_000))
    (tmp_path / "a.gz").write_bytes(stream.getvalue())

    def load():
        with pytest.raises(DatasetError, match="promises 4 bytes of data, more follow"):
            read_idx(tmp_path / "a.gz", (4,))

    assert peak_memory(load) < 1 << 20
