"""What a terminal shows of a training at work."""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .._speed import peak_together
from ..callbacks import ProgressBar
from ..mlp import MLP
from .chart import Means, curve

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import ProgressColumn

    from ..history import FitPlan, History, Progress

LEAST_COLUMNS, LEAST_ROWS = 100, 24
"""Of a terminal that has room for curves."""

_ROWS, _MARGIN, _MOST_COLUMNS = 10, 9, 140
_VALIDATION = "×"


def progress_bar(mlp: MLP, threads: int | None) -> ProgressBar:
    """The progress of a training on standard output: with curves where a terminal has room.

    threads : that the processor's peak is measured on, a tenth of a second, to say what share of it
        the training reaches; None for a training in several processes
    """
    from rich.console import Console

    console = Console()
    if (
        not sys.stdout.isatty() or console.is_dumb_terminal or console.options.ascii_only
        or console.width < LEAST_COLUMNS or console.height < LEAST_ROWS
    ):  # fmt: skip
        return ProgressBar()
    peak = None if threads is None else peak_together(mlp.compute_dtype, threads)
    return LiveCurves(None if peak is None else 1e9 * peak / flops_per_sample(mlp))


def flops_per_sample(mlp: MLP) -> int:
    """Of a training step's products: forward, dW, and dx but in the first layer; 2 a multiply-add.

    Nothing else is counted.
    """
    sizes = pairwise([mlp.input_size, *mlp.hiddens, mlp.output_size])
    products = [2 * inputs * outputs for inputs, outputs in sizes]
    return 3 * sum(products) - products[0]


class LiveCurves(ProgressBar):
    """One with the losses in a chart, which stays when the training ends.

    The chart has the mean loss of the batches in each of its columns, and a mark for the validation
    loss after each epoch.
    """

    def __init__(self, most_samples: float | None) -> None:
        """most_samples : that the processor's peak would allow a second, if that is known"""
        super().__init__()
        self._most_samples = most_samples
        self._columns_of_chart = min(self._console.width, _MOST_COLUMNS) - _MARGIN - 1
        # The loss summed over the epoch's samples so far, and how many these are.
        self._so_far = 0.0, 0

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        super().on_train_begin(mlp, plan)
        self._train = Means(2 * self._columns_of_chart)
        self._validation = Means(self._columns_of_chart)
        # Those of the epochs before, where an unfinished training goes on.
        history: History = mlp.history
        for step, loss in enumerate(history.step_loss):
            self._train.add((step + 1) / plan.total_steps, loss)
        for epoch, loss in enumerate(history.val_loss):
            self._validation.add((epoch + 1) * plan.steps / plan.total_steps, loss)
        self._last = history.train_loss[-1] if history.train_loss else np.nan
        self._done = 0.0

    def on_progress(self, progress: Progress) -> None:
        total, samples = progress.loss * progress.samples, progress.samples
        before, counted = self._so_far if samples > self._so_far[1] else (0.0, 0)
        self._so_far, self._last = (total, samples), progress.loss
        self._done = self._share(progress)
        if samples > counted:
            self._train.add(self._done, (total - before) / (samples - counted))
        super().on_progress(progress)

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        super().on_epoch_end(mlp, history)
        self._so_far = 0.0, 0
        if history.val_loss:
            self._validation.add(self._done, history.val_loss[-1])

    def on_train_end(self, mlp: Any, history: History) -> None:
        super().on_train_end(mlp, history)
        if np.isfinite(self._last):
            self._console.print(self._chart())

    def _columns(self) -> list[ProgressColumn | str]:
        return [*super()._columns(), "{task.fields[reached]}"]

    def _shown(self, progress: Progress) -> dict[str, Any]:
        # More than 100 % is no error: columns of zeros are left out of products, but counted.
        reached = ""
        if self._most_samples is not None:
            share = progress.samples_per_second / self._most_samples
            reached = f"{100 * share:.0f} % of peak"
        return super()._shown(progress) | {"reached": reached}

    def _picture(self) -> RenderableType:
        from rich.console import Group

        return Group(self._chart(), super()._picture())

    def _chart(self) -> RenderableType:
        """The losses on a logarithmic scale, with the epochs below them."""
        from rich.text import Text

        train, validation = self._train.values, self._validation.values
        heights, marks, labels = _scaled(train, validation)
        text = Text("\n   loss  ⣀⣀ training", no_wrap=True, overflow="crop")
        if np.isfinite(validation).any():
            text.append("  ").append(_VALIDATION, "yellow").append(" validation")
        places = np.rint((1 - marks) * (_ROWS - 1))
        for row, line in enumerate(curve(heights.tolist(), _ROWS)):
            text.append(f"\n{labels.get(row, ''):>{_MARGIN - 1}} │")
            at = 0
            for mark in np.flatnonzero(places == row).tolist():
                text.append(line[at:mark], "blue").append(_VALIDATION, "yellow")
                at = mark + 1
            text.append(line[at:], "blue")
        last = f"epoch {self._epochs}"
        text.append(f"\n{'└':>{_MARGIN + 1}}{'─' * self._columns_of_chart}")
        text.append(f"\n{'0':>{_MARGIN + 2}}{last:>{self._columns_of_chart - 1}}")
        return text


def _scaled(
    train: np.ndarray, validation: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Heights from 0 to 1 on a logarithmic scale, and the losses beside the rows that have one."""
    both = np.concatenate([train, validation])
    finite = both[np.isfinite(both)]
    lowest, highest = (np.log(finite.min()), np.log(finite.max())) if len(finite) else (0.0, 0.0)
    span = highest - lowest or 1.0
    rows = (0, (_ROWS - 1) // 2, _ROWS - 1)
    labels = {r: f"{np.exp(lowest + (1 - r / (_ROWS - 1)) * span):.3g}" for r in rows}
    heights, marks = ((np.log(values) - lowest) / span for values in (train, validation))
    return heights, marks, labels
