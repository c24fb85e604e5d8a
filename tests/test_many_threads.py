"""Eight Python threads at once: the bits of one after the other, whatever they are doing."""

import copy
import itertools
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, SoftmaxCrossEntropy, get_training_stats, optimizers
from fastmlp.engine import Trainer
from tests.networks import assert_same_state, batch, build, state, train_by_hand
from tests.reference import one_hot

THREADS = 8
SIZES = [20, 33, 33, 5]
X, LABELS, _ = batch(150, SIZES[0], SIZES[-1])

KINDS = {
    "momentum": {"dtype": np.float32, "momentum": 0.9},
    "batch norm": {"dtype": np.float32, "num_bn_layers": 2},
    "dropout": {"dtype": np.float32, "dropout": 0.3},
    "Adam": {"dtype": np.float32, "lr": None, "optimizer": optimizers.Adam(1e-3)},
    "float64": {"dtype": np.float64, "momentum": 0.9},
    "bfloat16": {"dtype": "bfloat16", "momentum": 0.9},
    "layer norm, residual": {"dtype": np.float32, "num_ln_layers": 2, "residual": True},
    "clipping, averages": {
        "dtype": np.float64, "lr": None, "dropout": 0.2,
        "optimizer": optimizers.AdamW(1e-3, clip_norm=0.1, average=0.9),
    },
}  # fmt: skip

# How often the interpreter lets another thread on: as by default, and as often as it can.
INTERVALS = [sys.getswitchinterval(), 1e-5]


@pytest.fixture(params=INTERVALS, ids="{} s".format)
def switching(request):
    sys.setswitchinterval(request.param)
    yield
    sys.setswitchinterval(INTERVALS[0])


@pytest.fixture
def switching_often():
    sys.setswitchinterval(INTERVALS[1])
    yield
    sys.setswitchinterval(INTERVALS[0])


def life(kind, path):
    """All that came of a network that was trained both ways, predicted, was saved and loaded."""
    mlp = build(SIZES, seed=len(kind), dropout_seed=3, **KINDS[kind])
    train_by_hand(mlp, X[:32], LABELS[:32], steps=2)
    history = mlp.fit(
        X, LABELS, epochs=3, batch_size=16, seed=1, validation_data=(X[:40], LABELS[:40])
    )
    mlp.save(path)
    again = MLP.load(path)
    again.fit(X, LABELS, batch_size=16, seed=2)
    return state(mlp) | {
        "velocities": mlp.velocities.copy(),
        "losses": np.array(history.step_loss + history.val_loss),
        "probabilities": mlp.predict_proba(X),
        "row": mlp.predict_proba(X[:1]),
        "file": np.frombuffer(path.read_bytes(), np.uint8),
        "went on": again.parameters.copy(),
    }


def at_once(*calls):
    """The results of functions that begin together, a thread for each."""
    meeting = threading.Barrier(len(calls))

    def begin(call):
        meeting.wait(30)
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(begin, calls))


