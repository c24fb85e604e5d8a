"""What other threads, and the handlers of signals, do between two lines of a call."""

import copy
import pickle
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import optimizers, threads
from fastmlp._buffers import Buffers
from fastmlp._by_hand import ByHand
from fastmlp._session import Session
from fastmlp._windows import TrainingSet
from fastmlp.engine import Trainer
from fastmlp.history import FitPlan
from tests.interrupts import between_lines
from tests.networks import assert_same_state, batch, build, gradients, state, train_by_hand

LIMIT = 30

X, LABELS, _ = batch(24, 19, 5, dtype=np.float32)


def within_limit(function):
    """What a function returns that might wait for itself: in a thread of its own."""
    end = Future()

    def run():
        try:
            end.set_result(function())
        except BaseException as error:
            end.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return end.result(LIMIT)


def network(**options):
    return build([19, 33, 5], dtype=np.float32, momentum=0.9, **options)


class OnProgress:
    """A callback that calls a function of the network, once."""

    def __init__(self, function):
        self._function, self.found = function, []

    def on_train_begin(self, mlp, plan):
        self._mlp = mlp

    def on_progress(self, progress):
        if not self.found:
            self.found.append(self._function(self._mlp))


def in_another_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(LIMIT)


# A step by hand


POOL = threads._Pool
OF_THREADS = (
    threads.run, threads._run_with, threads.Crew.run, threads.Crew._begin, threads.Crew._dismiss,
    POOL.take, POOL.give_back, POOL.let_stay, POOL.call_back, POOL._send_away, POOL.busy.fget,
)  # fmt: skip
OF_STEPS = (
    ByHand.forward, ByHand.backward, ByHand.step, ByHand.look, ByHand._run, ByHand._bring_gradients,
    ByHand._leave_to_others, Buffers.look,
)  # fmt: skip


@pytest.mark.parametrize("functions", [OF_STEPS, OF_THREADS], ids=["steps", "threads"])
def test_a_handler_may_look_at_a_network_between_any_two_lines_of_a_step_by_hand(
    functions, forced_threads, monkeypatch
):
    """As one for SIGTERM does that saves the network: it waits for nobody, and disturbs nothing."""
    fastmlp.set_num_threads(3)

    def trained(place):
        mlp, seen = network(), []

        def look():
            seen.append((mlp.parameters.copy(), mlp.gradients.copy(), mlp.predict_proba(X)))

        train_by_hand(mlp, X, LABELS)
        with between_lines(place, functions, look) as done:
            train_by_hand(mlp, X, LABELS)
            after = gradients(mlp)
        train_by_hand(mlp, X, LABELS)
        return state(mlp) | after, seen, done

    expected, seen, _ = within_limit(partial(trained, -1))
    assert not seen
    place, done = 0, True
    while done:
        found, seen, done = within_limit(partial(trained, place))
        assert_same_state(found, expected)
        assert len(seen) == len(done), place
        place += 1
    assert place > 50


# A fit under way


TAKEN = {
    "copied": copy.copy,
    "pickled": lambda mlp: pickle.loads(pickle.dumps(mlp)),
    "as it is": lambda mlp: mlp,
}


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_only_callbacks_know_what_is_unfinished(take):
    """Whoever else takes the network has the weights of a step before: it could not go on."""

    def look(mlp):
        return in_another_thread(lambda: take(mlp).unfinished), take(mlp).unfinished

    network().fit(X, LABELS, batch_size=8, seed=0, callbacks=[watch := OnProgress(look)])
    ((others, own),) = watch.found
    assert others is None
    assert (own.epoch, own.step) == (0, 1)


@pytest.mark.usefixtures("short_calls")
def test_a_handler_between_two_steps_takes_no_unfinished_fit(monkeypatch):
    mlp, train, seen = network(), Trainer.train, []

    def train_and_look(trainer, *arguments):
        reached = train(trainer, *arguments)
        seen.append(copy.copy(mlp).unfinished)
        return reached

    monkeypatch.setattr(Trainer, "train", train_and_look)
    mlp.fit(X, LABELS, batch_size=8, seed=0, callbacks=[OnProgress(lambda mlp: None)])
    assert seen == [None] * len(seen)
    assert len(seen) > 3


