"""Groups of parameters: rates of their own, weights that learn in another parametrisation."""

import copy
import dataclasses

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import MLP, Identity, Tanh, optimizers, set_num_threads
from fastmlp.kernels.rules import BIASES, NORMS, WEIGHTS
from fastmlp.optimizers import SGD, Adam, Adamax, AdamW, Momentum, NAdam, RAdam
from tests.networks import assert_same_state, batch, build, duplicate, state, train_by_hand
from tests.reference import UPDATES, linear_backward, linear_forward, one_hot, softmax
from tests.test_update import OPTIMIZERS

SIZES = [7, 33, 17, 3]
FACTORS = {"weights": 0.5, "biases": 0.1, "norms": 3.0}
NTK = {
    "Adam": Adam(0.01, (0.8, 0.95), 1e-3, 0.1, ntk=True),
    "Adam with all decaying": Adam(0.01, (0.8, 0.95), 1e-3, 0.1, ntk=True, decay_all=True),
    "AdamW": AdamW(0.01, (0.8, 0.95), 1e-3, 0.1, ntk=True),
    "NAdam": NAdam(0.01, (0.8, 0.95), 1e-3, 0.1, 0.02, ntk=True),
    # Its means are so short that it begins to be certain within the 20 steps.
    "RAdam": RAdam(0.01, (0.8, 0.9), 1e-3, 0.1, ntk=True),
    "Adamax": Adamax(0.01, (0.8, 0.95), 1e-3, 0.1, ntk=True),
}


class ReferenceNetwork:
    """Tanh and softmax in float64 NumPy: y = x @ V / divisor + b with a V of each layer's own."""

    def __init__(self, mlp, optimizer):
        ntk, factors = getattr(optimizer, "ntk", False), optimizer.rate_factors or {}
        self.divisors = [np.sqrt(w.in_feature) if ntk else 1.0 for w in mlp.linear_layers]
        weights = zip(mlp.linear_layers, self.divisors, strict=True)
        self.weights = [linear.W * divisor for linear, divisor in weights]
        self.biases = [linear.b.copy() for linear in mlp.linear_layers]
        self.rules = {}
        for kind in ("weights", "biases"):
            changes = {"lr": optimizer.lr * factors.get(kind, 1.0), "rate_factors": None}
            if kind == "biases" and not optimizer.decay_all:
                changes["weight_decay"] = 0.0
            self.rules[kind] = dataclasses.replace(optimizer, **changes)
        first = optimizer.first_state
        self.states = [
            [np.full_like(a, first), np.zeros_like(a)] for a in (*self.weights, *self.biases)
        ]
        self.steps = 0

    def step(self, x, labels):
        inputs = [x]
        layers = list(zip(self.weights, self.divisors, self.biases, strict=True))
        for weight, divisor, bias in layers[:-1]:
            inputs.append(np.tanh(linear_forward(inputs[-1], weight / divisor, bias)))
        weight, divisor, bias = layers[-1]
        logits = linear_forward(inputs[-1], weight / divisor, bias)
        delta = softmax(logits) - one_hot(labels, logits.shape[1])
        gradients = [None] * len(layers), [None] * len(layers)
        for i in reversed(range(len(layers))):
            weight, divisor, _ = layers[i]
            dw, gradients[1][i], dx = linear_backward(inputs[i], weight / divisor, delta)
            gradients[0][i] = dw / divisor
            delta = dx * (1 - inputs[i] ** 2)
        self.steps += 1
        learnt = [("weights", a) for a in self.weights] + [("biases", a) for a in self.biases]
        flat = [*gradients[0], *gradients[1]]
        for (kind, array), states, gradient in zip(learnt, self.states, flat, strict=True):
            rule = self.rules[kind]
            update = UPDATES[type(rule).__name__]
            array[...], *new = update(rule, self.steps, array, states, gradient)
            for old, value in zip(states, new, strict=False):
                old[...] = value

    def assert_is(self, mlp):
        for linear, weight, divisor, bias in zip(
            mlp.linear_layers, self.weights, self.divisors, self.biases, strict=True
        ):
            assert_allclose(linear.W, weight / divisor, rtol=0, atol=1e-12)
            assert_allclose(linear.b, bias, rtol=0, atol=1e-12)


