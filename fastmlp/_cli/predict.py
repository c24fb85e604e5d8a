"""`fastmlp predict`: images, archives and tables as rows of the network's input."""

from __future__ import annotations

import io
import math
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .._extras import require
from .._files import in_one_line
from ..datasets import TABLE_SUFFIXES, load_rows
from ..datasets._npz import as_rows, read_npz
from ..layers import BinaryCrossEntropy
from .png import read_png

if TYPE_CHECKING:
    from PIL.Image import Image

    from ..mlp import MLP


def lines(mlp: MLP, path: Path, invert: bool) -> Iterator[str]:
    """A line for the PNG image, or for each row of the .npz archive or of the table.

    It has the class, by its name if the network knows that, and how probable that is; of a network
    with several labels a sample, how probable each of them is; or the values that a network of a
    regression gives.

    Raises as ``read_rows``.
    """
    x, names = read_rows(mlp, path, invert)
    if mlp.criterion.of_values:
        for name, row in zip(names, mlp.predict(x).reshape(len(x), -1), strict=True):
            yield f"{name}: {' '.join(f'{value:.6g}' for value in row)}"
        return
    several = isinstance(mlp.criterion, BinaryCrossEntropy)
    classes = class_names(mlp)
    for name, row in zip(names, mlp.predict_proba(x), strict=True):
        if several:
            yield f"{name}: {' '.join(f'{100 * share:.1f}' for share in row)} %"
        else:
            yield f"{name}: {classes[row.argmax()]} ({100 * row.max():.1f} %)"


def class_names(mlp: MLP) -> list[str]:
    """What the outputs of a network of classes stand for, each in one line: a file may say it."""
    known = None if mlp.schema is None else mlp.schema.class_names
    return [in_one_line(name) for name in known or map(str, range(mlp.output_size))]


def read_rows(mlp: MLP, path: Path, invert: bool) -> tuple[np.ndarray, Iterable[str]]:
    """((N, D) rows of the network's input, what to call each) of a file.

    Raises ValueError or DatasetError, which name the file, when it cannot be read or does not fit
    the network.
    """
    x, names = _read(mlp, path, invert)
    if x.shape[1] != mlp.input_size:
        raise ValueError(f"{path}: x must be (N, {mlp.input_size}) for this network, got {x.shape}")
    return x, names


def _read(mlp: MLP, path: Path, invert: bool) -> tuple[np.ndarray, Iterable[str]]:
    """((N, D) rows, what to call each) of a file."""
    if path.suffix == ".npz":
        x = as_rows(f"{path}: x", *read_npz(path, ["x"]))
        return x, (f"{path}[{row}]" for row in range(len(x)))
    if path.suffix in TABLE_SUFFIXES:
        x = _read_table(mlp, path)
        return x, (f"{path} row {row}" for row in range(1, len(x) + 1))
    return _read_image(path, mlp.input_size, invert), [str(path)]


def _read_table(mlp: MLP, path: Path) -> np.ndarray:
    """(N, D) rows; what no category of the network's is, is told."""
    if mlp.schema is None:
        raise ValueError(
            f"{path}: this network knows of no columns, since it has not learnt from a table: "
            "give an .npz with x"
        )
    x, unknown = load_rows(path, mlp.schema)
    for column, rows in unknown.items():
        print(
            f"{path}: column {column!r:.60} has a text that the network has not learnt in "
            f"{len(rows):,} row{'s' * (len(rows) > 1)}, first in row {rows[0] + 1}: it is taken "
            "for none of its categories",
            file=sys.stderr,
        )
    return x


def _read_image(path: Path, pixels: int, invert: bool) -> np.ndarray:
    """(1, pixels) uint8, light on dark; an image of another size is scaled, with a notice."""
    require("PIL", "cli")
    from PIL import Image

    side = math.isqrt(pixels)
    if side * side != pixels:
        raise ValueError(
            f"{path}: this network takes rows of {pixels} features, which are no square image: "
            "give an .npz with x"
        )
    try:
        # Of other formats Pillow runs programs, or decoders that have seen fewer strangers.
        with Image.open(io.BytesIO(read_png(path)), formats=["PNG"]) as image:
            gray = _grayscale(image, background="white" if invert else "black")
    # Pillow raises errors of many types, those of struct and zlib among them.
    except Exception as error:
        raise ValueError(f"{path}: cannot be read as an image: {in_one_line(error)}") from error
    if gray.size != (side, side):
        print(
            f"{path}: scaled from {gray.width}×{gray.height} to {side}×{side} pixels",
            file=sys.stderr,
        )
        gray = gray.resize((side, side), Image.Resampling.LANCZOS)
    x = np.asarray(gray).reshape(1, pixels)
    if invert:
        x = 255 - x
    if x.mean() > 127 or x.min() == x.max():
        what = "one shade only" if x.min() == x.max() else "mostly light, unlike MNIST"
        print(f"{path}: {what}; try it {'without' if invert else 'with'} --invert", file=sys.stderr)
    return x


def _grayscale(image: Image, background: Any) -> Image:
    """8 bits of gray, with the background where the image is transparent."""
    from PIL import Image

    if image.mode.startswith("I"):
        # Pillow would clip the 16 bits of such a PNG instead of scaling them.
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, background), layer)
    return image.convert("L")
