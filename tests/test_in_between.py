"""What other threads, and the handlers of signals, do between two lines of a call."""

import copy
import pickle
import threading
import warnings
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from numba.core import types
from numba.core.caching import FunctionCache
from numba.core.compiler_lock import global_compiler_lock
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import optimizers, threads, warmup
from fastmlp._buffers import Buffers
from fastmlp._by_hand import ByHand
from fastmlp._run import Listeners
from fastmlp._session import Session
from fastmlp._windows import TrainingSet
from fastmlp.datasets import _download
from fastmlp.engine import Trainer
from fastmlp.history import FitPlan
from fastmlp.kernels import _cache, _jit, _own, _rates
from fastmlp.kernels._cache import KernelCache
from fastmlp.kernels._jit import entry
from fastmlp.kernels.activation import Formula
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


def in_another_thread(function):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result(LIMIT)


# The handler of a signal


class OnProgress:
    """A callback that calls a function of the network, once."""

    def __init__(self, function):
        self._function, self.found = function, []

    def on_train_begin(self, mlp, plan):
        self._mlp = mlp

    def on_progress(self, progress):
        if not self.found:
            self.found.append(self._function(self._mlp))


POOL = threads._Pool
OF_THREADS = (
    threads.run, threads._run_with, threads.Crew.run, threads.Crew._begin, threads.Crew._dismiss,
    POOL.take, POOL.give_back, POOL.let_stay, POOL.call_back, POOL._send_away, POOL.busy.fget,
)  # fmt: skip
OF_STEPS = (
    ByHand.forward, ByHand.backward, ByHand.step, ByHand.look, ByHand._run, ByHand._bring_gradients,
    ByHand._leave_to_others, Buffers.look,
)  # fmt: skip


OF_A_FIT = (
    Session.__enter__, Session.__exit__, Session.rest.__wrapped__, Session.look,
    Session._update_buffers, Session._resume, Session._train, Session._run, Session.epoch,
    Buffers.begin, Buffers.look, Listeners.tell, Listeners.ask,
)  # fmt: skip


def by_hand(mlp):
    train_by_hand(mlp, X, LABELS)


def by_fit(mlp):
    """A callback looks, so that every step leaves the panels, and is read again."""
    watch = OnProgress(lambda mlp: mlp.parameters.sum())
    mlp.fit(X, LABELS, batch_size=8, seed=0, callbacks=[watch])


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize(
    ("train", "functions"),
    [(by_hand, OF_STEPS), (by_hand, OF_THREADS), (by_fit, OF_A_FIT)],
    ids=["steps", "threads", "fit"],
)
def test_a_handler_may_look_at_a_network_between_any_two_lines(train, functions, forced_threads):
    """As one for SIGTERM does that saves the network: it waits for nobody, and disturbs nothing."""
    fastmlp.set_num_threads(3)

    def trained(place):
        mlp, seen = network(), []

        def look():
            seen.append((copy.copy(mlp), mlp.gradients.copy(), mlp.predict_proba(X)))

        by_hand(mlp)
        with between_lines(place, functions, look) as done:
            train(mlp)
            after = gradients(mlp)
        by_hand(mlp)
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


def new_pool(monkeypatch, meanwhile):
    """One of three threads by default; what is done while that is being found."""
    monkeypatch.setattr(threads, "_pool", pool := threads._Pool())
    monkeypatch.setattr(threads, "_default_threads", lambda: meanwhile() or 3)
    return pool


def test_a_number_chosen_while_the_default_is_found_stays(monkeypatch):
    new_pool(monkeypatch, lambda: threads.set_num_threads(5))
    fastmlp.get_num_threads()
    assert fastmlp.get_num_threads() == 5


def test_a_share_of_the_cores_is_at_most_the_default_and_no_more_than_a_choice(monkeypatch):
    monkeypatch.delenv("FASTMLP_NUM_THREADS", raising=False)
    pool = new_pool(monkeypatch, lambda: threads.share_threads(2))
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


# Machine code


@entry
def _compiled_here(x):
    return x


