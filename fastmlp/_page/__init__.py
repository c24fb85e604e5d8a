"""A page about a trained network, in one file of HTML."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from .._files import naming
from ..layers import BinaryCrossEntropy
from ._classes import of_classes, of_labels
from ._html import cards, code, facts, page, section
from ._subject import Subject
from ._training import curves, machine, network, summary
from ._values import of_values

More = Mapping[str, Sequence[tuple[str, str]] | str]


def write_page(
    path: str | os.PathLike[str], title: str, mlp: Any, data: tuple[Any, Any],
    image_shape: tuple[int, int] | None, names: Sequence[str] | None, more: More,
) -> None:  # fmt: skip
    """``plotting.page``, which documents it."""
    x, targets = data
    found = mlp.figures(x, targets)
    x = np.asarray(x)
    targets = mlp.criterion.check_targets("y", targets, len(x), mlp.output_size)
    sections_of, kind = _judging(mlp.criterion)
    subject = Subject(mlp, x, targets, _shape(image_shape, x), _names(names, mlp, kind))
    sections = [
        section("summary", "Summary", cards(summary(mlp, found, len(x)))),
        *curves(mlp.history),
        *sections_of(subject),
        section("network", "Network and optimizer", facts(network(mlp))),
        *(
            section(f"more-{number}", heading, code(part) if isinstance(part, str) else facts(part))
            for number, (heading, part) in enumerate(more.items(), 1)
        ),
        section("machine", "Machine", machine()),
    ]
    widths = "-".join(map(str, (mlp.input_size, *mlp.hiddens, mlp.output_size)))
    content = page(title, f"{widths}, trained with fastmlp", sections)
    with naming(path), open(path, "w", encoding="utf-8") as file:
        file.write(content)


def _judging(criterion: Any) -> tuple[Callable[[Subject], Iterator[str]], str]:
    """What judges predictions, and what comes before the number of an output without a name."""
    if criterion.of_values:
        return of_values, "target "
    return (of_labels, "label ") if isinstance(criterion, BinaryCrossEntropy) else (of_classes, "")


def _shape(image_shape: tuple[int, int] | None, x: np.ndarray) -> tuple[int, int] | None:
    if image_shape is not None and np.prod(image_shape) != x.shape[1]:
        raise ValueError(f"image_shape must have {x.shape[1]} pixels, got {image_shape}")
    return image_shape


def _names(names: Sequence[str] | None, mlp: Any, kind: str) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{kind}{number}" for number in range(mlp.output_size))
    if len(names) != mlp.output_size:
        raise ValueError(
            f"names must have {mlp.output_size} entries, one per output, got {len(names)}"
        )
    return tuple(map(str, names))