@pytest.mark.usefixtures("forced_threads", "switching")
@pytest.mark.parametrize("count", [1, 3])
def test_different_networks_end_as_one_after_the_other(count, tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    fastmlp.set_num_threads(count)
    assert len(KINDS) == THREADS
    expected = [life(kind, tmp_path / "alone") for kind in KINDS]
    for _ in range(2):
        found = at_once(*(partial(life, kind, tmp_path / kind) for kind in KINDS))
        for actual, alone in zip(found, expected, strict=True):
            assert_same_state(actual, alone)


@pytest.mark.usefixtures("switching_often")
def test_networks_may_share_activations_and_criterion():
    """Fits and predictions keep nothing in them."""
    activations, criterion = build(SIZES).activations, SoftmaxCrossEntropy()

    def results(seed, shared=True):
        mlp = build(SIZES, seed=seed)
        if shared:
            mlp.activations, mlp.criterion = activations, criterion
        mlp.fit(X, LABELS, epochs=5, batch_size=16, seed=seed, validation_data=(X, LABELS))
        return state(mlp) | {"probabilities": mlp.predict_proba(X)}

    found = at_once(*(partial(results, seed) for seed in range(THREADS)))
    for seed, actual in enumerate(found):
        assert_same_state(actual, results(seed, shared=False))


@pytest.mark.usefixtures("forced_threads", "switching")
@pytest.mark.parametrize("kind", KINDS)
def test_one_network_predicts_for_all(kind, tmp_path):
    """One row, a few, and so many that they are shared among threads; and it is saved by all."""
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    fastmlp.set_num_threads(3)
    mlp = build(SIZES, dropout_seed=3, **KINDS[kind])
    expected = {rows: mlp.predict_proba(X[:rows]) for rows in (1, 3, 7, 150)}
    score = mlp.score(X, LABELS)
    mlp.save(tmp_path / "alone")

    def use(thread):
        for rows in list(expected)[thread % 4 :] * 20:
            assert_array_equal(mlp.predict_proba(X[:rows]), expected[rows])
        assert_array_equal(mlp.predict(X), expected[150].argmax(axis=1))
        assert mlp.score(X, LABELS) == score
        mlp.save(tmp_path / str(thread))

    at_once(*(partial(use, thread) for thread in range(THREADS)))
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


# One network that is trained in one thread and looked at from others


class Call:
    """A callback that calls a function of the network at one event."""

    def __init__(self, event, function):
        setattr(self, event, lambda *arguments: function(self.mlp))

    def on_train_begin(self, mlp, plan):
        self.mlp = mlp


def network():
    return build(SIZES, momentum=0.9, num_bn_layers=1)


def trained(mlp, *callbacks):
    """Its state after a fit that pauses after every step."""
    mlp.fit(X, LABELS, epochs=5, batch_size=16, seed=0, callbacks=callbacks)
    return state(mlp)


@pytest.mark.usefixtures("short_calls", "switching_often")
def test_looks_from_other_threads_do_not_disturb_a_fit():
    expected = trained(network())
    for _ in range(5):
        mlp, ended = network(), threading.Event()

        def look(mlp=mlp, ended=ended):
            while not ended.is_set():
                assert np.isfinite(mlp.predict_proba(X[:20])).all()
                assert np.isfinite(mlp.parameters).all()

        def fit(mlp=mlp, ended=ended):
            try:
                return trained(mlp, Call("on_progress", lambda mlp: None))
            finally:
                ended.set()

        assert_same_state(at_once(fit, look, look, look)[0], expected)


@pytest.mark.usefixtures("short_calls")
def test_a_fit_waits_for_a_look_that_began_while_it_rested(monkeypatch):
    """Which sees the network of that step, whole."""
    expected, mlp = trained(network()), network()
    begun, unpack, seen = threading.Event(), Trainer.unpack, []

    def unpack_slowly(trainer):
        if threading.current_thread() is not looker:
            return unpack(trainer)
        begun.set()
        time.sleep(0.2)
        unpack(trainer)
        return seen.append(trainer.flat.parameters.copy())

    def begin_look(mlp):
        if not begun.is_set():
            looker.start()
            assert begun.wait(30)

    looker = threading.Thread(target=lambda: mlp.parameters)
    monkeypatch.setattr(Trainer, "unpack", unpack_slowly)
    found = trained(mlp, Call("on_progress", begin_look))
    looker.join(30)
    assert_same_state(found, expected)
    one_step = network()
    one_step.fit(X, LABELS, batch_size=16, seed=0, max_steps=1)
    assert_array_equal(seen[0], one_step.parameters)


def by_fit(mlp):
    mlp.fit(X, LABELS, seed=0)


def by_stats(mlp):
    data = X, one_hot(LABELS, SIZES[-1])
    get_training_stats(mlp, (data, data, data), 1, 16)


@pytest.mark.parametrize("train", [by_fit, by_stats])
def test_a_network_is_trained_by_one_thread_at_a_time(train):
    """The second is refused before anything has changed; afterwards it may."""
    expected, mlp = trained(network()), network()
    mlp.dropout_seed = 5
    begun, refused = threading.Event(), threading.Event()

    def pause(mlp):
        begun.set()
        assert refused.wait(30)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(trained, mlp, Call("on_epoch_end", pause))
        assert begun.wait(30)
        history = mlp.history
        with pytest.raises(RuntimeError, match="trained by one thread at a time, and another is"):
            train(mlp)
        assert (mlp.history, mlp.dropout_seed) == (history, 5)
        refused.set()
        assert_same_state(first.result(), expected)
    train(mlp)
    assert mlp.history is not history


@pytest.mark.usefixtures("short_calls", "switching_often")
def test_copies_from_a_callback_are_served_while_the_fit_goes_on():
    """How a network is trained and predicts at the same time: a copy is of one step, whole."""
    published, ended = [copy.copy(network())], threading.Event()

    def serve():
        served = []
        while not ended.is_set():
            latest = published[-1]
            served.append((latest, latest.predict_proba(X[:5])))
        return served

    def fit():
        try:
            return trained(network(), Call("on_progress", lambda m: published.append(copy.copy(m))))
        finally:
            ended.set()

    found, *served = at_once(fit, serve, serve, serve)
    assert_same_state(found, trained(network()))
    assert_same_state(state(published[-1]), found)
    for mlp, probabilities in itertools.chain(*served):
        assert_array_equal(mlp.predict_proba(X[:5]), probabilities)
