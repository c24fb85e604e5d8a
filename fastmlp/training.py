"""Training a network: epochs through the compiled engine, or HW1P1's loop step by step."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._agreement import must_agree
from ._blocks import check_rows_finite
from ._fit_state import (
    FitState,
    arguments_of,
    check_arguments,
    generator_state,
    set_network_state,
)
from ._ranks import Ranks, ranks_of
from ._run import Listeners, Order, OrderOfBlocks, Run, check_states, run_epoch, validate
from ._session import Session
from ._sources import check_set, data_of_fit, held
from ._windows import Stream, TrainingSet
from .callbacks import ProgressBar
from .history import FitPlan, History, NotFiniteWarning
from .schedules import Schedule, ScheduleLike, StepFactors, as_schedule, step_factors
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
    comm: Any
    shards: int | None


class _Course(NamedTuple):
    """A fit whose arguments have been checked, before anything has changed."""

    train: TrainingSet | Stream
    read: TrainingSet | Stream  # the same, as the session reads it
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
        return self.train.arguments() | {"validation_data": self.validation}

    def order(self, mlp: Any, generator: np.random.Generator) -> tuple[Order, int | None]:
        """The rows of each epoch, and dropout's seed where one is drawn, before them."""
        seed, options, state = None, self.options, self.state
        if state is None and options.seed is not None and mlp.drops:
            seed = int(generator.integers(1 << 64, dtype=np.uint64))
        begun = None if state is None else state.generator
        train, shuffle = self.train, bool(options.shuffle)
        if isinstance(train, Stream):
            return OrderOfBlocks(train.count, train.count, generator, shuffle, begun), seed
        return Order(train.samples, self.rows, generator, shuffle, begun), seed


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
            mlp, course.read, course.plan, course.schedule, options.accumulate, course.factors,
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
    for name in ("progress", "check_finite", "drop_last"):
        check_flag(name, getattr(options, name))
    train = data_of_fit(mlp, x, labels, options)
    if isinstance(train, Stream) and (ranks.size > 1 or ranks.shards > 1):
        raise ValueError(
            "comm and shards need x and labels in arrays, a memory map for instance, of which each "
            "process reads its rows; got blocks, or shuffle='blocks'"
        )
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
    state = _state_to_resume(mlp, options.resume)
    # One shard is what a fit without any is.
    options = options._replace(shards=ranks.shards if ranks.shards > 1 else None)
    schedule = as_schedule(options.lr_schedule, plan, mlp.lr, mlp.dtype)
    course = _Course(
        train, train, validation, plan, schedule,
        step_factors(options.decay_schedule, options.dropout_schedule, plan), callbacks, generator,
        rows, state, options,
    )  # fmt: skip
    if isinstance(train, TrainingSet):
        # Several ranks read their own rows alone.
        read = held(train, mlp, plan, callbacks) if ranks.size == 1 else train
        course = course._replace(read=read)
        if options.check_finite:
            rows_to_check = _rows_to_check(mlp, course, ranks)
            x_to_check = train.x if read is train else None
            check_rows_finite(("x", "labels"), x_to_check, train.labels, rows_to_check)
    if state is not None:
        check_arguments(state, course.arguments())
        check_states(state, callbacks)
    return course


def _rows_to_check(mlp: Any, course: _Course, ranks: Ranks) -> np.ndarray | None:
    """The rows that this rank looks at before it begins; None for all."""
    samples, plan = course.train.samples, course.plan
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
    train = check_set("dset[0]", dset[0], mlp, finite=False, most=2)
    plan = _plan(nepochs, batch_size, len(train.x), True)
    read = held(train, mlp, plan)
    x_to_check = train.x if read is train else None
    check_rows_finite(("dset[0][0]", "dset[0][1]"), x_to_check, train.labels)
    validation = check_set("dset[1]", dset[1], mlp, most=2)
    order = np.arange(len(train.x), dtype=np.int64)
    session = Session(mlp, read, plan)
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
