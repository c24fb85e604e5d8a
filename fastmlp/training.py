"""Training a network: epochs through the compiled engine, or HW1P1's loop step by step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._agreement import must_agree
from ._fit_state import (
    FitState,
    arguments_of,
    check_arguments,
    generator_state,
    set_network_state,
)
from ._ranks import Ranks, ranks_of
from ._run import Listeners, Order, Run, check_states, run_epoch, validate
from ._session import Session, TrainingSet
from .callbacks import ProgressBar
from .history import FitPlan, History, NotFiniteWarning
from .schedules import Schedule, ScheduleLike, StepFactors, as_schedule, step_factors
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
    comm: Any
    shards: int | None


class _Course(NamedTuple):
    """A fit whose arguments have been checked, before anything has changed."""

    train: TrainingSet
    validation: TrainingSet | None
    plan: FitPlan
    schedule: Schedule
    factors: StepFactors
    callbacks: list[Any]
    generator: np.random.Generator
    rows: int  # of an epoch's order that are trained on
    state: FitState | None  # that it goes on from
    options: FitOptions

    def arguments(self) -> dict[str, Any]:
        """What it needs to be the same when it goes on."""
        return arguments_of(self.options, self.plan, self.data, self.schedule, self.factors)

    @property
    def data(self) -> dict[str, Any]:
        x, labels, weights = self.train
        return {
            "x": x, "labels": labels, "sample_weight": weights, "validation_data": self.validation
        }  # fmt: skip

    def order(self, mlp: Any, generator: np.random.Generator) -> tuple[Order, int | None]:
        """The rows of each epoch, and dropout's seed where one is drawn, before them."""
        seed, options, state = None, self.options, self.state
        if state is None and options.seed is not None and mlp.drops:
            seed = int(generator.integers(1 << 64, dtype=np.uint64))
        begun = None if state is None else state.generator
        samples = len(self.train.x)
        return Order(samples, self.rows, generator, options.shuffle, begun), seed


def fit(mlp: Any, x: Any, labels: Any, options: FitOptions) -> History:
    """Train ``mlp`` in compiled epochs; ``MLP.fit`` documents the arguments."""
    ranks = ranks_of(options.comm)
    with ranks.joined():
        seed = options.seed
        if ranks.size > 1:
            drawn = ranks.of_first(np.random.SeedSequence().entropy)
            seed = drawn if seed is None else seed
        with ranks.together():
            ranks.cut(options.shards)
            course = _course(mlp, x, labels, options, ranks, np.random.default_rng(seed))
        if ranks.size > 1:
            ranks.agree(_of_all_ranks(mlp, course))
        session = Session(
            mlp, course.train, course.plan, course.schedule, options.accumulate, course.factors,
            ranks,
        )  # fmt: skip
        run = _run(session, course)
    # Said to the caller of MLP.fit, two calls from here.
    warn_if_lost(session, stacklevel=4)
    return run.history


def _run(session: Session, course: _Course) -> Run:
    """Do it, in a network that is left as of the last step."""
    mlp, ranks, state = session.mlp, session.ranks, course.state
    with session:
        if state is not None:
            set_network_state(mlp, state.network)
        order, dropout_seed = course.order(mlp, course.generator)
        if dropout_seed is not None:
            mlp.dropout_seed = dropout_seed
        if ranks.size > 1:
            # Networks that were made without a seed have different ones; to set it begins anew.
            steps, mlp.dropout_seed = mlp.dropout_steps, ranks.of_first(mlp.dropout_seed)
            mlp.dropout_steps = steps
        listeners = Listeners(course.callbacks, session)
        run = Run(session, listeners, order, course.validation, course.arguments, state)
        run.go()
    return run


def _course(
    mlp: Any, x: Any, labels: Any, options: FitOptions, ranks: Ranks,
    generator: np.random.Generator,
) -> _Course:  # fmt: skip
    """Check the arguments; the generator is not drawn from."""
    mlp.check_compiled()
    epochs = check_count("epochs", options.epochs, least=0)
    batch_size = check_count("batch_size", options.batch_size)
    check_count("accumulate", options.accumulate)
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
    state = _state_to_resume(mlp, options.resume)
    # One shard is what a fit without any is.
    options = options._replace(shards=ranks.shards if ranks.shards > 1 else None)
    schedule = as_schedule(options.lr_schedule, plan, mlp.lr, mlp.dtype)
    course = _Course(
        TrainingSet(x, labels, weights), validation, plan, schedule,
        step_factors(options.decay_schedule, options.dropout_schedule, plan), callbacks, generator,
        rows, state, options,
    )  # fmt: skip
    if options.check_finite:
        _check_finite("x", "labels", x, labels, _rows_to_check(mlp, course, ranks))
    if state is not None:
        check_arguments(state, course.arguments())
        check_states(state, callbacks)
    return course


def _rows_to_check(mlp: Any, course: _Course, ranks: Ranks) -> np.ndarray | None:
    """The rows that this rank looks at before it begins; None for all."""
    samples, plan = len(course.train.x), course.plan
    if plan.total_steps < plan.steps:
        # Of data larger than the memory, a fit of some steps reads no more than their rows.
        ahead, _ = course.order(mlp, copy.deepcopy(course.generator))
        rows: np.ndarray = np.sort(ahead.of(0)[: plan.total_steps * plan.batch_size])
        return rows[slice(*ranks.share(len(rows)))]
    return None if ranks.size == 1 else np.arange(*ranks.share(samples))


def _of_all_ranks(mlp: Any, course: _Course) -> dict[str, str]:
    """What must be the same on all ranks."""
    options, data = course.options, course.data
    arguments = arguments_of(options, course.plan, {}, course.schedule, course.factors)
    if options.seed is not None:
        # Generators of one kind may have drawn more or less before.
        arguments["seed"] = [arguments["seed"], generator_state(course.generator)]
    return must_agree(mlp, data, arguments, course.state, course.callbacks)


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
