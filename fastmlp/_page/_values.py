"""How good a network is whose outputs are values."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ._html import figures, grid, paragraph, section
from ._numbers import value_figures
from ._subject import MOST_ROWS, Subject
from ._svg import Axes, bars, chart, diagonal, figure, points

MOST_TARGETS = 6
_MOST_POINTS, _BINS = 800, 31


def of_values(subject: Subject) -> Iterator[str]:
    """The sections of a regression."""
    mlp, names = subject.mlp, subject.names
    predicted = mlp.predict(subject.x).reshape(len(subject.x), -1).astype(np.float64)
    targets = subject.targets.reshape(predicted.shape).astype(np.float64)
    found = value_figures(targets, predicted)
    yield section(
        "values", "Predicted and true values",
        _first_of(len(names)),
        figures(
            ("target", "R²", "mean absolute error", "root mean squared error", "mean residual"),
            [(name, *(f"{value:.6g}" for value in row))
             for name, row in zip(names, zip(*found, strict=True), strict=True)],
        ),
        grid(_scatter(targets[:, k], predicted[:, k], names[k])
             for k in range(min(MOST_TARGETS, len(names)))),
    )  # fmt: skip
    residuals = predicted - targets
    yield section(
        "residuals", "Residuals",
        paragraph("Residual: predicted less true value."),
        grid(_histogram(residuals[:, k], names[k]) for k in range(min(MOST_TARGETS, len(names)))),
    )  # fmt: skip
    yield section("mistakes", "Worst mistakes", *_worst(subject, targets, predicted))


def _first_of(count: int) -> str:
    if count <= MOST_TARGETS:
        return ""
    return paragraph(f"The first {MOST_TARGETS} of {count} targets are drawn.")


def _scatter(true: np.ndarray, predicted: np.ndarray, name: str) -> str:
    every = -(-len(true) // _MOST_POINTS)
    shown = slice(None, None, every)
    ends = _ends(np.concatenate([true, predicted]))
    axes = Axes(ends, ends)
    caption = (
        f"{name}: {len(true[shown]):,} of {len(true):,} samples; on the dotted line both are equal."
    )
    drawing = chart(
        axes, f"{name}: predicted against true values", "true", "predicted",
        [diagonal(axes), points(axes, true[shown], predicted[shown])],
    )  # fmt: skip
    return figure(drawing, caption)


def _histogram(residuals: np.ndarray, name: str) -> str:
    finite = residuals[np.isfinite(residuals)]
    low, high = _ends(finite)
    reach = max(abs(low), abs(high)) or 0.5
    counts, edges = np.histogram(finite, _BINS, (-reach, reach))
    axes = Axes((-reach, reach), (0, float(max(1, counts.max()))))
    words = [
        f"{a:.4g} to {b:.4g}: {n:,}"
        for a, b, n in zip(edges[:-1], edges[1:], counts.tolist(), strict=True)
    ]
    drawing = chart(
        axes, f"{name}: how many samples have which residual", "residual", "samples",
        [bars(axes, edges.tolist(), counts.astype(float), words)],
    )  # fmt: skip
    return figure(drawing, f"{name}: how often which residual.")


def _worst(subject: Subject, targets: np.ndarray, predicted: np.ndarray) -> Iterator[str]:
    """By the largest residual, of several targets in units of their standard deviations."""
    deviation = targets.std(axis=0)
    off = np.abs(predicted - targets) / np.where(deviation > 0, deviation, 1)
    which = off.argmax(axis=1)
    worst = np.argsort(-off.max(axis=1), kind="stable")[:MOST_ROWS].tolist()
    yield paragraph(
        "The samples with the largest residuals, in standard deviations of the target."
        f"{subject.left_out()}"
    )
    yield figures(
        ("sample", "target", "true", "predicted", "residual / deviation",
         *subject.feature_headings()),
        [(row, subject.names[which[row]], f"{targets[row, which[row]]:.6g}",
          f"{predicted[row, which[row]]:.6g}", f"{off[row, which[row]]:.3g}",
          *subject.first_features(row)) for row in worst],
    )  # fmt: skip


def _ends(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
