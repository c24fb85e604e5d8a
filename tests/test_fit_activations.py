"""Every activation through fit: the bits of the hand-written loop, the gradients of PyTorch."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import ELU, GELU, Identity, LeakyReLU, ReLU, SiLU, Softplus, Tanh, engine
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.kernels.epoch import train_steps
from fastmlp.kernels.loss import softmax
from fastmlp.kernels.update import Learnt
from fastmlp.layers import activation_named
from tests.networks import (
    assert_close,
    assert_descent,
    assert_same_state,
    assert_two_ways_alike,
    batch,
    build,
    duplicate,
    state,
)

# As arguments of ``build``, which calls them.
MAKERS = {name: (lambda name=name: activation_named(name)) for name in ACTIVATIONS} | {
    "leaky_relu -0.3": lambda: LeakyReLU(-0.3),
    "elu 1.5": lambda: ELU(1.5),
    "elu -0.5": lambda: ELU(-0.5),
    "softplus 3": lambda: Softplus(3),
}
KEPT = [name for name, make in MAKERS.items() if make().formula(np.float64).keeps_slope]

every_activation = pytest.mark.parametrize("name", MAKERS)
every_compute = pytest.mark.parametrize("compute", [np.float64, np.float32, "bfloat16"])


def test_those_that_are_meant_to_keep_their_slopes_do():
    """So that tests of kept slopes test some, and with numbers that turn the sign, too."""
    assert set(KEPT) > {"silu", "gelu", "gelu_tanh", "mish", "leaky_relu -0.3", "elu -0.5"}
    assert "relu" not in KEPT
    assert "elu" not in KEPT


@every_activation
@every_compute
@pytest.mark.parametrize("num_bn_layers", [0, 3])
def test_fit_is_the_hand_written_loop(name, compute, num_bn_layers):
    """As hidden layers and as outputs; several chunks, a short last batch, several panels."""
    make = MAKERS[name]
    options = {"dtype": compute, "num_bn_layers": num_bn_layers, "momentum": 0.9, "lr": 1e-3}
    fitted, looped = (build([5, 53, 17, 3], [make] * 3, **options) for _ in range(2))
    assert_two_ways_alike(fitted, looped, batch(705, 5, 3, dtype=compute), 300)
    assert np.isfinite(fitted.parameters).all()


@pytest.mark.parametrize("name", ["silu", "leaky_relu", "relu"])
@pytest.mark.parametrize("outputs", [3, 97])
def test_kept_slopes_beside_others(name, outputs):
    """Some layers of a network keep theirs and some do not; logits in one panel and in several."""
    makers = [MAKERS[name], Tanh, GELU, MAKERS[name]]
    options = {"num_bn_layers": 1, "momentum": 0.9, "lr": 1e-3}
    fitted, looped = (build([7, 49, 16, 17, outputs], makers, **options) for _ in range(2))
    assert_two_ways_alike(fitted, looped, batch(33, 7, outputs), 8)


@every_activation
@every_compute
def test_predictions_are_those_of_forward(name, compute):
    """Of many rows, through packed weights, and of a few, from the flat ones."""
    mlp = build([5, 53, 3], [MAKERS[name], Identity], dtype=compute, num_bn_layers=1)
    x, _, _ = batch(70, 5, 3, dtype=compute)
    mlp.forward(x)
    mlp.eval()
    outputs = mlp.forward(x)
    expected = np.empty_like(outputs)
    softmax(expected, outputs)
    assert_array_equal(mlp.predict_proba(x), expected)
    assert_array_equal(mlp.predict_proba(x[:3]), expected[:3])


@every_activation
def test_one_step_follows_the_gradient_of_the_loss(name):
    """fit's own: the change that a step makes at a learning rate of 1, by finite differences."""
    mlp = build([5, 4, 6, 3], [MAKERS[name]] * 3, lr=1.0, seed=3)
    x, labels, _ = batch(9, 5, 3)
    assert_descent(mlp, x, labels)


def test_one_compilation_serves_every_activation():
    x, labels, _ = batch(9, 5, 3, dtype=np.float32)
    build([5, 4, 3], [ReLU, Identity], dtype=np.float32).fit(x, labels)
    compiled = set(train_steps.signatures)
    for make in MAKERS.values():
        build([5, 4, 3], [make, make], dtype=np.float32).fit(x, labels)
    assert set(train_steps.signatures) == compiled


