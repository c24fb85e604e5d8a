"""A fit at rest: what a callback sees of the network, and what it may change."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, Linear, ReLU, Sigmoid
from tests.networks import assert_same_state, batch, build, state, train_by_hand


def network():
    return build((5, 7, 6, 4), num_bn_layers=2, momentum=0.9)


@pytest.fixture
def mlp():
    return network()


def he(d0, d1):
    return np.random.default_rng(3).standard_normal((d0, d1))


def ones(d):
    return np.ones((1, d))


class Watch:
    """Calls a function at every event, with the network."""

    def __init__(self, act, *events):
        self.act, self.events, self.calls = act, events, 0

    def __getattr__(self, name):
        if name.startswith("on_") and name in self.events:
            return self._event
        raise AttributeError(name)

    def on_train_begin(self, mlp, plan):
        self.mlp = mlp

    def _event(self, *arguments):
        self.calls += 1
        return self.act(self.mlp)


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("kept", ["attributes", "view"])
def test_a_callback_sees_the_network_of_its_step(mlp, kept):
    """The same as steps by hand, whether it asks for the arrays or has kept them."""
    x, labels, _ = batch(9, 5, 4)
    twin, seen = network(), []
    views = [mlp.parameters, mlp.statistics] if kept == "view" else None

    def look(network):
        arrays = views or [network.parameters, network.statistics]
        seen.append([array.copy() for array in arrays])

    mlp.fit(
        x, labels, batch_size=3, epochs=2, shuffle=False, callbacks=[Watch(look, "on_progress")]
    )
    assert len(seen) == 6
    for step, (parameters, statistics) in enumerate(seen):
        rows = slice(step % 3 * 3, step % 3 * 3 + 3)
        train_by_hand(twin, x[rows], labels[rows])
        assert_array_equal(parameters, twin.parameters)
        assert_array_equal(statistics, twin.statistics)
    assert_same_state(state(mlp), state(twin))


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize("event", ["on_progress", "on_epoch_end"])
@pytest.mark.parametrize(
    "change",
    [
        lambda m: setattr(m, "parameters", m.parameters * 0.5),
        lambda m: setattr(m.linear_layers[0], "W", m.linear_layers[0].W + 1),
        lambda m: setattr(m, "velocities", 0 * m.velocities),
        lambda m: np.copyto(m.bn_layers[0].gamma, 2.0),
        lambda m: setattr(m, "statistics", 1 + m.statistics),
        lambda m: setattr(m, "lr", 0.5 * m.lr),
        lambda m: setattr(m, "momentum", 0.5 * m.momentum),
        lambda m: setattr(m, "weight_decay", 0.01 + m.weight_decay),
        lambda m: m.activations.__setitem__(0, Sigmoid()),
        lambda m: m.linear_layers.__setitem__(1, Linear(7, 6, he, ones)),
        lambda m: setattr(m.bn_layers[1], "alpha", 0.5),
        lambda m: setattr(m, "batchnorm_reduction", "mean"),
    ],
)
def test_a_callback_may_change_the_network(mlp, event, change):
    x, labels, _ = batch(9, 5, 4)
    twin = network()
    watch = Watch(change, event)
    mlp.fit(x, labels, batch_size=3, epochs=2, shuffle=False, callbacks=[watch])
    for step in range(6):
        rows = slice(step % 3 * 3, step % 3 * 3 + 3)
        train_by_hand(twin, x[rows], labels[rows])
        if event == "on_progress" or step % 3 == 2:
            change(twin)
    assert watch.calls == (6 if event == "on_progress" else 2)
    assert_same_state(state(mlp), state(twin))


@pytest.mark.usefixtures("short_calls")
def test_a_view_kept_from_before_the_fit_can_be_written_to(mlp):
    x, labels, _ = batch(9, 5, 4)
    twin = network()
    w = mlp.linear_layers[0].W

    def halve(network):
        w[...] /= 2

    mlp.fit(x, labels, batch_size=3, shuffle=False, callbacks=[Watch(halve, "on_progress")])
    for rows in (slice(0, 3), slice(3, 6), slice(6, 9)):
        train_by_hand(twin, x[rows], labels[rows])
        twin.linear_layers[0].W /= 2
    assert_same_state(state(mlp), state(twin))


@pytest.mark.usefixtures("short_calls")
def test_a_callback_may_predict_save_copy_and_fit(mlp, tmp_path):
    pytest.importorskip("safetensors", reason="files need the extra io")
    x, labels, _ = batch(9, 5, 4)
    twin, predicted, files, copies = network(), [], [], []

    def use(network):
        predicted.append(network.predict_proba(x))
        network.save(tmp_path / f"{len(files)}")
        files.append(MLP.load(tmp_path / f"{len(files)}"))
        copies.append(copy.copy(network))
        other = copy.copy(network)
        other.fit(x, labels)

    mlp.fit(x, labels, batch_size=3, shuffle=False, callbacks=[Watch(use, "on_progress")])
    for step, rows in enumerate((slice(0, 3), slice(3, 6), slice(6, 9))):
        train_by_hand(twin, x[rows], labels[rows])
        assert_array_equal(predicted[step], twin.predict_proba(x))
        assert_same_state(state(files[step]), state(twin))
        assert_same_state(state(copies[step]), state(twin))
    assert_same_state(state(mlp), state(twin))


@pytest.mark.usefixtures("short_calls")
@pytest.mark.parametrize(
    ("take", "weights"),
    [
        (copy.copy, lambda taken: taken.parameters),
        (copy.deepcopy, lambda taken: taken.parameters),
        (pickle.dumps, lambda taken: pickle.loads(taken).parameters),
        (lambda m: copy.copy(m.linear_layers[0]), lambda taken: taken.W),
        (lambda m: m.linear_layers[0].W.copy(), lambda taken: taken),
        (lambda m: m.predict_proba(np.ones((1, 5))), lambda taken: taken),
        (lambda m: m.predict_proba(np.ones((9, 5))), lambda taken: taken),
        (lambda m: m(np.ones((9, 5))), lambda taken: taken),
    ],
)
def test_the_first_look_in_a_callback_is_up_to_date(mlp, take, weights):
    """Whatever it is: none relies on another look before it."""
    x, labels, _ = batch(9, 5, 4)
    twin, taken = network(), []
    watch = Watch(lambda m: taken.append(take(m)), "on_progress")
    mlp.fit(x, labels, batch_size=3, max_steps=1, shuffle=False, callbacks=[watch])
    train_by_hand(twin, x[:3], labels[:3])
    assert_array_equal(weights(taken[0]), weights(take(twin)))


@pytest.mark.usefixtures("short_calls")
def test_a_fit_inside_a_callback_goes_on_from_there(mlp):
    x, labels, _ = batch(9, 5, 4)
    twin = network()
    done = []

    def fit_once(network):
        if not done:
            done.append(network.fit(x[6:], labels[6:], shuffle=False))

    mlp.fit(x[:6], labels[:6], batch_size=3, shuffle=False,
            callbacks=[Watch(fit_once, "on_progress")])  # fmt: skip
    for rows in (slice(0, 3), slice(6, 9), slice(3, 6)):
        train_by_hand(twin, x[rows], labels[rows])
    assert_same_state(state(mlp), state(twin))


@pytest.mark.usefixtures("short_calls")
def test_buffers_are_written_only_when_somebody_looks(mlp, monkeypatch):
    """A fit that nobody looks at unpacks once, at its end."""
    unpacked = []
    original = fastmlp.engine.Trainer.unpack
    monkeypatch.setattr(
        fastmlp.engine.Trainer, "unpack", lambda self: (unpacked.append(0), original(self))
    )
    x, labels, _ = batch(9, 5, 4)
    blind = Watch(lambda network: None, "on_progress", "on_epoch_end")
    mlp.fit(x, labels, batch_size=3, epochs=2, callbacks=[blind])
    assert len(unpacked) == 1 + 1, "once to compile"
    unpacked.clear()
    seeing = Watch(lambda network: network.parameters, "on_progress")
    mlp.fit(x, labels, batch_size=3, epochs=2, callbacks=[seeing])
    assert len(unpacked) == 1 + 6


@pytest.mark.usefixtures("short_calls")
def test_an_activation_of_ones_own_cannot_be_slipped_into_a_fit(mlp):
    class Square(ReLU):
        """Not compiled."""

    x, labels, _ = batch(9, 5, 4)
    slip = Watch(lambda m: m.activations.__setitem__(0, Square()), "on_progress")
    with pytest.raises(TypeError, match="need activations that fastmlp compiles"):
        mlp.fit(x, labels, batch_size=3, callbacks=[slip])
    assert slip.calls == 1
