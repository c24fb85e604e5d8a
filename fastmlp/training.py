"""Training a network: epochs through the compiled engine, or HW1P1's loop step by step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .engine import Trainer
from .kernels._rates import unit_for
from .kernels.network import Data
from .kernels.packing import strided
from .validation import FLOATS, check_count, check_labels, check_samples, label_rows

# How long one call of the compiled epoch may take: progress and Ctrl-C come between calls.
SECONDS_PER_CALL = 0.1

Schedule = Callable[[float], float] | Sequence[float] | np.ndarray | None


@dataclass
class History:
    """Figures per epoch of a ``fit``.

    ``train_loss`` and ``train_error`` are means over the epoch's batches, each taken before its
    update; ``val_loss`` and ``val_error`` are taken after the epoch and stay empty without
    validation data. Losses are per sample, errors fractions of the samples, ``epoch_seconds`` the
    training alone. ``step_loss`` has the mean loss of every batch.
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
    """What a ``fit`` is about to do."""

    epochs: int
    steps: int
    batch_size: int
    samples: int
    validation: bool
    total_steps: int


class _Training:
    """The state of one ``fit``."""

    def __init__(
        self, mlp: Any, x: np.ndarray, labels: np.ndarray, plan: FitPlan, schedule: Schedule = None
    ) -> None:
        self.mlp, self.x, self.plan = mlp, x, plan
        self.rates = None if schedule is None else _rates(schedule, plan, mlp.dtype)
        self.rows = _readable_rows(labels, mlp.dtype) if labels.ndim == 2 else None
        # A copy: a read-only or strided array would be another type to the compiler.
        self.classes = np.array(labels if self.rows is None else [], np.int64)
        self.steps_out = np.zeros(plan.steps), np.zeros(plan.steps)
        mlp.settle_compute_dtype(plan.batch_size)
        unit = unit_for(mlp.compute_dtype)
        self.trainer = Trainer(mlp.layout, mlp.flat, plan.batch_size, unit)
        self.steps_per_call = 1

    def prepare(self, order: np.ndarray) -> None:
        """Compile what an epoch needs, so that the first one's seconds are of training."""
        self._pack()
        self.trainer.train(self._data(order), np.zeros(1, self.mlp.dtype), 0, 0, self.steps_out)
        self.trainer.unpack()

    def _pack(self) -> None:
        mlp = self.mlp
        self.trainer.set_update(mlp.momentum, mlp.weight_decay, mlp.batchnorm_reduction == "mean")
        self.trainer.pack()

    def _data(self, order: np.ndarray) -> Data:
        x = strided(self.x)
        return Data(x, x if self.rows is None else strided(self.rows), self.classes, order)

    def epoch(self, epoch: int, order: np.ndarray) -> Generator[Progress, None, None]:
        """Train on the rows in ``order``, pausing a few times a second to say where it stands.

        The network's own buffers are read at the start, so that callbacks may change them between
        epochs, and brought up to date at the end, also on an interrupt, which leaves the network as
        of the last finished step.
        """
        self._pack()
        try:
            yield from self._steps(epoch, self._data(order))
        finally:
            try:
                self.trainer.unpack()
            except KeyboardInterrupt:
                # Half unpacked, the network would be of no step at all.
                self.trainer.unpack()
                raise

    def _steps(self, epoch: int, data: Data) -> Generator[Progress, None, None]:
        started, step = time.perf_counter(), 0
        before_epoch = epoch * self.plan.steps
        end = min(self.plan.steps, self.plan.total_steps - before_epoch)
        if self.rates is None:
            rates = np.full(self.plan.steps, self.mlp.lr, self.mlp.dtype)
        else:
            rates = self.rates[before_epoch : before_epoch + end]
        while step < end:
            last = min(step + self.steps_per_call, end)
            before = time.perf_counter()
            self.trainer.train(data, rates, step, last, self.steps_out)
            seconds = time.perf_counter() - before
            rate = (last - step) / max(seconds, 1e-6)
            # At most twice as many as before: the first call may have been slow to start.
            self.steps_per_call = max(1, min(int(rate * SECONDS_PER_CALL), 2 * self.steps_per_call))
            step = last
            yield self._progress(epoch, step, time.perf_counter() - started)

    def _progress(self, epoch: int, step: int, seconds: float) -> Progress:
        samples = min(step * self.plan.batch_size, self.plan.samples)
        losses, errors = (out[:step].sum() / samples for out in self.steps_out)
        return Progress(
            epoch, self.plan.epochs, step, self.plan.steps, samples,
            samples / max(seconds, 1e-9), float(losses), float(errors),
        )  # fmt: skip

    def batch_losses(self, steps: int) -> np.ndarray:
        """Mean loss of each of the first ``steps`` batches of the last epoch."""
        size = self.plan.batch_size
        counts = np.full(self.plan.steps, size)
        counts[-1] = self.plan.samples - size * (self.plan.steps - 1)
        return (self.steps_out[0] / counts)[:steps]


def _readable_rows(labels: np.ndarray, dtype: Any) -> np.ndarray:
    """Rows of labels as they are where the engine can read them, otherwise a copy."""
    if labels.dtype in FLOATS and labels.dtype.isnative:
        return labels
    return label_rows(labels, labels.shape[1], dtype)


