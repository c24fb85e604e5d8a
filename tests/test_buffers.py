"""One network, whichever way one looks at it: assignments, copies, new layers."""

import copy
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, BatchNorm, Identity, Linear, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh
from tests.networks import assert_same_state, batch, build, gradients, state, train_by_hand

SIZES = (5, 7, 6, 4)
BUFFERS = ["parameters", "gradients", "velocities", "statistics"]


def network():
    return build(SIZES, num_bn_layers=2, momentum=0.9)


@pytest.fixture
def mlp():
    return network()


def everything(mlp):
    return state(mlp) | gradients(mlp)


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


def test_weights_that_change_while_they_are_looked_through_are_looked_through_again(
    mlp, monkeypatch
):
    """The change is another thread's; the answer to the first is of the weights before."""
    is_finite = np.isfinite

    def changed_meanwhile(value):
        monkeypatch.undo()
        answer = is_finite(value)
        mlp.buffers.write("parameters", np.full_like(mlp.parameters, np.nan))
        return answer

    monkeypatch.setattr(np, "isfinite", changed_meanwhile)
    assert mlp.buffers.known_finite() is True
    assert mlp.buffers.known_finite() is False


@pytest.mark.parametrize("how", ["write", "update"])
def test_what_is_known_just_before_a_change_is_not_kept(mlp, monkeypatch, how):
    """Another thread asks between the look before a change and the change."""
    look = mlp.buffers.look
    mlp.buffers.write("gradients", np.full_like(mlp.parameters, np.nan))
    monkeypatch.setattr(mlp.buffers, "look", lambda: look() or mlp.buffers.known_finite())
    if how == "write":
        mlp.buffers.write("parameters", np.full_like(mlp.gradients, np.nan))
    else:
        mlp.buffers.update(mlp.layout, mlp.optimizer, 0, 1.0)
    monkeypatch.undo()
    assert mlp.buffers.known_finite() is False


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
