"""What a fit is about to do, where it stands, and what came of it."""

from __future__ import annotations

import csv
import os
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

from . import plotting
from ._files import naming
from .validation import check_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Path = str | os.PathLike[str]

MONITORS = ("train_loss", "train_error", "val_loss", "val_error")

# Lists with a value per step; of the others each has one per epoch.
_OF_STEPS = ("step_loss", "step_learning_rate")


class NotFiniteWarning(RuntimeWarning):
    """A loss, or the parameters after the last step of a ``fit``, are NaN or infinite."""


@dataclass
class History:
    """Figures per epoch of a ``fit``.

    ``train_loss`` and ``train_error`` are means over the epoch's batches, each taken before its
    update; ``val_loss`` and ``val_error`` are taken after the epoch and stay empty without
    validation data. Losses are per sample, errors fractions of the samples, ``epoch_seconds`` the
    training alone. ``learning_rate`` is that of the epoch's last step. ``step_loss`` and
    ``step_learning_rate`` have the mean loss and the rate of every batch, also of those of an epoch
    that was interrupted, which is in no other list.
    Errors of a regression are mean absolute errors, and ``val_r2`` has its R²; ``error_name`` says
    which they are.
    """

    train_loss: list[float] = field(default_factory=list)
    train_error: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_error: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list, repr=False)
    learning_rate: list[float] = field(default_factory=list)
    val_r2: list[float] = field(default_factory=list)
    step_learning_rate: list[float] = field(default_factory=list, repr=False)
    error_name: str = field(default="error", repr=False)

    @classmethod
    def columns(cls) -> list[str]:
        """The first line of ``to_csv``: epoch, then the lists that have a value per epoch."""
        return ["epoch", *(f.name for f in _lists_of(cls) if f.name not in _OF_STEPS)]

    def row(self, epoch: int) -> list[Any]:
        """A line of ``to_csv``: its epoch, counted from 0 but written from 1, and its figures.

        Empty where a list has none: without validation, or where an interrupt came before.
        """
        lists = [getattr(self, name) for name in self.columns()[1:]]
        return [epoch + 1, *(values[epoch] if epoch < len(values) else "" for values in lists)]

    def copy(self) -> History:
        """One with lists of its own."""
        lists: dict[str, Any] = {f.name: list(getattr(self, f.name)) for f in _lists_of(type(self))}
        return replace(self, **lists)

    def to_dict(self) -> dict[str, list[float]]:
        """Copies of all lists that have a value, by name."""
        lists = {f.name: list(getattr(self, f.name)) for f in _lists_of(type(self))}
        return {name: values for name, values in lists.items() if values}

    def to_csv(self, path: Path) -> None:
        """Write a line of names and a line per epoch. Raises OSError, which names the file."""
        with naming(path), open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(self.columns())
            writer.writerows(map(self.row, range(len(self.train_loss))))

    def plot(self, path: Path | None = None) -> Figure:
        """Matplotlib's figure of loss and error per epoch, also written to a file if one is named.

        The suffix of path chooses the format (.png, .pdf, .svg). Raises as ``plotting.curves``.
        """
        return plotting.curves(self, path)


def _lists_of(cls: type[History]) -> list[Field[Any]]:
    return [f for f in fields(cls) if f.name != "error_name"]


@dataclass(frozen=True)
class Progress:
    """Where a ``fit`` stands; loss and error are means over the epoch's samples so far."""

    epoch: int
    epochs: int
    step: int
    steps: int
    samples: int
    samples_per_second: float
    loss: float
    error: float


@dataclass(frozen=True)
class FitPlan:
    """What a ``fit`` is about to do; ``steps`` and ``samples`` are those of an epoch."""

    epochs: int
    steps: int
    batch_size: int
    samples: int
    validation: bool
    total_steps: int


def check_monitor(monitor: str, plan: FitPlan | None = None) -> None:
    """The name of a list to watch; with a plan, one that the fit fills. Raises ValueError."""
    check_choice("monitor", monitor, MONITORS)
    if plan is not None and monitor.startswith("val") and not plan.validation:
        raise ValueError(f"monitor {monitor!r} needs validation_data in fit, got none")
