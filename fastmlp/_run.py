"""The course of a fit: its epochs in order, and who hears of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np

from ._agreement import writes
from ._fit_state import (
    NOTHING,
    EpochSoFar,
    FitState,
    generator_state,
    network_state,
    set_generator_state,
)
from ._measures import Figures, figures_of
from ._session import Session
from ._windows import BlockOrder, TrainingSet
from .history import History


class Listeners:
    """The callbacks of a fit, called while it rests.

    One that has a state hears everything in whole: a signal that comes meanwhile is answered after
    it. Others are left at once.
    """

    def __init__(self, callbacks: Sequence[Any], session: Session) -> None:
        self.callbacks, self._session = callbacks, session

    def tell(self, event: str, *arguments: Any) -> bool:
        """Call ``event`` on those that have it; True if one of them returned True."""
        answers = []
        with self._session.ranks.together():
            for callback in self.having(event):
                self._session.signals.answer()
                answers.append(self.ask(callback, event, *arguments))
        return any(answers)

    def having(self, event: str) -> list[Any]:
        """The callbacks that have an event; those that write are called on the first rank alone."""
        first = self._session.ranks.rank == 0
        heard = (c for c in self.callbacks if first or not writes(c))
        return [callback for callback in heard if hasattr(callback, event)]

    def ask(self, callback: Any, event: str, *arguments: Any) -> bool:
        """Call the event on one that has it; whether it returned True."""
        with self._session.rest(whole=has_state(callback)):
            answer = getattr(callback, event)(*arguments)
        return isinstance(answer, (bool, np.bool_)) and bool(answer)

    def tell_the_end(self, *arguments: Any) -> None:
        """Call ``on_train_end`` on all that have it, even where one of them raises."""
        self._end_each(self.having("on_train_end"), *arguments)

    def _end_each(self, callbacks: Sequence[Any], *arguments: Any) -> None:
        """What one raises is raised in the end, as the context of a later error."""
        if callbacks:
            try:
                with self._session.rest(whole=has_state(callbacks[0])):
                    callbacks[0].on_train_end(*arguments)
            finally:
                self._end_each(callbacks[1:], *arguments)

    def states(self) -> tuple[tuple[str, dict[str, Any]], ...]:
        """(class, state) of the callbacks that may have one; it is empty where one has none."""
        return tuple((name_of(c), dict(c.state_dict())) for c in self.callbacks if has_state(c))


def name_of(callback: Any) -> str:
    return type(callback).__name__


def has_state(callback: Any) -> bool:
    """Whether a callback's state is a part of the fit's: see ``callbacks``."""
    methods = (getattr(callback, name, None) for name in ("state_dict", "load_state_dict"))
    return all(map(callable, methods))


def check_states(state: FitState, callbacks: Sequence[Any]) -> None:
    """Raise ValueError unless there is a callback for every state of the unfinished fit's."""
    _assigned(state, callbacks)


def _assigned(state: FitState, callbacks: Sequence[Any]) -> list[tuple[Any, dict[str, Any]]]:
    """(callback, state) for every state of an unfinished fit: classes are met in order."""
    left, found = [c for c in callbacks if has_state(c)], []
    for name, values in state.callbacks:
        callback = next((c for c in left if name_of(c) == name), None)
        if callback is None and not values:
            continue
        if callback is None:
            got = ", ".join(map(name_of, callbacks)) or "none"
            wanted = ", ".join(name for name, values in state.callbacks if values)
            raise ValueError(
                f"callbacks must have those of the unfinished fit whose state it needs to go on, "
                f"{wanted}, got {got}"
            )
        left = [c for c in left if c is not callback]
        found.append((callback, values))
    return found


def _load_state(callback: Any, values: dict[str, Any]) -> None:
    """Raises ValueError where it is none: a file may say anything."""
    try:
        callback.load_state_dict(values)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ValueError(
            f"{name_of(callback)} cannot go on from what the unfinished fit has of it: "
            f"{error!r:.200}"
        ) from error


