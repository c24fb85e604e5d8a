"""Fits for ``train_many``, executors in this process, and callbacks that wait."""

import threading
from concurrent.futures import Executor, Future

import numpy as np

from tests.networks import batch, build
from tests.resumes import assert_same, outcome

X, LABELS, _ = batch(60, 5, 3, dtype=np.float32)

# Epochs that take longer than anyone waits.
FOREVER = 10**6


def network(seed):
    return build([5, 17, 3], dtype=np.float32, seed=seed, momentum=0.9)


def options(**more):
    return {"x": X, "labels": LABELS, "batch_size": 7, "epochs": 3, **more}


class Meeting:
    """Every fit waits for the others at its start, for ``patience`` seconds at most."""

    def __init__(self, parties, patience):
        self.barrier = threading.Barrier(parties)
        self.patience = patience

    def on_train_begin(self, mlp, plan):
        self.barrier.wait(self.patience)


class Waiting:
    """Keeps its fit going until it is ended from outside; says when it has begun."""

    def __init__(self):
        self.begun = threading.Event()

    def on_progress(self, progress):
        self.begun.set()


def fits_of(count, **more):
    return [(network(seed), options(seed=seed, **more)) for seed in range(count)]


def assert_trained(fits):
    for seed, (mlp, _) in enumerate(fits):
        reference = network(seed)
        reference.fit(**options(seed=seed))
        assert_same(outcome(mlp), outcome(reference))


class Direct(Executor):
    """Calls at once, in the caller's thread."""

    def submit(self, function, /, *arguments, **options):
        future = Future()
        try:
            future.set_result(self.call(function))
        except Exception as error:
            future.set_exception(error)
        return future

    def call(self, function):
        return function()
