"""Threads that stay in a kernel between its calls: the same ones, until others want them."""

import sys
import threading
import time

import numpy as np
import pytest

import fastmlp
from fastmlp import threads
from fastmlp.kernels._jit import entry
from fastmlp.kernels._sync import barrier, call_up, called_up
from fastmlp.threads import CALLS, GONE, SLOT, Crew
from tests.interrupts import is_held
from tests.networks import assert_same_state, batch, build, state
from tests.test_threads import interrupt_at

LIMIT = 30


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """One of three threads, of this test alone."""
    monkeypatch.setattr(threads, "_pool", pool := threads._Pool(3))
    return pool


class Calls:
    """As a kernel that counts its calls, by part, and the jobs that its workers have got.

    They stay until the crew lets them go, or the test is over.
    """

    def __init__(self):
        self.of_part_0, self.jobs, self.by = 0, 0, []
        self.pool = threads._pool

    def __call__(self, team):
        if team.part == 0:
            if team.sync[CALLS] == GONE:
                return GONE
            team.sync[CALLS] += 1
            team.sync[SLOT] = team.parts
            self.of_part_0 += 1
            return team.parts
        self.jobs += 1
        self.by.append(threading.current_thread())
        while team.sync[CALLS] != GONE and threads._pool is self.pool:
            time.sleep(0.0005)
        return None


def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_the_same_threads_serve_all_calls(pool):
    crew = Crew(calls := Calls(), ())
    assert [crew.run(3) for _ in range(5)] == [3] * 5
    assert pool.busy == 0
    until(lambda: calls.jobs == 2)
    assert calls.of_part_0 == 5
    assert {worker for _, workers in pool.staying.values() for worker in workers} == set(calls.by)


def test_others_get_them_between_two_calls(pool):
    """All that they want, and the crew has them again afterwards: no more than there may be."""
    crew = Crew(calls := Calls(), ())
    crew.run(3)
    until(lambda: calls.jobs == 2)
    others = []
    assert threads.run(lambda team: others.append(team.part) or team.parts, 3, ()) == 3
    until(lambda: sorted(others) == [0, 1, 2])
    assert pool.staying == {}
    assert len(pool.idle) == 2
    assert crew.run(3) == 3
    until(lambda: calls.jobs == 4)
    assert len(set(calls.by)) == 2


def test_and_during_a_call_those_that_are_left(pool):
    wanted = []

    def meanwhile(team):
        if team.part == 0:
            team.sync[SLOT] = team.parts
            wanted.append(threads.run(lambda other: other.parts, 3, ()))
            assert pool.busy == 2
        return 0

    Crew(meanwhile, ()).run(2)
    assert wanted == [1]


def test_those_who_have_gone_are_called_again(pool):
    crew = Crew(calls := Calls(), ())
    crew.run(3)
    until(lambda: calls.jobs == 2)
    ((team, _),) = pool.staying.values()
    team.sync[CALLS] = GONE
    assert crew.run(3) == 3
    until(lambda: calls.jobs == 4)
    assert calls.of_part_0 == 2
    assert len(set(calls.by)) == 2


@pytest.mark.parametrize("wanted", [1, 2])
def test_another_number_of_threads(pool, wanted):
    crew = Crew(calls := Calls(), ())
    assert crew.run(3) == 3
    assert crew.run(wanted) == wanted
    until(lambda: calls.jobs == 2 + wanted - 1)
    assert crew.run(3) == 3
    until(lambda: calls.jobs == 4 + wanted - 1)
    assert len(set(calls.by)) == 2


def test_an_error_lets_them_go(pool):
    def fails(team):
        raise ValueError("as a kernel that does not compile")

    crew = Crew(fails, ())
    for _ in range(2):
        with pytest.raises(ValueError, match="does not compile"):
            crew.run(3)
        assert (pool.busy, pool.staying, len(pool.idle)) == (0, {}, 2)


@pytest.mark.parametrize("begun", [False, True])
def test_an_interrupt_at_any_line_costs_no_thread(monkeypatch, begun):
    """Of the first call, and of one for which they have stayed."""
    place, ended = 0, False
    while not ended:
        monkeypatch.setattr(threads, "_pool", pool := threads._Pool(3))
        crew = Crew(Calls(), ())
        if begun:
            crew.run(3)
        interrupt_at(place)
        try:
            crew.run(3)
            ended = True
        except KeyboardInterrupt:
            pass
        finally:
            sys.settrace(None)
        assert (pool.busy, is_held(pool.lock)) == (0, False), place
        assert all(workers for _, workers in pool.staying.values()), place
        assert crew.run(3) == 3, place
        threads.run(lambda team: team.sync.__setitem__(SLOT, 1), 3, ())
        assert len(pool.idle) == 2, place
        assert all(worker.is_alive() for worker in pool.idle), place
        pool.chosen = 1
        threads.run(lambda team: None, 1, ())
        place += 1
    assert place > 10


@entry
def _count(team, by):
    """by[part] += 1 in every call, and part 0 sees what the others have done."""
    calls = 0
    going = call_up(team) if team.part == 0 else called_up(team, calls)
    while going:
        by[team.part] += 1
        barrier(team)
        calls += 1
        going = team.part > 0 and called_up(team, calls)
    if calls == 0:
        return GONE
    for part in range(team.parts):
        if by[part] < by[0]:
            return part
    return 0


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_every_part_answers_every_call(parts):
    """Whether they still look, or have gone for want of calls meanwhile."""
    by = np.zeros(3, np.int64)
    crew = Crew(_count, (by,))
    for call in range(300):
        assert crew.run(parts) == 0
        if call % 10 == 0:
            time.sleep(0.001)
    assert by.tolist() == [300 if part < parts else 0 for part in range(3)]


def test_they_go_when_no_call_comes(pool):
    by = np.zeros(3, np.int64)
    Crew(_count, (by,)).run(3)
    ((team, workers),) = pool.staying.values()
    until(lambda: team.sync[CALLS] == GONE)
    # They wait for a job: who asks gets them at once.
    assert len(workers) == 2
    assert threads.run(lambda team: team.parts, 3, ()) == 3


def test_networks_by_hand_in_several_threads_and_all_that_comes_between(monkeypatch):
    """Each ends as it does alone: they take each other's threads all the time."""
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    monkeypatch.setattr(threads, "WORK_PER_THREAD", 1)
    x, labels, _ = batch(24, 19, 5, dtype=np.float32)

    def trained(seed):
        mlp = build([19, 33, 7, 5], dtype=np.float32, momentum=0.9, seed=seed)
        for step in range(60):
            mlp.zero_grads()
            mlp.forward(x)
            mlp.backward(labels)
            mlp.step()
            if step % 7 == seed:
                mlp.predict_proba(x)
            if step % 20 == seed:
                mlp.fit(x, labels, batch_size=8, seed=step)
        return state(mlp)

    fastmlp.set_num_threads(1)
    expected = [trained(seed) for seed in range(3)]
    fastmlp.set_num_threads(3)
    found = [None] * 3

    def run(seed):
        found[seed] = trained(seed)

    running = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(LIMIT)
    for end, alone in zip(found, expected, strict=True):
        assert_same_state(end, alone)
