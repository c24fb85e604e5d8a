"""Pictures of records for pages, as SVG: on no background, readable on white and on dark.

The same record gives the same file. What is drawn without Matplotlib is in ``docs/drawings``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# As far from white as from the dark grey of most dark pages.
TEXT = "#7c7c7c"
COLOURS = RED, BLUE, AMBER, PURPLE, GREEN = (
    "#d1495b", "#2a8fbd", "#b7791f", "#8f6bc4", "#3f9142",
)  # fmt: skip


@contextmanager
def picture(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of that many inches to draw in, which is then written to the path."""
    import matplotlib
    from matplotlib.figure import Figure

    coloured = (
        "text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color",
        "grid.color",
    )  # fmt: skip
    without = "axes.spines.top", "axes.spines.right", "legend.frameon"
    style = dict.fromkeys(coloured, TEXT) | dict.fromkeys(without, False)
    # Letters as outlines need no font where the picture is seen; without salt names are random.
    with matplotlib.rc_context(style | {"svg.fonttype": "path", "svg.hashsalt": "fastmlp"}):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})
