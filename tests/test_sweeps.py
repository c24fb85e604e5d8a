"""train_many: the bits of one after the other, several at a time, and clean ends."""

import io
import os
import pickle
import re
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastmlp
from fastmlp import MeanSquaredError
from fastmlp.sweeps import FitLostError, _course, train_many
from fastmlp.sweeps._lost import all_of
from tests.networks import assert_same_state, state
from tests.sweeps import (
    FOREVER,
    LABELS,
    Meeting,
    Waiting,
    X,
    assert_trained,
    fits_of,
    network,
    options,
)


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
        ([(mlp, options()), (network(1), {"labels": LABELS})], r"fits\[1\]\[1\]: missing .*'x'"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            train_many(entries)
        assert_same_state(state(mlp), before)
    generator = np.random.default_rng(0)
    for given, message in (
        ({"max_workers": 0}, "max_workers must be at least 1, got 0"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"progress": 1}, "progress must be True or False, got 1"),
        ({"on_error": "ignore"}, "on_error must be one of raise, return, got 'ignore'"),
        ({"executor": "processes"}, "executor must be one of concurrent.futures.*got 'processes'"),
        ({"executor": lambda: 3}, r"executor\(\) must be an object of class Executor, got 3"),
        ({"fits": [(network(seed), options(seed=seed_of)) for seed, seed_of in
                   enumerate([generator, 0, generator.bit_generator])]},
         r"fits\[2\] must have a generator of its own, got that of fits\[0\] again"),
    ):  # fmt: skip
        with pytest.raises((ValueError, TypeError), match=message):
            train_many(**{"fits": [(mlp, options())], **given})
        assert_same_state(state(mlp), before)
    assert generator.bit_generator.state == np.random.default_rng(0).bit_generator.state
    assert train_many([]) == []


def test_data_that_does_not_fit_is_traced_to_its_entry():
    fits = [(network(0), options()), (network(1), options(x=X[:, :4]))]
    with pytest.raises(ValueError, match=r"x must be \(N, 5\), got \(60, 4\)") as error:
        train_many(fits)
    assert error.value.__notes__ == ["raised by fits[1] of train_many"]


# Errors


def test_errors_in_the_place_of_histories():
    fits = fits_of(4)
    fits[2] = (network(2), options(x=X[:, :4]))
    results = train_many(fits, 2, on_error="return")
    assert isinstance(results[2], ValueError)
    assert [results[i] is fits[i][0].history for i in (0, 1, 3)] == [True] * 3
    fits[2] = (network(2), {})
    fits[2][0].fit(**options(seed=2))
    assert_trained(fits)


def test_an_interrupt_in_a_fit_is_not_returned():
    class Press:
        def on_epoch_end(self, mlp, history):
            raise KeyboardInterrupt

    fits = fits_of(3)
    fits[1][1]["callbacks"] = [Press()]
    with pytest.raises(KeyboardInterrupt) as error:
        train_many(fits, 1, on_error="return")
    assert error.value.__notes__ == ["raised by fits[1] of train_many"]


@pytest.mark.parametrize("early", [0, 1])
def test_the_error_of_the_first_entry_is_raised(early):
    """Whichever has come first."""
    meeting = Meeting(2, patience=30)

    class Fail:
        def __init__(self, entry):
            self.entry = entry

        def on_progress(self, progress):
            meeting.barrier.wait(30)
            while self.entry != early and fits[early][0].buffers.session is not None:
                time.sleep(0.001)
            raise RuntimeError(f"entry {self.entry}")

    fits = [(network(i), options(callbacks=[Fail(i)])) for i in range(2)]
    with pytest.raises(RuntimeError, match="entry 0"):
        train_many(fits, 2)


# Interrupts


@pytest.mark.parametrize("place", ["_next_end", "_judge", "_take", "_ready"])
def test_an_interrupt_within_the_bookkeeping(place, monkeypatch):
    """After it was done: what runs then ends, and is waited for."""
    original, left = getattr(_course.Course, place), [2]

    def interrupted(course, *arguments):
        result = original(course, *arguments)
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(_course.Course, place, interrupted)
    waiting = Waiting()
    fits = [*fits_of(2), (network(2), options(epochs=FOREVER, callbacks=[waiting]))]
    with pytest.raises(KeyboardInterrupt):
        train_many(fits, 3)
    for mlp, _ in fits:
        assert mlp.buffers.session is None


def test_a_fit_whose_handing_over_is_interrupted_is_waited_for():
    """The executor has not answered, and its worker has begun."""
    waiting = Waiting()

    class Interrupted(ThreadPoolExecutor):
        def submit(self, *arguments, **options):
            super().submit(*arguments, **options)
            assert waiting.begun.wait(30)
            raise KeyboardInterrupt

    mlp = network(0)
    with Interrupted(1) as executor:
        with pytest.raises(KeyboardInterrupt):
            train_many([(mlp, options(epochs=FOREVER, callbacks=[waiting]))], executor=executor)
        assert mlp.buffers.session is None
        assert mlp.unfinished is not None


# What is shown


def test_a_line_for_every_fit(capsys):
    fits = fits_of(3, validation_data=(X, LABELS))
    fits[1] = (network(1), options(x=X[:, :4]))
    train_many(fits, 1, on_error="return", progress=True)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["fit", "train", "loss", "error", "val", "loss", "error", "seconds"]
    assert [line.split()[0] for line in lines] == ["0", "1", "2"]
    assert lines[1].split(maxsplit=1)[1] == "ValueError: x must be (N, 5), got (60, 4)"
    history = fits[2][0].history
    figures = [float(figure) for figure in re.findall(r"\d+\.\d+", lines[2])]
    assert figures == pytest.approx(
        [
            history.train_loss[-1], 100 * history.train_error[-1], history.val_loss[-1],
            100 * history.val_error[-1], sum(history.epoch_seconds),
        ],
        abs=0.006,
    )  # fmt: skip


def test_lines_of_a_regression_and_of_no_epoch(capsys):
    mlp = network(0)
    mlp.criterion = MeanSquaredError()
    train_many([(mlp, options(labels=X[:, :3])), (network(1), options(epochs=0))], 1, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert ["mae" in lines[0], "mae" in lines[2]] == [True, False]
    assert lines[3].split() == ["1", "no", "epoch"]


def test_a_bar_on_a_terminal(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    train_many(fits_of(3), 1, progress=True)
    shown = terminal.getvalue()
    assert all(re.search(rf"fits .*{done}/3.*━", shown) for done in range(4))
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1


def test_nothing_is_shown_unless_it_is_wanted(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    train_many(fits_of(2))
    assert sys.stdout.getvalue() == ""


def test_lost_fits_in_words():
    one, other = FitLostError([3], "it died"), FitLostError(range(4, 16), "not begun")
    assert str(one) == "fits[3] was lost: it died"
    assert str(all_of([one, FitLostError([1], "it died")])) == "fits[1], fits[3] were lost: it died"
    both = pickle.loads(pickle.dumps(all_of([other, one])))
    assert both.entries == (3, *range(4, 16))
    assert str(both).endswith(
        "were lost: fits[4], fits[5], fits[6], fits[7], fits[8], fits[9], fits[10], fits[11] and 4 "
        "more: not begun; fits[3]: it died"
    )
