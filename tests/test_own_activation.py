"""Activation.of: two functions of a user's own wherever an activation of fastmlp's works."""

import copy
import math
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import MLP, Activation, Identity, SiLU, SoftmaxCrossEntropy
from fastmlp.kernels import _own
from fastmlp.kernels.epoch import train_steps
from tests.networks import (
    TOLERANCE,
    assert_close,
    assert_descent,
    assert_same_state,
    assert_two_ways_alike,
    batch,
    build,
    state,
)


def swish(z):
    return z / (1 + math.exp(-z)) if z > -700 else 0.0


def swish_slope(z):
    if z < -700:
        return 0.0
    s = 1 / (1 + math.exp(-z))
    return s * (1 + z * (1 - s))


def own():
    return Activation.of(swish, swish_slope)


every_compute = pytest.mark.parametrize("compute", [np.float64, np.float32, "bfloat16"])
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@both_dtypes
@pytest.mark.parametrize("size", [1, 7, 16, 17, 100, 1003])
@pytest.mark.usefixtures("on_threads")
def test_values_and_slopes_are_those_of_the_functions(size, dtype):
    z = (4 * np.random.default_rng(0).standard_normal(size)).astype(dtype)
    layer = own()
    a = layer(z)
    assert a.dtype == layer.derivative().dtype == dtype
    tolerance = 4 * np.finfo(dtype).eps
    assert_allclose(a, [swish(float(v)) for v in z], rtol=tolerance, atol=tolerance)
    slopes = [swish_slope(float(v)) for v in z]
    assert_allclose(layer.derivative(), slopes, rtol=tolerance, atol=tolerance)
    da = np.arange(1, size + 1, dtype=dtype)
    assert_array_equal(layer.backward(da), da * layer.derivative())


@every_compute
@pytest.mark.parametrize("num_bn_layers", [0, 3])
@pytest.mark.usefixtures("on_threads")
def test_fit_is_the_hand_written_loop(compute, num_bn_layers):
    """As hidden layers and as outputs, and predictions are those of forward."""
    options = {"dtype": compute, "num_bn_layers": num_bn_layers, "momentum": 0.9, "lr": 1e-3}
    fitted, looped = (build([5, 53, 17, 3], [own] * 3, **options) for _ in range(2))
    x, labels, rows = batch(705, 5, 3, dtype=compute)
    assert_two_ways_alike(fitted, looped, (x, labels, rows), 300)
    looped.eval()
    looped.forward(x)
    outputs = looped.output
    assert_array_equal(fitted.predict(x), outputs.argmax(axis=1))
    loss = SoftmaxCrossEntropy().forward(outputs, labels).mean(dtype=np.float64)
    assert fitted.evaluate(x, labels)[0] == loss
    assert_array_equal(fitted.predict_proba(x[:3]), fitted.predict_proba(x)[:3])


@both_dtypes
def test_training_is_that_of_the_same_formula_in_fastmlp(dtype):
    x, labels, _ = batch(33, 5, 3, dtype=dtype)
    networks = [build([5, 17, 3], [cls, Identity], dtype=dtype) for cls in (own, SiLU)]
    for mlp in networks:
        mlp.fit(x, labels, epochs=2, batch_size=8, shuffle=False)
    assert_same_state(state(networks[0]), state(networks[1]), TOLERANCE[np.dtype(dtype)])


def test_one_step_follows_the_gradient_of_the_loss():
    mlp = build([5, 4, 6, 3], [own] * 3, lr=1.0)
    x, labels, _ = batch(9, 5, 3)
    assert_descent(mlp, x, labels)


def test_the_slope_is_the_one_that_is_given():
    """Not one that is derived from forward: with 0 for a slope nothing before it learns."""
    mlp = build([5, 4, 3], [lambda: Activation.of(swish, lambda z: 0.0), Identity])
    x, labels, _ = batch(9, 5, 3)
    before = state(mlp)
    mlp.fit(x, labels)
    after = state(mlp)
    assert_array_equal(after["W0"], before["W0"])
    assert not np.array_equal(after["W1"], before["W1"])


def test_the_epoch_is_not_compiled_anew_and_each_function_once(monkeypatch):
    x, labels, _ = batch(9, 5, 3)
    build([5, 4, 3]).fit(x, labels)
    signatures = set(train_steps.signatures)
    compiled = []
    monkeypatch.setattr(_own, "_compile", lambda *a, f=_own._compile: compiled.append(a) or f(*a))

    def cube(z):
        return z * z * z / 9

    def slope(z):
        return z * z / 3

    for _ in range(2):
        mlp = build([5, 4, 3], [lambda: Activation.of(cube, slope)] * 2)
        mlp.fit(x, labels)
        mlp.predict(x)
        copy.deepcopy(mlp).predict(x)
    assert len(compiled) == 1
    build([5, 4, 3], [lambda: Activation.of(cube, slope)] * 2, dtype=np.float32)
    assert len(compiled) == 2
    assert set(train_steps.signatures) == signatures


