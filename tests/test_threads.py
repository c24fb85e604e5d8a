"""Threads never change a number; several callers and the environment work."""

import linecache
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastmlp
from fastmlp import Identity, ReLU, Sigmoid, Tanh, threads
from fastmlp._cores import usable_cores
from tests.interrupts import is_held
from tests.networks import assert_same_state, batch, build, gradients, state
from tests.processes import run_python
from tests.reference import train_epoch

COUNTS = [1, 2, 3, 4]

NETWORKS = {
    "large": ([300, 200, 301, 10], [ReLU, Sigmoid, Identity], 1, 256),
    "narrow": ([97, 17, 1, 2], [Tanh, ReLU, Identity], 0, 9),
    "around a tile": ([49, 47, 48, 15], [ReLU, Tanh, Identity], 2, 33),
    "linear classifier": ([784, 10], [Identity], 0, 7),
}

every_dtype = pytest.mark.parametrize("dtype", [np.float64, np.float32, "bfloat16"])


@pytest.fixture(autouse=True)
def _restore_num_threads():
    before = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(before)


@pytest.fixture
def any_work_is_worth_a_thread(monkeypatch):
    """Small networks run on one thread whatever is asked for; these tests want them split."""
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 1)


def by_hand(mlp, x, labels, y, batch_size):
    train_epoch(mlp, x, y, batch_size)


def by_fit(mlp, x, labels, y, batch_size):
    mlp.fit(x, labels, epochs=2, batch_size=batch_size, seed=0)


@pytest.mark.usefixtures("any_work_is_worth_a_thread")
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("train", [by_hand, by_fit])
@every_dtype
def test_bits_do_not_depend_on_the_number_of_threads(network, train, dtype):
    sizes, activations, num_bn_layers, batch_size = network
    x, labels, y = batch(2 * batch_size + 3, sizes[0], sizes[-1], dtype=dtype)

    def results(count):
        fastmlp.set_num_threads(count)
        mlp = build(sizes, activations, dtype=dtype, num_bn_layers=num_bn_layers, momentum=0.9)
        train(mlp, x, labels, y, batch_size)
        probabilities = {"probabilities": mlp.predict_proba(x)}
        return state(mlp) | gradients(mlp) | probabilities

    expected = results(COUNTS[0])
    assert all(np.isfinite(value).all() for value in expected.values())
    for count in COUNTS[1:]:
        assert_same_state(results(count), expected)


def test_default_split_of_a_large_network_gives_the_same_bits():
    """The same without forcing: products here are worth four threads by the library's own rule."""
    x, labels, _ = batch(600, 500, 10, dtype=np.float32)

    def results(count):
        fastmlp.set_num_threads(count)
        mlp = build([500, 300, 10], dtype=np.float32, momentum=0.9)
        mlp.fit(x, labels, epochs=1, batch_size=300, seed=0)
        return state(mlp)

    expected = results(1)
    for count in COUNTS[1:]:
        assert_same_state(results(count), expected)


@pytest.mark.usefixtures("any_work_is_worth_a_thread")
@pytest.mark.parametrize("classes", [49, 130])
@every_dtype
def test_the_loss_waits_for_logits_of_several_panels(classes, dtype):
    """A row of them is the work of several threads, and a loss of half a row would be stale.

    A hundred short steps: without the barrier no fit of twenty on 2, 3 or 4 threads got through.
    """
    x, labels, _ = batch(800, 5, classes, dtype=dtype)

    def results(count):
        fastmlp.set_num_threads(count)
        mlp = build([5, classes], dtype=dtype, momentum=0.9)
        history = mlp.fit(x, labels, batch_size=8, seed=0)
        return state(mlp) | {"losses": np.array(history.step_loss)}

    expected = results(1)
    for count in COUNTS[1:]:
        assert_same_state(results(count), expected)


@pytest.mark.parametrize("count", COUNTS)
def test_set_and_get(count):
    fastmlp.set_num_threads(count)
    assert fastmlp.get_num_threads() == count


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_set_refuses_what_is_no_count(count):
    before = fastmlp.get_num_threads()
    with pytest.raises((ValueError, TypeError), match=f"1.*{count}"):
        fastmlp.set_num_threads(count)
    assert fastmlp.get_num_threads() == before


def run_with(code, **environment):
    """A fresh interpreter; (exit status, output, errors)."""
    unset = dict.fromkeys(("FASTMLP_NUM_THREADS", "NUMBA_NUM_THREADS"))
    result = run_python("-c", code, **unset | environment)
    return result.returncode, result.stdout.strip(), result.stderr


@pytest.mark.parametrize("value", ["1", "2", "3"])
def test_environment_variable(value):
    code = "import fastmlp; print(fastmlp.get_num_threads())"
    status, output, errors = run_with(code, FASTMLP_NUM_THREADS=value)
    assert (status, output) == (0, value), errors


@pytest.mark.parametrize("limit", ["", "1", "1000"])
def test_default_is_the_number_of_usable_cores_within_numbas_limit(limit):
    code = "import fastmlp; print(fastmlp.get_num_threads())"
    status, output, errors = run_with(code, **({"NUMBA_NUM_THREADS": limit} if limit else {}))
    expected = min(usable_cores(), int(limit or 1000))
    assert (status, output) == (0, str(expected)), errors


