"""Training a network: epochs through the compiled engine, or HW1P1's loop step by step."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from .callbacks import ProgressBar
from .engine import Trainer, UpdatePlan
from .history import FitPlan, History, NotFiniteWarning, Progress
from .kernels._rates import unit_for
from .kernels.network import Data
from .kernels.packing import strided
from .schedules import ScheduleLike, as_schedule
from .validation import (
    FLOATS,
    check_all_finite,
    check_callbacks,
    check_count,
    check_labels,
    check_samples,
    label_rows,
)

# How long one call of the compiled epoch may take: progress and Ctrl-C come between calls.
SECONDS_PER_CALL = 0.1


class FitOptions(NamedTuple):
    """The arguments of ``MLP.fit``, which documents them, but for the data."""

    epochs: int
    batch_size: int
    max_steps: int | None
    shuffle: bool
    seed: Any
    validation_data: tuple[Any, Any] | None
    callbacks: Sequence[Any]
    progress: bool
    lr_schedule: ScheduleLike
    check_finite: bool
    accumulate: int


class _Session:
    """A fit under way.

    While it trains, weights and velocities are in the engine's panels. While it rests, inside a
    callback, whoever looks at the network's buffers finds them up to date, and may change them:
    the panels are made anew from them before the fit goes on.
    """

    def __init__(
        self, mlp: Any, x: np.ndarray, labels: np.ndarray, plan: FitPlan,
        schedule: ScheduleLike = None, accumulate: int = 1,
    ) -> None:  # fmt: skip
        self.mlp, self.x, self.plan, self.accumulate = mlp, x, plan, accumulate
        self.schedule = as_schedule(schedule, plan, mlp.lr, mlp.dtype)
        self.rate: float = mlp.lr  # of the last step
        self.rows = _readable_rows(labels, mlp.dtype) if labels.ndim == 2 else None
        # A copy: a read-only or strided array would be another type to the compiler.
        self.classes = np.array(labels if self.rows is None else [], np.int64)
        # Figures of the present epoch's steps; a count of errors below 0 stands for none yet.
        self.losses, self.errors = np.zeros(plan.steps), np.full(plan.steps, -1.0)
        self.lost: str | None = None
        self._steps_per_call = 1
        self._buffers = mlp.buffers
        self._resting = self._buffers_are_stale = False
        self._panels_are_stale = True
        self._new_trainer()

    def _new_trainer(self) -> None:
        mlp = self.mlp
        mlp.settle_compute_dtype(self.plan.batch_size)
        learnt, statistics = self._buffers.for_writing()
        self._needs = self._present_needs()
        self._trainer = Trainer(
            mlp.layout, learnt, statistics, self.plan.batch_size, self._update_plan(),
            unit_for(mlp.compute_dtype),
        )  # fmt: skip

    def _update_plan(self) -> UpdatePlan:
        mlp = self.mlp
        apart = mlp.optimizer.apart or self.accumulate > 1
        by_mean = mlp.batchnorm_reduction == "mean"
        return UpdatePlan(mlp.optimizer.options, apart, self.accumulate, by_mean)

    def _present_needs(self) -> tuple[Any, ...]:
        """What decides on the trainer's buffers."""
        mlp, optimizer = self.mlp, self.mlp.optimizer
        kept = optimizer.states, optimizer.average is None
        return mlp.layout, mlp.compute_dtype, *kept, optimizer.apart, optimizer.clip_norm is None

    def __enter__(self) -> _Session:
        self._outer = self._buffers.session
        self._buffers.session = self
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the network as of the last finished step."""
        try:
            self._update_buffers()
        except KeyboardInterrupt:
            # Half unpacked, the network would be of no step at all.
            self._update_buffers()
            raise
        finally:
            self._buffers.session = self._outer
            self._buffers.look()

    @contextlib.contextmanager
    def rest(self) -> Iterator[None]:
        """A pause in which others may look at the network."""
        self._resting = True
        try:
            if self._buffers.held_elsewhere():
                # Who holds a view looks without asking.
                self.look()
            yield
        finally:
            self._resting = False

    def look(self) -> None:
        if self._resting:
            self._update_buffers()
            self._panels_are_stale = True

    def _update_buffers(self) -> None:
        if self._buffers_are_stale:
            self._trainer.unpack()
            self._buffers_are_stale = False

    def _resume(self) -> None:
        """Take over what has been changed since the last step."""
        self.mlp.check_compiled()
        if self._present_needs() != self._needs:
            self._update_buffers()
            self._new_trainer()
            self._panels_are_stale = True
        if self._panels_are_stale:
            self._trainer.pack()
            self._panels_are_stale = False
        self._trainer.update = self._update_plan()

    def prepare(self, order: np.ndarray) -> None:
        """Compile what an epoch needs, so that the first one's seconds are of training."""
        self._resume()
        schedule = self._factors(np.zeros(1), 0, 1)
        self._trainer.train(self._data(order), schedule, 0, 0, (self.losses, self.errors))
        self._trainer.unpack()

    def _data(self, order: np.ndarray) -> Data:
        x = strided(self.x)
        return Data(x, x if self.rows is None else strided(self.rows), self.classes, order)

    def epoch(
        self, epoch: int, order: np.ndarray, history: History
    ) -> Generator[Progress, None, None]:
        """Train on the rows in ``order``, pausing a few times a second to say where it stands.

        Ends early, and says so in ``lost``, where a batch's loss is not finite: its update is not
        made.
        """
        data, started, step = self._data(order), time.perf_counter(), 0
        before_epoch = epoch * self.plan.steps
        end = min(self.plan.steps, self.plan.total_steps - before_epoch)
        rates = np.empty(end)
        self.errors[:] = -1
        while step < end and self.lost is None:
            self._resume()
            # A call ends with an update, or with the epoch.
            calls = max(1, self._steps_per_call // self.accumulate)
            last = min(step + calls * self.accumulate, end)
            steps = np.arange(before_epoch + step, before_epoch + last)
            given = self.schedule.rates(self.mlp.lr, steps, self.plan, history)
            rates[step:last] = given
            before = time.perf_counter()
            reached = self._train(data, rates, step, last)
            seconds = time.perf_counter() - before
            self.rate = float(given[min(reached, last - 1) - step])
            rate = (last - step) / max(seconds, 1e-6)
            # At most twice as many as before: the first call may have been slow to start.
            self._steps_per_call = max(
                1, min(int(rate * SECONDS_PER_CALL), 2 * self._steps_per_call)
            )
            step = self.steps_done
            if reached < last:
                self.lost = f"the loss is {self.losses[reached]} in epoch {epoch + 1}, step {step}"
            yield self._progress(epoch, step, time.perf_counter() - started)

    def _train(self, data: Data, rates: np.ndarray, step: int, last: int) -> int:
        """Run steps of the present epoch, and count the updates; as ``Trainer.train``."""
        schedule = self._factors(rates, step, last)
        self._buffers_are_stale = True
        counted, reached = self.mlp.updates, None
        try:
            reached = self._trainer.train(data, schedule, step, last, (self.losses, self.errors))
        finally:
            done = self.steps_done if reached is None else reached
            before, after = (_updates(n, len(rates), self.accumulate) for n in (step, done))
            self.mlp.updates = counted + after - before
        return reached

    def _factors(self, rates: np.ndarray, step: int, last: int) -> np.ndarray:
        """The rule's factors for steps of an epoch, a row per step; others are left as they are.

        Batches whose gradients are added up have the rate of the last of them.
        """
        mlp, every = self.mlp, self.accumulate
        updates = np.arange(step, last) // every
        first, end = step // every, -(-last // every)
        ends = np.minimum((np.arange(first, end) + 1) * every, len(rates)) - 1
        factors = mlp.optimizer.schedule(rates[ends], mlp.updates, mlp.dtype)
        schedule = np.empty((len(rates), factors.shape[1]), mlp.dtype)
        schedule[step:last] = factors[updates - first]
        return schedule

    @property
    def steps_done(self) -> int:
        """Steps of the present epoch that have figures, also after an interrupt."""
        return int(np.count_nonzero(self.errors >= 0))

    def _progress(self, epoch: int, step: int, seconds: float) -> Progress:
        samples = min(step * self.plan.batch_size, self.plan.samples)
        losses, errors = (out[:step].sum() / samples for out in (self.losses, self.errors))
        return Progress(
            epoch, self.plan.epochs, step, self.plan.steps, samples,
            samples / max(seconds, 1e-9), float(losses), float(errors),
        )  # fmt: skip

    def batch_losses(self) -> list[float]:
        """Mean loss of each batch of the present epoch so far."""
        size, done = self.plan.batch_size, self.steps_done
        counts = np.full(self.plan.steps, size)
        counts[-1] = self.plan.samples - size * (self.plan.steps - 1)
        losses: list[float] = (self.losses / counts)[:done].tolist()
        return losses


def _updates(steps: int, all_steps: int, every: int) -> int:
    """How many updates the first steps of an epoch make: the last few batches have one too."""
    return -(-steps // every) if steps == all_steps else steps // every


def _readable_rows(labels: np.ndarray, dtype: Any) -> np.ndarray:
    """Rows of labels as they are where the engine can read them, otherwise a copy."""
    if labels.dtype in FLOATS and labels.dtype.isnative:
        return labels
    return label_rows(labels, labels.shape[1], dtype)


class _Listeners:
    """The callbacks of a fit, called while it rests."""

    def __init__(self, callbacks: Sequence[Any], session: _Session) -> None:
        self._callbacks, self._session = callbacks, session

    def tell(self, event: str, *arguments: Any) -> bool:
        """Call ``event`` on those that have it; True if one of them returned True."""
        listeners = [callback for callback in self._callbacks if hasattr(callback, event)]
        if not listeners:
            return False
        with self._session.rest():
            answers = [getattr(callback, event)(*arguments) for callback in listeners]
        return any(isinstance(answer, (bool, np.bool_)) and bool(answer) for answer in answers)

    def tell_the_end(self, *arguments: Any) -> None:
        """Call ``on_train_end`` on all that have it, even where one of them raises."""
        ends = [c.on_train_end for c in self._callbacks if hasattr(c, "on_train_end")]
        with self._session.rest():
            _call_each(ends, *arguments)


def _call_each(functions: Sequence[Callable[..., Any]], *arguments: Any) -> None:
    """Call all of them; what one raises is raised in the end, as the context of a later error."""
    if functions:
        try:
            functions[0](*arguments)
        finally:
            _call_each(functions[1:], *arguments)


def fit(mlp: Any, x: Any, labels: Any, options: FitOptions) -> History:
    """Train ``mlp`` in compiled epochs; ``MLP.fit`` documents the arguments."""
    mlp.check_compiled()
    epochs = check_count("epochs", options.epochs, least=0)
    batch_size = check_count("batch_size", options.batch_size)
    accumulate = check_count("accumulate", options.accumulate)
    callbacks = check_callbacks(options.callbacks)
    x, labels = _check_data("x", "labels", x, labels, mlp, options.check_finite)
    validation = options.validation_data
    if validation is not None:
        validation = _check_pair("validation_data", validation, mlp, options.check_finite)
    max_steps = options.max_steps
    if max_steps is not None:
        max_steps = check_count("max_steps", max_steps, least=0)
    plan = _plan(epochs, batch_size, len(x), validation is not None, max_steps)
    if options.progress:
        callbacks.append(ProgressBar())
    generator = np.random.default_rng(options.seed)
    order = np.arange(len(x), dtype=np.int64)
    session = _Session(mlp, x, labels, plan, options.lr_schedule, accumulate)
    listeners = _Listeners(callbacks, session)
    mlp.history = history = History()
    with session:
        session.prepare(order)
        try:
            listeners.tell("on_train_begin", mlp, plan)
            for epoch in range(plan.epochs):
                if options.shuffle:
                    generator.shuffle(order)
                _run_epoch(session, epoch, order, history, listeners)
                if validation is not None:
                    _validate(session, validation, history)
                if listeners.tell("on_epoch_end", mlp, history) or session.lost:
                    break
        finally:
            listeners.tell_the_end(mlp, history)
    # Said to the caller of MLP.fit, two calls from here.
    _warn_if_lost(session, stacklevel=4)
    return history


def _validate(session: _Session, data: tuple[np.ndarray, np.ndarray], history: History) -> None:
    with session.rest():
        loss, error = session.mlp.evaluate(*data)
    history.val_loss.append(loss)
    history.val_error.append(error)


def _check_data(
    x_name: str, labels_name: str, x: Any, labels: Any, mlp: Any, finite: bool
) -> tuple[np.ndarray, np.ndarray]:
    """x and labels that fit the network and each other, all finite if so wanted."""
    x = check_samples(x_name, x, mlp.input_size)
    labels = check_labels(labels_name, labels, len(x), mlp.output_size)
    if finite:
        check_all_finite(x_name, x)
        if labels.ndim == 2:
            check_all_finite(labels_name, labels)
    return x, labels


def _check_pair(
    name: str, pair: Any, mlp: Any, finite: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """(x, labels) that fit the network."""
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise ValueError(f"{name} must be a pair (x, labels), got {pair!r:.60}")
    x, labels = pair
    return _check_data(f"{name}[0]", f"{name}[1]", x, labels, mlp, finite)


def _plan(
    epochs: int, batch_size: int, samples: int, validation: bool, max_steps: int | None = None
) -> FitPlan:
    """A batch_size above the number of samples means one batch of all of them."""
    batch_size = min(batch_size, samples)
    steps = -(-samples // batch_size)
    total = epochs * steps if max_steps is None else min(max_steps, epochs * steps)
    return FitPlan(-(-total // steps), steps, batch_size, samples, validation, total)


def _run_epoch(
    session: _Session, epoch: int, order: np.ndarray, history: History,
    listeners: _Listeners | None = None,
) -> None:  # fmt: skip
    """Train for one epoch and write down its figures."""
    started = time.perf_counter()
    try:
        for state in session.epoch(epoch, order, history):
            if listeners is not None:
                listeners.tell("on_progress", state)
    finally:
        history.step_loss.extend(session.batch_losses())
    history.epoch_seconds.append(time.perf_counter() - started)
    history.learning_rate.append(session.rate)
    history.train_loss.append(state.loss)
    history.train_error.append(state.error)


def _warn_if_lost(session: _Session, stacklevel: int) -> None:
    """NotFiniteWarning where a loss, or the parameters after the last step, are not finite."""
    mlp, what = session.mlp, session.lost
    if what is not None:
        what += ": fit ended there, before its update"
    elif not mlp.buffers.all_finite():
        what = "parameters are NaN or infinite after the last step"
    if what is not None:
        warnings.warn(
            f"{what}; the learning rate may be too large, lr is {mlp.lr:g}",
            NotFiniteWarning,
            stacklevel=stacklevel + 1,
        )


def get_training_stats(
    mlp: Any, dset: Any, nepochs: int, batch_size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Train as HW1P1 asks, section 3.6, and return its four curves.

    dset : ((train_x, train_y), (val_x, val_y), (test_x, test_y)) with one-hot y; the test set is
        not read, no array is changed. Every epoch shuffles the indices with ``np.random.shuffle``.
    Returns (training_losses, training_errors, validation_losses, validation_errors), each
    (nepochs,) float64: average loss per sample and fraction wrong. Training figures accumulate
    over the batches, validation figures are taken after the epoch in eval mode. Where a loss is
    not finite the training ends, with a NotFiniteWarning, and the epochs that follow are NaN.
    """
    mlp.check_compiled()
    nepochs = check_count("nepochs", nepochs, least=0)
    batch_size = check_count("batch_size", batch_size)
    train_x, train_y = _check_pair("dset[0]", dset[0], mlp)
    validation = _check_pair("dset[1]", dset[1], mlp)
    plan = _plan(nepochs, batch_size, len(train_x), True)
    mlp.history = history = History()
    order = np.arange(len(train_x), dtype=np.int64)
    with _Session(mlp, train_x, train_y, plan) as session:
        session.prepare(order)
        for epoch in range(nepochs):
            np.random.shuffle(order)
            _run_epoch(session, epoch, order, history)
            _validate(session, validation, history)
            if session.lost:
                break
    _warn_if_lost(session, stacklevel=2)
    return (
        _padded(history.train_loss, nepochs),
        _padded(history.train_error, nepochs),
        _padded(history.val_loss, nepochs),
        _padded(history.val_error, nepochs),
    )


def _padded(values: list[float], size: int) -> np.ndarray:
    """As many numbers, NaN after those that are there."""
    return np.array(values + [np.nan] * (size - len(values)), float)
