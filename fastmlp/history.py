"""What a fit is about to do, where it stands, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field


class NotFiniteWarning(RuntimeWarning):
    """A loss, or the parameters after the last step of a ``fit``, are NaN or infinite."""


@dataclass
class History:
    """Figures per epoch of a ``fit``.

    ``train_loss`` and ``train_error`` are means over the epoch's batches, each taken before its
    update; ``val_loss`` and ``val_error`` are taken after the epoch and stay empty without
    validation data. Losses are per sample, errors fractions of the samples, ``epoch_seconds`` the
    training alone. ``step_loss`` has the mean loss of every batch, also of those of an epoch that
    was interrupted, which is in no other list.
    """

    train_loss: list[float] = field(default_factory=list)
    train_error: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    val_error: list[float] = field(default_factory=list)
    epoch_seconds: list[float] = field(default_factory=list)
    step_loss: list[float] = field(default_factory=list, repr=False)


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
    """What a ``fit`` is about to do; ``steps`` are those of an epoch."""

    epochs: int
    steps: int
    batch_size: int
    samples: int
    validation: bool
    total_steps: int
