"""Layer norm: its layer, and the networks that train with it."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import GELU, Identity, LayerNorm, ReLU, Sigmoid, Tanh, optimizers
from fastmlp.kernels.epoch import train_steps
from tests import norms
from tests.networks import (
    assert_refused_in_a_file,
    assert_same_state,
    batch,
    build,
    duplicate,
    fit_is_the_loop_on_any_threads,
    gradients,
    predictions_ignore_the_number_of_rows,
    state,
    train_by_hand,
)
from tests.reference import finite_difference

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIZES, ACTIVATIONS = [7, 17, 33, 5, 3], [ReLU, Sigmoid, GELU, Identity]


def layer_of(width, dtype=np.float64, seed=0):
    """A layer norm with gammas and betas of a normal distribution."""
    layer = LayerNorm(width, dtype)
    layer.gamma, layer.beta = np.random.default_rng(seed).standard_normal((2, 1, width))
    return layer


# The layer


def test_a_new_layer_normalises_alone():
    layer = LayerNorm(5)
    x = np.random.default_rng(0).standard_normal((9, 5)) * 3 + 2
    y = layer.forward(x)
    assert_allclose(y.mean(axis=1), 0, atol=1e-15)
    assert_allclose(y.var(axis=1) * (1 + 1e-5 / x.var(axis=1)), 1, rtol=1e-12)
    assert (layer.eps, repr(layer)) == (1e-5, "LayerNorm(5)")


@pytest.mark.parametrize("width", [2, 3, 16, 17, 49])
def test_gradients_by_finite_differences(width):
    layer = layer_of(width)
    rng = np.random.default_rng(1)
    x, weights = rng.standard_normal((2, 7, width))
    layer.forward(x)
    dx = layer.backward(weights)

    def weighted(_):
        return (layer.forward(x) * weights).sum()

    pairs = [(dx, x), (layer.dgamma, layer.gamma), (layer.dbeta, layer.beta)]
    for found, array in pairs:
        assert_allclose(found, finite_difference(weighted, array), rtol=1e-6, atol=1e-7)


@both_dtypes
def test_rows_without_spread(dtype):
    """Of one feature, or of equal ones: nothing is left of them but beta."""
    for width in (1, 5):
        layer = layer_of(width, dtype)
        y = layer.forward(np.full((3, width), 0.5, dtype))
        assert_array_equal(y, np.tile(layer.beta, (3, 1)))
        assert np.isfinite(layer.backward(y)).all()


def test_small_spread_beside_a_large_mean():
    """The mean is taken away before anything is squared."""
    x = 1e6 + np.random.default_rng(0).standard_normal((9, 40))
    assert_allclose(LayerNorm(40).forward(x), norms.layernorm_forward(x, 1, 0)[0], atol=1e-8)


@both_dtypes
def test_integers_and_other_floats(dtype):
    """x decides on the dtype of the output, as in batch norm."""
    layer = layer_of(5, dtype)
    assert layer.forward(np.arange(15).reshape(3, 5)).dtype == dtype
    for other in (np.float32, np.float64):
        y = layer.forward(np.random.default_rng(0).standard_normal((3, 5)).astype(other))
        assert y.dtype == layer.backward(y).dtype == other


def test_what_a_layer_refuses():
    layer = LayerNorm(5)
    with pytest.raises(RuntimeError, match="call forward before backward"):
        layer.backward(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"x must be \(N, 5\), got \(3, 4\)"):
        layer.forward(np.zeros((3, 4)))
    layer.forward(np.zeros((3, 5)))
    with pytest.raises(ValueError, match=r"delta must be \(3, 5\), got \(2, 5\)"):
        layer.backward(np.zeros((2, 5)))
    with pytest.raises(ValueError, match="in_feature must be at least 1"):
        LayerNorm(0)


# The two paths


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {"num_ln_layers": 3, "momentum": 0.9},
        {"num_ln_layers": 4, "dropout": 0.5, "dropout_seed": 1},
        {"num_ln_layers": 1, "batchnorm_reduction": "sum"},
        {"num_ln_layers": 2, "lr": None, "optimizer": optimizers.AdamW(0.01, clip_norm=0.5)},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [9, 550])
@pytest.mark.usefixtures("forced_threads")
def test_fit_is_the_loop_for_any_number_of_threads(batch_size, options, dtype, monkeypatch):
    """Above 256 rows, or 512, a batch is cut into chunks."""
    fit_is_the_loop_on_any_threads(
        lambda: build(SIZES, ACTIVATIONS, dtype=dtype, **options), batch_size, dtype, monkeypatch
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.usefixtures("forced_threads")
def test_predictions_are_the_same_bits_for_any_number_of_rows(dtype):
    mlp = build(SIZES, ACTIVATIONS, dtype=dtype, num_ln_layers=3)
    predictions_ignore_the_number_of_rows(mlp, dtype)


def test_one_compilation_serves_layer_norm():
    x, labels, _ = batch(9, 7, 3)
    build([7, 5, 3]).fit(x, labels)
    compiled_for = set(train_steps.signatures)
    build([7, 5, 3], num_ln_layers=1).fit(x, labels)
    assert set(train_steps.signatures) == compiled_for


def test_gradients_of_a_network_by_finite_differences():
    mlp = build([5, 7, 6, 3], [Tanh, GELU, Identity], num_ln_layers=2, batchnorm_reduction="sum")
    x, labels, y = batch(9, 5, 3)

    def loss(_):
        mlp.forward(x)
        return mlp.total_loss(y)

    loss(None)
    mlp.backward(labels)
    found = gradients(mlp)
    for k, layer in enumerate(mlp.ln_layers):
        for name in ("gamma", "beta"):
            expected = finite_difference(loss, getattr(layer, name))
            assert_allclose(found[f"d{name}{k}"], expected, rtol=1e-6, atol=1e-8)
    for k, layer in enumerate(mlp.linear_layers):
        expected = finite_difference(loss, layer.W) / 9
        assert_allclose(found[f"dW{k}"], expected, rtol=1e-6, atol=1e-8)


def test_fifty_steps_agree_with_pytorch():
    """Layer norm's gradients are divided as PyTorch's are, without being told."""
    torch = pytest.importorskip("torch", reason="agreement with PyTorch needs PyTorch")
    fitted, looped = (
        build([7, 17, 33, 3], [ReLU, GELU, Identity], num_ln_layers=2, momentum=0.9, lr=0.02)
        for _ in range(2)
    )
    parts = []
    for k, linear in enumerate(fitted.linear_layers):
        like = torch.nn.Linear(*linear.W.shape, dtype=torch.float64)
        like.weight.data, like.bias.data = torch.tensor(linear.W.T), torch.tensor(linear.b[0])
        parts.append(like)
        if k < 2:
            parts.append(torch.nn.LayerNorm(linear.W.shape[1], dtype=torch.float64))
            parts.append([torch.nn.ReLU(), torch.nn.GELU()][k])
    peer = torch.nn.Sequential(*parts)
    # HW1P1's momentum leaves gammas and betas out.
    norms_of_peer = [part for part in parts if isinstance(part, torch.nn.LayerNorm)]
    plain = [p for part in norms_of_peer for p in part.parameters()]
    rest = [p for p in peer.parameters() if all(p is not q for q in plain)]
    rule = torch.optim.SGD([{"params": rest, "momentum": 0.9}, {"params": plain}], lr=0.02)
    x, labels, _ = batch(40, 7, 3)
    fitted.fit(x, labels, epochs=50, batch_size=40, shuffle=False)
    train_by_hand(looped, x, labels, 50)
    loss = torch.nn.CrossEntropyLoss()
    for _ in range(50):
        rule.zero_grad()
        loss(peer(torch.tensor(x)), torch.tensor(labels)).backward()
        rule.step()
    for mlp in (fitted, looped):
        for linear, like in zip(mlp.linear_layers, parts[::3], strict=True):
            assert_allclose(linear.W, like.weight.detach().numpy().T, rtol=0, atol=1e-10)
        for layer, like in zip(mlp.ln_layers, norms_of_peer, strict=True):
            assert_allclose(layer.gamma[0], like.weight.detach().numpy(), rtol=0, atol=1e-10)
            assert_allclose(layer.beta[0], like.bias.detach().numpy(), rtol=0, atol=1e-10)


# Copies, files, replacements


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    mlp = build(SIZES, num_ln_layers=2, lr=None, optimizer=optimizers.AdamW(0.01))
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    assert (other.num_ln_layers, len(other.ln_layers)) == (2, 2)
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))


def test_a_layer_can_take_the_place_of_another():
    x, labels, _ = batch(9, 7, 3)
    mlp, other = (build([7, 5, 3], num_ln_layers=1) for _ in range(2))
    new = layer_of(5)
    mlp.ln_layers[0] = new
    other.ln_layers[0].gamma, other.ln_layers[0].beta = new.gamma, new.beta
    for each in (mlp, other):
        each.fit(x, labels, shuffle=False)
    assert_same_state(state(mlp), state(other))
    assert np.shares_memory(new.gamma, mlp.parameters)
    with pytest.raises(ValueError, match=r"ln_layers\[0\] must have gamma of shape \(1, 5\)"):
        mlp.ln_layers[0] = LayerNorm(6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_ln_layers": 3}, "num_ln_layers must be at most 2, the number of layers, got 3"),
        ({"num_ln_layers": -1}, "num_ln_layers must be at least 0, got -1"),
        ({"num_ln_layers": 0.5}, "num_ln_layers must be a whole number, got 0.5"),
        (
            {"num_ln_layers": 1, "num_bn_layers": 2},
            "not both: leave out one of num_bn_layers=2 and num_ln_layers=1",
        ),
    ],
)
def test_numbers_that_are_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build([5, 7, 3], **options)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"num_ln_layers": 2}, r"lacks layers\.1\.beta"),
        ({"num_ln_layers": 0}, r"must not hold layers\.0\.beta"),
        ({"num_ln_layers": "1"}, "the field num_ln_layers .* is '1'"),
        ({"num_ln_layers": -1}, r"must not hold layers\.0\.beta"),
    ],
)
def test_files_that_describe_no_layer_norm(metadata, message, tmp_path):
    assert_refused_in_a_file(build([5, 7, 3], num_ln_layers=1), metadata, message, tmp_path / "m")
