"""The page about a network: what it says is what NumPy finds, and it stands alone."""

import base64
import io
import re
from collections import Counter

import numpy as np
import pytest

from fastmlp import MLP, BinaryCrossEntropy, History, Identity, MeanSquaredError, plotting
from fastmlp._page._numbers import calibration, confusion, label_figures, worst_pairs
from fastmlp._page._pictures import data_uri
from fastmlp._page._svg import Axes, ticks
from fastmlp.history import FitPlan
from fastmlp.initializers import he_normal, zeros
from fastmlp.schedules import OneCycle
from tests.html_pages import read
from tests.networks import build

ROWS = 200
NASTY = "</td><script>alert('&amp;')</script>\"<img src=x onerror=1>"


def data(outputs, features=6, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((ROWS, features))
    return x, x @ rng.standard_normal((features, outputs)) + 0.5 * rng.standard_normal(
        (ROWS, outputs)
    )


def classes(outputs=4, **options):
    x, z = data(outputs, **options)
    return build([x.shape[1], 8, outputs], lr=0.02), x, z.argmax(axis=1)


def labels():
    x, z = data(3)
    mlp = build([6, 8, 3])
    mlp.criterion = BinaryCrossEntropy()
    return mlp, x, (z > 0.3).astype(float)


def values():
    x, z = data(2)
    mlp = build([6, 8, 2], lr=0.01)
    mlp.criterion = MeanSquaredError()
    return mlp, x, [2, 1] * z + [3, 0]


def trained(make, epochs=3, validation=True, **options):
    mlp, x, y = make(**options)
    mlp.fit(x, y, epochs=epochs, seed=0, validation_data=(x, y) if validation else None)
    return mlp, x, y


def page_of(tmp_path, mlp, x, y, **options):
    plotting.page(mlp, x, y, tmp_path / "page.html", **options)
    return read(tmp_path / "page.html")


# Of every kind


@pytest.mark.parametrize(
    ("make", "options", "sections"),
    [
        (classes, {}, ["confusion", "mistakes", "calibration"]),
        (lambda: classes(40), {}, ["confusion", "mistakes", "calibration"]),
        (
            lambda: classes(features=16),
            {"image_shape": (4, 4)},
            ["confusion", "mistakes", "calibration"],
        ),
        (labels, {}, ["labels", "mistakes", "calibration"]),
        (values, {}, ["values", "residuals", "mistakes"]),
    ],
    ids=["classes", "many classes", "pictures", "labels", "values"],
)
@pytest.mark.parametrize("epochs", [1, 3])
def test_a_page_of_every_kind(make, options, sections, epochs, tmp_path):
    """Well formed, alone, and the same each time."""
    mlp, x, y = trained(make, epochs)
    page = page_of(tmp_path, mlp, x, y, **options)
    before, after = ["", "summary", "curves"], ["network", "machine"]
    assert list(page.texts) == before + sections + after
    assert len(page.all("curves", "svg")) == 3
    assert page_of(tmp_path, mlp, x, y, **options).source == page.source


def test_a_page_without_a_history(tmp_path):
    mlp, x, y = classes()
    page = page_of(tmp_path, mlp, x, y)
    assert "curves" not in page.texts
    assert "epochs" not in page.texts["summary"]


def test_texts_are_escaped(tmp_path):
    names = [NASTY, "b & c", "<i>", '"']
    more = {NASTY: [(NASTY, NASTY)], "Code": NASTY}
    for make, k in ((classes, 4), (labels, 3), (values, 2), (lambda: classes(40), 40)):
        every = (names * 10)[:k]
        page = page_of(tmp_path, *trained(make), title=NASTY, names=every, more=more)
        assert "<script>" not in page.source
        assert "<img" not in page.source
        assert page.texts[""].count(NASTY) == 2, "the title and the heading"
        assert NASTY in page.text("more-2")
        assert page.tables["more-1"] == [[[NASTY, NASTY]]]
    assert NASTY in page.text("confusion")


def test_the_summary_is_what_evaluate_finds(tmp_path):
    for make in (classes, labels, values):
        mlp, x, y = trained(make)
        loss, error = mlp.evaluate(x, y)
        words = page_of(tmp_path, mlp, x, y).texts["summary"]
        found = dict(zip(words[1::2], words[2::2], strict=True))
        assert found["test loss"] == f"{loss:.4g}"
        if make is values:
            assert found["test R²"] == f"{mlp.score(x, y):.4f}"
            assert found["test mean absolute error"] == f"{error:.4g}"
        else:
            assert found["test error"] == f"{100 * error:.2f} %"
            assert found["test accuracy"] == f"{100 - 100 * error:.2f} %"
        assert found["epochs"] == "3"
        assert found["parameters"] == f"{mlp.parameters.size:,}"
        assert found["test samples"] == f"{ROWS:,}"


# Curves


@pytest.mark.parametrize("validation", [True, False])
def test_the_curves_are_the_history(validation, tmp_path):
    mlp, x, y = trained(classes, 5, validation)
    page, history = page_of(tmp_path, mlp, x, y), mlp.history
    headings, *rows = page.tables["curves"][0]
    assert headings == [name.replace("_", " ") for name in history.columns()]
    for epoch, row in enumerate(rows):
        assert row == [
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for value in history.row(epoch)
        ]
    marks = [mark for tag, mark in page.elements["curves"] if tag in ("circle", "rect")]
    curves = [history.train_loss, history.val_loss, 100 * np.array(history.train_error),
              100 * np.array(history.val_error), history.step_learning_rate]  # fmt: skip
    kinds = ["first", "second", "first", "second", "first"]
    shown = [(kind, float(v), k) for kind, values in zip(kinds, curves, strict=True)
             for k, v in enumerate(values)]  # fmt: skip
    assert [mark["class"] for mark in marks] == [kind for kind, _, _ in shown]
    titles = [text for text in page.texts["curves"] if re.match(r"\d+: ", text)]
    assert titles == [f"{k + 1}: {value:.6g}" for _, value, k in shown]
    # On a straight scale, from the left to the right and from the bottom to the top.
    losses = [float(mark["cy"]) for mark in marks[:5]]
    assert np.polyfit(history.train_loss, losses, 1)[0] < 0
    np.testing.assert_allclose(
        np.polyval(np.polyfit(history.train_loss, losses, 1), history.train_loss), losses, atol=0.1
    )
    across = [float(mark["cx"]) for mark in marks[:5]]
    np.testing.assert_allclose(np.diff(across), across[1] - across[0], atol=0.11)


def drawn(path):
    """(x, y) of a curve's points, in shares of the axes."""
    points = np.array(re.findall(r"[ML]([\d.]+),([\d.]+)", path["d"]), float)
    return (points[:, 0] - 56) / 352, (220 - points[:, 1]) / 208


def test_a_rate_that_changes_within_an_epoch_is_drawn_step_by_step(tmp_path):
    """Of a one-cycle whose peak is in the middle of the first epoch, a rate far from any end."""
    mlp, x, y = classes()
    mlp.fit(x, y, epochs=2, batch_size=2, seed=0, lr_schedule=OneCycle(0.25))
    rates = mlp.history.step_learning_rate
    assert len(rates) == 200
    assert max(rates) > 1.3 * max(mlp.history.learning_rate)
    page = page_of(tmp_path, mlp, x, y)
    across, up = drawn(page.all("curves", "path", class_="first")[-1])
    np.testing.assert_allclose(across, np.linspace(0, 1, 200), atol=2e-4)
    np.testing.assert_allclose(1.04 * up * max(rates), rates, atol=1e-3 * max(rates))
    assert "learning rate by step." in page.text("curves")


def test_gaps_where_a_loss_is_not_finite(tmp_path):
    mlp, x, y = classes()
    mlp.history = History([3.0, np.nan, 2.0, 1.0, np.inf], [0.5] * 5, epoch_seconds=[1.0] * 5)
    page = page_of(tmp_path, mlp, x, y)
    path = page.all("curves", "path", class_="first")[0]["d"]
    assert (path.count("M"), path.count("L")) == (2, 1)


def test_a_long_history_is_thinned_out(tmp_path):
    mlp, x, y = classes()
    mlp.history = History([1.0] * 5000, [0.5] * 5000, epoch_seconds=[1.0] * 5000)
    page = page_of(tmp_path, mlp, x, y)
    assert len(page.source) < 100_000
    epochs = [int(row[0]) for row in page.tables["curves"][0][1:]]
    assert (epochs[0], epochs[-1]) == (1, 5000)
    assert len(epochs) <= 201
    assert page.all("curves", "circle") == []


def test_a_long_schedule_is_thinned_out_and_keeps_its_peak(tmp_path):
    mlp, x, y = classes()
    steps, plan = np.arange(100_000), FitPlan(2, 50_000, 4, 200_000, False, 100_000)
    rates = OneCycle(0.123).factors(steps, plan).tolist()
    mlp.history = History([1.0, 0.5], [0.5, 0.4], step_learning_rate=rates)
    across, up = drawn(page_of(tmp_path, mlp, x, y).all("curves", "path", class_="first")[-1])
    assert 250 <= len(up) <= 501
    assert (across[0], across[-1]) == (0, 1)
    assert 1.04 * up.max() == pytest.approx(1, abs=2e-3)
    assert across[up.argmax()] == pytest.approx(0.123, abs=3e-3)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (1, 5, [1, 2, 3, 4, 5]), (-2.3, 2.1, [-2, -1, 0, 1, 2]),
        (0, 0.037, [0, 0.01, 0.02, 0.03]), (120, 480, [200, 300, 400]),
    ],
)  # fmt: skip
def test_round_numbers_at_the_axes(low, high, expected):
    np.testing.assert_allclose(ticks(low, high), expected)


def test_axes_of_a_single_value():
    axes = Axes((3, 3), (0, 0))
    assert np.isfinite([axes.x(3), axes.y(0)]).all()


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


# Refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_shape": (2, 2)}, r"image_shape must have 6 pixels, got \(2, 2\)"),
        ({"names": ["a"]}, "names must have 4 entries, one per output, got 1"),
        ({"x": np.zeros((ROWS, 5))}, r"x must be \(N, 6\)"),
        ({"y": np.zeros(3, int)}, "labels must"),
    ],
)
def test_what_does_not_fit_is_refused(change, message, tmp_path):
    mlp, x, y = classes()
    given = {"x": x, "y": y} | change
    with pytest.raises(ValueError, match=message):
        plotting.page(mlp, path=tmp_path / "page.html", **given)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match=r"missing.page\.html"):
        plotting.page(*classes(), tmp_path / "missing" / "page.html")
