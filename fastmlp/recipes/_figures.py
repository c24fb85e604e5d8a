"""The pictures of the write-ups: panels of curves over epochs or batches."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..plotting import new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOSS = "cross-entropy loss per sample (nats)"
ACCURACY = "accuracy (% of samples)"
ERROR = "error (% of samples)"

# Different in lightness, dashes and marks, so that they differ in greyscale, too.
_STYLES: tuple[dict[str, Any], ...] = (
    {"color": "#08306b", "linestyle": "-", "marker": "o"},
    {"color": "#f28e2b", "linestyle": "--", "marker": "s"},
    {"color": "#2a9d8f", "linestyle": "-.", "marker": "^"},
    {"color": "#7b1fa2", "linestyle": ":", "marker": "D"},
)


@dataclass(frozen=True)
class Line:
    """A curve: one value per epoch; spread is its standard deviation, drawn as a band."""

    label: str
    values: Sequence[float] | np.ndarray
    spread: np.ndarray | None = None


@dataclass(frozen=True)
class Panel:
    """Axes with up to four curves; x is 1, 2, ... unless given."""

    quantity: str
    lines: Sequence[Line]
    against: str = "epoch"
    x: np.ndarray | None = None


def train_and_valid(quantity: str, train: Any, valid: Any) -> Panel:
    """A panel of the two curves that most figures have."""
    return Panel(quantity, [Line("training", train), Line("validation", valid)])


def percent(fractions: Any) -> np.ndarray:
    """Fractions as percentages."""
    return 100 * np.asarray(fractions)


def draw(path: Path, title: str, *panels: Panel) -> Path:
    """Write the panels, side by side, as a PNG; returns its path.

    Raises OSError when path cannot be written, ImportError without Matplotlib.
    """
    figure = new_figure(5.2 * len(panels), 3.9)
    figure.set_layout_engine("constrained", w_pad=0.1, wspace=0.04)
    figure.suptitle(textwrap.fill(title, 60 * len(panels)), fontsize=11)
    for axes, panel in zip(np.atleast_1d(figure.subplots(1, len(panels))), panels, strict=True):
        _draw_panel(axes, panel)
    write_figure(figure, path, dpi=120)
    return path


def _draw_panel(axes: Axes, panel: Panel) -> None:
    from matplotlib.ticker import MaxNLocator

    for line, style in zip(panel.lines, _STYLES, strict=False):
        values = np.asarray(line.values)
        x = np.arange(1, len(values) + 1) if panel.x is None else panel.x
        marks = max(1, len(values) // 10)
        axes.plot(x, values, label=line.label, markersize=4, markevery=marks, **style)
        if line.spread is not None:
            axes.fill_between(
                x, values - line.spread, values + line.spread, color=style["color"], alpha=0.25
            )
    axes.set_xlabel(panel.against)
    axes.set_ylabel(panel.quantity)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7, integer=True, min_n_ticks=1))
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(panel.lines) > 1:
        axes.legend(frameon=False)