def test_what_compiling_changes_for_all_threads_is_changed_under_its_lock(monkeypatch):
    """Two at a time would leave garbage uncollected for ever, and so would a child forked then."""
    held = []

    def note(*arguments):
        held.append(global_compiler_lock.is_locked())
        return True

    watched = SimpleNamespace(isenabled=note, disable=note, enable=note)
    monkeypatch.setattr(_jit, "gc", watched)
    _compiled_here.compile((types.float64,))
    assert held == [True, True, True]
    assert not global_compiler_lock.is_locked()


def test_a_function_of_ones_own_is_compiled_once_whoever_comes_in_between(monkeypatch):
    """Another thread, a fork or a handler that uses the same function."""
    held, within = [], []

    def address():
        return Formula.of_own(np.sin, np.cos, np.float64).address

    def compile_and_ask(*arguments):
        held.append(global_compiler_lock.is_locked())
        number = len(held)
        if number == 1:
            within.append(address())
        return SimpleNamespace(address=number)

    monkeypatch.setattr(_own, "_compile", compile_and_ask)
    monkeypatch.setattr(_own, "_compiled", {})
    assert within_limit(lambda: [address(), address()]) == within * 2 == [2, 2]
    assert held == [True, True]


def test_code_that_is_compiled_while_other_code_is_kept(monkeypatch):
    overloads, kept = dict.fromkeys("abc"), []

    def save(cache, sig, data):
        kept.append(sig)
        overloads[f"{sig} again"] = None

    cache = object.__new__(KernelCache)
    monkeypatch.setattr(FunctionCache, "_save_overload", save, raising=False)
    monkeypatch.setattr(KernelCache, "signatures", lambda cache: ["b"])
    cache.keep(overloads)
    assert kept == ["a", "c"]


def test_the_fastest_unit_is_measured_once(monkeypatch):
    """Another thread that asks meanwhile waits: it may not find another one to be the fastest."""
    measured, again, others = [], threading.Event(), []

    def rate(unit, *rest):
        measured.append(unit)
        if len(measured) == 1:
            other.start()
            again.wait(0.3)
        elif threading.current_thread() is other:
            again.set()
        return -len(measured)

    other = threading.Thread(target=lambda: others.append(_rates.bfloat16_unit()))
    monkeypatch.setattr(_rates, "_fastest", [])
    monkeypatch.setattr(_rates, "has_bfloat16", lambda: True)
    monkeypatch.setattr(_rates, "peak_gflops", rate)
    unit = _rates.bfloat16_unit()
    other.join(LIMIT)
    assert others == [unit]
    assert len(set(map(type, measured))) == len(measured)


def test_warmup_leaves_the_filters_of_warnings_alone(monkeypatch):
    """They are those of all threads: what another adds meanwhile stays."""

    def compile_kernels(*arguments):
        warnings.filterwarnings("ignore", "told by another thread")
        _cache._warn("silent")

    monkeypatch.setattr(_cache, "_warned", threading.Event())
    monkeypatch.setattr(warmup, "compile_kernels", compile_kernels)
    monkeypatch.setattr(warmup, "keep_code", lambda: None)
    with warnings.catch_warnings():
        warmup.warmup()
        assert any(f[1] and f[1].match("told by another thread") for f in warnings.filters)
        assert not _cache._warned.is_set()
        with pytest.warns(_cache.NotKeptWarning, match="loud"):
            _cache._warn("loud")


# Downloads


def test_downloads_of_several_threads_leave_poochs_log_as_it_was(caplog):
    """Whoever began first may end first."""
    pooch = pytest.importorskip("pooch")
    logger, quiet = pooch.get_logger(), _download._quiet_pooch
    first, second = quiet(), quiet()
    before = logger.level, list(logger.filters)
    with caplog.at_level("INFO", logger=logger.name):
        logger.addHandler(caplog.handler)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        logger.info("a transfer")
        logger.error("it failed")
        second.__exit__(None, None, None)
        logger.info("another's")
        logger.removeHandler(caplog.handler)
    assert {record.message for record in caplog.records} == {"it failed", "another's"}
    assert (logger.level, list(logger.filters)) == before
