"""Residual connections: layers that add their input to their output."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fastmlp import GELU, MLP, Identity, ReLU, Sigmoid, Tanh, optimizers
from fastmlp.kernels.epoch import train_steps
from tests.networks import (
    assert_same_state,
    batch,
    build,
    duplicate,
    fit_is_the_loop_on_any_threads,
    gradients_follow_the_loss,
    predictions_ignore_the_number_of_rows,
    state,
    train_by_hand,
)

# Layers 0, 2 and 3 add their input; layer 4 follows one that does, layer 5 is the last.
SIZES = [7, 7, 33, 33, 33, 3, 3]
ACTIVATIONS = [ReLU, Tanh, GELU, ReLU, Sigmoid, Identity]


def test_which_layers_add_their_input():
    """Those whose widths agree, but for the last; after the activation."""
    mlp = build(SIZES, ACTIVATIONS, residual=True)
    assert mlp.residual
    found = [k for k, layer in enumerate(mlp.layout.layers) if layer.residual]
    assert found == [0, 2, 3]
    mlp = build([5, 5, 4, 4], [Tanh, Tanh, Identity], residual=True)
    x, _, _ = batch(9, 5, 4)
    expected = np.tanh(x @ mlp.linear_layers[0].W + mlp.linear_layers[0].b) + x
    expected = np.tanh(expected @ mlp.linear_layers[1].W + mlp.linear_layers[1].b)
    expected = expected @ mlp.linear_layers[2].W + mlp.linear_layers[2].b
    assert_allclose(mlp.forward(x), expected, rtol=0, atol=1e-13)
    assert_allclose(mlp._outputs(x), expected, rtol=0, atol=1e-13)


# The two paths


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9},
        {"dropout": [0.2, 0.5, 0, 0.3, 0.1, 0], "dropout_seed": 1},
        {"num_bn_layers": 5, "dropout": 0.3, "dropout_seed": 1, "batchnorm_reduction": "mean"},
        {"num_ln_layers": 4, "lr": None, "optimizer": optimizers.AdamW(0.01, clip_norm=0.5)},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [9, 550])
@pytest.mark.usefixtures("forced_threads")
def test_fit_is_the_loop_for_any_number_of_threads(batch_size, options, dtype, monkeypatch):
    """Above 256 rows, or 512, a batch is cut into chunks."""
    fit_is_the_loop_on_any_threads(
        lambda: build(SIZES, ACTIVATIONS, dtype=dtype, residual=True, **options),
        batch_size,
        dtype,
        monkeypatch,
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize("norms", [{}, {"num_bn_layers": 5}, {"num_ln_layers": 5}], ids=str)
@pytest.mark.usefixtures("forced_threads")
def test_predictions_are_the_same_bits_for_any_number_of_rows(norms, dtype):
    mlp = build(SIZES, ACTIVATIONS, dtype=dtype, residual=True, **norms)
    predictions_ignore_the_number_of_rows(mlp, dtype)


@pytest.mark.parametrize("dtype", [np.float32, "bfloat16"])
def test_pixels_pass_by_the_first_layer(dtype):
    """Scaled to [0, 1], dropped, and not rounded."""
    x = np.random.default_rng(0).integers(0, 256, (30, 7), np.uint8)
    labels = batch(30, 7, 3)[1]
    fitted, looped = (
        build([7, 7, 3], dtype=dtype, residual=True, dropout=[0.5, 0.5], dropout_seed=1)
        for _ in range(2)
    )
    fitted.fit(x, labels, batch_size=30, shuffle=False)
    train_by_hand(looped, x, labels)
    assert_same_state(state(fitted), state(looped))


def test_one_compilation_serves_residual_connections():
    x, labels, _ = batch(9, 7, 3)
    build([7, 5, 3]).fit(x, labels)
    compiled_for = set(train_steps.signatures)
    build([7, 7, 3], residual=True).fit(x, labels)
    assert set(train_steps.signatures) == compiled_for


@pytest.mark.parametrize("norms", [{}, {"num_bn_layers": 3}, {"num_ln_layers": 3}], ids=str)
@pytest.mark.parametrize("dropout", [0, [0.1, 0.2, 0.3, 0.4]])
def test_gradients_by_finite_differences(dropout, norms):
    mlp = build(
        [5, 5, 6, 6, 3], [Tanh, GELU, Sigmoid, Identity], residual=True, dropout=dropout,
        batchnorm_reduction="sum", **norms,
    )  # fmt: skip
    gradients_follow_the_loss(mlp, *batch(9, 5, 3), names=("W",))


def test_fifty_steps_agree_with_pytorch():
    """Two blocks of linear layer, layer norm and activation, each with its input added."""
    torch = pytest.importorskip("torch", reason="agreement with PyTorch needs PyTorch")
    options = {"num_ln_layers": 3, "residual": True, "lr": None}
    fitted, looped = (
        build(
            [7, 17, 17, 17, 3], [ReLU, GELU, Tanh, Identity],
            optimizer=optimizers.SGD(0.02, momentum=0.9), **options,
        )
        for _ in range(2)
    )  # fmt: skip
    linears, norms = [], []
    for linear in fitted.linear_layers:
        like = torch.nn.Linear(*linear.W.shape, dtype=torch.float64)
        like.weight.data, like.bias.data = torch.tensor(linear.W.T), torch.tensor(linear.b[0])
        linears.append(like)
        norms.append(torch.nn.LayerNorm(17, dtype=torch.float64))
    activations = torch.nn.ReLU(), torch.nn.GELU(), torch.nn.Tanh()

    def forward(x):
        for k in range(3):
            y = activations[k](norms[k](linears[k](x)))
            x = y + x if k > 0 else y
        return linears[3](x)

    parameters = [p for part in (*linears, *norms[:3]) for p in part.parameters()]
    rule = torch.optim.SGD(parameters, lr=0.02, momentum=0.9)
    x, labels, _ = batch(40, 7, 3)
    fitted.fit(x, labels, epochs=50, batch_size=40, shuffle=False)
    train_by_hand(looped, x, labels, 50)
    for _ in range(50):
        rule.zero_grad()
        loss = torch.nn.functional.cross_entropy(forward(torch.tensor(x)), torch.tensor(labels))
        loss.backward()
        rule.step()
    for mlp in (fitted, looped):
        for linear, like in zip(mlp.linear_layers, linears, strict=True):
            assert_allclose(linear.W, like.weight.detach().numpy().T, rtol=0, atol=1e-10)
        for layer, like in zip(mlp.ln_layers, norms[:3], strict=True):
            assert_allclose(layer.gamma[0], like.weight.detach().numpy(), rtol=0, atol=1e-10)


# Copies, files, bad input


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    mlp = build(SIZES, residual=True, momentum=0.9)
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    assert other.residual is True
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))


@pytest.mark.parametrize(
    ("sizes", "residual", "message"),
    [
        ([5, 7, 6, 6], True, "needs a hidden layer whose input is as wide .*widths 5-7-6$"),
        ([5, 5], True, "needs a hidden layer whose input is as wide as its output"),
        ([5, 5, 3], 1, "residual must be True or False, got 1"),
        ([5, 5, 3], None, "residual must be True or False, got None"),
    ],
)
def test_what_is_refused(sizes, residual, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build(sizes, residual=residual)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"residual": 1}, "the field residual .* is 1"),
        ({"hiddens": [7]}, r"must not hold layers\.2\.W"),
    ],
)
def test_files_that_describe_no_residual_connections(metadata, message, tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need safetensors")
    from tests.checkpoint_files import rewrite

    build([5, 7, 7, 3], residual=True).save(tmp_path / "m")
    rewrite(tmp_path / "m", metadata)
    with pytest.raises(ValueError, match=f"not a fastmlp network: .*{message}"):
        MLP.load(tmp_path / "m")
