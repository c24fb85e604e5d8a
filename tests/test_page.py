"""The page about a network: what it says is what NumPy finds, and it stands alone."""

import re

import numpy as np
import pytest

from fastmlp import History, plotting
from fastmlp._page._svg import Axes, ticks
from fastmlp.history import FitPlan
from fastmlp.schedules import OneCycle
from tests.page_networks import NASTY, ROWS, classes, labels, page_of, trained, values

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


def test_the_curves_of_values_have_all_figures(tmp_path):
    mlp, x, y = trained(values)
    headings = page_of(tmp_path, mlp, x, y).tables["curves"][0][0]
    assert headings == [name.replace("_", " ") for name in mlp.history.columns()]


def test_a_page_without_a_history(tmp_path):
    mlp, x, y = classes()
    page = page_of(tmp_path, mlp, x, y)
    assert "curves" not in page.texts
    assert "epochs" not in page.texts["summary"]


def test_packages_that_a_bundle_left_out_have_no_version(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmlp._page._training.installed_version", lambda name: None)
    said = page_of(tmp_path, *classes()).facts("machine")["versions"]
    assert "numpy of unknown version, numba of unknown version" in said


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
    empty = {"val_r2"} | (set() if validation else {"val_loss", "val_error"})
    names = [name for name in history.columns() if name not in empty]
    assert headings == [name.replace("_", " ") for name in names]
    for epoch, row in enumerate(rows):
        assert row == [
            f"{value:.6g}" if isinstance(value, float) else str(value)
            for name, value in zip(history.columns(), history.row(epoch), strict=True)
            if name in names
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
    return (points[:, 0] - 76) / 332, (220 - points[:, 1]) / 208


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
