"""Figures of a training run, written to files, without a display or Matplotlib's global state.

A ``page`` has them all in one file of HTML; it needs no Matplotlib.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ._extras import require
from ._files import naming
from ._page import More, write_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SavePath = str | os.PathLike[str]

# Dark blue and orange are far apart in lightness: with the dashes, apart in greyscale too.
_TRAIN: dict[str, Any] = {"color": "#08306b", "linestyle": "-", "marker": "o"}
_VALIDATION: dict[str, Any] = {"color": "#f28e2b", "linestyle": "--", "marker": "s"}

_COLUMNS, _ROWS = 8, 5


class Curves(Protocol):
    """The fields of a History that are drawn, one value per epoch; val_* may be empty."""

    train_loss: list[float]
    train_error: list[float]
    val_loss: list[float]
    val_error: list[float]
    error_name: str


def curves(history: Curves, path: SavePath | None = None) -> Figure:
    """Draw mean loss and error per epoch, for training and validation.

    The error is in percent of the samples, unless it is that of a regression.

    Returns the figure, also written if a path is given, whose suffix chooses the format (.png,
    .pdf, .svg). Values that are not finite leave gaps.

    Raises ValueError when the history has no epoch, OSError when path cannot be written,
    ImportError without Matplotlib.
    """
    if not history.train_loss:
        raise ValueError("history must have at least one epoch, got none")
    figure = new_figure(9.6, 3.6)
    loss, error = figure.subplots(1, 2, gridspec_kw={"wspace": 0.06})
    _two_lines(loss, history.train_loss, history.val_loss)
    loss.set_ylabel("loss per sample")
    if history.error_name == "mean absolute error":
        _two_lines(error, history.train_error, history.val_error)
        error.set_ylabel(history.error_name)
    else:
        _two_lines(error, _percent(history.train_error), _percent(history.val_error))
        error.set_ylabel(f"{history.error_name} (%)")
    if path is not None:
        write_figure(figure, path, dpi=150)
    return figure


def mistakes(images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, path: SavePath) -> None:
    """Draw up to 40 of the images whose predicted class is not the label, both above each.

    images : (N, D) with D a square number, or (N, H, W); the darkest value is drawn black
    labels, predicted : (N,) classes

    Raises ValueError when the shapes do not fit, OSError when path cannot be written, ImportError
    without Matplotlib.
    """
    pictures = _as_pictures(images)
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != (len(pictures),) or predicted.shape != (len(pictures),):
        raise ValueError(
            f"labels and predicted must be ({len(pictures)},), one for each image, "
            f"got {labels.shape} and {predicted.shape}"
        )
    wrong = np.flatnonzero(labels != predicted)
    shown = wrong[: _ROWS * _COLUMNS]
    rows = math.ceil(len(shown) / _COLUMNS)
    figure = new_figure(_COLUMNS, 0.5 + 1.2 * rows)
    title = f"{len(wrong):,} of {len(labels):,} images misclassified"
    if len(shown) < len(wrong):
        title += f", the first {len(shown)} shown"
    figure.suptitle(f"{title} (label → predicted)" if rows else title)
    for place, index in enumerate(shown, start=1):
        axes = figure.add_subplot(rows, _COLUMNS, place)
        axes.axis("off")
        axes.imshow(pictures[index], cmap="gray", interpolation="nearest")
        axes.set_title(f"{labels[index]} → {predicted[index]}", fontsize=10, pad=3)
    write_figure(figure, path, dpi=120)


def page(
    mlp: Any, x: Any, y: Any, path: SavePath, *, title: str = "Trained network",
    image_shape: tuple[int, int] | None = None, names: Sequence[str] | None = None,
    more: More = MappingProxyType({}),
) -> None:  # fmt: skip
    """Write a page about a network: what it was trained by, and how good it is on test data.

    x, y : (N, D) rows and their targets, as of ``mlp.evaluate``
    path : of a file of HTML, which refers to no other file, and runs no program
    image_shape : (H, W) where the rows of x are pictures: the worst mistakes are then shown
    names : of the classes, labels or targets, (K,), by default their numbers
    more : sections of your own by their headings: (name, value) pairs for a table, or code

    It has the curves of ``mlp.history``, if there are any; of classes a matrix of confusions, the
    worst mistakes and the calibration; of several labels a sample figures of each; of values their
    residuals; then the network, its optimizer and the machine that writes the page. Rows are shown
    by the columns of ``mlp.schema``, or by their first features. All texts are escaped: names may
    have any characters.

    Raises ValueError where shapes do not fit, OSError, which names the file, when it cannot be
    written.
    """
    write_page(path, title, mlp, (x, y), image_shape, names, more)


def new_figure(width: float, height: float) -> Figure:
    """A figure of that many inches, drawn by Agg whatever backend the user has chosen."""
    require("matplotlib", "plot")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: SavePath, dpi: int) -> None:
    """Write it in the format of the path's suffix. Raises OSError, which names the path."""
    with naming(path):
        figure.savefig(path, dpi=dpi)


def _two_lines(axes: Axes, train: list[float], validation: list[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    for values, label, style in (
        (train, "train", _TRAIN),
        (validation, "validation", _VALIDATION),
    ):
        if len(values):
            epochs = range(1, len(values) + 1)
            # A mark at every epoch would hide a long curve; one epoch is seen by its mark alone.
            axes.plot(
                epochs, values, label=label, markersize=4, markevery=_every(len(values)), **style
            )
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)


def _every(epochs: int) -> int:
    return max(1, epochs // 20)


def _percent(fractions: list[float]) -> list[float]:
    return [100 * value for value in fractions]


def _as_pictures(images: Any) -> np.ndarray:
    """(N, H, W), from that or from (N, D) with D a square number."""
    images = np.asarray(images)
    if images.ndim == 3:
        return images
    side = math.isqrt(images.shape[1]) if images.ndim == 2 else 0
    if side == 0 or side * side != images.shape[1]:
        raise ValueError(
            f"images must be (N, D) with D a square number, or (N, H, W), got {images.shape}"
        )
    return images.reshape(len(images), side, side)
