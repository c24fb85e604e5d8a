"""train_many: the bits of one after the other, several at a time, and clean ends."""

import os
import signal
import threading

import numpy as np
import pytest

import fastmlp
from fastmlp.sweeps import train_many
from tests.networks import assert_same_state, batch, build, state

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


@pytest.mark.parametrize("max_workers", [None, 1, 3])
def test_the_same_bits_as_one_by_one(max_workers):
    expected = [network(seed) for seed in range(5)]
    losses = [
        mlp.fit(**options(seed=seed, validation_data=(X, LABELS))).val_loss
        for seed, mlp in enumerate(expected)
    ]
    networks = [network(seed) for seed in range(5)]
    histories = train_many(
        (
            (mlp, options(seed=seed, validation_data=(X, LABELS)))
            for seed, mlp in enumerate(networks)
        ),
        max_workers,
    )
    assert [history.val_loss for history in histories] == losses
    for mlp, reference in zip(networks, expected, strict=True):
        assert_same_state(state(mlp), state(reference))


def test_fits_run_at_the_same_time_and_the_thread_count_stays():
    before = fastmlp.get_num_threads()
    counts = []

    class Counting(Meeting):
        def on_train_end(self, mlp, history):
            counts.append(fastmlp.get_num_threads())

    meeting = Counting(3, patience=30)
    fits = [(network(seed), options(callbacks=[meeting])) for seed in range(3)]
    assert len(train_many(fits, max_workers=3)) == 3
    assert counts == [before] * 3
    assert fastmlp.get_num_threads() == before


def test_no_more_than_max_workers_at_a_time():
    meeting = Meeting(2, patience=0.1)
    with pytest.raises(threading.BrokenBarrierError):
        train_many([(network(seed), options(callbacks=[meeting])) for seed in range(2)], 1)


def test_an_error_ends_the_other_fits_and_is_raised():
    waiting = Waiting()

    class Failing:
        def on_train_begin(self, mlp, plan):
            waiting.begun.wait(30)
            raise RuntimeError("stop here")

    fits = [
        (network(0), options(callbacks=[Failing()])),
        (network(1), options(epochs=FOREVER, callbacks=[waiting])),
        (network(2), options(epochs=FOREVER)),
    ]
    with pytest.raises(RuntimeError, match="stop here") as error:
        train_many(fits, max_workers=2)
    assert error.value.__notes__ == ["raised by fits[0] of train_many"]
    assert np.isfinite(fits[1][0].parameters).all()
    assert_same_state(state(fits[2][0]), state(network(2)))


@pytest.mark.skipif(os.name != "posix", reason="a signal to one thread is POSIX's")
def test_an_interrupt_ends_all_fits():
    class Interrupting(Waiting):
        def on_progress(self, progress):
            if not self.begun.is_set():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            self.begun.set()

    mlp = network(0)
    with pytest.raises(KeyboardInterrupt):
        train_many([(mlp, options(epochs=FOREVER, callbacks=[Interrupting()]))])
    assert not np.array_equal(mlp.parameters, network(0).parameters)


def test_refusals():
    mlp = network(0)
    before = state(mlp)
    for entries, message in (
        ([(mlp, options()), (network(1), options()), (mlp, options())],
         r"fits\[2\] must have a network of its own, got that of fits\[0\]"),
        ([(mlp, options()), mlp], r"fits\[1\] must be a pair .*got MLP\(5-17-3"),
        ([(mlp, options()), (X, LABELS)], r"fits\[1\]\[0\] must be an object of class MLP"),
        ([(mlp, options()), (network(1), [X, LABELS])], r"fits\[1\]\[1\] must be a mapping"),
        ([(mlp, options()), (network(1), options(epoch=3))],
         r"fits\[1\]\[1\]: fit has no argument 'epoch'; did you mean 'epochs'"),
        ([(mlp, options()), (network(1), {"x": X})], r"fits\[1\]\[1\]: missing .*'labels'"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            train_many(entries)
        assert_same_state(state(mlp), before)
    with pytest.raises(ValueError, match="max_workers must be at least 1, got 0"):
        train_many([(mlp, options())], 0)
    assert train_many([]) == []


def test_data_that_does_not_fit_is_traced_to_its_entry():
    fits = [(network(0), options()), (network(1), options(x=X[:, :4]))]
    with pytest.raises(ValueError, match=r"x must be \(N, 5\), got \(60, 4\)") as error:
        train_many(fits)
    assert error.value.__notes__ == ["raised by fits[1] of train_many"]
