"""A bar and a line per epoch."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Self, TextIO

from .._cold import is_cold_for
from .._extras import require
from ..history import History

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.progress import ProgressColumn

    from ..history import FitPlan, Progress

# Columns of a terminal that has room for a line with all figures; for the speed beside the bar, and
# for the loss and the error too. The bar itself is as short as it must be.
_WHOLE_LINE, _SPEED, _LOSS = 58, 60, 80


class LinesAndBar(ABC):
    """Lines and, on a terminal, a bar below them.

    Where the output is no terminal that can move its cursor only the lines are written, without
    control codes. To be used as a context where an interrupt may come: leaving it clears the bar
    and gives the cursor back.

    Raises ImportError when Rich is not installed.
    """

    writes = True
    # How long the next drawing need not come, in times of what the last one took.
    pause: ClassVar[float] = 0

    def __init__(self, file: TextIO | None = None) -> None:
        """file : where to write, by default standard output."""
        require("rich", "cli")
        from rich.console import Console

        self._file = file or sys.stdout
        self._console = Console(file=self._file, highlight=False)
        # Not Rich's is_terminal, which FORCE_COLOR turns on in a pipe.
        self._live = self._file.isatty() and not self._console.is_dumb_terminal
        if self._live:
            # They take longer to import than all drawing does: before anything is timed.
            for part in ("rich.live", "rich.progress"):
                require(part, "cli")
        self._narrow = self._file.isatty() and self._console.width < _WHOLE_LINE
        # Rich's, while they are shown.
        self._bar: Any = None
        self._display: Any = None
        # Lines that wait for the next drawing, and when that may come.
        self._lines: list[str] = []
        self._due = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Write what waits, and clear the bar, if one is shown."""
        try:
            self._write_lines()
        finally:
            display, self._display, self._due = self._display, None, 0.0
            if display is not None:
                display.stop()

    @abstractmethod
    def _columns(self) -> list[ProgressColumn | str]:
        """What Rich shows of the bar."""

    def _picture(self) -> RenderableType:
        """What is shown below the lines."""
        return self._bar

    def _show(self, **shown: Any) -> None:
        """Bring the bar up to date, with the lines that wait."""
        if not self._live:
            return
        if self._display is None:
            self._begin(shown)
        started = time.perf_counter()
        self._bar.update(self._bar.task_ids[0], **shown)
        self._write_lines()
        self._display.refresh()
        ended = time.perf_counter()
        self._due = ended + self.pause * (ended - started)

    def _begin(self, shown: dict[str, Any]) -> None:
        from rich.live import Live
        from rich.progress import Progress

        self._bar = Progress(*self._columns(), console=self._console, auto_refresh=False)
        self._bar.add_task("", **shown)
        self._display = Live(
            console=self._console, auto_refresh=False, transient=True, get_renderable=self._picture
        )
        self._display.start()

    def _write(self, line: str) -> None:
        """Write a line; while a bar is shown, with the next drawing of it."""
        self._lines.append(line)
        if self._display is None:
            self._write_lines()

    def _write_lines(self) -> None:
        lines, self._lines = self._lines, []
        if lines:
            self._console.print("\n".join(lines), soft_wrap=True, markup=False)

    def _heading(self, what: str, in_percent: bool) -> str:
        """The words above lines of ``_figures``."""
        if self._narrow:
            line = f"{what:>7}    loss   error     val   error"
        else:
            line = f"{what:>7}   train loss  error    val loss  error    seconds"
        return line if in_percent else line.replace("error", "mae  ")

    def _figures(self, what: str, history: History, in_percent: bool, seconds: float) -> str:
        """Those of the last epoch in a line; ``what`` it is of comes first."""
        loss, error = history.train_loss[-1], _error_text(history.train_error[-1], in_percent)
        val_loss, val_error = "-", "-"
        if history.val_loss:
            val_loss = f"{history.val_loss[-1]:.4f}"
            val_error = _error_text(history.val_error[-1], in_percent)
        if self._narrow:
            return f"{what:>7} {loss:7.4f} {error:>7} {val_loss:>7} {val_error:>7}"
        text = f"{what:>7}   {loss:10.4f} {error:>8}  {val_loss:>8} {val_error:>8}"
        return f"{text}  {seconds:7.3f}"


class ProgressBar(LinesAndBar):
    """A table with a line per epoch and, on a terminal, a bar below it for the epoch at work.

    The bar says how fast the training is and how long it will take, and more where there is room.
    Drawing it takes less than a hundredth of the time. Where the output is no terminal that can
    move its cursor only the lines are written, without control codes; one more comes first where
    machine code is to be made. To be used as a context where a fit may be interrupted: leaving it
    clears the bar and gives the cursor back.

    Raises ImportError when Rich is not installed.
    """

    pause = 300

    def __init__(self, file: TextIO | None = None) -> None:
        """file : where to write, by default standard output."""
        super().__init__(file)
        self._epochs, self._in_percent = 0, True
        self._steps = 0
        # The share that was done, and when, as it was first heard of.
        self._first: tuple[float, float] | None = None

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._epochs, self._in_percent = plan.epochs, not mlp.criterion.of_values
        self._steps, self._first = plan.total_steps, None
        # On a terminal the kernels announce it themselves.
        if not sys.stderr.isatty() and is_cold_for(mlp):
            self._write(COMPILING)
        self._write(self._heading("epoch", self._in_percent))

    def on_progress(self, progress: Progress) -> None:
        if self._live and time.perf_counter() >= self._due:
            self._show(**self._shown(progress))

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        epoch = f"{len(history.train_loss)}/{self._epochs}"
        self._write(self._figures(epoch, history, self._in_percent, history.epoch_seconds[-1]))

    def on_train_end(self, mlp: Any, history: History) -> None:
        self.close()

    def _shown(self, progress: Progress) -> dict[str, Any]:
        """What the columns of the bar are made of."""
        return {
            "completed": progress.step,
            "total": progress.steps,
            "epoch": f"{progress.epoch + 1}/{progress.epochs}",
            "loss": progress.loss,
            "error": _error_text(progress.error, self._in_percent),
            "speed": progress.samples_per_second,
            "left": self._left(self._share(progress)),
        }

    def _share(self, progress: Progress) -> float:
        """Of all steps, how many are done."""
        return min(1.0, (progress.epoch * progress.steps + progress.step) / max(1, self._steps))

    def _left(self, share: float) -> str:
        """How long the rest will take, as long as it takes per step since the first call."""
        now = time.perf_counter()
        self._first = self._first or (share, now)
        before, began = self._first
        if share <= before:
            return ""
        return f"{_clock((now - began) / (share - before) * (1 - share))} left"

    def _columns(self) -> list[ProgressColumn | str]:
        from rich.progress import BarColumn

        width = self._console.width
        return [
            "{task.fields[epoch]:>7}",
            BarColumn(bar_width=20),
            *["loss {task.fields[loss]:.4f}  error {task.fields[error]}"] * (width >= _LOSS),
            *["{task.fields[speed]:,.0f} samples/s"] * (width >= _SPEED),
            "{task.fields[left]}",
        ]


COMPILING = "compiling kernels for networks of this kind; they are kept ..."


def _error_text(error: float, in_percent: bool) -> str:
    """A share in percent, or the mean absolute error of values."""
    return f"{100 * error:.2f} %" if in_percent else f"{error:.4g}"


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds, of which the first are left out where there are none."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
