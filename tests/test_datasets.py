"""fastmlp.datasets: the sets, where they are looked for, and the archives that are refused."""

import hashlib
import os
import zlib
from pathlib import Path

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import DatasetError, DatasetNotFoundError
from fastmlp.datasets._known import IDX_SETS
from tests.tiny_mnist import NAMES, TinySet, isolate

REAL = os.environ.get("FASTMLP_DATA")
needs_real_data = pytest.mark.skipif(not REAL, reason="FASTMLP_DATA names no folder of data sets")


@pytest.fixture(autouse=True)
def user_cache(monkeypatch, tmp_path):
    return isolate(monkeypatch, tmp_path)


@pytest.fixture
def tiny(monkeypatch):
    return TinySet(monkeypatch)


# Built in


def test_digits():
    digits = datasets.load("digits")
    assert digits.train_x.shape == (1437, 64)
    assert digits.test_x.shape == (360, 64)
    assert digits.train_x.dtype == np.uint8
    assert digits.num_classes == 10
    for part in (digits.train_x, digits.test_x):
        assert (part.min(), part.max()) == (0, 255)
    counts = np.bincount(digits.train_y) + np.bincount(digits.test_y)
    assert counts.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    held = np.bincount(digits.test_y)
    assert abs(held - counts / 5).max() < 1, "every class gives a fifth"
    again = datasets.load("digits")
    np.testing.assert_array_equal(digits.test_x, again.test_x)


def test_digits_are_those_of_the_source():
    path = Path(datasets.__file__).parents[1] / "data" / "digits.npz"
    with np.load(path) as archive:
        x, y = archive["x"], archive["y"]
    assert (zlib.crc32(x), zlib.crc32(y)) == (0xF3A2533C, 0xF86FC929)
    digits = datasets.load("digits")
    values = {round(v * 255 / 16) for v in range(17)}
    assert set(np.unique(digits.train_x).tolist()) <= values


def test_synth_is_the_course_s_draw_and_leaves_the_global_generator_alone():
    np.random.seed(0)
    x = np.random.randn(70_000, 2)
    state = np.random.get_state()[1].copy()
    synth = datasets.load("synth")
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(np.concatenate([synth.train_x, synth.test_x]), x)
    assert synth.train_x.shape == (60_000, 2)
    assert round(synth.train_y.mean(), 4) == 0.5582
    inside = [a * a + 0.95 * a * b + 0.4 * b * b <= 0.6 for a, b in synth.test_x]
    np.testing.assert_array_equal(synth.test_y, np.logical_not(inside))


def test_synth_refuses_empty_parts():
    assert datasets.load_synth(30, 20, seed=4).test_x.shape == (20, 2)
    with pytest.raises(ValueError, match="at least 1, got 30, 0"):
        datasets.load_synth(30, 0)


# Found in folders


@pytest.mark.parametrize("subfolder", ["mnist", "."])
@pytest.mark.parametrize("root", ["data_dir", "FASTMLP_DATA", "cache"])
@pytest.mark.parametrize("plain", [False, True])
def test_files_are_found(tiny, tmp_path, monkeypatch, user_cache, root, subfolder, plain):
    folder = user_cache if root == "cache" else tmp_path / "elsewhere"
    tiny.write(folder / subfolder, plain=plain)
    if root == "FASTMLP_DATA":
        monkeypatch.setenv("FASTMLP_DATA", str(folder))
    tiny.check(datasets.load("mnist", folder if root == "data_dir" else None))


def test_data_dir_comes_before_the_environment_and_that_before_the_cache(
    tiny, tmp_path, monkeypatch, user_cache
):
    tiny.write(user_cache / "mnist")
    for root in ("environment", "given"):
        tiny.write(tmp_path / root / "mnist")
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path / "environment"))
    # Whichever comes first is broken: that it is read shows in the error.
    for root, data_dir in (("environment", None), ("given", tmp_path / "given")):
        broken = tmp_path / root / "mnist" / NAMES[1]
        broken.write_bytes(b"<!DOCTYPE html>")
        with pytest.raises(DatasetError, match=str(broken)):
            datasets.load("mnist", data_dir)
        assert datasets.available(data_dir)[0].found == str(broken.parent)


