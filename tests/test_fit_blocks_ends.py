"""Fits from blocks that come to a bad end, or into a process that was forked."""

import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import datasets
from fastmlp.datasets import DatasetError
from tests.blocks import THREAD, Broken, Watched, cut, readers_alive
from tests.command_line import posix
from tests.networks import batch, build, state
from tests.resumes import assert_same, outcome

X, LABELS, ROWS = batch(400, 5, 3)
BLOCKS = cut((X, LABELS), range(50, 400, 50))
OPTIONS = {"batch_size": 10, "window": 100, "shuffle": False}


def small():
    return build([5, 8, 3], momentum=0.9)


def whole():
    """What a fit that is left alone ends in."""
    mlp = small()
    mlp.fit(Watched(BLOCKS), **OPTIONS)
    return outcome(mlp)


def with_block(number, block):
    """In the place of that one; each is said to have fifty rows."""
    blocks = Watched([*BLOCKS[:number], block, *BLOCKS[number + 1 :]], counted=False)
    blocks.row_counts = [50] * 8
    return blocks


def changed(array, place, value):
    array = array.copy()
    array[place] = value
    return array


# Blocks that are refused

BAD = {
    "NaN": ((changed(X[:50], (17, 3), np.nan), LABELS[:50]), r"block {}: x\[17, 3\] .* finite"),
    "infinity": ((changed(X[:50], (0, 0), np.inf), LABELS[:50]), r"block {}: x\[0, 0\] .* finite"),
    "a class too many": (
        (X[:50], changed(LABELS[:50], 9, 3)), "block {}: labels must lie in 0 ... 2, got 3 at 9"
    ),
    "half a class": ((X[:50], LABELS[:50] / 2), "block {} must have .*int64, got .*float64"),
    "narrow": ((X[:50, :4], LABELS[:50]), r"block {} must have .*\(5,\) float64, .* got \(4,\)"),
    "another dtype": ((X[:50].astype(np.float32), LABELS[:50]), "block {} .* got .*float32"),
    "rows of labels": ((X[:50], ROWS[:50]), r"block {} .* got .*\(3,\) float64"),
    "labels too short": ((X[:50], LABELS[:49]), "block {}: labels must have 50 entries"),
    "weights in this one": ((X[:50], LABELS[:50], np.ones(50)), "block {} must have"),
    "x alone": (X[:50], r"block {} must be \(x, labels\)"),
    "four arrays": ((X[:50],) * 4, r"block {} must be \(x, labels\)"),
    "words": ((X[:50].astype(str), LABELS[:50]), r"block {}\[0\] must hold floats"),
    "nothing": (None, r"block {} must be \(x, labels\)"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_block_that_is_refused_leaves_the_last_step_and_the_fit_goes_on(what):
    """By its number and its row. Whoever mends it has the bits of an undisturbed fit."""
    block, message = BAD[what]
    blocks = with_block(5, block)
    mlp = small()
    with pytest.raises((ValueError, TypeError), match=message.format(5)):
        mlp.fit(blocks, **OPTIONS)
    # Two windows of ten steps were trained on.
    assert mlp.unfinished.step == len(mlp.history.step_loss) == 20
    twenty = small()
    twenty.fit(X[:200], LABELS[:200], batch_size=10, shuffle=False)
    assert_array_equal(mlp.parameters, twenty.parameters)
    assert readers_alive() == []
    mlp.fit(Watched(BLOCKS), resume=True, **OPTIONS)
    assert_same(outcome(mlp), whole())


@pytest.mark.parametrize("what", ["NaN", "a class too many", "narrow", "x alone", "words"])
def test_of_the_first_block_nothing_has_changed(what):
    block, _ = BAD[what]
    blocks = with_block(0, block)
    mlp = small()
    mlp.fit(X, LABELS)
    before, history = state(mlp), mlp.history
    with pytest.raises((ValueError, TypeError), match="block 0"):
        mlp.fit(blocks, **OPTIONS)
    assert mlp.history is history
    assert mlp.unfinished is None
    assert_same(state(mlp), before)


def test_more_rows_than_were_promised():
    blocks = with_block(5, (X[:60], LABELS[:60]))
    with pytest.raises(ValueError, match="block 5 must have 50 rows, as row_counts says, got 60"):
        small().fit(blocks, **OPTIONS)


def test_weights_are_looked_at_block_by_block():
    """All of a block's may be 0."""
    weights = np.ones(400)
    weights[50:100] = 0
    mlp, other = small(), small()
    mlp.fit(Watched(cut((X, LABELS, weights), range(50, 400, 50))), **OPTIONS)
    other.fit(X, LABELS, sample_weight=weights, batch_size=10, shuffle=False)
    assert_array_equal(mlp.parameters, other.parameters)
    weights[120] = -1
    with pytest.raises(ValueError, match=r"block 2: sample_weight\[20\] must be finite and at"):
        mlp.fit(Watched(cut((X, LABELS, weights), range(50, 400, 50))), **OPTIONS)


def test_nan_may_be_let_through():
    blocks = with_block(5, (changed(X[250:300], (17, 3), np.nan), LABELS[250:300]))
    with pytest.warns(RuntimeWarning, match="the loss is nan"):
        history = small().fit(blocks, check_finite=False, **OPTIONS)
    assert len(history.step_loss) == 27


REFUSED = {
    "no blocks": (([],), {}, "x must have at least one block"),
    "no rows": (([(X[:0], LABELS[:0])],), {}, "x must have at least one row"),
    "an array": ((X,), {}, "labels must be given with an array"),
    "labels beside blocks": ((Watched(BLOCKS), LABELS), {}, "labels must be left out"),
    "weights": ((BLOCKS,), {"sample_weight": LABELS}, "sample_weight must be left out"),
    "a number": ((3,), {}, "x without labels must be a sequence of blocks"),
    "a generator": ((iter(BLOCKS),), {}, "x without labels must be a sequence of blocks"),
    "window of nothing": ((BLOCKS,), {"window": 0}, "window must be at least 1"),
    "half a window": ((BLOCKS,), {"window": 1.5}, "window must be a whole number"),
    "window of an array": ((X, LABELS), {"window": 9}, "window needs blocks, or shuffle='blocks'"),
    "another shuffle": ((BLOCKS,), {"shuffle": "block"}, "shuffle must be True, False or 'blocks'"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_arguments_that_are_refused(what):
    arguments, options, message = REFUSED[what]
    mlp = small()
    before, generator = state(mlp), np.random.default_rng(0)
    with pytest.raises((ValueError, TypeError), match=message):
        mlp.fit(*arguments, seed=generator, **options)
    assert_same(state(mlp), before)
    assert mlp.history is None
    assert generator.integers(100) == np.random.default_rng(0).integers(100)


@pytest.mark.parametrize("counts", [[50] * 7, [50, -1] + [50] * 6, ["50"] * 8])
def test_row_counts_that_are_none(counts):
    blocks = Watched(BLOCKS)
    blocks.row_counts = counts
    with pytest.raises((ValueError, TypeError), match="row_counts"):
        small().fit(blocks)


OTHERS = {
    "cut elsewhere": cut((X, LABELS), [50, 90, *range(150, 400, 50)]),
    "one less": BLOCKS[1:],
    "one more": [*BLOCKS, BLOCKS[0]],
    "other numbers": [(x + 1, y) for x, y in BLOCKS],
    "smaller ones": cut((X, LABELS), range(25, 400, 25)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_fit_goes_on_with_the_same_blocks_alone(what):
    mlp = small()
    broken = Broken(BLOCKS, 5, OSError("gone"))
    with pytest.raises(OSError, match="gone"):
        mlp.fit(broken, **OPTIONS)
    with pytest.raises(ValueError, match="x must be that of the unfinished fit"):
        mlp.fit(Watched(OTHERS[what]), resume=True, **OPTIONS)
    with pytest.raises(ValueError, match="window must be that of the unfinished fit"):
        mlp.fit(Watched(BLOCKS), resume=True, **OPTIONS | {"window": 90})
    with pytest.raises(ValueError, match="shuffle must be that of the unfinished fit"):
        mlp.fit(Watched(BLOCKS), resume=True, **OPTIONS | {"shuffle": "blocks"})


# Errors and interrupts


@pytest.mark.parametrize("error", [OSError("disk"), KeyError("x"), MemoryError("too large")])
def test_what_reading_raises_comes_out_of_fit_and_says_where(error):
    blocks, mlp = Broken(BLOCKS, 5, error), small()
    with pytest.raises(type(error)) as raised:
        mlp.fit(blocks, **OPTIONS)
    assert raised.value is error
    assert error.__notes__ == ["raised by reading block 5"]
    assert readers_alive() == []
    blocks.number = None
    mlp.fit(blocks, resume=True, **OPTIONS)
    assert_same(outcome(mlp), whole())


def test_an_error_in_a_callback_leaves_no_thread():
    class Fail:
        def on_progress(self, progress):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        small().fit(Watched(BLOCKS), callbacks=[Fail()], **OPTIONS)
    assert readers_alive() == []


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_interrupt_while_a_thread_is_started_leaves_none(when, monkeypatch):
    """That of the second window reads no more than the block that it has begun."""
    start, started = threading.Thread.start, []

    class Slow(Watched):
        def __getitem__(self, number):
            block = super().__getitem__(number)
            time.sleep(0.1 * (number >= 4))
            return block

    def start_and_interrupt(thread):
        started.append(thread.name == THREAD)
        second = sum(started) == 2 and started[-1]
        if second and when == "before":
            raise KeyboardInterrupt
        start(thread)
        if second:
            raise KeyboardInterrupt

    blocks, mlp = Slow(cut((X, LABELS), range(20, 400, 20))), small()
    monkeypatch.setattr(threading.Thread, "start", start_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(blocks, batch_size=10, window=80, shuffle=False)
    assert readers_alive() == []
    assert blocks.numbers in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    assert mlp.unfinished.step == 0


def test_a_thread_stops_between_two_blocks():
    """It does not read the rest of its window first."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Watched):
        def __getitem__(self, number):
            if number == 4:
                begun.set()
                go_on.wait(60)
            return super().__getitem__(number)

    class Fail:
        def on_progress(self, progress):
            assert begun.wait(60)
            threading.Timer(0.1, go_on.set).start()
            raise ZeroDivisionError

    blocks = Slow(cut((X, LABELS), range(20, 400, 20)))
    # Who keeps the error keeps the frames that it came through.
    with pytest.raises(ZeroDivisionError) as raised:
        small().fit(blocks, batch_size=10, window=80, shuffle=False, callbacks=[Fail()])
    assert readers_alive() == []
    assert raised.tb is not None
    assert blocks.numbers == [0, 1, 2, 3, 4]


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_while_a_block_is_awaited(number):
    """One that does not come until the fit has ended."""
    ended = threading.Event()
    fit_thread = threading.get_ident()

    class Stuck(Watched):
        def __getitem__(self, i):
            if i == 5:
                # By then the two windows before are surely trained on.
                threading.Timer(0.3, signal.pthread_kill, (fit_thread, number)).start()
                ended.wait()
            return super().__getitem__(i)

    def interrupt(*_):
        raise KeyboardInterrupt

    mlp, before = small(), signal.signal(number, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            mlp.fit(Stuck(BLOCKS), **OPTIONS)
    finally:
        signal.signal(number, before)
        ended.set()
    for thread in readers_alive():
        thread.join(60)
    assert readers_alive() == []
    assert mlp.unfinished.step in (10, 20)
    mlp.fit(Watched(BLOCKS), resume=True, **OPTIONS)
    assert_same(outcome(mlp), whole())


# Files that change


def npy_files(folder):
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", LABELS)
    return datasets.open_blocks([(folder / "x.npy", folder / "y.npy")], block_rows=50)


@pytest.mark.parametrize("name", ["x.npy", "y.npy"])
def test_a_file_that_shrinks_while_it_is_read_is_named(name, tmp_path):
    """A memory map of it would end the process."""
    blocks, mlp = npy_files(tmp_path), small()

    class Cut:
        def on_progress(self, progress):
            os.truncate(tmp_path / name, 2000)

    with pytest.raises(DatasetError, match=rf"{name}: changed (since|while) it was"):
        mlp.fit(blocks, callbacks=[Cut()], **OPTIONS)
    assert mlp.unfinished.step in (10, 20)
    assert readers_alive() == []
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", LABELS)
    mlp.fit(blocks, resume=True, callbacks=[], **OPTIONS)
    assert_same(outcome(mlp), whole())


# Copies, processes


def test_the_network_can_be_pickled_while_blocks_are_read():
    found = []

    class Copy:
        def on_progress(self, progress):
            found.append((progress.step, pickle.loads(pickle.dumps(self.mlp)).parameters.copy()))

        def on_train_begin(self, mlp, plan):
            self.mlp = mlp

    small().fit(Watched(BLOCKS), callbacks=[Copy()], **OPTIONS)
    for step, parameters in found:
        some = small()
        some.fit(X, LABELS, batch_size=10, shuffle=False, max_steps=step)
        assert_array_equal(parameters, some.parameters)
    assert found[-1][0] == 40


@posix
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("step", [5, 10, 15, 40])
def test_a_fork_in_a_callback_goes_on_in_both(step):
    """The child has no thread that reads: it reads by itself what was being read."""
    expected, mlp = whole(), small()

    class ForkAndGoOn:
        pid = None

        def on_progress(self, progress):
            if progress.step == step and self.pid is None:
                self.pid = os.fork()
                if self.pid == 0:
                    # A child that hangs ends by itself.
                    signal.alarm(60)

    fork, same = ForkAndGoOn(), False
    try:
        mlp.fit(Watched(BLOCKS), callbacks=[fork], **OPTIONS)
        same = all(np.array_equal(v, expected[k]) for k, v in outcome(mlp).items())
    finally:
        if fork.pid == 0:
            os._exit(0 if same else 1)
    assert same
    assert os.waitstatus_to_exitcode(os.waitpid(fork.pid, 0)[1]) == 0