class Order:
    """The rows of each epoch: all of them, shuffled anew every time if so wanted.

    rows : how many of them an epoch has    state : that of the generator before the first epoch
    """

    def __init__(
        self, samples: int, rows: int, generator: np.random.Generator, shuffle: bool,
        state: dict[str, Any] | None = None,
    ) -> None:  # fmt: skip
        if state is not None:
            set_generator_state(generator, state)
        self.state = generator_state(generator)
        self._order, self._count = np.arange(samples, dtype=np.int64), rows
        self._generator, self._shuffle, self._shuffled = generator, shuffle, 0

    @property
    def rows(self) -> Any:
        """Those of the present epoch, as the windows of the data take them."""
        return self._order[: self._count]

    def of(self, epoch: int) -> Any:
        """Those of an epoch that is not before the present one."""
        while self._shuffle and self._shuffled <= epoch:
            self._draw()
            self._shuffled += 1
        return self.rows

    def _draw(self) -> None:
        self._generator.shuffle(self._order)


class OrderOfBlocks(Order):
    """The blocks of each epoch, likewise: whole ones, and the rows within each window."""

    _seed: int | None = None

    @property
    def rows(self) -> Any:
        return BlockOrder(self._order, self._seed)

    def _draw(self) -> None:
        # Another array: a thread may still look at this one.
        self._order = self._generator.permutation(len(self._order))
        self._seed = int(self._generator.integers(1 << 63))


class Run:
    """The course of a fit, from its beginning or from where an earlier one was interrupted."""

    def __init__(
        self, session: Session, listeners: Listeners, order: Order, validation: TrainingSet | None,
        arguments: Callable[[], dict[str, Any]], resumed: FitState | None,
    ) -> None:  # fmt: skip
        """arguments : says what decides on the course; asked when it is first needed"""
        self.session, self.listeners, self.order = session, listeners, order
        self.mlp, self.validation, self._resumed = session.mlp, validation, resumed
        self._ask_arguments = arguments
        self._arguments: dict[str, Any] | None = None if resumed is None else resumed.arguments
        self._epoch, self._done = 0, NOTHING
        self._told: list[str] = []
        self._ended = self._begun = self._over = False
        self.history = History(error_name=self.mlp.criterion.error_name)
        if resumed is not None:
            self._epoch, self._done, self._ended = resumed.epoch, resumed.done, resumed.ended
            self._told = list(resumed.told)
            self.history = resumed.history.copy()
            session.lost = resumed.lost

    def go(self) -> None:
        """Train, and leave the network knowing what is left to do where that is interrupted."""
        mlp, session = self.mlp, self.session
        mlp.history = self.history
        session.unfinished = self._state_for_callbacks
        mlp.unfinished = self._resumed
        with session.ranks.together():
            session.prepare()
        try:
            self._begin()
            self._epochs()
            self._over = True
        finally:
            self._leave()

    def _begin(self) -> None:
        self.listeners.tell("on_train_begin", self.mlp, self.session.plan)
        if self._resumed is not None:
            with self.session.ranks.together(), self.session.rest(whole=True):
                for callback, values in _assigned(self._resumed, self.listeners.callbacks):
                    _load_state(callback, values)
        self._begun = True

    def _epochs(self) -> None:
        while not self._finished:
            order = self.order.of(self._epoch)
            if not self._trained:
                run_epoch(
                    self.session, self._epoch, order, self.history, self.listeners, self._done
                )
            self._end_epoch()

    @property
    def _finished(self) -> bool:
        """Whether no epoch is left, nor one under way of which not all have heard."""
        lost = self.session.lost is not None and len(self._done.losses) == 0
        ended = self._ended or lost or self._epoch >= self.session.plan.epochs
        return ended and not self._trained

    @property
    def _trained(self) -> bool:
        """Whether the present epoch's steps are done, and in the history."""
        return len(self.history.train_loss) > self._epoch

    def _end_epoch(self) -> None:
        history = self.history
        ranks = self.session.ranks
        if self.validation is not None and len(history.val_loss) <= self._epoch:
            with ranks.together():
                self.session.signals.answer()
            validate(self.session, self.validation, history)
        with ranks.together():
            self._tell_all()
        self._ended = any(ranks.everywhere(self._ended))
        self._epoch, self._told, self._done = self._epoch + 1, [], NOTHING

    def _tell_all(self) -> None:
        """Tell those who have not heard yet of the end of the epoch."""
        heard = list(self._told)
        for callback in self.listeners.having("on_epoch_end"):
            name = name_of(callback)
            if name in heard:
                heard.remove(name)
                continue
            # Whoever is written down will hear of it: nothing may come between.
            self.session.signals.answer()
            self._told.append(name)
            if self.listeners.ask(callback, "on_epoch_end", self.mlp, self.history):
                self._ended = True

    def _state_for_callbacks(self) -> FitState | None:
        """As ``state``; None for whoever else asks.

        Other threads, and the handler of a signal while the fit does not rest, see the weights of a
        step before, from which it cannot go on.
        """
        session = self.session
        rests_here = session._resting and session.thread == threading.get_ident()
        return self.state() if rests_here else None

    def state(self) -> FitState | None:
        """Where it stands; None once it is over, and of a generator that cannot be kept."""
        if self._over or self.order.state is None:
            return None
        if not self._begun:
            return self._resumed
        if self._arguments is None:
            self._arguments = self._ask_arguments()
        history = self.history.copy()
        done = self.session.so_far(self._epoch)
        if not self._trained:
            # Those of an epoch under way come into the history again at its end.
            for figures in (history.step_loss, history.step_learning_rate):
                del figures[self._epoch * self.session.plan.steps :]
        return FitState(
            self._arguments, self.order.state, self._epoch,
            self._done if done is NOTHING else done, tuple(self._told), self._ended,
            self.session.lost, history, self.listeners.states(),
        )  # fmt: skip

    def _leave(self) -> None:
        """Tell the end. What callbacks then change is not what an interrupted fit goes on from."""
        mlp = self.mlp
        state, kept = None, {}
        try:
            with self.session.rest(whole=True):
                mlp.unfinished = state = self.state()
                if state is not None and any(map(has_state, self.listeners.having("on_train_end"))):
                    kept = network_state(mlp)
        finally:
            try:
                # After an error the ranks do not wait for each other.
                with self.session.ranks.together() if self._over else nullcontext():
                    self.listeners.tell_the_end(mlp, self.history)
            finally:
                if self._over:
                    self.session.ranks.part()
                with self.session.rest(whole=True):
                    changed = any(not np.array_equal(kept[n], getattr(mlp, n)) for n in kept)
                if state is not None and changed:
                    mlp.unfinished = replace(state, network=kept)