@pytest.mark.parametrize("value", ["0", "-2", "many"])
@pytest.mark.parametrize("use", ["get_num_threads()", "layers.ReLU()([1.0])"])
def test_environment_variable_that_is_no_count(value, use):
    """Told where threads are first asked for, not by the import; set_num_threads overrides it."""
    status, output, errors = run_with(
        f"import fastmlp; print('imported'); fastmlp.{use}", FASTMLP_NUM_THREADS=value
    )
    assert (status, output) == (1, "imported")
    assert f"FASTMLP_NUM_THREADS must be a whole number from 1, got {value!r}" in errors
    code = f"import fastmlp; fastmlp.set_num_threads(2); fastmlp.{use}"
    assert run_with(code, FASTMLP_NUM_THREADS=value)[0] == 0


# Callers at the same time


def fitted(seed, dtype=np.float32, epochs=2):
    mlp = build([300, 200, 10], dtype=dtype, momentum=0.9, num_bn_layers=1, seed=seed)
    x, labels, y = batch(600, 300, 10, dtype=dtype, seed=seed)
    train_epoch(mlp, x, y, 200)
    mlp.fit(x, labels, epochs=epochs, batch_size=200, seed=seed)
    return state(mlp) | {"probabilities": mlp.predict_proba(x)}


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("callers", [2, 5])
def test_fits_at_the_same_time(callers, count):
    """Networks of their own, trained from several Python threads, end as one after the other."""
    fastmlp.set_num_threads(count)
    seeds = range(2 * callers)
    expected = [fitted(seed) for seed in seeds]
    with ThreadPoolExecutor(callers) as pool:
        for actual, value in zip(pool.map(fitted, seeds), expected, strict=True):
            assert_same_state(actual, value)


def test_one_network_predicts_for_several_threads():
    mlp = build([300, 200, 10], dtype=np.float32, num_bn_layers=1)
    inputs = [batch(50 + seed, 300, 10, dtype=np.float32, seed=seed)[0] for seed in range(20)]
    expected = [mlp.predict_proba(x) for x in inputs]
    with ThreadPoolExecutor(4) as pool:
        for actual, value in zip(pool.map(mlp.predict_proba, inputs), expected, strict=True):
            np.testing.assert_array_equal(actual, value)


def test_threads_that_cannot_be_started_are_done_without(monkeypatch):
    """And the next caller gets its threads again."""

    def refuse(worker):
        raise RuntimeError("can't start new thread")

    pool, workers = threads._Pool(3), []
    monkeypatch.setattr(threads._Worker, "start", refuse)
    pool.take(3, workers)
    assert workers == []
    assert pool.busy == 1
    pool.give_back(workers)
    assert pool.busy == 0


def test_an_exception_before_the_meeting_lets_the_workers_finish():
    """What a signal's handler raises while part 0 has not met the others."""
    fastmlp.set_num_threads(2)
    calls = []

    def interrupted_once(team):
        calls.append(team.part)
        if team.part == 0 and calls.count(0) == 1:
            raise TimeoutError
        if team.part == 0:
            team.sync[threads.SLOT] = team.parts
        while team.sync[threads.SLOT] == 0:
            time.sleep(0.001)

    with pytest.raises(TimeoutError):
        threads.run(interrupted_once, 2, ())
    deadline = time.monotonic() + 10
    while len(calls) < 3 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert sorted(calls) == [0, 0, 1]


def interrupt_at(place):
    """Raise KeyboardInterrupt before the line of that number that lends or gives back workers.

    Lines of ``with`` and ``try`` are left out: the interpreter answers no signal there.
    """
    pool, left = threads._Pool, [place]
    crew = threads.Crew
    functions = threads.run, crew.run, crew._begin, crew._dismiss, pool.take, pool.give_back
    functions += pool.let_stay, pool.call_back, pool._send_away, pool.busy.fget
    watched = {f.__code__ for f in functions}

    def trace(frame, event, argument):
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not line.strip().startswith(("with ", "try:")):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
        return trace

    sys.settrace(lambda frame, event, argument: trace if frame.f_code in watched else None)


def test_an_interrupt_at_any_line_costs_no_thread(monkeypatch):
    """Whether workers were there or had to be started."""

    def meet(team):
        if team.part == 0:
            team.sync[threads.SLOT] = team.parts

    def interrupted(place):
        interrupt_at(place)
        try:
            threads.run(meet, 3, ())
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
        return False

    for filled in (False, True):
        place = 0
        while True:
            monkeypatch.setattr(threads, "_pool", pool := threads._Pool(3))
            if filled:
                threads.run(meet, 3, ())
            before = set(threading.enumerate())
            ended = not interrupted(place)
            assert (pool.busy, is_held(pool.lock)) == (0, False), place
            started = set(threading.enumerate()) - before
            assert started <= pool.idle.keys(), place
            assert all(worker.is_alive() for worker in pool.idle), place
            threads.run(meet, 3, ())
            assert len(pool.idle) == 2, place
            pool.chosen = 1
            threads.run(meet, 1, ())
            if ended:
                break
            place += 1
        assert place > 20


def test_workers_are_kept_for_the_next_call_and_ended_where_they_are_too_many():
    def callers(wanted):
        seen, meeting = [], threading.Barrier(wanted)

        def note(team):
            seen.append(threading.current_thread())
            meeting.wait(10)

        threads.run(note, wanted, ())
        return set(seen)

    fastmlp.set_num_threads(3)
    first = callers(3)
    assert len(first) == 3
    assert callers(3) == first
    fastmlp.set_num_threads(1)
    assert callers(1) == {threading.current_thread()}
    for worker in first - {threading.current_thread()}:
        worker.join(10)
        assert not worker.is_alive()