@every_compute
def test_what_is_infinite_at_zero_does_not_leak_from_the_padding(compute):
    """Registers have lanes beyond the last feature, where z is 0."""
    poles = Activation.of(lambda z: 1 / z, lambda z: -1 / (z * z))
    mlp = build([5, 17, 3], [lambda: poles] * 2, dtype=compute, lr=1e-9, num_bn_layers=0)
    x, labels, _ = batch(9, 5, 3, dtype=compute)
    mlp.fit(x, labels, epochs=2, batch_size=4)
    assert np.isfinite(mlp.parameters).all()
    assert np.isfinite(mlp.predict_proba(x)).all()


def test_functions_of_math_and_whole_numbers():
    assert_allclose(
        Activation.of(math.atan, lambda z: 1 / (1 + z * z))(np.ones(3)), np.pi / 4, rtol=1e-15
    )
    step = Activation.of(lambda z: 1 if z > 0 else 0, lambda z: 0)
    assert_array_equal(step(np.array([-1.0, 2.0])), [0, 1])
    assert_array_equal(step.derivative(), [0, 0])


@pytest.mark.parametrize("raising", ["forward", "slope"])
def test_an_exception_is_not_a_number(raising):
    """fit ends before the update, as with any NaN."""

    def fragile(z):
        if z > 1:
            raise ValueError("too large")
        return z

    functions = {"forward": lambda z: z, "slope": lambda z: 1.0} | {raising: fragile}
    layer = Activation.of(**functions)
    assert_array_equal(layer(np.array([0.5, 2.0, 0.25])), [0.5, np.nan, 0.25])
    mlp = build([5, 7, 3], [lambda: layer, Identity])
    before = state(mlp)
    x, labels, _ = batch(9, 5, 3)
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 1, step 1"):
        mlp.fit(10 * x, labels)
    assert_same_state(state(mlp), before)


def test_names_in_messages():
    assert repr(own()) == "Activation.of(swish)"
    assert repr(Activation.of(swish, swish_slope, name="my own")) == "Activation.of(my own)"


# Copies and files


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda mlp: pickle.loads(pickle.dumps(mlp))])
def test_a_duplicate_trains_on_identically(duplicate):
    mlp = build([5, 7, 3], [own] * 2, momentum=0.9)
    x, labels, _ = batch(33, 5, 3)
    mlp.fit(x, labels, batch_size=8, seed=0)
    twin = duplicate(mlp)
    for network in (mlp, twin):
        network.fit(x, labels, batch_size=8, seed=1)
    assert_same_state(state(twin), state(mlp))


def test_functions_that_no_module_has_are_not_pickled():
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(Activation.of(lambda z: z, lambda z: 1.0))


def test_a_file_keeps_no_functions(tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need safetensors")
    mlp = build([5, 7, 3], [own, Identity])
    with pytest.raises(ValueError, match=r"keeps no functions, got .*Activation.of\(swish\)"):
        mlp.save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Bad input


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ((1.0, swish_slope), "forward must be a function of one number, got 1.0"),
        ((swish, None), "slope must be a function of one number, got None"),
    ],
)
def test_what_is_no_function(functions, message):
    with pytest.raises(TypeError, match=message):
        Activation.of(*functions)


@pytest.mark.parametrize(
    "forward",
    [lambda z: [z], lambda z: str(z), lambda: 1.0, lambda a, b: a, lambda z: np.linalg.nothing(z)],
    ids=["list", "text", "no argument", "two arguments", "unknown function"],
)
def test_what_cannot_be_compiled_is_refused_before_anything_changes(forward):
    mlp = build([5, 7, 3])
    before = state(mlp)
    mlp.activations[0] = Activation.of(forward, swish_slope)
    x, labels, _ = batch(9, 5, 3)
    for use in (lambda: mlp.fit(x, labels), lambda: mlp.predict(x), lambda: mlp.forward(x)):
        with pytest.raises(TypeError, match="<lambda>, swish_slope must be functions of numbers"):
            use()
    mlp.activations[0] = Identity()
    assert_same_state(state(mlp), before)


def test_a_network_of_what_cannot_be_compiled_is_not_made():
    with pytest.raises(TypeError, match="functions of numbers that Numba can compile"):
        MLP(
            5, 3, [], [Activation.of(lambda z: "z", swish_slope)], lambda i, o: np.ones((i, o)),
            None, SoftmaxCrossEntropy(), 0.1,
        )  # fmt: skip


def test_close_to_the_truth_in_float32():
    """Functions compute in the dtype of the network, unless they mix in numbers that are wider."""
    z = np.linspace(-4, 4, 101, dtype=np.float32)
    assert_close(own()(z), [swish(v) for v in z.astype(np.float64)], 1e-6)
