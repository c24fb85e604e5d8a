"""Nothing grows: no memory, threads, files or objects, however often something is done.

With ``-m long`` it is 1,000 epochs, 10,000 calls of predict, 1,000 networks, and 200 interrupted
fits; by default fewer.
"""

import _thread
import gc
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from fastmlp import threads
from tests.interrupts import is_held
from tests.networks import batch, build

STATUS = Path("/proc/self/status")
# Rounds that are counted, after two that fill what is kept.
ROUNDS = 5
# What memory may grow by in a round: the unit in which the allocator takes it from the system and
# gives it back. A network that stays would take 700.
KILOBYTES = 128

pytestmark = pytest.mark.skipif(not STATUS.exists(), reason="Linux says how much memory is taken")

X, LABELS, _ = batch(600, 300, 10, dtype=np.float32)


def network(seed=0):
    """Every seed has another width, and a dtype or an update rule of its own."""
    width, kind = 150 + seed % 50, ({}, {"num_bn_layers": 1}, {"dropout": 0.2})[seed % 3]
    return build([300, width, 10], dtype=np.float32, momentum=0.9, seed=seed, **kind)


def used():
    """(kilobytes, objects, threads of Python and of the system, open files)."""
    gc.collect()
    line = next(x for x in STATUS.read_text().splitlines() if x.startswith("RssAnon:"))
    files = len(os.listdir("/proc/self/fd"))
    return int(line.split()[1]), len(gc.get_objects()), threading.active_count(), tasks(), files


def tasks():
    """Threads of the system: one that has ended for Python ends there a moment later."""
    counts = []
    for _ in range(4):
        counts.append(len(os.listdir("/proc/self/task")))
        time.sleep(0.02)
    return min(counts)


def epochs(mlp, count):
    mlp.fit(X, LABELS, epochs=count, batch_size=200, validation_data=(X, LABELS))


def predictions(mlp, count):
    for i in range(count):
        mlp.predict(X[: (1, 3, 600)[i % 3]])


def networks(mlp, count):
    for seed in range(count):
        mlp = network(seed)
        mlp.fit(X, LABELS, batch_size=200)
        mlp.predict(X[:1])


class Interrupt:
    """A callback that interrupts: itself, or by a signal that comes at any moment from now on."""

    def __init__(self, way):
        self.way = way

    def on_train_begin(self, mlp, plan):
        if self.way == "signal":
            signal.setitimer(signal.ITIMER_REAL, np.random.default_rng().uniform(1e-4, 5e-3))

    def on_progress(self, progress):
        if self.way == "callback":
            raise KeyboardInterrupt
        if self.way == "interrupt_main":
            _thread.interrupt_main()


def interrupts(mlp, count):
    """By turns in the ways there are; the timer's signal does what Ctrl-C does."""
    numbers = signal.SIGALRM, signal.SIGINT
    # A shell lets what it runs in the background ignore SIGINT, and so do its children.
    handlers = [signal.signal(number, signal.default_int_handler) for number in numbers]
    try:
        for i in range(count):
            way = ("callback", "signal", "interrupt_main")[i % 3]
            with pytest.raises(KeyboardInterrupt):
                mlp.fit(X, LABELS, epochs=10**6, batch_size=200, callbacks=[Interrupt(way)])
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)
    assert (threads._pool.busy, mlp.buffers.session) == (0, None)
    assert not is_held(mlp.buffers.lock)
    assert np.isfinite(mlp.parameters).all()


def growth(values):
    """From round to round, the lower median: what grows does so in each, others come and go."""
    return np.quantile(np.diff(values), 0.5, method="lower")


def assert_nothing_grows(work, count):
    mlp, found = network(), []
    # What is there already is not looked at again: of many tests that is a second each time.
    gc.freeze()
    try:
        for _ in range(2 + ROUNDS):
            work(mlp, count // ROUNDS)
            found.append(used())
    finally:
        gc.unfreeze()
    found = found[2:]
    print(work.__name__, count, *found)
    kilobytes, objects, *others = np.array(found).T
    assert growth(kilobytes) <= KILOBYTES, found
    assert growth(objects) <= 1, found
    assert all((counts == counts[0]).all() for counts in others), found


@pytest.mark.parametrize(
    ("work", "count"), [(epochs, 50), (predictions, 1000), (networks, 50), (interrupts, 30)]
)
def test_nothing_grows(work, count):
    assert_nothing_grows(work, count)


@pytest.mark.long
@pytest.mark.parametrize(
    ("work", "count"), [(epochs, 1000), (predictions, 10_000), (networks, 1000), (interrupts, 200)]
)
def test_nothing_grows_in_the_long_run(work, count):
    assert_nothing_grows(work, count)
