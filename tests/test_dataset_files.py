"""The readers of fastmlp.datasets against files that lie, end early or never end."""

import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmlp import datasets
from fastmlp.datasets import DatasetError
from fastmlp.datasets._idx import read_idx
from tests.memory import peak_memory
from tests.tiny_mnist import NAMES, TinySet, idx_bytes, isolate, pack

# The files of one test share its folder: each example writes its own before it reads.
examples = settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(autouse=True)
def user_cache(monkeypatch, tmp_path):
    return isolate(monkeypatch, tmp_path)


@pytest.fixture
def tiny(monkeypatch):
    return TinySet(monkeypatch)


@pytest.fixture
def image_file(tiny, tmp_path):
    """The training images of a set in data_dir, to be overwritten."""
    tiny.write(tmp_path)
    return tmp_path / NAMES[0]


IMAGES = np.zeros((20, 4, 4), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "must begin with 00 00 08 03, got nothing"),
        (b"<!DOCTYPE html>", "must begin with 00 00 08 03, got 3c 21 44 4f"),
        (idx_bytes(IMAGES[0]), "got 00 00 08 02"),
        (b"\0\0\x0d\3" + idx_bytes(IMAGES)[4:], "got 00 00 0d 03"),
        (b"\0\0\x08\3\0\0\0", "header must have 16 bytes, got 7"),
        (idx_bytes(IMAGES, (21, 4, 4)), r"shape \(20, 4, 4\), got \(21, 4, 4\)"),
        (idx_bytes(IMAGES, (4_000_000_000, 60_000, 60_000)), r"got \(4000000000, 60000, 60000\)"),
        (idx_bytes(IMAGES[1:], (20, 4, 4)), "promises 320 bytes of data, only 304 follow"),
        (idx_bytes(IMAGES) + b"\0", "promises 320 bytes of data, more follow"),
        (idx_bytes(IMAGES), "not the file of the data set asked for"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_file_that_lies(image_file, content, message, packed):
    image_file.write_bytes(pack(content) if packed else content)
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load("mnist", image_file.parent)
    assert str(caught.value).startswith(f"{image_file}: ")


def test_labels_of_other_images_are_refused(image_file, tiny):
    labels = image_file.with_name(NAMES[1])
    for wrong in (tiny.arrays[1][:-1], tiny.arrays[1] + 10):
        labels.write_bytes(idx_bytes(wrong))
        with pytest.raises(DatasetError, match=str(labels)):
            datasets.load("mnist", image_file.parent)


@pytest.mark.parametrize("cut", [5, 30, -9, -8, -1])
def test_gzip_cut_short(image_file, cut):
    image_file.write_bytes(image_file.read_bytes()[:cut])
    with pytest.raises(DatasetError, match="cut short"):
        datasets.load("mnist", image_file.parent)


def test_gzip_damaged(image_file):
    content = bytearray(image_file.read_bytes())
    content[-8] ^= 1
    image_file.write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read: CRC check failed"):
        datasets.load("mnist", image_file.parent)


def test_file_that_is_a_dangling_link_is_not_there(image_file):
    image_file.unlink()
    image_file.symlink_to("nowhere")
    assert datasets.available(image_file.parent)[0].found is None


def test_gzip_that_inflates_past_its_header_takes_no_memory(image_file):
    with gzip.open(image_file, "wb", compresslevel=1) as file:
        file.write(idx_bytes(IMAGES))
        for _ in range(200):
            file.write(bytes(1 << 20))

    def load():
        with pytest.raises(DatasetError, match="promises 320 bytes of data, more follow"):
            datasets.load("mnist", image_file.parent)

    load()
    assert peak_memory(load) < 4 << 20


def test_header_that_claims_everything_takes_no_memory(image_file):
    image_file.write_bytes(pack(idx_bytes(IMAGES, (2**32 - 1,) * 3)))

    def load():
        with pytest.raises(DatasetError, match="4294967295, 4294967295, 4294967295"):
            datasets.load("mnist", image_file.parent)

    load()
    assert peak_memory(load) < 4 << 20


@given(st.data())
@examples
def test_idx_round_trip_and_damage(tmp_path, data):
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=1, max_size=3), label="shape"))
    array = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    content = idx_bytes(array)
    packed = data.draw(st.booleans(), label="packed")
    whole = pack(content) if packed else content
    path = tmp_path / "idx"
    path.write_bytes(whole)
    expected, crc32 = read_idx(path, shape)
    np.testing.assert_array_equal(expected, array)

    path.write_bytes(damaged(data, whole))
    try:
        got, got_crc32 = read_idx(path, shape)
    except DatasetError:
        return
    # Some bytes of a gzip header mean nothing; any other damage that is read changes the CRC-32.
    assert got_crc32 != crc32 or (packed and np.array_equal(got, array))


def damaged(data, content):
    where = data.draw(st.integers(0, len(content) - 1), label="where")
    if data.draw(st.booleans(), label="cut"):
        return content[:where]
    flip = data.draw(st.integers(1, 255), label="flip")
    return content[:where] + bytes([content[where] ^ flip]) + content[where + 1 :]


# .npz archives

X, Y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6) % 2


def npy_bytes(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def write_archive(path, x, y, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("x.npy", x)
        archive.writestr("y.npy", y)


@pytest.mark.parametrize("content", [b"", b"x,y\n1,2\n", npy_bytes(X)])
def test_archive_that_is_none(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    for not_one in (path, tmp_path):
        with pytest.raises(DatasetError, match=f"{not_one}: cannot be read as .npz"):
            datasets.load(not_one)


def test_archive_never_unpickles(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "a.npz", x=np.array([[Bomb()]]), y=Y)
    with pytest.raises(DatasetError, match=r"x\.npy cannot be read.*Object arrays"):
        datasets.load(tmp_path / "a.npz")


def test_archive_with_a_member_that_is_no_array(tmp_path):
    write_archive(tmp_path / "a.npz", b"hello", npy_bytes(Y))
    with pytest.raises(DatasetError, match=r"x\.npy cannot be read"):
        datasets.load(tmp_path / "a.npz")


@pytest.mark.parametrize("rows", ["99999999999999", "7"])
def test_array_header_that_claims_too_much(tmp_path, rows):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({rows}, 2)}}\n".encode()
    x = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + X.tobytes()
    write_archive(tmp_path / "a.npz", x, npy_bytes(Y))

    def load():
        with pytest.raises(
            DatasetError, match=f"promises {8 * int(rows)} bytes of data, 48 follow"
        ):
            datasets.load(tmp_path / "a.npz")

    load()
    assert peak_memory(load) < 4 << 20


@given(st.data())
@examples
def test_damaged_archive_gives_the_same_data_or_an_error(tmp_path, data):
    path = tmp_path / "a.npz"
    method = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    write_archive(path, npy_bytes(X), npy_bytes(Y), method)
    whole = datasets.load(path)
    path.write_bytes(damaged(data, path.read_bytes()))
    try:
        got = datasets.load(path)
    except DatasetError:
        return
    np.testing.assert_array_equal(got.train_x, whole.train_x)
    np.testing.assert_array_equal(got.train_y, whole.train_y)


@given(st.data())
@examples
def test_damaged_array_header_gives_an_error_or_a_data_set(tmp_path, data):
    # Here the archive's checksums fit, so the damage reaches numpy's parser of array headers.
    path = tmp_path / "a.npz"
    write_archive(path, damaged(data, npy_bytes(X)), npy_bytes(Y))
    try:
        dataset = datasets.load(path)
    except DatasetError:
        return
    assert len(dataset.train_x) + len(dataset.test_x) == 6
