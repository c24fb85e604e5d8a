"""A bar and a line per epoch."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TextIO

from .._extras import require
from ..history import History

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from ..history import FitPlan, Progress


class ProgressBar:
    """A table with a line per epoch and, on a terminal, a bar below it for the epoch at work.

    Where the output is no terminal that can move its cursor only the lines are written, without
    control codes. To be used as a context where a fit may be interrupted: leaving it clears the bar
    and gives the cursor back.

    Raises ImportError when Rich is not installed.
    """

    writes = True

    def __init__(self, file: TextIO | None = None) -> None:
        """file : where to write, by default standard output."""
        require("rich", "cli")
        from rich.console import Console

        self._file = file or sys.stdout
        self._console = Console(file=self._file, highlight=False)
        # Not Rich's is_terminal, which FORCE_COLOR turns on in a pipe.
        self._live = self._file.isatty() and not self._console.is_dumb_terminal
        self._bar: RichProgress | None = None
        self._epochs, self._in_percent = 0, True

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
        self._epochs, self._in_percent = plan.epochs, not mlp.criterion.of_values
        self._write(_HEADER if self._in_percent else _HEADER.replace("error", "mae  "))

    def on_progress(self, progress: Progress) -> None:
        if not self._live:
            return
        shown: dict[str, Any] = {
            "completed": progress.step,
            "total": progress.steps,
            "epoch": f"{progress.epoch + 1}/{progress.epochs}",
            "loss": progress.loss,
            "error": _error_text(progress.error, self._in_percent),
            "speed": progress.samples_per_second,
        }
        if self._bar is None:
            self._bar = self._new_bar()
            self._bar.add_task("", **shown)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], refresh=True, **shown)

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        self._write(_line(history, self._epochs, self._in_percent))

    def on_train_end(self, mlp: Any, history: History) -> None:
        self.close()

    def _new_bar(self) -> RichProgress:
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        return RichProgress(
            TextColumn("{task.fields[epoch]:>7}"),
            BarColumn(bar_width=20),
            TextColumn("loss {task.fields[loss]:.4f}  error {task.fields[error]}"),
            TextColumn("{task.fields[speed]:,.0f} samples/s"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


_HEADER = "  epoch   train loss  error    val loss  error    seconds"


def _line(history: History, epochs: int, in_percent: bool) -> str:
    """The last epoch's figures under the header's words."""
    done = len(history.train_loss)
    text = f"{f'{done}/{epochs}':>7}   {history.train_loss[-1]:10.4f}"
    text += f" {_error_text(history.train_error[-1], in_percent):>8}"
    if history.val_loss:
        error = _error_text(history.val_error[-1], in_percent)
        text += f"  {history.val_loss[-1]:8.4f} {error:>8}"
    else:
        text += f"  {'-':>8} {'-':>6}  "
    return f"{text}  {history.epoch_seconds[-1]:7.3f}"


def _error_text(error: float, in_percent: bool) -> str:
    """A share in percent, or the mean absolute error of values."""
    return f"{100 * error:.2f} %" if in_percent else f"{error:.4g}"
