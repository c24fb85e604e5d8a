"""A bar and a line per epoch."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Self, TextIO

from .._extras import require
from ..history import History

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn

    from ..history import FitPlan, Progress


class LinesAndBar(ABC):
    """Lines and, on a terminal, a bar below them.

    Where the output is no terminal that can move its cursor only the lines are written, without
    control codes. To be used as a context where an interrupt may come: leaving it clears the bar
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

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Clear the bar, if one is shown."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @abstractmethod
    def _columns(self) -> list[ProgressColumn | str]:
        """What Rich shows of the bar."""

    def _show(self, **shown: Any) -> None:
        """Bring the bar up to date."""
        if not self._live:
            return
        if self._bar is None:
            from rich.progress import Progress as RichProgress

            self._bar = RichProgress(
                *self._columns(), console=self._console, auto_refresh=False, transient=True
            )
            self._bar.add_task("", **shown)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], refresh=True, **shown)

    def _write(self, line: str) -> None:
        self._console.print(line, soft_wrap=True, markup=False)


class ProgressBar(LinesAndBar):
    """A table with a line per epoch and, on a terminal, a bar below it for the epoch at work.

    Where the output is no terminal that can move its cursor only the lines are written, without
    control codes. To be used as a context where a fit may be interrupted: leaving it clears the bar
    and gives the cursor back.

    Raises ImportError when Rich is not installed.
    """

    def __init__(self, file: TextIO | None = None) -> None:
        """file : where to write, by default standard output."""
        super().__init__(file)
        self._epochs, self._in_percent = 0, True

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._epochs, self._in_percent = plan.epochs, not mlp.criterion.of_values
        self._write(heading("epoch", self._in_percent))

    def on_progress(self, progress: Progress) -> None:
        self._show(
            completed=progress.step,
            total=progress.steps,
            epoch=f"{progress.epoch + 1}/{progress.epochs}",
            loss=progress.loss,
            error=_error_text(progress.error, self._in_percent),
            speed=progress.samples_per_second,
        )

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        epoch = f"{len(history.train_loss)}/{self._epochs}"
        self._write(figures(epoch, history, self._in_percent, history.epoch_seconds[-1]))

    def on_train_end(self, mlp: Any, history: History) -> None:
        self.close()

    def _columns(self) -> list[ProgressColumn | str]:
        from rich.progress import BarColumn

        return [
            "{task.fields[epoch]:>7}",
            BarColumn(bar_width=20),
            "loss {task.fields[loss]:.4f}  error {task.fields[error]}",
            "{task.fields[speed]:,.0f} samples/s",
        ]


def heading(what: str, in_percent: bool) -> str:
    """The words above lines of ``figures``."""
    line = f"{what:>7}   train loss  error    val loss  error    seconds"
    return line if in_percent else line.replace("error", "mae  ")


def figures(what: str, history: History, in_percent: bool, seconds: float) -> str:
    """Those of the last epoch in a line; ``what`` it is of comes first."""
    text = f"{what:>7}   {history.train_loss[-1]:10.4f}"
    text += f" {_error_text(history.train_error[-1], in_percent):>8}"
    if history.val_loss:
        error = _error_text(history.val_error[-1], in_percent)
        text += f"  {history.val_loss[-1]:8.4f} {error:>8}"
    else:
        text += f"  {'-':>8} {'-':>6}  "
    return f"{text}  {seconds:7.3f}"


def _error_text(error: float, in_percent: bool) -> str:
    """A share in percent, or the mean absolute error of values."""
    return f"{100 * error:.2f} %" if in_percent else f"{error:.4g}"