def validate(session: Session, data: TrainingSet, history: History) -> None:
    """Take the figures of the validation data."""
    # Other ranks would wait for one that a signal has taken out of this.
    with session.rest(whole=session.ranks.size > 1):
        loss, error, r2 = _figures(session, data)
    history.val_loss.append(loss)
    history.val_error.append(error)
    if r2 is not None:
        history.val_r2.append(r2)


def _figures(session: Session, data: TrainingSet) -> Figures:
    """Those of all rows, of which each rank predicts its share."""
    mlp, ranks = session.mlp, session.ranks
    if ranks.size == 1:
        figures: Figures = mlp.figures(*data)
        return figures
    outputs = ranks.outputs(mlp._outputs, data.x)
    return figures_of(mlp.criterion, outputs, data.labels, data.weights)


def run_epoch(
    session: Session, epoch: int, order: Any, history: History,
    listeners: Listeners | None = None, before: EpochSoFar = NOTHING,
) -> None:  # fmt: skip
    """Train for one epoch and write down its figures.

    before : what came of its first steps, where these have been done already
    """
    try:
        with closing(session.epoch(epoch, order, history, before)) as steps:
            for progress in steps:
                if listeners is not None:
                    listeners.tell("on_progress", progress)
    finally:
        history.step_loss.extend(session.batch_losses())
        history.step_learning_rate.extend(session.rates.tolist())
    figures = session.progress()
    history.epoch_seconds.append(session.ranks.of_first(session.seconds))
    history.learning_rate.append(history.step_learning_rate[-1])
    history.train_loss.append(figures.loss)
    history.train_error.append(figures.error)