def trained_beside_the_reference(optimizer, steps=20):
    """Both ways through the network end where the reference does."""
    activations = [Tanh, Tanh, Identity]
    fitted, looped = (build(SIZES, activations, lr=None, optimizer=optimizer) for _ in range(2))
    reference = ReferenceNetwork(fitted, optimizer)
    x, labels, _ = batch(31, 7, 3)
    fitted.fit(x, labels, epochs=steps, batch_size=31, shuffle=False)
    train_by_hand(looped, x, labels, steps)
    for _ in range(steps):
        reference.step(x, labels)
    reference.assert_is(fitted)
    assert_same_state(state(fitted), state(looped))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("factors", [{"biases": 0.1, "weights": 0.5}, {"biases": 0}], ids=str)
def test_twenty_steps_with_rates_of_their_own(optimizer, factors):
    trained_beside_the_reference(dataclasses.replace(optimizer, rate_factors=factors))


@pytest.mark.parametrize("optimizer", NTK.values(), ids=NTK)
@pytest.mark.parametrize("factors", [None, {"biases": 0.1, "weights": 0.5}], ids=str)
def test_twenty_steps_of_the_neural_tangent_parametrisation(optimizer, factors):
    """Against training the W of x @ W / sqrt(d) + b itself."""
    trained_beside_the_reference(dataclasses.replace(optimizer, rate_factors=factors))


def test_a_user_s_rule_has_rates_of_its_own():
    def descend(gradient, parameter, mean, lr):
        return parameter - lr * gradient, mean

    x, labels, _ = batch(31, 7, 3)
    own, known = (
        build(SIZES, lr=None, optimizer=rule, num_bn_layers=1)
        for rule in (
            optimizers.rule(descend, lr=0.1, rate_factors=FACTORS, weight_decay=0.5),
            SGD(0.1, rate_factors=FACTORS, weight_decay=0.5),
        )
    )
    for mlp in (own, known):
        mlp.fit(x, labels, batch_size=8, shuffle=False)
    assert_allclose(own.parameters, known.parameters, rtol=0, atol=1e-13)
    assert "rate_factors={'weights': 0.5" in repr(own.optimizer)


def test_decoupled_decay_goes_by_the_rate_of_the_group():
    mlp = build(
        SIZES, num_bn_layers=1, lr=None,
        optimizer=AdamW(0.1, weight_decay=0.5, decay_all=True, rate_factors=FACTORS, ntk=True),
    )  # fmt: skip
    before = state(mlp)
    mlp.zero_grads()
    mlp.step()
    shares = {"W": 0.5, "b": 0.1, "gamma": 3.0, "beta": 3.0}
    after = state(mlp)
    for name, old in before.items():
        if name.rstrip("0123456789") in shares:
            rate = 0.1 * shares[name.rstrip("0123456789")]
            assert_allclose(after[name], (1 - 0.5 * rate) * old, rtol=1e-15)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize(
    "optimizer",
    [
        Momentum(0.1, 0.9, 0.01, rate_factors=FACTORS),
        AdamW(0.01, ntk=True, rate_factors=FACTORS),
        NAdam(0.01, ntk=True, clip_norm=0.5, average=0.9),
    ],
    ids=repr,
)
@pytest.mark.usefixtures("forced_threads")
def test_fit_is_the_loop_for_any_number_of_threads(optimizer, dtype, monkeypatch):
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)

    def make():
        return build(SIZES, dtype=dtype, lr=None, optimizer=optimizer, num_bn_layers=2)

    x, labels, _ = batch(550, 7, 3, dtype=dtype)
    looped = make()
    train_by_hand(looped, x, labels, 3)
    for count in (1, 2, 3, 4):
        set_num_threads(count)
        fitted = make()
        fitted.fit(x, labels, epochs=3, batch_size=550, shuffle=False)
        assert_same_state(state(fitted), state(looped))


