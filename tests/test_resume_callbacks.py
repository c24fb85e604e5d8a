"""Callbacks of a fit that goes on: whom it tells what, and whose state it brings back."""

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.callbacks import Checkpoint, CSVLogger
from fastmlp.history import NotFiniteWarning
from tests.networks import build
from tests.resumes import (
    LABELS,
    STEPS,
    Interrupt,
    Own,
    X,
    alone,
    arguments,
    assert_same,
    interrupted,
    network,
    outcome,
    twin,
)

pytest.importorskip("safetensors", reason="files of networks need the extra io")


class Tell:
    """Writes down what it hears, and in which epoch."""

    def __init__(self, heard, name):
        self.heard, self.name = heard, name

    def on_epoch_end(self, mlp, history):
        self.heard.append((self.name, len(history.train_loss)))


class First(Tell):
    pass


class Second(Tell):
    pass


class Last(Tell):
    def on_epoch_end(self, mlp, history):
        super().on_epoch_end(mlp, history)
        if len(history.train_loss) == 2 and not self.stopped:
            Last.stopped = True
            raise KeyboardInterrupt


def test_the_end_of_an_epoch_is_told_once_to_each():
    """Also where the interrupt comes in the middle of them, or the file is written there."""
    Last.stopped, heard = False, []
    mlp = network("momentum")
    callbacks = [First(heard, 1), Last(heard, 2), Second(heard, 3)]
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments("momentum", callbacks))
    assert heard[-2:] == [(1, 2), (2, 2)]
    assert (mlp.unfinished.epoch, mlp.unfinished.step) == (1, STEPS)
    mlp.fit(**arguments("momentum", callbacks), resume=True)
    assert heard == [(name, epoch) for epoch in (1, 2, 3) for name in (1, 2, 3)]
    assert_same(outcome(mlp), alone("momentum"))


@pytest.mark.parametrize("place", ["before", "after"])
def test_a_file_that_is_written_between_two_callbacks(place, tmp_path):
    """A checkpoint's place among the callbacks does not matter: nothing is heard twice, or not."""
    kind, path = "early stopping", tmp_path / "model"

    def callbacks():
        saving = Checkpoint(path)
        return {"before": [saving], "after": []}[place], {"before": [], "after": [saving]}[place]

    class Files:
        """Keeps what the checkpoint writes."""

        def __init__(self):
            self.contents = []

        def on_progress(self, progress):
            if path.exists():
                self.contents.append(path.read_bytes())

    files, (before, after) = Files(), callbacks()
    options = arguments(kind, after)
    options["callbacks"] = [*before, *options["callbacks"], files]
    network(kind).fit(**options)
    for content in {*files.contents, path.read_bytes()}:
        path.write_bytes(content)
        mlp, (before, after) = MLP.load(path), callbacks()
        options = arguments(kind, after)
        options["callbacks"] = [*before, *options["callbacks"]]
        mlp.fit(**options, resume=True)
        assert_same(outcome(mlp), alone(kind))


def test_a_fit_that_was_at_its_end_is_told_so_once_more(tmp_path):
    """Killed between its last checkpoint and its end: the same script ends as it would have."""
    path = tmp_path / "model"
    network("early stopping").fit(**arguments("early stopping", [Checkpoint(path)]))
    for _ in range(2):
        mlp = MLP.load(path)
        mlp.fit(**arguments("early stopping", [Checkpoint(path)]), resume="auto")
        assert_same(outcome(mlp), alone("early stopping"))


def test_a_loss_that_was_not_finite_is_told_again(tmp_path):
    path, expected = tmp_path / "model", build([5, 7, 3], lr=1e200)
    with pytest.warns(NotFiniteWarning):
        expected.fit(**arguments("momentum", [Checkpoint(path)]))
    mlp = MLP.load(path)
    with pytest.warns(NotFiniteWarning, match="in epoch 1, step"):
        mlp.fit(**arguments("momentum"), resume=True)
    assert_same(outcome(mlp), outcome(expected))


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("append", [False, True])
def test_a_log_has_every_epoch_once(append, tmp_path):
    """Also where more epochs were written down than the checkpoint knows of."""
    path, log = tmp_path / "model", tmp_path / "log.csv"
    old = "old\n" if append else ""

    def callbacks():
        return [CSVLogger(log, append=append), Checkpoint(path, epochs=2)]

    def lines(text):
        return [line.split(",")[:2] for line in text.splitlines()]

    def header():
        if append:
            log.write_text(",".join(network("momentum").fit(X, LABELS).columns()) + "\n" + old)

    header()
    mlp = network("momentum")
    mlp.fit(**arguments("momentum", callbacks(), epochs=5))
    expected = lines(log.read_text())
    header()
    interrupted("momentum", 3 * STEPS + 2, callbacks=callbacks(), epochs=5)
    assert len(lines(log.read_text())) == len(expected) - 2
    mlp = MLP.load(path)
    assert mlp.unfinished.epoch == 2 - 1
    mlp.fit(**arguments("momentum", callbacks(), epochs=5), resume=True)
    assert lines(log.read_text()) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("waited"), "KeyError"),
        (lambda state: state.update(lowest=10**400), "OverflowError"),
        (lambda state: state.update(waited=[]), "TypeError"),
        (lambda state: state.update({"best.updates": np.zeros(3)}), "must be uint64"),
    ],
)
def test_a_callback_with_the_state_of_none(change, message):
    """As a file from a stranger may have it."""
    mlp = network("early stopping")
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(**arguments("early stopping", [Interrupt(20)]))
    change(mlp.unfinished.callbacks[0][1])
    with pytest.raises(ValueError, match=f"EarlyStopping cannot go on from .*{message}"):
        mlp.fit(**arguments("early stopping"), resume=True)


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("way", ["memory", "file", "pickle"])
def test_the_state_of_ones_own_callback(way, tmp_path):
    first, second, expected = Own(), Own(), Own()
    network("momentum").fit(**arguments("momentum", [expected]))
    mlp = interrupted("momentum", STEPS + 2, callbacks=[first])
    twin(mlp, way, tmp_path / "model").fit(**arguments("momentum", [second]), resume=True)
    assert (second.loaded, second.count) == (1, 3)
    np.testing.assert_array_equal(second.sums, expected.sums)


@pytest.mark.parametrize("value", [{1, 2}, object(), np.ones(2, np.float16)])
def test_a_state_that_no_file_can_hold(value, tmp_path):
    own = Own()
    own.state_dict = lambda: {"value": value}
    with pytest.raises(TypeError, match=r"Own.state_dict\(\)\['value'\] must be .* got"):
        network("momentum").fit(**arguments("momentum", [own, Checkpoint(tmp_path / "model")]))
    assert list(tmp_path.iterdir()) == []
