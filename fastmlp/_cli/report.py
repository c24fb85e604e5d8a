"""What the commands write: files for a training run, and tables."""

from __future__ import annotations

import csv
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import plotting
from ..warmup import is_cold

if TYPE_CHECKING:
    from ..mlp import MLP
    from ..training import History

_COLUMNS = ("train_loss", "train_error", "val_loss", "val_error", "epoch_seconds")


def write_model(out: Path, mlp: MLP, history: History) -> list[Path]:
    """model.safetensors, history.csv and curves.png: what is known without the test set."""
    files = [out / name for name in ("model.safetensors", "history.csv", "curves.png")]
    mlp.save(files[0])
    _write_history(files[1], history)
    plotting.curves(history, files[2])
    return files


def write_mistakes(
    out: Path, x: np.ndarray, labels: np.ndarray, predicted: np.ndarray
) -> list[Path]:
    """mistakes.png, where the rows of x are square images."""
    if math.isqrt(x.shape[1]) ** 2 != x.shape[1]:
        return []
    plotting.mistakes(x, labels, predicted, out / "mistakes.png")
    return [out / "mistakes.png"]


def announce_compilation(dtype: str, compute_dtype: str | None = None) -> None:
    """Say what takes half a minute, where the library itself does not: at a terminal it does."""
    if is_cold(dtype, compute_dtype) and not sys.stderr.isatty():
        print("compiling kernels, once per installation ...", flush=True)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows: framed on a terminal, in plain aligned columns elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        framed = Table(*headings, show_header=any(headings))
        for row in rows:
            framed.add_row(*map(Text, row))
        Console().print(framed)
        return
    lines = [headings, *rows] if any(headings) else rows
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        print("  ".join(cells).rstrip(), flush=True)


def _write_history(path: Path, history: History) -> None:
    """A row per epoch; the columns of a validation that was not done are empty."""
    epochs = len(history.train_loss)
    columns = [getattr(history, name) or [""] * epochs for name in _COLUMNS]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["epoch", *_COLUMNS])
        writer.writerows(zip(range(1, epochs + 1), *columns, strict=True))