def _rates(schedule: Any, plan: FitPlan, dtype: Any) -> np.ndarray:
    """One learning rate per step of the whole training."""
    total = plan.total_steps
    if callable(schedule):
        rates = np.array([schedule(step / total) for step in range(total)], dtype)
    else:
        rates = np.array(schedule, dtype)
    if rates.shape != (total,):
        raise ValueError(f"lr_schedule must have one rate per step, ({total},), got {rates.shape}")
    if not np.isfinite(rates).all():
        raise ValueError("lr_schedule must be finite, got NaN or infinity")
    return rates


def _tell(callbacks: Sequence[Any], event: str, *arguments: Any) -> bool:
    """Call ``event`` on the callbacks that have it; True if one of them returned True."""
    answers = [
        getattr(callback, event)(*arguments) for callback in callbacks if hasattr(callback, event)
    ]
    return any(answer is True for answer in answers)


def fit(
    mlp: Any,
    x: Any,
    labels: Any,
    *,
    epochs: int = 1,
    batch_size: int = 128,
    max_steps: int | None = None,
    shuffle: bool = True,
    seed: Any = None,
    validation_data: tuple[Any, Any] | None = None,
    callbacks: Sequence[Any] = (),
    progress: bool = False,
    lr_schedule: Schedule = None,
) -> History:
    """Train ``mlp`` in compiled epochs; ``MLP.fit`` documents the arguments."""
    mlp.check_compiled()
    epochs = check_count("epochs", epochs, least=0)
    batch_size = check_count("batch_size", batch_size)
    x = check_samples("x", x, mlp.input_size)
    labels = check_labels("labels", labels, len(x), mlp.output_size)
    if validation_data is not None:
        validation_data = _check_pair("validation_data", validation_data, mlp)
    if max_steps is not None:
        max_steps = check_count("max_steps", max_steps, least=0)
    plan = _plan(epochs, batch_size, len(x), validation_data is not None, max_steps)
    if progress:
        from .callbacks import ProgressBar

        callbacks = (*callbacks, ProgressBar())
    generator = np.random.default_rng(seed)
    order = np.arange(len(x), dtype=np.int64)
    training = _Training(mlp, x, labels, plan, lr_schedule)
    history = History()
    training.prepare(order)
    _tell(callbacks, "on_train_begin", mlp, plan)
    try:
        for epoch in range(plan.epochs):
            if shuffle:
                generator.shuffle(order)
            _run_epoch(training, epoch, order, history, callbacks)
            if validation_data is not None:
                _validate(mlp, validation_data, history)
            if _tell(callbacks, "on_epoch_end", mlp, history):
                break
    finally:
        _tell(callbacks, "on_train_end", mlp, history)
    return history


def _validate(mlp: Any, data: tuple[np.ndarray, np.ndarray], history: History) -> None:
    loss, error = mlp.evaluate(*data)
    history.val_loss.append(loss)
    history.val_error.append(error)


def _check_pair(name: str, pair: Any, mlp: Any) -> tuple[np.ndarray, np.ndarray]:
    """(x, labels) that fit the network."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{name} must be a pair (x, labels), got {pair!r:.60}")
    x = check_samples(f"{name}[0]", pair[0], mlp.input_size)
    return x, check_labels(f"{name}[1]", pair[1], len(x), mlp.output_size)


def _plan(
    epochs: int, batch_size: int, samples: int, validation: bool, max_steps: int | None = None
) -> FitPlan:
    """A batch_size above the number of samples means one batch of all of them."""
    batch_size = min(batch_size, samples)
    steps = -(-samples // batch_size)
    total = epochs * steps if max_steps is None else min(max_steps, epochs * steps)
    return FitPlan(-(-total // steps), steps, batch_size, samples, validation, total)


def _run_epoch(
    training: _Training, epoch: int, order: np.ndarray, history: History,
    callbacks: Sequence[Any] = (),
) -> None:  # fmt: skip
    """Train for one epoch and write down its figures."""
    started = time.perf_counter()
    with contextlib.closing(training.epoch(epoch, order)) as steps:
        for state in steps:
            _tell(callbacks, "on_progress", state)
    history.epoch_seconds.append(time.perf_counter() - started)
    history.train_loss.append(state.loss)
    history.train_error.append(state.error)
    history.step_loss.extend(training.batch_losses(state.step).tolist())


def get_training_stats(
    mlp: Any, dset: Any, nepochs: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train as HW1P1 asks, section 3.6, and return its four curves.

    dset : ((train_x, train_y), (val_x, val_y), (test_x, test_y)) with one-hot y; the test set is
        not read, no array is changed. Every epoch shuffles the indices with ``np.random.shuffle``.
    Returns (training_losses, training_errors, validation_losses, validation_errors), each
    (nepochs,) float64: average loss per sample and fraction wrong. Training figures accumulate
    over the batches, validation figures are taken after the epoch in eval mode.
    """
    mlp.check_compiled()
    nepochs = check_count("nepochs", nepochs, least=0)
    batch_size = check_count("batch_size", batch_size)
    train_x, train_y = _check_pair("dset[0]", dset[0], mlp)
    validation = _check_pair("dset[1]", dset[1], mlp)
    training = _Training(mlp, train_x, train_y, _plan(nepochs, batch_size, len(train_x), True))
    history = History()
    order = np.arange(len(train_x), dtype=np.int64)
    training.prepare(order)
    for epoch in range(nepochs):
        np.random.shuffle(order)
        _run_epoch(training, epoch, order, history)
        _validate(mlp, validation, history)
    return (
        np.array(history.train_loss, float),
        np.array(history.train_error, float),
        np.array(history.val_loss, float),
        np.array(history.val_error, float),
    )