class Ending(Buffers):
    """Whose fit, in another thread, ends as soon as somebody has seen it."""

    @property
    def session(self):
        return self.__dict__.pop("under_way", None)

    @session.setter
    def session(self, session):
        self.__dict__["under_way"] = session


class OfAnother:
    thread, looks = -1, 0

    def look(self):
        self.looks += 1


def test_a_fit_may_end_while_somebody_looks():
    mlp, session = network(), OfAnother()
    mlp.buffers.__class__ = Ending
    mlp.buffers.session = session
    assert mlp.parameters.size > 0
    assert session.looks == 1
    own = Session(mlp, TrainingSet(X, LABELS), FitPlan(1, 1, len(X), len(X), False, 1))
    mlp.buffers.session = session
    with pytest.raises(RuntimeError, match="another is training this one"):
        mlp.buffers.begin(own)


# Views


def other_rule(mlp):
    mlp.optimizer = optimizers.SGD(0.1, momentum=0.5)


def average(mlp):
    mlp.optimizer.average = 0.9


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("train", ["fit", "by hand"])
@pytest.mark.parametrize("change", [other_rule, average])
def test_a_view_taken_before_the_optimizer_changes_shows_every_step(change, train):
    mlp, seen = network(), []
    views = [mlp.parameters]
    change(mlp)

    def look(mlp):
        seen.append((views[0].copy(), mlp.parameters.copy()))

    if train == "by hand":
        for _ in range(3):
            train_by_hand(mlp, X, LABELS)
            look(mlp)
    else:
        mlp.fit(X, LABELS, batch_size=8, callbacks=[OnProgress(look)])
    for shown, present in seen:
        assert_array_equal(shown, present)
    assert seen
    assert mlp.buffers.held_elsewhere()
    views.clear()
    assert not mlp.buffers.held_elsewhere()


# How many threads


def test_a_number_chosen_while_the_default_is_found_stays(monkeypatch):
    monkeypatch.setattr(threads, "_pool", threads._Pool())

    def default():
        threads.set_num_threads(5)
        return 3

    monkeypatch.setattr(threads, "_default_threads", default)
    fastmlp.get_num_threads()
    assert fastmlp.get_num_threads() == 5


def test_a_share_of_the_cores_is_at_most_the_default_and_no_more_than_a_choice(monkeypatch):
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "_pool", pool := threads._Pool())

    def default():
        threads.share_threads(2)
        return 3

    monkeypatch.setattr(threads, "_default_threads", default)
    fastmlp.get_num_threads()
    assert fastmlp.get_num_threads() == 2
    threads.share_threads(4)
    assert fastmlp.get_num_threads() == 3
    threads.set_num_threads(5)
    assert fastmlp.get_num_threads() == 5
    threads._forget_workers()
    assert threads._pool is not pool
    assert (fastmlp.get_num_threads(), threads._pool.share) == (5, 4)


# What networks share


def test_networks_with_nadam_share_no_course():
    """Its momenta are a sequence that is the same for all: another may ask for it at any line."""
    rule, groups = optimizers.NAdam(), build([2, 2]).layout.groups

    def ask(updates):
        return rule.schedule(np.ones(updates), 0, groups, float)

    functions = optimizers.NAdam._fill, optimizers._nadam_momenta.__wrapped__

    def factors(place):
        optimizers._nadam_momenta.cache_clear()
        with between_lines(place, functions, lambda: ask(13)) as done:
            found = ask(9)
        return found, ask(9), done

    expected, *_ = factors(-1)
    place, done = 0, True
    while done:
        found, again, done = factors(place)
        assert_array_equal(found, expected)
        assert_array_equal(again, expected)
        place += 1
    assert place > 5
