"""Training a network: epochs through the compiled engine, or HW1P1's loop step by step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._blocks import check_rows_finite
from ._fit_state import FitState, arguments_of, check_arguments, set_network_state
from ._run import Listeners, Order, OrderOfBlocks, Run, check_states, run_epoch, validate
from ._session import Session
from ._sources import check_set, data_of_fit
from ._windows import Stream, TrainingSet
from .callbacks import ProgressBar
from .history import FitPlan, History, NotFiniteWarning
from .schedules import ScheduleLike, step_factors
from .validation import check_callbacks, check_count, check_flag


class FitOptions(NamedTuple):
    """The arguments of ``MLP.fit``, which documents them, but for the data."""

    epochs: int
    batch_size: int
    max_steps: int | None
    shuffle: bool | str
    window: int | None
    seed: Any
    sample_weight: Any
    validation_data: tuple[Any, ...] | None
    callbacks: Sequence[Any]
    progress: bool
    lr_schedule: ScheduleLike
    check_finite: bool
    accumulate: int
    drop_last: bool
    decay_schedule: Callable[[float], float] | None
    dropout_schedule: Callable[[float], float] | None
    resume: bool | str


def fit(mlp: Any, x: Any, labels: Any, options: FitOptions) -> History:
    """Train ``mlp`` in compiled epochs; ``MLP.fit`` documents the arguments."""
    mlp.check_compiled()
    epochs = check_count("epochs", options.epochs, least=0)
    batch_size = check_count("batch_size", options.batch_size)
    accumulate = check_count("accumulate", options.accumulate)
    for name in ("progress", "check_finite", "drop_last"):
        check_flag(name, getattr(options, name))
    train = data_of_fit(mlp, x, labels, options)
    validation = options.validation_data
    if validation is not None:
        validation = check_set("validation_data", validation, mlp, options.check_finite)
    max_steps = options.max_steps
    if max_steps is not None:
        max_steps = check_count("max_steps", max_steps, least=0)
    rows = _rows_of_epoch(train.samples, batch_size, options.drop_last)
    plan = _plan(epochs, batch_size, rows, validation is not None, max_steps)
    callbacks = check_callbacks(options.callbacks, plan)
    if options.progress:
        callbacks.append(ProgressBar())
    generator = np.random.default_rng(options.seed)
    state = _state_to_resume(mlp, options.resume)
    draws = train, rows, options, mlp, state
    if options.check_finite and isinstance(train, TrainingSet):
        taken = None
        if plan.total_steps < plan.steps:
            # Of data larger than the memory, a fit of some steps reads no more than their rows.
            ahead, _ = _order_of(copy.deepcopy(generator), *draws)
            taken = np.sort(ahead.of(0)[: plan.total_steps * batch_size])
        check_rows_finite(("x", "labels"), train.x, train.labels, taken)
    factors = step_factors(options.decay_schedule, options.dropout_schedule, plan)
    session = Session(mlp, train, plan, options.lr_schedule, accumulate, factors)

    def arguments() -> dict[str, Any]:
        data = train.arguments() | {"validation_data": validation}
        return arguments_of(options, plan, data, session.schedule, factors)

    if state is not None:
        check_arguments(state, arguments())
        check_states(state, callbacks)
    with session:
        if state is not None:
            set_network_state(mlp, state.network)
        order, dropout_seed = _order_of(generator, *draws)
        if dropout_seed is not None:
            mlp.dropout_seed = dropout_seed
        run = Run(session, Listeners(callbacks, session), order, validation, arguments, state)
        run.go()
    # Said to the caller of MLP.fit, two calls from here.
    warn_if_lost(session, stacklevel=4)
    return run.history


def _order_of(
    generator: np.random.Generator, train: TrainingSet | Stream, rows: int, options: FitOptions,
    mlp: Any, state: FitState | None,
) -> tuple[Order, int | None]:  # fmt: skip
    """The rows of each epoch, and dropout's seed where one is drawn, before them."""
    seed = None
    if state is None and options.seed is not None and mlp.drops:
        seed = int(generator.integers(1 << 64, dtype=np.uint64))
    begun = None if state is None else state.generator
    shuffle = bool(options.shuffle)
    if isinstance(train, Stream):
        return OrderOfBlocks(train.count, train.count, generator, shuffle, begun), seed
    return Order(train.samples, rows, generator, shuffle, begun), seed


def _state_to_resume(mlp: Any, resume: Any) -> FitState | None:
    """The unfinished fit that is to go on, if one is."""
    if not isinstance(resume, bool) and not (isinstance(resume, str) and resume == "auto"):
        raise ValueError(f"resume must be True, False or 'auto', got {resume!r}")
    state: FitState | None = mlp.unfinished if resume else None
    if state is None and resume is True:
        raise ValueError(
            "resume=True needs a network whose fit was interrupted, as MLP.load returns it from a "
            "Checkpoint's file, got one without an unfinished fit; resume='auto' begins anew then"
        )
    return state


def _rows_of_epoch(samples: int, batch_size: int, drop_last: bool) -> int:
    """How many rows of its order an epoch trains on."""
    if not drop_last:
        return samples
    if batch_size > samples:
        raise ValueError(
            f"drop_last=True needs at least one whole batch, got {samples} rows of x and "
            f"batch_size={batch_size}"
        )
    return samples - samples % batch_size


def _plan(
    epochs: int, batch_size: int, samples: int, validation: bool, max_steps: int | None = None
) -> FitPlan:
    """A batch_size above the number of samples means one batch of all of them."""
    batch_size = min(batch_size, samples)
    steps = -(-samples // batch_size)
    total = epochs * steps if max_steps is None else min(max_steps, epochs * steps)
    return FitPlan(-(-total // steps), steps, batch_size, samples, validation, total)


def warn_if_lost(session: Session, stacklevel: int) -> None:
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
    Raises ValueError or TypeError before anything has changed.
    """
    mlp.check_compiled()
    nepochs = check_count("nepochs", nepochs, least=0)
    batch_size = check_count("batch_size", batch_size)
    train = check_set("dset[0]", dset[0], mlp, most=2)
    validation = check_set("dset[1]", dset[1], mlp, most=2)
    plan = _plan(nepochs, batch_size, len(train.x), True)
    order = np.arange(len(train.x), dtype=np.int64)
    session = Session(mlp, train, plan)
    with session:
        mlp.history = history = History(error_name=mlp.criterion.error_name)
        session.prepare()
        for epoch in range(nepochs):
            np.random.shuffle(order)
            run_epoch(session, epoch, order, history)
            validate(session, validation, history)
            if session.lost:
                break
    warn_if_lost(session, stacklevel=2)
    return (
        _padded(history.train_loss, nepochs),
        _padded(history.train_error, nepochs),
        _padded(history.val_loss, nepochs),
        _padded(history.val_error, nepochs),
    )


def _padded(values: list[float], size: int) -> np.ndarray:
    """As many numbers, NaN after those that are there."""
    return np.array(values + [np.nan] * (size - len(values)), float)
