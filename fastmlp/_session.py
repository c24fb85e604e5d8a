"""A fit under way: the network in the engine's panels, and who may look at it when."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

import numpy as np

from ._fit_state import NOTHING, EpochSoFar, FitState
from ._measures import means, row_counts
from ._pace import Call, Pace
from ._ranks import ALONE, Ranks
from ._shards import trainer_of
from ._signals import Signals
from ._sources import has_columns_of_zeros
from ._windows import Stream, TrainingSet, Window
from .engine import Objective, data_of
from .history import FitPlan, History, Progress
from .kernels._rates import unit_for
from .kernels.network import StepFigures
from .schedules import CONSTANT, NO_FACTORS, Schedule, StepFactors
from .validation import readable_labels


class Totals(NamedTuple):
    """What the sums over each batch are divided by, (steps,) float64 each."""

    losses: np.ndarray
    errors: np.ndarray


class Session:
    """A fit under way.

    While it trains, weights and velocities are in the engine's panels. While it rests, inside a
    callback, whoever looks at the network's buffers finds them up to date, and may change them:
    the panels are made anew from them before the fit goes on. Another thread that looks while it
    trains finds what the last look has left. Signals are answered between two calls of the compiled
    epoch, and at once while it rests.
    """

    # Whether ``figures`` has the sum of the squares of all weights before every step.
    wants_squares = False

    def __init__(
        self, mlp: Any, train: TrainingSet | Stream, plan: FitPlan, schedule: Schedule = CONSTANT,
        accumulate: int = 1, factors: StepFactors = NO_FACTORS, ranks: Ranks = ALONE,
    ) -> None:  # fmt: skip
        self.ranks = ranks
        self.mlp, self.plan, self.accumulate = mlp, plan, accumulate
        self._source: Any = train
        self.train_set = train.example
        self._take_targets()
        self.schedule = schedule
        self._step_factors, self._before_epoch = factors, 0
        # Figures of the present epoch's steps; a sum of errors below 0 stands for none yet.
        self.figures = StepFigures(
            np.zeros(plan.steps),
            np.full(plan.steps, -1.0),
            np.zeros(self.wants_squares * plan.steps),
        )
        self._rates = np.zeros(plan.steps)
        self._begin_epoch()
        self.lost: str | None = None
        self.signals = Signals()
        # Where the fit stands, for those that save the network meanwhile.
        self.unfinished: Callable[[], FitState | None] = lambda: None
        self._epoch, self._started, self._seconds_before = -1, 0.0, 0.0
        self.thread = threading.get_ident()
        self._buffers = mlp.buffers
        self._resting = self._buffers_are_stale = False
        self._panels_are_stale = True
        self._new_trainer()

    def _take_targets(self) -> None:
        """Labels and weights as the engine reads them, which depends on the criterion."""
        mlp, (x, labels, weights) = self.mlp, self.train_set
        self._criterion = mlp.criterion
        labels = mlp.criterion.check_targets("labels", labels, x.shape[0], mlp.output_size)
        self._labels = readable_labels(labels, mlp.dtype)
        self._weights = None if weights is None else weights.astype(mlp.dtype)

    def _new_trainer(self) -> None:
        mlp, objective = self.mlp, self._objective()
        if mlp.compute_dtype == "auto":
            if self.ranks.rank == 0:
                mlp.settle_compute_dtype(self.plan.batch_size)
            mlp.compute_dtype = self.ranks.of_first(mlp.compute_dtype)
        learnt, statistics = self._buffers.for_writing()
        self._needs = self._present_needs()
        of_network = mlp.layout, learnt, statistics, self.plan.batch_size, objective
        unit = unit_for(mlp.compute_dtype)
        self._trainer = trainer_of(self.ranks, *of_network, unit)
        self._trainer.zeros = has_columns_of_zeros(self.train_set.x, self.plan.batch_size)
        self._pace = Pace(self._trainer.threads)

    def _objective(self) -> Objective:
        mlp = self.mlp
        # What is learnt of the input takes its gradients from the first layer, as it was.
        front = mlp.scale_inputs or mlp.embeddings is not None
        several = self.accumulate > 1 or self.ranks.shards > 1
        apart = mlp.optimizer.apart or several or front
        by_mean = mlp.batchnorm_reduction == "mean"
        loss = mlp.criterion.formula(mlp.output_size, mlp.dtype)
        return Objective(
            mlp.optimizer.options, apart, self.accumulate, by_mean, loss, self.wants_squares
        )

    def _present_needs(self) -> tuple[Any, ...]:
        """What decides on the trainer's buffers."""
        mlp, optimizer = self.mlp, self.mlp.optimizer
        kept = optimizer.states, optimizer.average is None
        return mlp.layout, mlp.compute_dtype, *kept, optimizer.apart, optimizer.clip_norm is None

    def __enter__(self) -> Session:
        self._outer = self._buffers.session
        self.signals.__enter__()
        try:
            self._buffers.begin(self)
        except BaseException:
            # An interrupt after it has begun.
            if self._buffers.session is self:
                self._buffers.session = self._outer
            self.signals.__exit__()
            raise
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
            self.signals.__exit__()

    @contextlib.contextmanager
    def rest(self, whole: bool = False) -> Iterator[None]:
        """A pause in which others may look at the network.

        whole : what they do is not to be cut short by a signal
        """
        self._resting, history = True, self.mlp.history
        try:
            if self._buffers.held_elsewhere():
                # Who holds a view looks without asking.
                self.look()
            with contextlib.nullcontext() if whole else self.signals.at_once():
                yield
        finally:
            with self._buffers.lock:
                self._resting = False
            # A callback may have trained the network, too.
            self.mlp.history = history

    def look(self) -> None:
        # Other threads may look, too, and the fit must not go on before they have.
        with self._buffers.lock:
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
        if self.mlp.criterion is not self._criterion:
            self._take_targets()
        if self._present_needs() != self._needs:
            self._update_buffers()
            self._new_trainer()
            self._panels_are_stale = True
        if self._panels_are_stale:
            self._trainer.pack()
            self._panels_are_stale = False
        self._trainer.objective = self._objective()

    def prepare(self) -> None:
        """Compile what an epoch needs, so that the first one's seconds are of training."""
        with self.signals.at_once():
            self._resume()
            # No row is gathered: of data larger than the memory, none is read that is not needed.
            self._run(self._factors(np.zeros(1), 0, 1), 0, 0)
            self._trainer.unpack()

    def _begin_epoch(self) -> None:
        size, steps = self.plan.batch_size, self.plan.steps
        sizes = np.full(steps, float(size))
        sizes[-1] = self.plan.samples - size * (steps - 1)
        self._present_totals = Totals(sizes, sizes.copy())
        self._window = Window(self.train_set, np.empty(0, np.int64), 0, 0)
        self._scales = np.empty(0, self.mlp.dtype)

    def _row_counts(self) -> np.ndarray | None:
        return row_counts(self.mlp.criterion, *self.train_set[1:])

    def _take_window(self, windows: Iterator[Window]) -> None:
        """The next rows to train on, which may not be there yet."""
        with self.signals.at_once():
            window = next(windows)
        if window.data is not self.train_set:
            self.train_set = window.data
            self._take_targets()
        self._window = window
        self._count()

    def _count(self) -> None:
        """What the sums over each batch of the window are divided by, and multiplied by in its
        update."""
        size, order = self.plan.batch_size, self._window.order
        losses, errors = (total[self._window.first : self._window.last] for total in
                          self._present_totals)  # fmt: skip

        def sums(values: np.ndarray) -> list[Any]:
            """As ``backward`` adds them up."""
            return [values[order[i * size : (i + 1) * size]].sum() for i in range(len(losses))]

        if (counts := self._row_counts()) is not None:
            losses[:] = sums(counts)
        if (weights := self.train_set.weights) is not None:
            errors[:] = sums(weights)
        groups = np.arange(len(losses)) // self.accumulate
        scales = means(1, np.bincount(groups, losses))[groups]
        self._scales = scales.astype(self.mlp.dtype)

    def _dropout_factors(self) -> np.ndarray | None:
        """What multiplies the shares that are dropped in each step of the present epoch."""
        dropout = self._step_factors.dropout
        return None if dropout is None else dropout[self._before_epoch :][: self.plan.steps]

    def epoch(
        self, epoch: int, order: Any, history: History, before: EpochSoFar = NOTHING
    ) -> Generator[Progress, None, None]:
        """Train on the rows in ``order``, pausing some times a second to say where it stands.

        order : as the windows of the data take it
        before : what came of its first steps, where these have been done already

        Ends early, and says so in ``lost``, where a batch's loss is not finite: its update is not
        made.
        """
        self._started, self._seconds_before = time.perf_counter(), before.seconds
        self._begin_epoch()
        before_epoch = self._before_epoch = epoch * self.plan.steps
        end = min(self.plan.steps, self.plan.total_steps - before_epoch)
        self._epoch, step, rates = epoch, len(before.losses), self._rates[:end]
        self.figures.errors[:] = -1
        self.figures.losses[:step], self.figures.errors[:step] = before.losses, before.errors
        rates[:step] = before.rates
        # Where rows count for more or less than others, the means need those of the steps before.
        first = step if self._row_counts() is None else 0
        windows = self._source.windows(order, self.plan, self.accumulate, first, end)
        with contextlib.closing(windows):
            while first < step and self._window.last < step:
                self._take_window(windows)
            while step < end and self.lost is None:
                while self._window.last <= step:
                    self._take_window(windows)
                self._resume()
                call = self._pace.next()
                # It ends with an update, with the window, or with the epoch.
                updates = max(1, self.ranks.of_first(call.steps) // self.accumulate)
                last = min(step + updates * self.accumulate, self._window.last, end)
                steps = np.arange(before_epoch + step, before_epoch + last)
                rates[step:last] = self.schedule.rates(self.mlp.lr, steps, self.plan, history)
                called = time.perf_counter()
                self._trainer.parts = call.threads
                reached = self._train(rates, step, last)
                self._pace.took(Call(last - step, call.threads), time.perf_counter() - called)
                step = self.steps_done
                if reached < last:
                    loss = self.figures.losses[reached]
                    self.lost = f"the loss is {loss} in epoch {epoch + 1}, step {step}"
                with self.ranks.together():
                    self.signals.answer()
                yield self.progress()

    def _run(self, schedule: np.ndarray, step: int, last: int) -> int:
        """Run steps of the present window; returns as ``Trainer.train``."""
        first, end = self._window.first, self._window.last
        # Compiled code counts steps from the first row that it is given.
        self._trainer.draw_masks(self.mlp.dropout_seed, self.mlp.dropout_steps - (step - first))
        class_weights = self.mlp.criterion.weights_of_classes(self.mlp.dtype)
        dropout = self._dropout_factors()
        data = data_of(
            self.train_set.x, self._labels, self._window.order, self._scales, self._weights,
            class_weights, None if dropout is None else dropout[first:end],
        )  # fmt: skip
        figures = StepFigures(*(values[first:end] for values in self.figures))
        reached = self._trainer.train(data, schedule[first:], step - first, last - first, figures)
        return first + reached

    def _train(self, rates: np.ndarray, step: int, last: int) -> int:
        """``_run``, which also counts the updates."""
        schedule = self._factors(rates, step, last)
        self._buffers_are_stale = True
        counted, reached = self.mlp.updates, None
        masks = self.mlp.dropout_steps
        try:
            reached = self._run(schedule, step, last)
        finally:
            done = self.steps_done if reached is None else reached
            before, after = (_updates(n, len(rates), self.accumulate) for n in (step, done))
            self.mlp.updates = counted + after - before
            self.mlp.dropout_steps = masks + (done - step) * self.mlp.drops
        return reached

    def _factors(self, rates: np.ndarray, step: int, last: int) -> np.ndarray:
        """The rule's factors for steps of an epoch, a row per step; others are left as they are.

        Batches whose gradients are added up have the rate of the last of them.
        """
        mlp, every = self.mlp, self.accumulate
        updates = np.arange(step, last) // every
        first, end = step // every, -(-last // every)
        ends = np.minimum((np.arange(first, end) + 1) * every, len(rates)) - 1
        groups = self._trainer.layout.groups
        decay = self._step_factors.decay
        decays = 1.0 if decay is None else decay[self._before_epoch + ends]
        factors = mlp.optimizer.schedule(rates[ends], mlp.updates, groups, mlp.dtype, decays)
        schedule = np.empty((len(rates), factors.shape[1]), mlp.dtype)
        schedule[step:last] = factors[updates - first]
        return schedule

    @property
    def steps_done(self) -> int:
        """Steps of the present epoch that have figures, also after an interrupt."""
        return int(np.count_nonzero(self.figures.errors >= 0))

    @property
    def rates(self) -> np.ndarray:
        """Learning rates of the present epoch's steps so far."""
        return self._rates[: self.steps_done]

    @property
    def seconds(self) -> float:
        """Of the present epoch so far."""
        return self._seconds_before + time.perf_counter() - self._started

    def so_far(self, epoch: int) -> EpochSoFar:
        """What came of an epoch so far: nothing if it has not begun."""
        if epoch != self._epoch:
            return NOTHING
        losses, errors = (values[: self.steps_done].copy() for values in self.figures[:2])
        return EpochSoFar(losses, errors, self.rates.copy(), self.seconds)

    def progress(self) -> Progress:
        """Where the present epoch stands."""
        step = self.steps_done
        samples = min(step * self.plan.batch_size, self.plan.samples)
        figures = (
            means(out[:step].sum(), total[:step].sum())
            for out, total in zip(self.figures[:2], self._present_totals, strict=True)
        )
        return Progress(
            self._epoch, self.plan.epochs, step, self.plan.steps, samples,
            samples / max(self.seconds, 1e-9), *map(float, figures),
        )  # fmt: skip

    def batch_losses(self) -> list[float]:
        """Mean loss of each batch of the present epoch so far."""
        done = self.steps_done
        losses: list[float] = means(
            self.figures.losses[:done], self._present_totals.losses[:done]
        ).tolist()
        return losses


def _updates(steps: int, all_steps: int, every: int) -> int:
    """How many updates the first steps of an epoch make: the last few batches have one too."""
    return -(-steps // every) if steps == all_steps else steps // every