def test_an_unpacked_file_that_kept_its_suffix_is_read(tiny, user_cache):
    tiny.write(user_cache / "mnist")
    (user_cache / "mnist" / NAMES[0]).write_bytes(tiny.contents[NAMES[0]])
    tiny.check(datasets.load("mnist"))


def test_available(tiny, tmp_path):
    tiny.write(tmp_path)
    rows = {row.name: row for row in datasets.available(tmp_path)}
    assert list(rows) == ["mnist", "fashion-mnist", "notmnist", "synth", "digits"]
    assert rows["mnist"].found == str(tmp_path)
    assert rows["notmnist"].found is None
    assert rows["synth"].found == "computed"
    assert rows["digits"].found == "inside the package"
    assert [row.downloadable for row in rows.values()] == [True, True, False, False, False]
    np.savez(tmp_path / "notMNIST.npz", images=0)
    found = {row.name: row.found for row in datasets.available(tmp_path)}
    assert found["notmnist"] == str(tmp_path / "notMNIST.npz")


def test_wrong_names():
    with pytest.raises(ValueError, match=r"mnist, fashion-mnist, notmnist, synth, digits.*'iris'"):
        datasets.load("iris")
    with pytest.raises(DatasetError, match="data_dir must be a folder, got 'nowhere'"):
        datasets.load("mnist", "nowhere")
    with pytest.raises(DatasetNotFoundError, match=r"nowhere/x\.npz: no such file"):
        datasets.load("nowhere/x.npz")


@needs_real_data
@pytest.mark.parametrize(
    ("name", "train_y", "test_y", "mean"),
    [
        ("mnist", [5, 0, 4, 1, 9], [7, 2, 1, 0, 4], 33.3184),
        ("fashion-mnist", [9, 0, 0, 3, 0], [9, 2, 1, 1, 6], 72.9404),
    ],
)
def test_real_idx_sets(name, train_y, test_y, mean):
    dataset = datasets.load(name, REAL)
    assert dataset.train_x.shape == (60_000, 784)
    assert dataset.test_x.shape == (10_000, 784)
    assert dataset.train_y[:5].tolist() == train_y
    assert dataset.test_y[:5].tolist() == test_y
    assert dataset.train_x.mean() == pytest.approx(mean, abs=1e-4)
    assert dataset.num_classes == 10
    for file in IDX_SETS[name].files:
        content = (Path(REAL) / name / file.name).read_bytes()
        assert hashlib.md5(content).hexdigest() == file.md5


@needs_real_data
def test_one_real_set_is_not_taken_for_another():
    with pytest.raises(DatasetError, match="not the file of the data set asked for"):
        datasets.load("mnist", Path(REAL, "fashion-mnist"))


@needs_real_data
def test_real_notmnist():
    dataset = datasets.load("notmnist", REAL)
    assert [len(x) for x in (dataset.train_x, dataset.valid_x, dataset.test_x)] == [
        5340,
        3204,
        1456,
    ]
    counts = sum(np.bincount(y) for y in (dataset.train_y, dataset.valid_y, dataset.test_y))
    assert counts.tolist() == [1000] * 10


# notMNIST


