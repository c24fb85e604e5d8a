"""Training a network: epochs through the compiled engine, or HW1P1's loop step by step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._fit_state import FitState, arguments_of, check_arguments, set_network_state
from ._run import Listeners, Order, Run, check_states, run_epoch, validate
from ._session import Session, TrainingSet
from .callbacks import ProgressBar
from .history import FitPlan, History, NotFiniteWarning
from .schedules import ScheduleLike, step_factors
from .validation import (
    check_all_finite,
    check_callbacks,
    check_count,
    check_flag,
    check_sample_weight,
    check_samples,
)


class FitOptions(NamedTuple):
    """The arguments of ``MLP.fit``, which documents them, but for the data."""

    epochs: int
    batch_size: int
    max_steps: int | None
    shuffle: bool
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
    for name in ("shuffle", "progress", "check_finite", "drop_last"):
        check_flag(name, getattr(options, name))
    x, labels = _check_data("x", "labels", x, labels, mlp)
    weights = check_sample_weight("sample_weight", options.sample_weight, len(x))
    validation = options.validation_data
    if validation is not None:
        validation = _check_set("validation_data", validation, mlp, options.check_finite)
    max_steps = options.max_steps
    if max_steps is not None:
        max_steps = check_count("max_steps", max_steps, least=0)
    rows = _rows_of_epoch(len(x), batch_size, options.drop_last)
    plan = _plan(epochs, batch_size, rows, validation is not None, max_steps)
    callbacks = check_callbacks(options.callbacks, plan)
    if options.progress:
        callbacks.append(ProgressBar())
    generator = np.random.default_rng(options.seed)
    state = _state_to_resume(mlp, options.resume)
    draws = len(x), rows, options, mlp, state
    if options.check_finite:
        taken = None
        if plan.total_steps < plan.steps:
            # Of data larger than the memory, a fit of some steps reads no more than their rows.
            ahead, _ = _order_of(copy.deepcopy(generator), *draws)
            taken = np.sort(ahead.of(0)[: plan.total_steps * batch_size])
        _check_finite("x", "labels", x, labels, taken)
    train = TrainingSet(x, labels, weights)
    factors = step_factors(options.decay_schedule, options.dropout_schedule, plan)
    session = Session(mlp, train, plan, options.lr_schedule, accumulate, factors)

    def arguments() -> dict[str, Any]:
        data = {"x": x, "labels": labels, "sample_weight": weights, "validation_data": validation}
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
    generator: np.random.Generator, samples: int, rows: int, options: FitOptions, mlp: Any,
    state: FitState | None,
) -> tuple[Order, int | None]:  # fmt: skip
    """The rows of each epoch, and dropout's seed where one is drawn, before them."""
    seed = None
    if state is None and options.seed is not None and mlp.drops:
        seed = int(generator.integers(1 << 64, dtype=np.uint64))
    begun = None if state is None else state.generator
    return Order(samples, rows, generator, options.shuffle, begun), seed


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


def _check_data(
    x_name: str, labels_name: str, x: Any, labels: Any, mlp: Any
) -> tuple[np.ndarray, np.ndarray]:
    """x and labels that fit the network and each other."""
    x = check_samples(x_name, x, mlp.input_size)
    return x, mlp.criterion.check_targets(labels_name, labels, len(x), mlp.output_size)


def _check_finite(
    x_name: str, labels_name: str, x: np.ndarray, labels: np.ndarray,
    rows: np.ndarray | None = None,
) -> None:  # fmt: skip
    """Raise ValueError where some of the rows, or any, have a NaN or infinity."""
    check_all_finite(x_name, x, rows)
    if labels.ndim == 2:
        check_all_finite(labels_name, labels, rows)


def _check_set(name: str, data: Any, mlp: Any, finite: bool = True, most: int = 3) -> TrainingSet:
    """(x, labels), and their weights where they may have some, that fit the network."""
    if not isinstance(data, (tuple, list)) or not 2 <= len(data) <= most:
        weighted = " or (x, labels, sample_weight)" if most == 3 else ""
        raise ValueError(f"{name} must be a pair (x, labels){weighted}, got {data!r:.60}")
    names = f"{name}[0]", f"{name}[1]"
    x, labels = _check_data(*names, data[0], data[1], mlp)
    if finite:
        _check_finite(*names, x, labels)
    given = data[2] if len(data) == 3 else None
    return TrainingSet(x, labels, check_sample_weight(f"{name}[2]", given, len(x)))


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
    train = _check_set("dset[0]", dset[0], mlp, most=2)
    validation = _check_set("dset[1]", dset[1], mlp, most=2)
    plan = _plan(nepochs, batch_size, len(train.x), True)
    order = np.arange(len(train.x), dtype=np.int64)
    session = Session(mlp, train, plan)
    with session:
        mlp.history = history = History(error_name=mlp.criterion.error_name)
        session.prepare(order)
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
