"""MLP as an object: one flat buffer under all parameters, copies, options, accepted inputs."""

import copy
import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, Activation, Criterion, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy
from tests.networks import (
    assert_close,
    assert_same_state,
    batch,
    build,
    gradients,
    state,
)
from tests.reference import ReferenceMLP, finite_difference, one_hot, train_epoch

SIZES = [5, 17, 16, 3]


@pytest.fixture
def mlp():
    return build(SIZES, num_bn_layers=2, momentum=0.9, batchnorm_reduction="mean")


def parameters(mlp):
    """Every parameter as (layer, attribute name)."""
    linear = [(layer, name) for layer in mlp.linear_layers for name in ("W", "b")]
    return linear + [(layer, name) for layer in mlp.bn_layers for name in ("gamma", "beta")]


def train(mlp, steps=3):
    for seed in range(steps):
        x, _, y = batch(9, SIZES[0], SIZES[-1], seed=seed)
        train_epoch(mlp, x, y, 9)


# The flat buffer


def test_parameters_are_views_into_one_buffer(mlp):
    flat = mlp.parameters
    assert (flat.ndim, flat.dtype) == (1, np.float64)
    assert flat.flags.c_contiguous
    for layer, name in parameters(mlp):
        assert np.shares_memory(getattr(layer, name), flat), name
    views = [getattr(layer, name) for layer, name in parameters(mlp)]
    assert sum(view.size for view in views) <= flat.size
    flat[:] = np.arange(flat.size)
    values = np.concatenate([view.ravel() for view in views])
    assert len(np.unique(values)) == len(values), "two parameters share an element"


@pytest.mark.parametrize("index", range(2 * 3 + 2 * 2))
def test_assigning_a_parameter_copies_into_the_buffer(mlp, index):
    layer, name = parameters(mlp)[index]
    view = getattr(layer, name)
    values = np.random.default_rng(0).standard_normal(view.shape)
    setattr(layer, name, values)
    assert_array_equal(view, values)
    assert np.shares_memory(getattr(layer, name), mlp.parameters)
    assert not np.shares_memory(getattr(layer, name), values)
    with pytest.raises(ValueError, match=rf"{view.shape[1]}.*{view.shape[1] + 1}"):
        setattr(layer, name, np.zeros((view.shape[0], view.shape[1] + 1)))
    with pytest.raises(TypeError, match="complex"):
        setattr(layer, name, np.zeros(view.shape, complex))
    assert_array_equal(view, values)


@pytest.mark.parametrize("index", range(2 * 3 + 2 * 2))
def test_forward_and_fit_see_edits_in_place(mlp, index):
    """Whatever a forward or a fit keeps beside the parameters, it must not hide an edit."""
    x, labels, y = batch(9, SIZES[0], SIZES[-1])
    mlp.fit(x, labels, epochs=1, batch_size=4, shuffle=False)
    expected = build(SIZES, cls=ReferenceMLP, num_bn_layers=2, momentum=0.9,
                     batchnorm_reduction="mean")  # fmt: skip
    train_epoch(expected, x, y, 4)
    mlp(x), expected(x)
    for network in (mlp, expected):
        layer, name = parameters(network)[index]
        getattr(layer, name)[0, 0] += 0.5
    assert_close(mlp(x), expected(x), 1e-11)
    mlp.fit(x, labels, epochs=1, batch_size=4, shuffle=False)
    train_epoch(expected, x, y, 4)
    assert_same_state(state(mlp), state(expected), 1e-11)


# Copies


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda mlp: pickle.loads(pickle.dumps(mlp)),
    "oldest pickle": lambda mlp: pickle.loads(pickle.dumps(mlp, protocol=2)),
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_trains_on_identically_and_apart(mlp, duplicate):
    train(mlp)
    mlp.lr = 0.02
    twin = duplicate(mlp)
    assert twin.lr == 0.02
    assert_same_state(state(twin), state(mlp))
    before = state(mlp)
    train(twin)
    x, labels, _ = batch(20, SIZES[0], SIZES[-1])
    twin.fit(x, labels, epochs=2, batch_size=8, seed=3)
    assert_same_state(state(mlp), before)
    train(mlp)
    mlp.fit(x, labels, epochs=2, batch_size=8, seed=3)
    assert_same_state(state(twin), state(mlp))
    assert_same_state(gradients(twin), gradients(mlp))


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_has_its_own_buffer(mlp, duplicate):
    twin = duplicate(mlp)
    assert not np.shares_memory(twin.parameters, mlp.parameters)
    for layer, name in parameters(twin):
        assert np.shares_memory(getattr(layer, name), twin.parameters), name
    twin.parameters[:] = 0
    assert not any(np.any(getattr(layer, name)) for layer, name in parameters(twin))
    assert all(
        isinstance(a, type(b)) for a, b in zip(twin.activations, mlp.activations, strict=True)
    )


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
def test_a_copy_between_forward_and_step(mlp, duplicate):
    x, _, y = batch(9, SIZES[0], SIZES[-1])
    mlp.eval()
    assert not duplicate(mlp).train_mode
    mlp.train()
    mlp.forward(x)
    mlp.backward(y)
    twin = duplicate(mlp)
    for network in (mlp, twin):
        network.step()
    assert_same_state(state(twin), state(mlp))