def test_notmnist_is_shuffled_and_split_as_in_the_course(tmp_path):
    images = np.arange(18_724, dtype=np.uint32).repeat(196).view(np.uint8).reshape(-1, 28, 28)
    labels = np.arange(18_724) % 10
    np.savez(tmp_path / "notMNIST.npz", images=images, labels=labels)
    dataset = datasets.load("notmnist", tmp_path)
    np.random.seed(521)
    order = np.arange(18_724)
    np.random.shuffle(order)
    parts = np.split(order, [10_000, 16_000])
    for rows, x, y in (
        (parts[0], dataset.train_x, dataset.train_y),
        (parts[1], dataset.valid_x, dataset.valid_y),
        (parts[2], dataset.test_x, dataset.test_y),
    ):
        np.testing.assert_array_equal(x, images.reshape(-1, 784)[rows])
        np.testing.assert_array_equal(y, labels[rows])
    assert dataset.image_shape == (28, 28)
    assert "train (10000, 784), valid (6000, 784), test (2724, 784)" in repr(dataset)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.zeros((9, 28, 28), np.uint8)}, "images, labels, got images"),
        ({"images": np.zeros((9, 28, 28)), "labels": np.zeros(9, int)}, r"uint8.* float64"),
        ({"images": np.zeros((9, 784), np.uint8), "labels": np.zeros(9, int)}, r"got \(9, 784\)"),
        ({"images": np.zeros((9, 28, 28), np.uint8), "labels": np.zeros(8, int)}, r"\(9,\)"),
        ({"images": np.zeros((9, 28, 28), np.uint8), "labels": np.full(9, 10)}, "0 to 9, got 10"),
    ],
)
def test_notmnist_that_is_none(tmp_path, arrays, message):
    path = tmp_path / "notMNIST_bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load("notmnist", tmp_path)
    assert str(path) in str(caught.value)


def test_notmnist_not_found(tmp_path, user_cache):
    with pytest.raises(DatasetNotFoundError) as caught:
        datasets.load("notmnist", tmp_path)
    for part in (str(tmp_path / "notmnist"), str(user_cache / "notmnist"), "images and labels"):
        assert part in str(caught.value)


# A user's archive


def test_archive_of_parts(tmp_path):
    rng = np.random.default_rng(1)
    train_x, test_x = rng.normal(size=(6, 2, 3)), rng.normal(size=(4, 2, 3))
    path = tmp_path / "mine.npz"
    np.savez(
        path,
        train_x=np.asfortranarray(train_x),
        train_y=np.arange(6, dtype=np.uint8),
        test_x=test_x.astype(">f8"),
        test_y=np.arange(4, dtype=np.int32),
    )
    for dataset in (datasets.load(path), datasets.load(str(path))):
        assert dataset.name == "mine"
        np.testing.assert_array_equal(dataset.train_x, train_x.reshape(6, 6))
        np.testing.assert_array_equal(dataset.test_x, test_x.reshape(4, 6))
        assert dataset.train_x.flags.c_contiguous
        assert dataset.test_x.dtype.isnative
        assert dataset.train_y.dtype == dataset.test_y.dtype == np.int64
        assert dataset.num_classes == 6


