"""How the number of threads of a training is found, on machines that are made up."""

import itertools

import numpy as np
import pytest

import fastmlp
from fastmlp import _by_hand, _pace, _session, threads
from fastmlp._by_hand import _PaceByHand
from fastmlp._pace import Call, Pace
from fastmlp.kernels.epoch import train_steps
from fastmlp.kernels.network import BACKWARD, FORWARD, UPDATE
from tests.networks import assert_same_state, batch, build, state


class Machine:
    """Time passes by what steps take on so many threads: ``per_step(threads, now)``."""

    def __init__(self, per_step, most=2):
        self._per_step, self.now = per_step, 0.0
        self.pace, self.calls, self.steps = Pace(most), [], 0

    def train(self, until, most_steps=10**9):
        """Returns how many steps a second were made."""
        before, start = self.steps, self.now
        while self.now < until:
            steps, threads = self.pace.next()
            call = Call(min(steps, most_steps), threads)
            seconds = call.steps * self._per_step(threads, self.now)
            self.pace.took(call, seconds)
            self.now, self.steps = self.now + seconds, self.steps + call.steps
            self.calls.append((call, seconds))
        return (self.steps - before) / (self.now - start)


def halved(threads, now):
    """Every thread has a core."""
    return 1e-4 / threads


def crowded(threads, now):
    """Two cores, one of which is taken: a team of two waits for time slices."""
    return {1: 1.2e-4, 2: 6e-4}[threads]


@pytest.mark.parametrize("most_steps", [3, 10**9])
def test_trials_cost_little(most_steps):
    """A few parts in 100 of the time as long as they come often, and about one later."""
    machine = Machine(halved)
    assert machine.train(0.5, most_steps) > 0.95 * 2e4
    assert machine.train(20, most_steps) > 0.985 * 2e4
    assert machine.pace.threads == 2
    tried = [call for call, _ in machine.calls if call.threads == 1]
    assert len(tried) > 5


def test_a_crowded_machine_is_noticed_soon():
    machine = Machine(crowded)
    machine.train(0.5)
    assert machine.pace.threads == 1
    assert machine.train(5) > 0.93 / 1.2e-4


def test_and_at_once_where_it_is_clear():
    """Within the first of many short epochs."""
    machine = Machine(crowded)
    machine.train(0.06)
    assert machine.pace.threads == 1


def test_a_small_gain_is_tried_twice():
    machine = Machine(lambda threads, now: {1: 1.2e-4, 2: 1.8e-4}[threads])
    machine.train(0.5)
    tried = [
        len(list(calls)) for n, calls in itertools.groupby(machine.calls, lambda c: c[0].threads)
    ]
    assert machine.pace.threads == 1
    assert len(tried) >= 4


def test_more_threads_are_tried_twice_whatever_the_first_says():
    """Two threads are lucky for a whole trial; afterwards they wait for time slices."""
    lucky = []

    def per_step(threads, now):
        if threads == 2 and now > 1 and now < (lucky or [now])[0] + 0.02:
            lucky.append(now)
            return 1e-6
        return crowded(threads, now)

    machine = Machine(per_step)
    machine.train(1)
    while machine.now < 4:
        machine.train(machine.now + 1e-9)
        assert machine.pace.threads == 1
    assert lucky


def test_load_that_comes_and_goes():
    """Seen soon, both ways, also after a long quiet time: the first call on the crowded machine
    takes 1.2 seconds, having as many steps as took 0.1 before."""

    def per_step(threads, now):
        return crowded(threads, now) if 20 <= now < 30 else halved(threads, now)

    machine = Machine(per_step)
    machine.train(22)
    assert machine.pace.threads == 1
    machine.train(34)
    assert machine.pace.threads == 2


@pytest.mark.parametrize("begin", [20, 20.4, 20.8, 21.2, 21.6])
def test_load_is_noticed_by_what_it_does(begin):
    """Not only when the next trial is due, which on a quiet machine is every two seconds."""

    def per_step(threads, now):
        return 2e-4 if threads == 2 and now >= begin else halved(threads, now)

    machine = Machine(per_step)
    machine.train(begin + 1.2)
    assert machine.pace.threads == 1


def test_a_hopeless_trial_is_given_up():
    """A step takes two time slices on two threads, 200 times as long as on one."""
    machine = Machine(lambda threads, now: {1: 1e-4, 2: 2e-2}[threads])
    machine.train(2)
    assert machine.train(12) > 0.95 / 1e-4


