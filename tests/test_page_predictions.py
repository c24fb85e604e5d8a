"""What a page says of predictions: of classes, of several labels a sample, of values."""

import base64
import io
from collections import Counter

import numpy as np
import pytest

from fastmlp import MLP, BinaryCrossEntropy, Identity
from fastmlp._page._numbers import calibration, confusion, label_figures, worst_pairs
from fastmlp._page._pictures import data_uri
from fastmlp.datasets import Column, Schema
from fastmlp.initializers import he_normal, zeros
from tests.networks import build
from tests.page_networks import ROWS, classes, data, labels, page_of, trained, values

# Classes


def test_the_matrix_counts_every_sample(tmp_path):
    mlp, x, y = trained(classes)
    predicted = mlp.predict(x)
    head, *rows, foot = page_of(tmp_path, mlp, x, y, names=list("abcd")).tables["confusion"][0]
    assert head == ["", *"abcd", "recall, %"]
    counts = np.zeros((4, 4), int)
    for true, guess in zip(y, predicted, strict=True):
        counts[true, guess] += 1
    assert counts.trace() < ROWS
    for k, row in enumerate(rows):
        assert row[0] == "abcd"[k]
        assert [int(cell or 0) for cell in row[1:-1]] == counts[k].tolist()
        assert row[-1] == f"{100 * counts[k, k] / counts[k].sum():.1f}"
        said = counts[:, k].sum()
        assert foot[k + 1] == (f"{100 * counts[k, k] / said:.1f}" if said else "–")


def test_confusion_and_pairs():
    rng = np.random.default_rng(0)
    true, guess = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    pairs = Counter(zip(true.tolist(), guess.tolist(), strict=True))
    counts = confusion(true, guess, 6)
    assert counts.shape == (6, 6)
    assert all(counts[pair] == number for pair, number in pairs.items())
    assert counts.sum() == 300
    found = worst_pairs(true, guess, 7)
    wrong = sorted((n for (t, p), n in pairs.items() if t != p), reverse=True)
    assert [n for _, _, n, _ in found] == wrong[:7]
    for t, p, n, share in found:
        assert n == pairs[t, p]
        assert share == n / (true == t).sum()
    assert worst_pairs(true, true, 7) == []


def test_many_classes_have_a_list_of_pairs(tmp_path):
    mlp, x, y = trained(classes, outputs=31)
    rows = page_of(tmp_path, mlp, x, y).tables["confusion"][0][1:]
    found = worst_pairs(y, mlp.predict(x), 20)
    assert rows == [[f"{t}", f"{p}", f"{n}", f"{100 * s:.2f} %"] for t, p, n, s in found]
    assert len(rows) == 20


def test_thousands_of_classes_take_no_matrix(tmp_path):
    """20,000 × 20,000 counts would be 3 GB."""
    x = np.random.default_rng(0).standard_normal((5, 3))
    page = page_of(tmp_path, build([3, 20_000]), x, np.arange(5) * 4_000)
    assert len(page.source) < 100_000


def plain_calibration(stated, found, bins):
    """(error, samples in each bin): one has its upper end, the first one its lower end too."""
    error, counts = 0.0, []
    for b in range(bins):
        inside = [i for i, p in enumerate(stated)
                  if b / bins < p <= (b + 1) / bins or (b == 0 and p == 0)]  # fmt: skip
        counts.append(len(inside))
        if inside:
            accuracy = sum(found[i] for i in inside) / len(inside)
            confidence = sum(stated[i] for i in inside) / len(inside)
            error += len(inside) / len(stated) * abs(accuracy - confidence)
    return error, counts


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_the_expected_calibration_error(bins):
    rng = np.random.default_rng(bins)
    stated = np.concatenate([rng.random(500) ** 0.5, [0.0, 1.0, 0.25, 0.5, 0.75]])
    found = rng.random(505) < stated**2
    result = calibration(stated, found, bins)
    error, counts = plain_calibration(stated.tolist(), found.tolist(), bins)
    assert result.error == pytest.approx(error)
    assert result.error > 0.05
    assert result.counts.tolist() == counts


def test_what_is_stated_and_always_so_has_no_error():
    assert calibration(np.array([1.0, 1.0]), np.array([True, True])).error == 0
    half = calibration(np.full(10, 0.5), np.arange(10) < 5)
    assert half.error == pytest.approx(0)
    assert half.found[7] == 0.5
    assert np.isnan(half.found[0])


