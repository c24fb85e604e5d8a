"""What the commands write: files for a training run, and tables."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .. import plotting
from ..callbacks._progress_bar import COMPILING
from ..datasets import Dataset

if TYPE_CHECKING:
    from ..history import History
    from ..mlp import MLP

WIDEST = 1 << 20
"""Columns of a terminal that has room for everything."""


def write_model(out: Path, mlp: MLP, history: History) -> list[Path]:
    """model.safetensors, history.csv and curves.png: what is known without the test set.

    Raises OSError, which names the file, when one cannot be written; so does ``write_mistakes``.
    """
    files = [out / name for name in ("model.safetensors", "history.csv", "curves.png")]
    mlp.save(files[0])
    history.to_csv(files[1])
    plotting.curves(history, files[2])
    return files


def write_mistakes(out: Path, mlp: MLP, data: Dataset) -> list[Path]:
    """mistakes.png, the test images that the network gets wrong, if the data are pictures."""
    if data.image_shape is None:
        return []
    path = out / "mistakes.png"
    images = data.test_x.reshape(-1, *data.image_shape)
    plotting.mistakes(images, data.test_y, mlp.predict(data.test_x), path)
    return [path]


@contextmanager
def compiling(cold: bool) -> Iterator[None]:
    """Say what is waited for where machine code is to be made, and how long it took."""
    started = time.perf_counter()
    # On a terminal the library announces it itself.
    if cold and not sys.stderr.isatty():
        print(COMPILING, flush=True)
    yield
    if cold:
        print(f"compiled in {time.perf_counter() - started:.0f} s\n", flush=True)


def results(figures: Sequence[tuple[str, str]], files: Sequence[Path]) -> None:
    """Print a table of figures, and the files below them: beside a word if they have room there."""
    paths = [str(path) for path in files]
    rows = [*figures, *(("" if index else "files", path) for index, path in enumerate(paths))]
    widest = max(map(len, _aligned(rows)))
    if sys.stdout.isatty() and widest > shutil.get_terminal_size().columns:
        print("\n".join([*_aligned(figures), "", *paths]), flush=True)
    else:
        table(("", ""), rows)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows: framed on a terminal that is wide enough, else in plain aligned columns.

    No cell is shortened or broken, so that paths can be copied from the last column.
    """
    if sys.stdout.isatty() and _print_framed(headings, rows):
        return
    for line in _aligned([headings, *rows] if any(headings) else rows):
        print(line, flush=True)


def records(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print the rows as ``table`` does; on a terminal too narrow for that, a cell a line."""
    wide = max(map(len, _aligned([headings, *rows])))
    if not sys.stdout.isatty() or wide <= shutil.get_terminal_size().columns:
        table(headings, rows)
        return
    blocks = ([pair for pair in zip(headings, row, strict=True) if pair[1]] for row in rows)
    print("\n\n".join("\n".join(_aligned(block)) for block in blocks), flush=True)


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    cells = ([c.ljust(w) for c, w in zip(line, widths, strict=True)] for line in lines)
    return ["  ".join(line).rstrip() for line in cells]


def _print_framed(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Print the rows in a frame if that fits; whether it did."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    framed = Table(*headings, show_header=any(headings))
    for row in rows:
        framed.add_row(*map(Text, row))
    console = Console()
    # With the true width as a limit, Rich would answer how far it would cut the table down.
    needed = console.measure(framed, options=console.options.update(max_width=WIDEST)).maximum
    if needed > console.width:
        return False
    console.print(framed)
    return True