def test_factors_of_one_change_nothing():
    x, labels, _ = batch(31, 7, 3)
    ends = []
    for factors in (None, {}, dict.fromkeys(FACTORS, 1.0)):
        mlp = build(SIZES, num_bn_layers=1, lr=None, optimizer=Momentum(0.1, 0.9, 0.1))
        mlp.optimizer.rate_factors = factors
        mlp.fit(x, labels, batch_size=8, shuffle=False)
        ends.append(mlp.parameters)
    assert_array_equal(ends[0], ends[1])
    assert_array_equal(ends[0], ends[2])


def test_the_groups_of_a_network():
    """Weights with as many inputs share a group; what no layer has is no group."""
    mlp = build([7, 5, 5, 3], bias=False, num_bn_layers=1)
    assert mlp.layout.groups == ((WEIGHTS, 7), (NORMS, 0), (WEIGHTS, 5))
    assert mlp.layout.table["group_w"].tolist() == [0, 2, 2]
    assert [group.kind for group in build([7, 3]).layout.groups] == [WEIGHTS, BIASES]


# Copies, files, bad input


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    optimizer = AdamW(0.01, ntk=True, rate_factors=FACTORS)
    mlp = build(SIZES, lr=None, optimizer=optimizer)
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    assert other.optimizer == mlp.optimizer == optimizer
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))


def test_files_of_networks_without_them_do_not_name_them(tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    for optimizer, named in ((Adam(), False), (Adam(ntk=True, rate_factors={}), True)):
        build(SIZES, lr=None, optimizer=optimizer).save(tmp_path / "m")
        content = (tmp_path / "m").read_bytes()
        assert [name in content for name in (b"ntk", b"rate_factors")] == [named, named]
        assert MLP.load(tmp_path / "m").optimizer == optimizer


def test_copies_have_factors_of_their_own():
    given = dict(FACTORS)
    first = Adam(rate_factors=given)
    second = copy.copy(first)
    network = build(SIZES, lr=None, optimizer=first)
    given["weights"] = 7.0
    first.rate_factors["weights"] = 8.0
    assert second.rate_factors == network.optimizer.rate_factors == FACTORS
    assert repr(second) == "Adam(lr=0.001, betas=(0.9, 0.999), eps=1e-08, weight_decay=0.0, " + (
        "rate_factors={'weights': 0.5, 'biases': 0.1, 'norms': 3.0})"
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"rate_factors": {"bias": 1}}, ValueError, "one of weights, biases, .*'bias'.*'biases'"),
        ({"rate_factors": {"biases": -1}}, ValueError, r"\['biases'\] must be at least 0, got -1"),
        ({"rate_factors": {"biases": np.nan}}, ValueError, r"\['biases'\] must be finite, got nan"),
        ({"rate_factors": {"biases": "1"}}, TypeError, r"\['biases'\] must be a number, got '1'"),
        ({"rate_factors": {1: 1.0}}, ValueError, "must be one of weights, .* got 1"),
        ({"rate_factors": 0.1}, TypeError, "rate_factors must be a dict, got 0.1"),
        ({"ntk": 1}, TypeError, "ntk must be True or False, got 1"),
    ],
)
def test_what_is_refused(arguments, error, message):
    optimizer = Adam()
    with pytest.raises(error, match=message):
        Adam(**arguments)
    for name, value in arguments.items():
        with pytest.raises(error, match=message):
            setattr(optimizer, name, value)
    assert optimizer == Adam()


def test_other_rules_have_no_ntk():
    with pytest.raises(TypeError, match="SGD has no argument 'ntk'"):
        SGD(ntk=True)