def test_the_reliability_of_classes(tmp_path):
    mlp, x, y = trained(classes)
    shares = mlp.predict_proba(x)
    stated, right = shares.max(axis=1), shares.argmax(axis=1) == y
    page = page_of(tmp_path, mlp, x, y)
    error, _ = plain_calibration(stated.tolist(), right.tolist(), 15)
    assert f"error: {100 * error:.2f} %" in page.text("calibration")
    found = calibration(stated, right)
    bars = page.all("calibration", "rect")
    filled = found.found[np.isfinite(found.found)]
    shades = np.array([float(bar["fill-opacity"]) for bar in bars[: len(filled)]])
    counts = found.counts[found.counts > 0]
    filling = np.log(1 + counts) / np.log(1 + counts.max())
    np.testing.assert_allclose(shades, 0.1 + 0.9 * filling, atol=0.006)
    assert "the fainter a bar, the fewer samples" in page.text("calibration")
    heights = np.array([float(bar["height"]) for bar in bars[: len(filled)]])
    np.testing.assert_allclose(heights, filled * 208, atol=0.1)
    shares_of_all = np.array([float(bar["height"]) for bar in bars[len(filled) :]])
    np.testing.assert_allclose(shares_of_all, found.counts / ROWS * 208, atol=0.1)


def test_mistakes_are_rows_where_the_data_are_no_pictures(tmp_path):
    mlp, x, y = trained(classes)
    shares = mlp.predict_proba(x)
    wrong = [i for i in range(ROWS) if shares[i].argmax() != y[i]]
    worst = sorted(wrong, key=lambda i: shares[i, y[i]])[:24]
    page = page_of(tmp_path, mlp, x, y)
    assert f"{len(wrong)} of {ROWS} samples are predicted wrongly" in page.text("mistakes")
    for i, row in zip(worst, page.tables["mistakes"][0][1:], strict=True):
        assert row[:3] == [f"{i}", f"{y[i]}", f"{shares[i].argmax()}"]
        assert row[3:5] == [f"{100 * s:.2f} %" for s in (shares[i].max(), shares[i, y[i]])]
        assert row[5:] == [f"{value:.4g}" for value in x[i]]


@pytest.mark.parametrize("make", [classes, labels, values])
def test_what_is_left_out_of_the_mistakes_is_told(make, tmp_path):
    """A column of text has a word, however many features it has, or a dash for another text."""
    mlp, x, y = make(features=12)
    found = page_of(tmp_path, mlp, x, y)
    assert "Of 12 features the first 8 are shown." in found.text("mistakes")
    assert found.tables["mistakes"][0][0][-8:] == [f"x[{k}]" for k in range(8)]
    x[:, :4] = np.eye(4)[np.arange(len(x)) % 5 % 4] * (np.arange(len(x)) % 5 < 4)[:, None]
    columns = Column("word", tuple("abcd")), *(Column(f"c{k}") for k in range(8))
    known = make is classes
    names = tuple(f"t{k}" for k in range(mlp.output_size))
    mlp.schema = Schema(columns, ("t",) if known else names, names if known else None, "float64")
    found = page_of(tmp_path, mlp, x, y)
    assert "Of 9 columns the first 8 are shown." in found.text("mistakes")
    heading, *rows = found.tables["mistakes"][0]
    assert heading[-8:] == ["word", *(f"c{k}" for k in range(7))]
    for row in rows:
        i = int(row[0])
        assert row[-8:] == ["abcd–"[i % 5], *(f"{value:.6g}" for value in x[i, 4:11])]
    assert {row[-8] for row in rows} == set("abcd–")


def png_of(uri):
    from PIL import Image

    with Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))) as image:
        assert (image.format, image.mode) == ("PNG", "L")
        return np.asarray(image)


def test_mistakes_are_shown_where_the_data_are_pictures(tmp_path):
    pytest.importorskip("PIL", reason="the pictures are read with Pillow")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (50, 12), np.uint8), rng.integers(0, 3, 50)
    mlp = build([12, 3])
    shares = mlp.predict_proba(x)
    wrong = [i for i in range(50) if shares[i].argmax() != y[i]]
    worst = sorted(wrong, key=lambda i: shares[i, y[i]])[:24]
    images = page_of(tmp_path, mlp, x, y, image_shape=(3, 4)).all("mistakes", "img")
    assert len(images) == len(worst) > 5
    for i, image in zip(worst, images, strict=True):
        np.testing.assert_array_equal(png_of(image["src"]), x[i].reshape(3, 4))
        assert image["alt"] == f"sample {i}, {y[i]}"


def test_shades_of_pictures():
    pytest.importorskip("PIL", reason="the pictures are read with Pillow")
    np.testing.assert_array_equal(png_of(data_uri(np.array([[-1.0, 0, 1]]))), [[0, 128, 255]])
    np.testing.assert_array_equal(png_of(data_uri(np.full((2, 2), 7.5))), np.zeros((2, 2)))
    assert png_of(data_uri(np.zeros((300, 100), np.uint8))).shape == (60, 20)


