"""What can watch a fit: a progress bar, early stopping, checkpoints, logs.

A callback is any object with some of the methods on_train_begin(mlp, plan), on_progress(progress),
called a few times per second from inside an epoch, on_epoch_end(mlp, history), which may return
True to end the training, and on_train_end(mlp, history). The arguments' classes are in history.py.
"""

from __future__ import annotations

import csv
import math
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ._extras import require
from ._files import naming
from .history import History, check_monitor
from .validation import check_count, check_number

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from .history import FitPlan, Progress


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


class _Lowest:
    """The lowest value so far of one list of the history; NaN is never the lowest."""

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        check_monitor(monitor)
        self.monitor = monitor
        self.min_delta = check_number("min_delta", min_delta, 0)
        self.value = math.inf

    def begin(self, plan: FitPlan) -> None:
        check_monitor(self.monitor, plan)
        self.value = math.inf

    def improved(self, history: History) -> bool:
        last = getattr(history, self.monitor)[-1]
        if not last < self.value - self.min_delta:
            return False
        self.value = last
        return True


# Of a network, what its training changes; assigning to them copies.
_STATE = ("parameters", "velocities", "squares", "averages", "statistics")


class EarlyStopping:
    """End the training when a figure has not gone down for patience epochs in a row.

    patience : at least 1     monitor : the list of the history to watch
    min_delta : by how much it must go down to count
    restore_best : leave the network as of the epoch with the lowest figure: parameters, momenta and
        running statistics. So it is left however the training ends, also by its last epoch, by an
        error or by Ctrl-C; where every figure was NaN, or no epoch came to its end, as of the last
        step. False leaves it as of the last step always.

    Raises ValueError for other arguments, and from fit when that has no validation data to watch.
    """

    def __init__(
        self,
        patience: int,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        self.patience = check_count("patience", patience)
        self.restore_best = restore_best
        self._lowest = _Lowest(monitor, min_delta)
        self._waited = 0
        self._best: dict[str, np.ndarray] | None = None

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._lowest.begin(plan)
        self._waited = 0

    def on_epoch_end(self, mlp: Any, history: History) -> bool:
        if self._lowest.improved(history):
            self._waited = 0
            if self.restore_best:
                self._best = {name: getattr(mlp, name).copy() for name in _STATE}
        else:
            self._waited += 1
        return self._waited >= self.patience

    def on_train_end(self, mlp: Any, history: History) -> None:
        # Kept for no later fit, whose begin may fail before this callback hears of it.
        best, self._best = self._best, None
        for name, values in (best or {}).items():
            setattr(mlp, name, values)


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


class CSVLogger:
    """Write the history's figures to a file, a line at the end of every epoch.

    path : the file; its folder must be there     append : go on after the lines of earlier fits

    The first line names the columns, those of ``History.to_csv``. Every line is in the file before
    the next epoch begins. Raises OSError, which names the file, from fit when it cannot be written,
    and ValueError when what is to be appended to has other columns.
    """

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self.append = path, append
        self._file: TextIO | None = None

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        with naming(self.path):
            empty = not (self.append and os.path.exists(self.path) and os.path.getsize(self.path))
            if not empty:
                self._check_columns()
            self._file = open(  # noqa: SIM115
                self.path, "a" if self.append else "w", newline="", encoding="utf-8"
            )
        if empty:
            self._write(History.columns())

    def _check_columns(self) -> None:
        with open(self.path, newline="", encoding="utf-8") as file:
            found = next(csv.reader(file))
        if found != History.columns():
            raise ValueError(
                f"{os.fspath(self.path)} must begin with the columns "
                f"{','.join(History.columns())} to be appended to, got {','.join(found):.200}"
            )

    def _write(self, row: list[Any]) -> None:
        if self._file is not None:
            with naming(self.path):
                csv.writer(self._file).writerow(row)
                self._file.flush()

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        self._write(history.row(len(history.train_loss) - 1))

    def on_train_end(self, mlp: Any, history: History) -> None:
        file, self._file = self._file, None
        if file is not None:
            with naming(self.path):
                file.close()


class TensorBoard:
    """Write the history's figures for TensorBoard, a scalar of each at the end of every epoch.

    folder : where the file of events goes; one folder for each fit that is to have a line

    The scalars are called as the lists of the history, epochs are counted from 1. Written by
    tensorboardX, in a thread of its own, or, if that is not there, by PyTorch, which needs the
    package tensorboard. Raises ImportError when neither is installed.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = folder
        self._new_writer = _summary_writer()
        self._writer: Any = None

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._writer = self._new_writer(os.fspath(self.folder))

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        epochs = len(history.train_loss)
        for name, values in history.to_dict().items():
            # Lists of one value per epoch; step_loss has more.
            if name in History.columns():
                self._writer.add_scalar(name, values[-1], epochs)
        self._writer.flush()

    def on_train_end(self, mlp: Any, history: History) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()


def _summary_writer() -> Any:
    """The class SummaryWriter of the first package that has one."""
    for module in ("tensorboardX", "torch.utils.tensorboard"):
        try:
            return import_module(module).SummaryWriter
        except ImportError:
            continue
    raise ImportError(
        'TensorBoard needs tensorboardX, pip install "fastmlp[tensorboard]", or PyTorch with the '
        "package tensorboard; neither is installed"
    )