# Options beyond HW1P1


@pytest.mark.parametrize("num_bn_layers", [0, 1])
def test_no_bias(num_bn_layers):
    rng = np.random.default_rng(5)
    w = [rng.standard_normal(shape) for shape in ((5, 7), (7, 3))]

    def make(cls):
        draws = iter(w)
        arguments = [ReLU(), Identity()], lambda i, o: next(draws), None, SoftmaxCrossEntropy(), 0.1
        return cls(5, 3, [7], *arguments, momentum=0.9, num_bn_layers=num_bn_layers)

    mlp, expected = make(MLP), make(ReferenceMLP)
    assert all(layer.b is None for layer in mlp.linear_layers)
    x, labels, y = batch(33, 5, 3)
    for network in (mlp, expected):
        train_epoch(network, x, y, 8)
    assert_same_state(state(mlp), state(expected), 1e-12)
    mlp.fit(x, labels, epochs=1, batch_size=8, shuffle=False)
    train_epoch(expected, x, y, 8)
    assert_same_state(state(mlp), state(expected), 1e-12)


@pytest.mark.parametrize("cast", [np.float32, np.float64, "float32"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_overrides_the_initialisers(dtype, cast):
    mlp = build(SIZES, dtype=dtype, cast=cast, num_bn_layers=1)
    expected = build(SIZES, cls=ReferenceMLP, dtype=dtype, cast=cast, num_bn_layers=1)
    assert_same_state(state(mlp), state(expected))
    x, _, y = batch(9, 5, 3)
    train_epoch(mlp, x, y, 4)
    arrays = [mlp.parameters, mlp.output, *state(mlp).values(), *gradients(mlp).values()]
    assert {a.dtype for a in arrays} == {np.dtype(cast)}


def test_dtype_is_that_of_the_weights():
    """np.zeros in the bias initialiser does not make a float32 network float64."""
    mlp = MLP(5, 3, [], [Identity()], lambda i, o: np.ones((i, o), np.float32),
              lambda o: np.zeros((1, o)), SoftmaxCrossEntropy(), 0.1)  # fmt: skip
    assert mlp.parameters.dtype == mlp.linear_layers[0].b.dtype == np.float32


@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_batchnorm_reduction(reduction):
    """dgamma and dbeta stay batch sums; "mean" divides by the size of the last batch in step()."""
    options = {"num_bn_layers": 2, "batchnorm_reduction": reduction}
    mlp, expected = build(SIZES, **options), build(SIZES, cls=ReferenceMLP, **options)
    x, labels, y = batch(20, 5, 3)
    for network in (mlp, expected):
        train_epoch(network, x, y, 8)
    assert_same_state(gradients(mlp), gradients(expected), 1e-12)
    assert_same_state(state(mlp), state(expected), 1e-12)
    mlp.fit(x, labels, epochs=1, batch_size=8, shuffle=False)
    train_epoch(expected, x, y, 8)
    assert_same_state(state(mlp), state(expected), 1e-12)


def test_weight_decay():
    """2 c W joins the gradients of the weights, not those of biases, gammas and betas."""
    options = {"weight_decay": 0.5, "momentum": 0.9, "num_bn_layers": 1}
    mlp, expected = build(SIZES, **options), build(SIZES, cls=ReferenceMLP, **options)
    x, labels, y = batch(20, 5, 3)
    for network in (mlp, expected):
        train_epoch(network, x, y, 8)
    assert_same_state(state(mlp), state(expected), 1e-12)
    mlp.fit(x, labels, epochs=1, batch_size=8, shuffle=False)
    train_epoch(expected, x, y, 8)
    assert_same_state(state(mlp), state(expected), 1e-12)


class HalfTanh(Activation):
    """An activation of the user's own, as HW1P1 lets students write them."""

    def forward(self, x):
        self.state = 0.5 * np.tanh(x)
        return self.state

    def derivative(self):
        return 0.5 - 2 * self.state**2


class SquaredError(Criterion):
    """Half the squared distance between outputs and labels."""

    def forward(self, x, y):
        self.logits, self.labels, self.loss = x, y, 0.5 * ((x - y) ** 2).sum(axis=1)
        return self.loss

    def derivative(self):
        return self.logits - self.labels


def test_activation_and_criterion_of_the_users_own():
    """They work by hand; fit compiles only what it knows and says so instead of guessing."""
    mlp = build([5, 4, 3], [HalfTanh, Identity])
    mlp.criterion = SquaredError()
    x, labels, y = batch(9, 5, 3)
    first, last = mlp.linear_layers

    def total(_):
        mlp.forward(x)
        return mlp.total_loss(y)

    total(None)
    mlp.backward(y)
    for layer in (first, last):
        for parameter, gradient in ((layer.W, layer.dW), (layer.b, layer.db)):
            assert_close(9 * gradient, finite_difference(total, parameter), 1e-7)
    before = state(mlp)
    with pytest.raises(TypeError, match="SquaredError"):
        mlp.fit(x, labels)
    mlp.criterion = SoftmaxCrossEntropy()
    with pytest.raises(TypeError, match="HalfTanh"):
        mlp.fit(x, labels)
    assert_same_state(state(mlp), before)


# Inputs that must be accepted


LAYOUTS = {
    "columns skipped": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "rows skipped": lambda x: np.repeat(x, 3, axis=0)[::3],
    "Fortran order": np.asfortranarray,
    "reversed": lambda x: x[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda x: x.T.copy().T,
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "unaligned": lambda x: (
        np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(x.dtype).reshape(x.shape)
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_any_memory_layout_gives_the_same_numbers(layout, dtype):
    x, labels, y = batch(33, 5, 3, dtype=dtype)
    strided_x, strided_y = layout(x), layout(y)
    x, y = (np.ascontiguousarray(a, dtype) for a in (strided_x, strided_y))
    twins = [build(SIZES, dtype=dtype, num_bn_layers=1) for _ in range(2)]
    for mlp, inputs, rows in zip(twins, (x, strided_x), (y, strided_y), strict=True):
        mlp.forward(inputs)
        mlp.backward(rows)
        mlp.step()
        mlp.fit(inputs, labels, epochs=1, batch_size=8, shuffle=False)
        mlp.fit(inputs, rows, epochs=1, batch_size=8, shuffle=False)
    assert_same_state(state(twins[1]), state(twins[0]))
    assert_array_equal(twins[1].predict_proba(strided_x), twins[0].predict_proba(x))
    assert twins[1].evaluate(strided_x, strided_y) == twins[0].evaluate(x, y)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_forward_scales_pixels_as_fit_does(dtype):
    looped, fitted = (build(SIZES, dtype=dtype, num_bn_layers=1, momentum=0.9) for _ in range(2))
    pixels = np.random.default_rng(0).integers(0, 256, (33, 5), dtype=np.uint8)
    _, labels, y = batch(33, 5, 3, dtype=dtype)
    train_epoch(looped, pixels, y, 8)
    fitted.fit(pixels, labels, batch_size=8, shuffle=False)
    assert_same_state(state(looped), state(fitted), 1e-13 if dtype == np.float64 else 1e-5)


def test_linear_classifier():
    mlp, expected = (build([5, 3], [Identity], cls, momentum=0.9) for cls in (MLP, ReferenceMLP))
    x, _, y = batch(33, 5, 3)
    for network in (mlp, expected):
        train_epoch(network, x, y, 8)
    assert mlp.nlayers == 1
    assert_same_state(state(mlp), state(expected), 1e-12)
    assert_array_equal(mlp.predict(x), expected(x).argmax(axis=1))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_nan_in_gives_nan_out(dtype):
    """Only in its own row; and training shows it in the loss instead of hiding it."""
    mlp = build([17, 16, 3], [Sigmoid, Identity], dtype=dtype)
    x, labels, _ = batch(9, 17, 3, dtype=dtype)
    clean = mlp(x).copy()
    x[4, 16] = np.nan
    output = mlp(x)
    assert np.isnan(output[4]).all()
    assert_array_equal(np.delete(output, 4, axis=0), np.delete(clean, 4, axis=0))
    assert np.isnan(mlp.total_loss(one_hot(labels, 3)))
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 1, step 1: fit ended there"):
        history = mlp.fit(x, labels, batch_size=8, shuffle=False, check_finite=False)
    assert np.isnan(history.train_loss[0])


@pytest.mark.parametrize(
    ("call", "package", "extra"),
    [
        (lambda mlp: mlp.to_torch(), "torch", "torch"),
        (MLP.from_torch, "torch", "torch"),
        (MLP.from_sklearn, "sklearn", "sklearn"),
    ],
)
def test_without_the_other_library(call, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not .* '{extra}'"):
        call(build([5, 3]))
