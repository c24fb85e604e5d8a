"""What can watch a fit: a progress bar, early stopping, checkpoints.

A callback is any object with some of the methods on_train_begin(mlp, plan), on_progress(progress),
called a few times per second from inside an epoch, on_epoch_end(mlp, history), which may return
True to end the training, and on_train_end(mlp, history). The arguments' classes are in history.py.
"""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, TextIO

from ._extras import require
from .validation import check_count

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from .history import FitPlan, History, Progress

MONITORS = ("train_loss", "train_error", "val_loss", "val_error")


class ProgressBar:
    """A table with a line per epoch and, on a terminal, a bar below it for the epoch at work.

    Where the output is no terminal that can move its cursor only the lines are written, without
    control codes. To be used as a context where a fit may be interrupted: leaving it clears the bar
    and gives the cursor back.

    Raises ImportError when Rich is not installed.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        """file : where to write, by default standard output."""
        require("rich", "cli")
        from rich.console import Console

        self._file = file or sys.stdout
        self._console = Console(file=self._file, highlight=False)
        # Not Rich's is_terminal, which FORCE_COLOR turns on in a pipe.
        self._live = self._file.isatty() and not self._console.is_dumb_terminal
        self._bar: RichProgress | None = None
        self._epochs = 0

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Clear the bar, if one is shown."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._epochs = plan.epochs
        self._write(_HEADER)

    def on_progress(self, progress: Progress) -> None:
        if not self._live:
            return
        shown: dict[str, Any] = {
            "completed": progress.step,
            "total": progress.steps,
            "epoch": f"{progress.epoch + 1}/{progress.epochs}",
            "loss": progress.loss,
            "error": 100 * progress.error,
            "speed": progress.samples_per_second,
        }
        if self._bar is None:
            self._bar = self._new_bar()
            self._bar.add_task("", **shown)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], refresh=True, **shown)

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        self._write(_line(history, self._epochs))

    def on_train_end(self, mlp: Any, history: History) -> None:
        self.close()

    def _new_bar(self) -> RichProgress:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        return RichProgress(
            TextColumn("{task.fields[epoch]:>7}"),
            BarColumn(bar_width=20),
            TextColumn("loss {task.fields[loss]:.4f}  error {task.fields[error]:.2f} %"),
            TextColumn("{task.fields[speed]:,.0f} samples/s"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


_HEADER = "  epoch   train loss  error    val loss  error    seconds"


def _line(history: History, epochs: int) -> str:
    """The last epoch's figures under the header's words."""
    done = len(history.train_loss)
    text = f"{f'{done}/{epochs}':>7}   {history.train_loss[-1]:10.4f}"
    text += f" {100 * history.train_error[-1]:6.2f} %"
    if history.val_loss:
        text += f"  {history.val_loss[-1]:8.4f} {100 * history.val_error[-1]:6.2f} %"
    else:
        text += f"  {'-':>8} {'-':>6}  "
    return f"{text}  {history.epoch_seconds[-1]:7.3f}"


class _Lowest:
    """The lowest value so far of one list of the history; NaN is never the lowest."""

    def __init__(self, monitor: str) -> None:
        if monitor not in MONITORS:
            raise ValueError(f"monitor must be one of {', '.join(MONITORS)}, got {monitor!r}")
        self.monitor = monitor
        self.value = math.inf

    def begin(self, plan: FitPlan) -> None:
        if self.monitor.startswith("val") and not plan.validation:
            raise ValueError(f"monitor {self.monitor!r} needs validation_data in fit, got none")
        self.value = math.inf

    def improved(self, history: History) -> bool:
        last = getattr(history, self.monitor)[-1]
        if not last < self.value:
            return False
        self.value = last
        return True


class EarlyStopping:
    """End the training when a figure has not gone down for patience epochs in a row.

    patience : at least 1     monitor : the list of the history to watch
    The network is left as of the last epoch; Checkpoint with the same monitor keeps the best one.
    Raises ValueError for other arguments, and from fit when that has no validation data to watch.
    """

    def __init__(self, patience: int, monitor: str = "val_loss") -> None:
        self.patience = check_count("patience", patience)
        self._lowest = _Lowest(monitor)
        self._waited = 0

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._lowest.begin(plan)
        self._waited = 0

    def on_epoch_end(self, mlp: Any, history: History) -> bool:
        self._waited = 0 if self._lowest.improved(history) else self._waited + 1
        return self._waited >= self.patience


class Checkpoint:
    """Save the network after every epoch; with a monitor, only when that figure is its lowest.

    path : the file, replaced whole each time     monitor : a list of the history, or None
    Raises ValueError for another monitor, and from fit when that has no validation data to watch.
    """

    def __init__(self, path: str | os.PathLike[str], monitor: str | None = None) -> None:
        self.path = path
        self._lowest = None if monitor is None else _Lowest(monitor)

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        if self._lowest is not None:
            self._lowest.begin(plan)

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        if self._lowest is None or self._lowest.improved(history):
            mlp.save(self.path)