def test_a_slower_trial_is_no_reason_and_neither_is_a_lucky_one():
    """One trial in three is lucky, as where somebody else pauses; none follows another."""
    lucky = itertools.cycle([True, False, False])

    def per_step(threads, now):
        return 1e-4 if threads == 2 else (5e-5 if next(lucky) else 2e-4)

    machine = Machine(per_step)
    machine.train(10)
    assert {call.threads for call, seconds in machine.calls if seconds > 0.06} == {2}


@pytest.mark.parametrize("best", [1, 5, 12, 15, 16])
def test_the_best_of_many_is_found(best):
    """Threads beyond those that have a core make all wait, the more the longer."""

    def per_step(threads, now):
        return 1e-3 / threads if threads <= best else 1e-3 / best * (1 + threads / best)

    machine = Machine(per_step, most=16)
    machine.train(5)
    assert machine.train(15) > 0.9 * best / 1e-3


def test_calls_take_about_a_tenth_of_a_second():
    machine = Machine(halved)
    machine.train(2)
    seconds = [took for call, took in machine.calls if call.threads == 2]
    # From one step on, twice as many each time.
    assert 8 < sum(took < 0.05 for took in seconds) < 20
    assert max(seconds) == pytest.approx(_pace.SECONDS_PER_CALL, rel=0.01)


def test_one_thread_tries_nothing():
    machine = Machine(halved, most=1)
    machine.train(3)
    assert {call.threads for call, _ in machine.calls} == {1}


def test_by_hand_only_whole_steps_tell():
    """Forward passes of an evaluation between them take a while, and are none of a step."""
    by_hand, seen = _PaceByHand(2), []
    for _ in range(3000):
        for part in (FORWARD, FORWARD, FORWARD, BACKWARD, UPDATE):
            by_hand.took(part, crowded(by_hand.threads, 0))
        seen.append(by_hand.threads)
    assert seen[0] == 2
    assert seen[-1] == by_hand._pace.threads == 1
    assert by_hand._pace._per_step == pytest.approx(3 * crowded(1, 0))


def fitted(mlp, x, labels):
    return mlp.fit(x, labels, epochs=3, batch_size=16, seed=0).step_loss


def stepped(mlp, x, labels):
    losses = []
    for first in range(0, len(x), 16):
        mlp.zero_grads()
        mlp.forward(x[first : first + 16])
        mlp.backward(labels[first : first + 16])
        losses.append(mlp.total_loss(labels[first : first + 16]))
        mlp.step()
    return losses


# The loop by hand leaves what has norms or dropout to the layers.
@pytest.mark.parametrize(
    ("train", "options"), [(fitted, {"num_bn_layers": 1, "dropout": 0.2}), (stepped, {})]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
def test_the_bits_do_not_depend_on_how_threads_change(dtype, train, options, monkeypatch):
    """Every call of a few steps on another number of threads, with all that has a phase."""
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    x, labels, _ = batch(300, 19, 5, dtype=dtype)

    def trained():
        mlp = build([19, 33, 17, 5], dtype=dtype, **options)
        losses = train(mlp, x, labels)
        return state(mlp) | {"losses": np.array(losses)}

    before = fastmlp.get_num_threads()
    fastmlp.set_num_threads(4)
    try:
        turns, seen = itertools.cycle([3, 1, 4, 2]), set()

        class Restless(Pace):
            def next(self):
                return Call(5, next(turns))

            def took(self, call, seconds):
                assert seconds > 0

        expected = trained()
        monkeypatch.setattr(_session, "Pace", Restless)
        monkeypatch.setattr(_by_hand, "Pace", Restless)
        run, run_crew = threads.run, threads.Crew.run

        def watched(function, wanted, arguments):
            if function is train_steps:
                seen.add(wanted)
            return run(function, wanted, arguments)

        def watched_crew(crew, wanted):
            seen.add(wanted)
            return run_crew(crew, wanted)

        monkeypatch.setattr(threads, "run", watched)
        monkeypatch.setattr(threads.Crew, "run", watched_crew)
        assert_same_state(trained(), expected)
        assert seen == {1, 2, 3, 4}
    finally:
        fastmlp.set_num_threads(before)