def test_slopes_take_no_memory_where_none_is_kept():
    sizes = {}
    for cls in (ReLU, SiLU):
        layout = build([5, 4, 3], [cls, Identity]).layout
        learnt = Learnt(*np.zeros((4, layout.parameters)))
        trainer = engine.Trainer(layout, learnt, np.zeros(0), 9, engine.Objective())
        sizes[cls] = trainer.packed.slopes.size
    assert sizes[ReLU] == 0
    assert sizes[SiLU] == trainer.packed.activations.values.size


def test_a_number_changed_between_fits_counts():
    changed, made = (build([5, 7, 3], [lambda: LeakyReLU(0.5), Identity]) for _ in range(2))
    x, labels, _ = batch(33, 5, 3)
    changed.fit(x, labels, seed=0)
    made.fit(x, labels, seed=0)
    changed.activations[0].negative_slope = -0.25
    made.activations[0] = LeakyReLU(-0.25)
    for mlp in (changed, made):
        mlp.fit(x, labels, seed=0)
    assert_same_state(state(changed), state(made))
    assert_array_equal(changed.predict_proba(x), made.predict_proba(x))


# Copies and files


@every_activation
@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_duplicate_trains_on_identically(name, way, tmp_path):
    mlp = build([5, 7, 3], [MAKERS[name]] * 2, momentum=0.9, lr=1e-2)
    x, labels, _ = batch(33, 5, 3)
    mlp.fit(x, labels, batch_size=8, seed=0)
    twin = duplicate(mlp, way, tmp_path / "m")
    assert repr(twin.activations) == repr(mlp.activations)
    for network in (mlp, twin):
        network.fit(x, labels, batch_size=8, seed=1)
    assert_same_state(state(twin), state(mlp))
    assert_array_equal(twin.predict_proba(x), mlp.predict_proba(x))


# PyTorch


def in_pytorch(activation):
    from torch import nn

    name = type(activation).__name__
    numbers = [
        getattr(activation, number)
        for number in ("negative_slope", "alpha", "beta")
        if hasattr(activation, number)
    ]
    if name == "GELU":
        return nn.GELU(approximate=activation.approximate)
    names = {"HardSigmoid": "Hardsigmoid", "HardSwish": "Hardswish"}
    return getattr(nn, names.get(name, name))(*numbers)


@every_activation
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_and_slopes_are_those_of_pytorch(name, dtype):
    """To a few ULP of the largest terms. PyTorch's softplus drops exp(-20) beyond its threshold of
    20 / beta, and its hard sigmoid's slope is float32's 1/6."""
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra compare")
    activation = MAKERS[name]()
    z = np.concatenate([np.linspace(-6, 6, 2001), [-3, 0, 3, -100, 100]]).astype(dtype)
    tensor = torch.tensor(z, requires_grad=True)
    expected = in_pytorch(activation)(tensor)
    expected.sum().backward()
    eps = np.finfo(dtype).eps
    assert_allclose(activation(z), expected.detach().numpy(), rtol=8 * eps, atol=16 * eps)
    loose = np.finfo(np.float32).eps if name == "hard_sigmoid" else 32 * eps
    assert_allclose(activation.derivative(), tensor.grad.numpy(), rtol=0, atol=loose)


@every_activation
def test_gradients_of_a_network_are_those_of_pytorch(name):
    torch = pytest.importorskip("torch", reason="PyTorch comes with the extra compare")
    from torch import nn

    mlp = build([5, 7, 6, 3], [MAKERS[name]] * 3, seed=2)
    x, labels, _ = batch(17, 5, 3)
    modules = []
    for layer, activation in zip(mlp.linear_layers, mlp.activations, strict=True):
        linear = nn.Linear(*layer.W.shape, dtype=torch.float64)
        linear.weight = nn.Parameter(torch.tensor(layer.W.T.copy()))
        linear.bias = nn.Parameter(torch.tensor(layer.b[0].copy()))
        modules += [linear, in_pytorch(activation)]
    outputs = nn.Sequential(*modules)(torch.tensor(x))
    nn.functional.cross_entropy(outputs, torch.tensor(labels)).backward()
    mlp.forward(x)
    mlp.backward(labels)
    tolerance = 1e-7 if name == "hard_sigmoid" else 1e-14
    for layer, linear in zip(mlp.linear_layers, modules[::2], strict=True):
        assert_close(layer.dW, linear.weight.grad.numpy().T, tolerance)
        assert_close(layer.db, linear.bias.grad.numpy()[np.newaxis], tolerance)
