"""Networks and batches for the tests; a network can be built twice from the same draws."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import MLP, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh
from tests.reference import finite_difference, one_hot, train_epoch

# Sizes around the edges of register tiles (16, 48), primes, and 1.
AWKWARD_SIZES = [1, 2, 15, 16, 17, 47, 48, 49, 97]
AWKWARD_BATCHES = [1, 7, 8, 9, 33]

# A sum of n products is off by at most n·u·Σ|x||w|, u half a unit in the last place: for n = 97 and
# standard normal operands about 2e-14 (float64) and 1e-5 (float32) of the largest result.
TOLERANCE = {np.dtype(np.float64): 1e-13, np.dtype(np.float32): 2e-5}

ACTIVATION_CLASSES = [Identity, Sigmoid, Tanh, ReLU]


def build(
    sizes,
    activations=None,
    cls=MLP,
    *,
    dtype=np.float64,
    cast=None,
    seed=0,
    lr=0.05,
    bias=True,
    **options,
):
    """A network of class cls with N(0, 1/fan_in) weights and small random biases, or without.

    sizes : D, hidden sizes, K      activations : classes, by default ReLU … ReLU, Identity
    dtype : of what the initialisers return, or "bfloat16": float32, computed in bfloat16
    cast : the network's dtype argument
    """
    if dtype == "bfloat16":
        dtype, options = np.float32, options | {"compute_dtype": "bfloat16"}
    rng = np.random.default_rng(seed)

    def weights(fan_in, fan_out):
        return (rng.standard_normal((fan_in, fan_out)) / np.sqrt(fan_in)).astype(dtype)

    def biases(fan_out):
        return (rng.standard_normal((1, fan_out)) / 10).astype(dtype)

    activations = activations or [ReLU] * (len(sizes) - 2) + [Identity]
    return cls(
        sizes[0], sizes[-1], list(sizes[1:-1]), [activation() for activation in activations],
        weights, biases if bias else None, SoftmaxCrossEntropy(), lr, dtype=cast, **options,
    )  # fmt: skip


def batch(samples, features, classes, *, dtype=np.float64, seed=1):
    """(x, integer labels, one-hot rows) with x standard normal."""
    dtype = np.float32 if dtype == "bfloat16" else dtype
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, samples)
    x = rng.standard_normal((samples, features)).astype(dtype)
    return x, labels, one_hot(labels, classes, dtype)


def state(mlp):
    """Copies of all that training changes, by name: parameters, momenta, running statistics."""
    arrays = {}
    for k, layer in enumerate(mlp.linear_layers):
        for name in ("W", "b", "momentum_W", "momentum_b"):
            value = getattr(layer, name)
            if value is not None:
                arrays[f"{name}{k}"] = value.copy()
    for k, layer in enumerate(mlp.bn_layers or []):
        for name in ("gamma", "beta", "running_mean", "running_var"):
            arrays[f"{name}{k}"] = getattr(layer, name).copy()
    for k, layer in enumerate(getattr(mlp, "ln_layers", ())):
        for name in ("gamma", "beta"):
            arrays[f"{name}{k}"] = getattr(layer, name).copy()
    if getattr(mlp, "embeddings", None) is not None:
        arrays["embedding"] = mlp._embedding.numbers.copy()
    for k, weights in enumerate(getattr(mlp, "activation_weights", ())):
        arrays[f"mix{k}"] = weights.copy()
    if getattr(mlp, "input_scale", None) is not None:
        arrays["input_scale"] = mlp.input_scale.copy()
    return arrays


def gradients(mlp):
    """Copies of all gradients, by name."""
    arrays = {}
    for k, layer in enumerate(mlp.linear_layers):
        arrays[f"dW{k}"], arrays[f"db{k}"] = layer.dW.copy(), layer.db.copy()
    for k, layer in enumerate([*(mlp.bn_layers or []), *getattr(mlp, "ln_layers", ())]):
        arrays[f"dgamma{k}"], arrays[f"dbeta{k}"] = layer.dgamma.copy(), layer.dbeta.copy()
    return arrays


def train_by_hand(mlp, x, labels, steps=1):
    """The layer path: forward, backward, step."""
    for _ in range(steps):
        mlp.forward(x)
        mlp.backward(labels)
        mlp.step()


def gradients_follow_the_loss(mlp, x, labels, rows, names=("W", "b")):
    """Finite differences of the mean loss, under masks that a seed draws again and again.

    rows : the labels as rows    names : of the parameters of linear layers that are looked at
    """

    def loss(_):
        mlp.dropout_seed = 7
        mlp.forward(x)
        return mlp.total_loss(rows) / len(rows)

    loss(None)
    mlp.backward(labels)
    found = gradients(mlp)
    for k, layer in enumerate(mlp.linear_layers):
        for name in names:
            expected = finite_difference(loss, getattr(layer, name))
            assert_allclose(found[f"d{name}{k}"], expected, rtol=1e-5, atol=1e-8)


def fit_is_the_loop_on_any_threads(make, batch_size, dtype, monkeypatch, change=None):
    """Two epochs and a short batch, on 1 to 4 threads, to the bit.

    make : makes the network, the same one every time    change : changes the data in place
    """
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    looped = make()
    sizes = looped.input_size, looped.output_size
    x, labels, _ = batch(2 * batch_size + 5, *sizes, dtype=dtype)
    if change is not None:
        change(x)
    for _, first in itertools.product(range(2), range(0, len(x), batch_size)):
        rows = slice(first, first + batch_size)
        train_by_hand(looped, x[rows], labels[rows])
    for count in (1, 2, 3, 4):
        fastmlp.set_num_threads(count)
        fitted = make()
        fitted.fit(x, labels, epochs=2, batch_size=batch_size, shuffle=False)
        assert_same_state(state(fitted), state(looped))
        assert_array_equal(fitted.velocities, looped.velocities)
        assert_array_equal(fitted.averages, looped.averages)


def predictions_ignore_the_number_of_rows(mlp, dtype):
    """Three rows at a time to the bit as all at once; those of the layer path, to float32."""
    x, labels, _ = batch(150, mlp.input_size, mlp.output_size, dtype=dtype)
    mlp.fit(x, labels)
    outputs = mlp.predict_proba(x)
    mlp.eval()
    assert_allclose(mlp.forward(x), mlp._outputs(x), rtol=0, atol=1e-5)
    for first in range(0, 150, 3):
        assert_array_equal(mlp.predict_proba(x[first : first + 3]), outputs[first : first + 3])


def assert_close(actual, expected, tolerance=None):
    """Equal shapes; differences within tolerance times the largest expected magnitude (or 1)."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    if tolerance is None:
        tolerance = TOLERANCE[actual.dtype]
    scale = max(1.0, np.abs(expected).max(initial=0))
    assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