def test_no_mistakes(tmp_path):
    mlp, x, _ = trained(classes)
    page = page_of(tmp_path, mlp, x, mlp.predict(x))
    assert "There is none." in page.text("mistakes")


def test_labels_of_classes_may_be_rows(tmp_path):
    mlp, x, y = trained(classes)
    assert page_of(tmp_path, mlp, x, np.eye(4)[y]).source == page_of(tmp_path, mlp, x, y).source


# Several labels a sample


def test_figures_of_labels(tmp_path):
    mlp, x, y = trained(labels)
    shares = mlp.predict_proba(x)
    page = page_of(tmp_path, mlp, x, y, names=["a", "b", "c"])
    for k, row in enumerate(page.tables["labels"][0][1:]):
        said, there = shares[:, k] > 0.5, y[:, k] == 1
        both = (said & there).sum()
        precision, recall = both / said.sum(), both / there.sum()
        expected = [there.mean(), (said != there).mean(), precision, recall,
                    2 * precision * recall / (precision + recall)]  # fmt: skip
        assert row == ["abc"[k], *(f"{100 * share:.2f} %" for share in expected)]
    error, _ = plain_calibration(shares.ravel().tolist(), (y == 1).ravel().tolist(), 15)
    assert f"error: {100 * error:.2f} %" in page.text("calibration")
    off = np.abs(shares - y).ravel()
    worst = np.argsort(-off, kind="stable")[:24]
    assert [int(row[0]) for row in page.tables["mistakes"][0][1:]] == (worst // 3).tolist()


def test_a_label_that_nobody_has():
    found = label_figures(np.zeros((4, 1), int), np.zeros((4, 1), int))
    assert (found.frequency[0], found.wrong[0]) == (0, 0)
    assert np.isnan([found.precision[0], found.recall[0], found.f1[0]]).all()


def test_a_single_label(tmp_path):
    mlp = MLP(6, 1, [], [Identity()], he_normal(0), zeros, BinaryCrossEntropy(), lr=0.1)
    x, z = data(1)
    page = page_of(tmp_path, mlp, x, (z[:, 0] > 0).astype(int))
    assert page.tables["labels"][0][1][0] == "label 0"


# Values


def test_figures_of_values(tmp_path):
    mlp, x, y = trained(values)
    predicted = mlp.predict(x)
    assert np.abs(predicted).max() < 100, "the training has not diverged"
    page = page_of(tmp_path, mlp, x, y, names=["price", "age"])
    for k, row in enumerate(page.tables["values"][0][1:]):
        off = predicted[:, k] - y[:, k]
        r2 = 1 - (off**2).sum() / ((y[:, k] - y[:, k].mean()) ** 2).sum()
        expected = [r2, np.abs(off).mean(), (off**2).mean() ** 0.5, off.mean()]
        assert row[0] == ["price", "age"][k]
        np.testing.assert_allclose([float(cell) for cell in row[1:]], expected, rtol=1e-5)
    assert len(page.all("values", "circle", class_="point")) == 2 * ROWS
    counts = [int(text.rsplit(": ", 1)[1]) for text in page.texts["residuals"] if " to " in text]
    for k in range(2):
        off = predicted[:, k] - y[:, k]
        reach = np.abs(off).max()
        expected, _ = np.histogram(off, 31, (-reach, reach))
        assert counts[31 * k : 31 * (k + 1)] == expected.tolist()
    off = np.abs(predicted - y) / y.std(axis=0)
    worst = np.argsort(-off.max(axis=1))[:24]
    assert [int(row[0]) for row in page.tables["mistakes"][0][1:]] == worst.tolist()


def test_points_are_where_their_values_are(tmp_path):
    mlp, x, y = trained(values)
    points = page_of(tmp_path, mlp, x, y).all("values", "circle", class_="point")[:ROWS]
    for name, numbers in (("cx", y[:, 0]), ("cy", mlp.predict(x)[:, 0])):
        at = np.array([float(point[name]) for point in points])
        line = np.polyfit(numbers, at, 1)
        assert (line[0] > 0) == (name == "cx")
        np.testing.assert_allclose(np.polyval(line, numbers), at, atol=0.1)


def test_a_target_that_never_changes(tmp_path):
    mlp, x, y = values()
    page = page_of(tmp_path, mlp, x, np.full_like(y, 2.0))
    assert [row[1] for row in page.tables["values"][0][1:]] == ["nan", "nan"]
