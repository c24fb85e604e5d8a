"""The figures of a fit, written as it goes."""

from __future__ import annotations

import csv
import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, TextIO

from .._extras import how_to_get
from .._files import naming
from ..history import History

if TYPE_CHECKING:
    from ..history import FitPlan


class CSVLogger:
    """Write the history's figures to a file, a line at the end of every epoch.

    path : the file; its folder must be there     append : go on after the lines of earlier fits

    The first line names the columns, those of ``History.to_csv``. Every line is in the file before
    the next epoch begins. Raises OSError, which names the file, from fit when it cannot be written,
    and ValueError when what is to be appended to has other columns.
    """

    writes = True

    def __init__(self, path: str | os.PathLike[str], append: bool = False) -> None:
        self.path, self.append = path, append
        self._file: TextIO | None = None
        self._history, self._rows = History(), 0

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._history, self._rows = mlp.history, 0
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
        self._rows += 1

    def state_dict(self) -> dict[str, Any]:
        return {} if self._file is None else {"rows": self._rows, "size": self._file.tell()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Have the lines of the epochs before, and not those of epochs that come again."""
        self._rows = state["rows"]
        if not self.append:
            for epoch in range(self._rows):
                self._write(self._history.row(epoch))
        elif self._file is not None and state["size"] < self._file.tell():
            with naming(self.path):
                self._file.truncate(state["size"])

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

    writes = True

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
        f"TensorBoard needs tensorboardX ({how_to_get('tensorboard')}) or PyTorch with the package "
        "tensorboard; neither is installed"
    )