def assert_same_state(actual, expected, tolerance=None):
    """state() or gradients() of two networks agree: to the bit, or within tolerance."""
    assert actual.keys() == expected.keys()
    for name, value in actual.items():
        if tolerance is None:
            assert_array_equal(value, expected[name], err_msg=name)
        else:
            assert_close(value, expected[name], tolerance)


def assert_two_ways_alike(fitted, looped, data, batch_size):
    """Two equal networks end in the same bits after two epochs of fit and of the layer path.

    data : (x, integer labels, one-hot rows)
    """
    x, labels, y = data
    fitted.fit(x, labels, epochs=2, batch_size=batch_size, shuffle=False)
    for _ in range(2):
        train_epoch(looped, x, y, batch_size)
    assert_same_state(state(fitted), state(looped))


def assert_descent(mlp, x, labels):
    """A step of fit at a learning rate of 1 is minus the finite differences of evaluate's loss."""
    arrays = [a for layer in mlp.linear_layers for a in (layer.W, layer.b)]
    gradients = [finite_difference(lambda _: mlp.evaluate(x, labels)[0], a) for a in arrays]
    before = [a.copy() for a in arrays]
    mlp.fit(x, labels, batch_size=len(x))
    for start, gradient, end in zip(before, gradients, arrays, strict=True):
        assert_allclose(start - end, gradient, rtol=1e-6, atol=1e-8)


def duplicate(mlp, way, path):
    """A network like it, by "copy", "pickle" or "file"; the latter lies at path."""
    if way == "file":
        pytest.importorskip("safetensors", reason="files of networks need the extra io")
        mlp.save(path)
        return MLP.load(path)
    return copy.deepcopy(mlp) if way == "copy" else pickle.loads(pickle.dumps(mlp))


def assert_refused_in_a_file(mlp, metadata, message, path):
    """A file of the network is refused once its metadata are others: the error says why."""
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    from tests.checkpoint_files import rewrite

    mlp.save(path)
    rewrite(path, metadata)
    with pytest.raises(ValueError, match=f"not a fastmlp network: .*{message}"):
        MLP.load(path)
