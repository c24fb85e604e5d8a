"""One network, whichever way one looks at it: assignments, copies, new layers, a fit at rest."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP, BatchNorm, Identity, Linear, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh
from tests.networks import assert_same_state, batch, build, gradients, state

SIZES = (5, 7, 6, 4)
BUFFERS = ["parameters", "gradients", "velocities", "statistics"]


def network():
    return build(SIZES, num_bn_layers=2, momentum=0.9)


@pytest.fixture
def mlp():
    return network()


def everything(mlp):
    return state(mlp) | gradients(mlp)


def train_by_hand(mlp, x, labels, steps=1):
    for _ in range(steps):
        mlp.forward(x)
        mlp.backward(labels)
        mlp.step()


def outputs(mlp, x):
    """What the layers say, what ``predict_proba`` says of many rows, and of one."""
    mlp.eval()
    logits = mlp.forward(x)
    mlp.train()
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return (
        softmax,
        mlp.predict_proba(x),
        np.concatenate([mlp.predict_proba(row[None]) for row in x]),
    )


def assert_is_one(mlp, x):
    by_layers, many, few = outputs(mlp, x)
    np.testing.assert_allclose(many, by_layers, rtol=1e-12)
    np.testing.assert_allclose(few, by_layers, rtol=1e-12)


# Assigning to the buffers


@pytest.mark.parametrize("name", BUFFERS)
def test_assigning_a_buffer_copies_into_the_layers_arrays(mlp, name):
    new = np.random.default_rng(0).random(getattr(mlp, name).size)
    setattr(mlp, name, new)
    layer_arrays = {
        "parameters": lambda: [a for m in (mlp.linear_layers, mlp.bn_layers) for a in own(m, 0)],
        "gradients": lambda: [a for m in (mlp.linear_layers, mlp.bn_layers) for a in own(m, 1)],
        "velocities": lambda: [a for m in (mlp.linear_layers, mlp.bn_layers) for a in own(m, 2)],
        "statistics": lambda: [a for m in mlp.bn_layers for a in (m.running_mean, m.running_var)],
    }[name]()
    assert_array_equal(np.sort(np.concatenate([a.ravel() for a in layer_arrays])), np.sort(new))
    new[:] = 0
    assert getattr(mlp, name).min() > 0, "the buffer must be a copy"
    assert not np.shares_memory(getattr(mlp, name), new)


def own(layers, which):
    return [getattr(m, triple[which]) for m in layers for triple in m.parameters]


@pytest.mark.parametrize("name", BUFFERS)
@pytest.mark.parametrize("way", ["short", "long", "matrix", "words"])
def test_a_buffer_takes_only_what_fits(mlp, name, way):
    before = everything(mlp)
    size = getattr(mlp, name).size
    wrong = {
        "short": np.ones(size - 1), "long": np.ones(size + 1), "matrix": np.ones((1, size)),
        "words": np.array(["a"] * size),
    }[way]  # fmt: skip
    with pytest.raises((ValueError, TypeError), match=f"^{name} must"):
        setattr(mlp, name, wrong)
    assert_same_state(everything(mlp), before)


def test_best_weights_are_restored_by_assignment_and_in_place(mlp, tmp_path):
    x, labels, _ = batch(9, 5, 4)
    mlp.fit(x, labels, epochs=2, seed=0)
    best, statistics = mlp.parameters.copy(), mlp.statistics.copy()
    expected = mlp.predict_proba(x)
    for restore in (
        lambda: (setattr(mlp, "parameters", best), setattr(mlp, "statistics", statistics)),
        lambda: (np.copyto(mlp.parameters, best), np.copyto(mlp.statistics, statistics)),
    ):
        mlp.fit(x, labels, epochs=2, seed=1)
        restore()
        assert_array_equal(mlp.predict_proba(x), expected)
        assert_is_one(mlp, x)
    assert_array_equal(mlp.linear_layers[0].W.ravel(), best[: 5 * 7])


@pytest.mark.parametrize("assigned", [True, False])
def test_gradients_can_be_clipped(mlp, assigned):
    x, labels, _ = batch(9, 5, 4)
    mlp.forward(x)
    mlp.backward(labels)
    expected = mlp.parameters - mlp.lr * np.clip(mlp.gradients, -0.01, 0.01)
    if assigned:
        mlp.gradients = np.clip(mlp.gradients, -0.01, 0.01)
    else:
        np.clip(mlp.gradients, -0.01, 0.01, out=mlp.gradients)
    assert np.abs(mlp.linear_layers[1].dW).max() == 0.01
    mlp.step()
    np.testing.assert_allclose(mlp.parameters, expected, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("assigned", [True, False])
def test_an_update_by_hand_is_seen_everywhere(mlp, assigned):
    x, labels, _ = batch(9, 5, 4)
    mlp.forward(x)
    mlp.backward(labels)
    w = mlp.linear_layers[0].W.copy()
    if assigned:
        mlp.parameters = mlp.parameters - 0.5 * mlp.gradients
    else:
        mlp.parameters -= 0.5 * mlp.gradients
    assert_array_equal(mlp.linear_layers[0].W, w - 0.5 * mlp.linear_layers[0].dW)
    assert_is_one(mlp, x)


# Copies


def test_a_shallow_copy_is_a_network_of_its_own(mlp):
    x, labels, _ = batch(9, 5, 4)
    train_by_hand(mlp, x, labels)
    before = everything(mlp)
    twin = copy.copy(mlp)
    assert_same_state(everything(twin), before)
    twin.fit(x, labels, epochs=3)
    train_by_hand(twin, x, labels)
    assert_same_state(everything(mlp), before)
    for network in (mlp, twin):
        assert_is_one(network, x)
        assert np.shares_memory(network.parameters, network.linear_layers[0].W)
    assert not np.shares_memory(twin.parameters, mlp.parameters)


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_a_copied_layer_belongs_to_no_network(mlp, duplicate):
    x, labels, _ = batch(9, 5, 4)
    train_by_hand(mlp, x, labels)
    before = everything(mlp)
    for layers, name in ((mlp.linear_layers, "W"), (mlp.bn_layers, "gamma")):
        layer = duplicate(layers[0])
        assert_array_equal(getattr(layer, name), getattr(layers[0], name))
        setattr(layer, name, 7 + getattr(layer, name))
        assert_same_state(everything(mlp), before)
        layers[0] = layer
        assert_is_one(mlp, x)
        before = everything(mlp)


# One activation in several places


@pytest.mark.parametrize("cls", [ReLU, Sigmoid, Tanh])
def test_an_activation_in_two_places_trains_like_two(cls):
    x, labels, _ = batch(9, 5, 4)
    shared = cls()
    apart, together, fitted = (build(SIZES, [cls, cls, Identity], momentum=0.9) for _ in range(3))
    together.activations = [shared, shared, Identity()]
    fitted.activations = [shared, shared, Identity()]
    train_by_hand(apart, x, labels, steps=3)
    train_by_hand(together, x, labels, steps=3)
    fitted.fit(x, labels, epochs=3, shuffle=False)
    assert_same_state(everything(together), everything(apart))
    assert_same_state(state(fitted), state(apart))


def test_an_activation_shared_by_two_networks_keeps_their_batches_apart():
    shared, options = Tanh(), {"activations": [Tanh, Identity]}
    (x, labels, _), (other_x, _, _) = batch(9, 5, 4), batch(6, 5, 4, seed=2)
    alone, mlp, other = (build((5, 7, 4), **options) for _ in range(3))
    mlp.activations[0] = other.activations[0] = shared
    mlp.forward(x)
    other.forward(other_x)
    mlp.backward(labels)
    alone.forward(x)
    alone.backward(labels)
    assert_same_state(gradients(mlp), gradients(alone))


def test_only_an_activation_can_take_its_place(mlp):
    with pytest.raises(TypeError, match=r"activations\[1\] must be an object of class Activation"):
        mlp.activations[1] = "relu"
    with pytest.raises(ValueError, match="activations must have 3 entries"):
        mlp.activations = [ReLU()]
    assert isinstance(mlp.activations[1], ReLU)


# Replaced layers


def he(d0, d1):
    return np.random.default_rng(3).standard_normal((d0, d1))


def ones(d):
    return np.ones((1, d))


def test_a_replaced_linear_layer_is_the_networks(mlp):
    x, labels, _ = batch(9, 5, 4)
    old = mlp.linear_layers[1]
    old_w = old.W.copy()
    new = Linear(7, 6, he, ones)
    mlp.forward(x)
    mlp.linear_layers[1] = new
    with pytest.raises(RuntimeError, match="call forward before"):
        mlp.backward(labels)
    assert mlp.linear_layers[1] is new
    assert_is_one(mlp, x)
    assert_array_equal(mlp.linear_layers[1].W, he(7, 6))
    twin = copy.copy(mlp)
    train_by_hand(mlp, x, labels, steps=2)
    twin.fit(x, labels, epochs=2, shuffle=False)
    assert_same_state(state(mlp), state(twin))
    assert_array_equal(old.W, old_w, err_msg="the one that went has arrays of its own")
    mlp.linear_layers[-2] = old
    assert_array_equal(mlp.linear_layers[1].W, old_w)
    assert_is_one(mlp, x)


def test_a_replaced_batch_norm_is_the_networks(mlp):
    x, labels, _ = batch(9, 5, 4)
    new = BatchNorm(7, alpha=0.5)
    new.gamma, new.running_mean = np.full((1, 7), 2.0), np.full((1, 7), 0.25)
    mlp.bn_layers[0] = new
    assert_is_one(mlp, x)
    twin = copy.copy(mlp)
    train_by_hand(mlp, x, labels, steps=2)
    twin.fit(x, labels, epochs=2, shuffle=False)
    assert_same_state(state(mlp), state(twin))
    assert mlp.bn_layers[0].running_mean.max() != 0.25


@pytest.mark.parametrize(
    ("place", "layer", "message"),
    [
        (0, lambda: Linear(5, 8, he, ones), r"linear_layers\[0\] must have W of shape \(5, 7\)"),
        (0, lambda: Linear(5, 7, he, None), r"linear_layers\[0\] must have b of shape \(1, 7\)"),
        (1, lambda: BatchNorm(7), r"linear_layers\[1\] must be an object of class Linear"),
        (2, lambda: Linear, r"linear_layers\[2\] must be an object of class Linear"),
        (2, lambda: build(SIZES).linear_layers[2], "one that belongs to a network"),
    ],
)
def test_what_does_not_fit_takes_no_place(mlp, place, layer, message):
    x, _, _ = batch(9, 5, 4)
    before, layers = everything(mlp), list(mlp.linear_layers)
    with pytest.raises((ValueError, TypeError), match=message):
        mlp.linear_layers[place] = layer()
    assert list(mlp.linear_layers) == layers
    assert_same_state(everything(mlp), before)
    assert_is_one(mlp, x)


def test_all_layers_are_replaced_or_none(mlp):
    before = everything(mlp)
    good = [Linear(5, 7, he, ones), Linear(7, 6, he, ones), Linear(6, 4, he, ones)]
    for wrong in (good[:2], [*good[:2], Linear(6, 5, he, ones)], [mlp.linear_layers[0], *good[:2]]):
        with pytest.raises(ValueError, match="linear_layers"):
            mlp.linear_layers = wrong
        assert_same_state(everything(mlp), before)
    mlp.linear_layers = good
    assert_is_one(mlp, batch(9, 5, 4)[0])
    norm = BatchNorm(7)
    twice = build((5, 7, 7, 4), num_bn_layers=2)
    with pytest.raises(ValueError, match="bn_layers must be different objects"):
        twice.bn_layers = [norm, norm]


def test_a_layer_put_into_its_own_place_changes_nothing(mlp):
    """Not even what the last forward has left for the backward pass."""
    x, labels, _ = batch(9, 5, 4)
    mlp.forward(x)
    before = everything(mlp)
    mlp.linear_layers[1] = mlp.linear_layers[1]
    mlp.bn_layers = mlp.bn_layers
    assert_same_state(everything(mlp), before)
    mlp.backward(labels)
    twin = network()
    twin.forward(x)
    twin.backward(labels)
    assert_same_state(gradients(mlp), gradients(twin))


def test_layers_cannot_be_added_or_removed(mlp):
    with pytest.raises(AttributeError):
        mlp.linear_layers.append(Linear(4, 4, he, ones))
    with pytest.raises(AttributeError):
        del mlp.linear_layers[0]
    with pytest.raises(TypeError):
        mlp.linear_layers[0:1] = [Linear(5, 7, he, ones)]
    with pytest.raises(IndexError):
        mlp.linear_layers[3] = Linear(4, 4, he, ones)


# A fit at rest


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


@pytest.fixture
def short_calls(monkeypatch):
    """A pause after every step."""
    monkeypatch.setattr("fastmlp.training.SECONDS_PER_CALL", 0)


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


# Weights that are not finite


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("how", ["layer", "buffer", "kept view"])
def test_a_weight_that_meets_a_zero_says_the_same_of_every_number_of_rows(bad, how):
    mlp = build((5, 7, 4))
    x = np.zeros((6, 5))
    x[:, 1] = 1
    parameters = mlp.parameters
    finite = mlp.predict_proba(x[:1])
    assert np.isfinite(finite).all()
    if how == "layer":
        del parameters
        mlp.linear_layers[0].W[0, 3] = bad
    elif how == "buffer":
        del parameters
        mlp.parameters[3] = bad
    else:
        parameters[3] = bad
    with np.errstate(invalid="ignore"):
        expected = mlp.predict_proba(x)
    assert np.isnan(expected).all()
    for rows in range(1, 6):
        assert_array_equal(mlp.predict_proba(x[:rows]), expected[:rows])


def test_weights_known_to_be_finite_are_looked_through_once(mlp, monkeypatch):
    x, _, _ = batch(1, 5, 4)
    mlp.predict(x)
    assert mlp.buffers.known_finite()
    kept = mlp.linear_layers[2].b
    assert not mlp.buffers.known_finite(), "it can be changed unseen"
    del kept
    assert mlp.buffers.known_finite()
    mlp.linear_layers[0].W[0, 0] = np.inf
    assert not mlp.buffers.known_finite()


# Gradients in evaluation mode, and the rows that a step divides by


def test_backward_after_an_eval_forward_gives_that_functions_gradients():
    """Against finite differences of the loss in eval mode, for every parameter."""
    mlp = build((3, 4, 2), [Tanh, Identity], num_bn_layers=1)
    x, labels, _ = batch(6, 3, 2)
    train_by_hand(mlp, x, labels, steps=2)
    mlp.eval()
    moments = mlp.statistics.copy()
    mlp.forward(x)
    mlp.backward(labels)
    assert_array_equal(mlp.statistics, moments)
    found, scale = mlp.gradients.copy(), np.ones(mlp.parameters.size)
    # gamma and beta have the sum over the batch, the others the mean.
    norms = mlp.layout.table[0]["flat_gamma"]
    scale[norms : norms + 8] = 6
    h = 1e-6
    for i in range(mlp.parameters.size):
        losses = []
        for sign in (1, -1):
            mlp.parameters[i] += sign * h
            mlp.forward(x)
            losses.append(mlp.total_loss(labels) / 6)
            mlp.parameters[i] -= sign * h
        expected = scale[i] * (losses[0] - losses[1]) / (2 * h)
        assert found[i] == pytest.approx(expected, abs=1e-8), i


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_a_step_divides_by_the_rows_of_its_gradients(reduction):
    """Not by those of a forward in between."""
    x, labels, _ = batch(9, 5, 4)
    plain, between = (build((5, 7, 4), num_bn_layers=1, batchnorm_reduction=reduction)
                      for _ in range(2))  # fmt: skip
    for mlp in (plain, between):
        mlp.forward(x)
        mlp.backward(labels)
    between.eval()
    between.forward(x[:2])
    for mlp in (plain, between):
        mlp.step()
    assert_same_state(state(between), state(plain))


def test_one_output_with_softmax_is_refused():
    with pytest.raises(ValueError, match="output_size must be at least 2 with SoftmaxCrossEntropy"):
        MLP(3, 1, [], [Identity()], he, None, SoftmaxCrossEntropy(), 0.1)
