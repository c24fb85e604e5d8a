"""Pictures: what is drawn, that it is in the file, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import History, plotting

pytest.importorskip("matplotlib", reason="plotting needs Matplotlib")


@pytest.fixture
def drawn(monkeypatch):
    """The figures saved during the test, saved all the same."""
    from matplotlib.figure import Figure

    figures, save = [], Figure.savefig

    def record(figure, *arguments, **options):
        figures.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", record)
    return figures


@pytest.fixture
def history():
    return History(
        train_loss=[0.9, 0.5, 0.4],
        train_error=[0.3, 0.2, 0.1],
        val_loss=[0.7, 0.6, 0.5],
        val_error=[0.25, 0.2, 0.15],
        epoch_seconds=[1.0, 1.0, 1.0],
    )


def pixels(path):
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def lines(axes):
    return {line.get_label(): np.asarray(line.get_ydata()) for line in axes.lines}


def test_curves_show_loss_and_error_of_both_parts(history, drawn, tmp_path):
    plotting.curves(history, tmp_path / "curves.png")
    loss, error = drawn[0].axes
    assert_array_equal(lines(loss)["train"], history.train_loss)
    assert_array_equal(lines(loss)["validation"], history.val_loss)
    assert_array_equal(lines(error)["train"], [30, 20, 10])
    assert_array_equal(lines(error)["validation"], [25, 20, 15])
    for axes in (loss, error):
        assert axes.get_xlabel() == "epoch"
        assert axes.get_ylabel()
        assert_array_equal(axes.lines[0].get_xdata(), [1, 2, 3])
        assert len(axes.get_legend().get_texts()) == 2
    picture = pixels(tmp_path / "curves.png")
    assert picture.shape[0] >= 400
    assert picture.shape[1] >= 1000


def test_curves_differ_without_colour(history, drawn, tmp_path):
    from matplotlib.colors import to_rgb

    plotting.curves(history, tmp_path / "curves.png")
    train, validation = drawn[0].axes[0].lines
    assert train.get_linestyle() != validation.get_linestyle()
    luma = [
        np.dot((0.2126, 0.7152, 0.0722), to_rgb(line.get_color()))
        for line in drawn[0].axes[0].lines
    ]
    assert abs(luma[0] - luma[1]) > 0.3


def test_curves_without_validation(history, drawn, tmp_path):
    history.val_loss, history.val_error = [], []
    plotting.curves(history, tmp_path / "curves.png")
    assert all(lines(axes).keys() == {"train"} for axes in drawn[0].axes)


def test_one_epoch_is_visible(drawn, tmp_path):
    """A line through one point has no length: only its mark shows."""
    plotting.curves(History([0.9], [0.3]), tmp_path / "curves.png")
    line = drawn[0].axes[0].lines[0]
    picture = pixels(tmp_path / "curves.png")
    scale = picture.shape[1] / drawn[0].bbox.width
    x, y = (scale * line.axes.transData.transform((1, 0.9))).astype(int)
    assert picture[-1 - y, x] < 128


def test_curves_of_no_epoch(tmp_path):
    with pytest.raises(ValueError, match="at least one epoch, got none"):
        plotting.curves(History(), tmp_path / "curves.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(9, 16), (9, 4, 4), (9, 2, 8)])
def test_mistakes_shows_each_wrong_image_with_both_labels(shape, drawn, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    labels = np.arange(9)
    predicted = labels.copy()
    predicted[[2, 7]] = [5, 0]
    plotting.mistakes(images, labels, predicted, tmp_path / "mistakes.png")
    assert [axes.get_title() for axes in drawn[0].axes] == ["2 → 5", "7 → 0"]
    for axes, index in zip(drawn[0].axes, [2, 7], strict=True):
        shown = np.asarray(axes.images[0].get_array())
        assert shown.ndim == 2
        assert_array_equal(shown.ravel(), images[index].ravel())
    assert "2 of 9" in drawn[0].get_suptitle()
    assert pixels(tmp_path / "mistakes.png").min() < 128


def test_many_mistakes_are_cut_off_and_counted(drawn, tmp_path):
    labels = np.zeros(1234, int)
    plotting.mistakes(np.zeros((1234, 4)), labels, labels + 1, tmp_path / "mistakes.png")
    assert len(drawn[0].axes) == 40
    assert "1,234 of 1,234" in drawn[0].get_suptitle()
    assert "first 40" in drawn[0].get_suptitle()


def test_no_mistakes(drawn, tmp_path):
    labels = np.arange(3)
    plotting.mistakes(np.zeros((3, 4)), labels, labels, tmp_path / "mistakes.png")
    assert drawn[0].axes == []
    assert drawn[0].get_suptitle() == "0 of 3 images misclassified"
    assert pixels(tmp_path / "mistakes.png").min() < 128


@pytest.mark.parametrize(
    ("images", "labels", "predicted", "message"),
    [
        (np.zeros((3, 5)), np.zeros(3), np.zeros(3), r"square number.*\(3, 5\)"),
        (np.zeros((3, 0)), np.zeros(3), np.zeros(3), r"square number.*\(3, 0\)"),
        (np.zeros(3), np.zeros(3), np.zeros(3), r"\(N, D\).*\(3,\)"),
        (np.zeros((3, 4)), np.zeros(2), np.zeros(3), r"\(3,\).*\(2,\)"),
        (np.zeros((3, 4)), np.zeros(3), np.zeros((3, 10)), r"\(3,\).*\(3, 10\)"),
    ],
)
def test_mistakes_refuses_what_does_not_fit(images, labels, predicted, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plotting.mistakes(images, labels, predicted, tmp_path / "mistakes.png")
    assert not list(tmp_path.iterdir())


def test_needs_neither_a_display_nor_pyplot(tmp_path):
    """Whatever backend is set, and without the state that pyplot keeps for a process."""
    program = (
        "import sys; from fastmlp import History, plotting\n"
        "plotting.curves(History([1.0], [0.5]), sys.argv[1])\n"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    path = tmp_path / "curves.png"
    subprocess.run(
        [sys.executable, "-c", program, path], check=True, env={"MPLBACKEND": "tkagg"}, timeout=60
    )
    assert path.stat().st_size > 1000


def test_without_matplotlib(history, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"matplotlib.*it comes with the extra 'plot'"):
        plotting.curves(history, tmp_path / "curves.png")