def test_archive_of_x_and_y_holds_out_a_fifth_of_each_class(tmp_path):
    x = np.arange(200, dtype=np.float32).reshape(100, 2)
    y = np.arange(100) % 2
    np.savez(tmp_path / "whole.npz", x=x, y=y)
    dataset = datasets.load(tmp_path / "whole.npz")
    assert np.bincount(dataset.test_y).tolist() == [10, 10]
    rows = np.concatenate([dataset.train_x, dataset.test_x])
    np.testing.assert_array_equal(rows[np.argsort(rows[:, 0])], x)
    np.testing.assert_array_equal(dataset.train_x[:, 0] // 2 % 2, dataset.train_y)
    assert (np.diff(dataset.train_x[:, 0]) > 0).all(), "the order of the rows is kept"


GOOD = {
    "train_x": np.zeros((5, 3)),
    "train_y": np.zeros(5, int),
    "test_x": np.zeros((2, 3)),
    "test_y": np.zeros(2, int),
}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 3)), "labels": np.zeros(5)}, "or x, y, got x, labels"),
        ({}, "or x, y, got none"),
        ({"x": np.zeros((1, 3)), "y": np.zeros(1, int)}, "at least 2 rows"),
        ({"x": np.zeros((5, 3)), "y": np.zeros(4, int)}, r"y must be \(5,\).*got \(4,\)"),
        ({"x": np.zeros((5, 3)), "y": np.zeros((5, 2), int)}, r"got \(5, 2\)"),
        ({"x": np.zeros((5, 3)), "y": np.zeros(5)}, "integer classes, got float64"),
        ({"x": np.zeros((5, 3)), "y": np.array([0, 1, -1, 0, 0])}, "negative, got -1"),
        ({"x": np.zeros((5, 3)), "y": np.full(5, 1 << 63, np.uint64)}, "at most 9.*got 92233"),
        ({"x": np.zeros(5), "y": np.zeros(5, int)}, r"not empty, got \(5,\)"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0, int)}, r"not empty, got \(0, 3\)"),
        ({"x": np.zeros((5, 3), complex), "y": np.zeros(5, int)}, "got complex128"),
        ({"x": np.full((5, 3), "a"), "y": np.zeros(5, int)}, "got <U1"),
        ({"x": np.full((5, 3), None), "y": np.zeros(5, int)}, "x.npy cannot be read"),
        (GOOD | {"test_x": np.zeros((2, 4))}, r"\(N, 3\) float64 as train_x is, got \(2, 4\)"),
        (GOOD | {"test_x": np.zeros((2, 3), np.uint8)}, r"got \(2, 3\) uint8"),
        (GOOD | {"test_y": np.zeros(3, int)}, r"test_y must be \(2,\)"),
    ],
)
def test_archive_refused(tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(path)
    assert str(caught.value).startswith(str(path))


# A user's archive of targets


@pytest.mark.parametrize("columns", [(), (1,), (3,)])
@pytest.mark.parametrize(
    ("dtype", "expected"), [("f4", "f4"), (">f4", "f4"), ("f8", "f8"), ("u1", "f8"), ("?", "f8")]
)
def test_targets_of_an_archive(columns, dtype, expected, tmp_path):
    path, x = tmp_path / "mine.npz", np.arange(40.0).reshape(20, 2)
    y = (9 * np.random.default_rng(0).random((20, *columns))).astype(dtype)
    np.savez(path, x=x, y=y)
    whole = datasets.load(path, task="regression")
    np.savez(path, train_x=x[:15], train_y=y[:15], test_x=x[15:], test_y=y[15:])
    parts = datasets.load(path, task="regression")
    np.testing.assert_array_equal(parts.train_y, y[:15])
    np.testing.assert_array_equal(parts.test_y, y[15:])
    for dataset in (whole, parts):
        assert dataset.train_y.dtype == dataset.test_y.dtype == np.dtype(expected)
        assert (dataset.task, dataset.num_outputs) == ("regression", *(columns or (1,)))
    # A fifth is held out, each row with its own target.
    assert whole.test_y.shape == (4, *columns)
    for rows, targets in ((whole.train_x, whole.train_y), (whole.test_x, whole.test_y)):
        np.testing.assert_array_equal(targets, y[rows[:, 0].astype(int) // 2])


TARGETS = {name: array.astype(float) for name, array in GOOD.items()}


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.zeros((5, 3)), "y": np.full(5, "a")}, "y must be numbers, got <U1"),
        (
            {"x": np.zeros((5, 3)), "y": np.zeros(4)},
            r"y must be \(5,\) or \(5, K\), numbers for each row, got \(4,\)",
        ),
        ({"x": np.zeros((5, 3)), "y": np.zeros((5, 2, 2))}, r"got \(5, 2, 2\)"),
        ({"x": np.zeros((5, 3)), "y": np.zeros((5, 0))}, r"got \(5, 0\)"),
        ({"x": np.zeros((5, 3)), "y": np.zeros(())}, r"got \(\)"),
        (
            {"x": np.zeros((5, 3)), "y": np.array([0, 1, np.nan, 0, 0])},
            r"y\[2\] must be finite, got nan",
        ),
        (TARGETS | {"test_y": np.array([[0, 1], [-np.inf, 0]])}, r"test_y\[1, 0\] must be finite"),
        (TARGETS | {"test_y": np.zeros((2, 1))}, r"\(N,\) float64 as train_y is, got \(2, 1\)"),
        (TARGETS | {"test_y": np.zeros(2, np.float32)}, r"got \(2,\) float32"),
    ],
)
def test_targets_of_an_archive_refused(tmp_path, arrays, message):
    path = tmp_path / "bad.npz"
    np.savez(path, **arrays)
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(path, task="regression")
    assert str(caught.value).startswith(str(path))
