"""Networks to PyTorch and back: the same outputs, and the same steps."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import (
    MLP,
    Activation,
    BinaryCrossEntropy,
    Huber,
    Identity,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonNLL,
    SoftmaxCrossEntropy,
    optimizers,
)
from tests.exchange import (
    every_activation,
    every_dtype,
    every_kind,
    network,
    networks,
    of_activation,
    rows,
)
from tests.networks import assert_close, build

pytest.importorskip("torch", reason="networks to PyTorch need PyTorch")

import torch
from torch import nn

from tests.in_torch import assert_same_network, assert_same_outputs, outputs_in_torch


@every_dtype
@every_kind
def test_outputs_are_the_same(kind, dtype):
    mlp = network(kind, dtype)
    module = mlp.to_torch()
    assert not module.training
    assert_same_outputs(mlp, module, rows(mlp))
    assert_same_network(mlp, MLP.from_torch(module))


@every_dtype
@every_activation
def test_every_activation(name, dtype):
    """Where they bend, and far out, too."""
    mlp = of_activation(name, dtype)
    module = mlp.to_torch()
    for x in (rows(mlp), 30 * rows(mlp)):
        assert_same_outputs(mlp, module, x)
    assert_same_network(mlp, MLP.from_torch(module))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_any_network_there_and_back(mlp):
    module = mlp.to_torch()
    assert_same_outputs(mlp, module, rows(mlp))
    assert_same_network(mlp, MLP.from_torch(module))


def test_a_chain_is_made_of_torch_s_own_modules():
    module = network("dropout", np.float32).to_torch()
    kinds = [nn.Dropout, nn.Linear, nn.SiLU, nn.Dropout, nn.Linear, nn.Tanh]
    kinds += [nn.Dropout, nn.Linear, nn.GELU, nn.Linear]
    assert list(map(type, module)) == kinds
    assert [part.p for part in module if isinstance(part, nn.Dropout)] == [0.1, 0.25, 0.5]


def test_numbers_are_copies():
    mlp = network("all", np.float32)
    module, before = mlp.to_torch(), mlp.parameters.copy()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1
    assert_array_equal(mlp.parameters, before)
    assert sum(parameter.numel() for parameter in module.parameters()) == before.size
    back = MLP.from_torch(module)
    held = back.parameters.copy()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += 1
    assert_array_equal(back.parameters, held)


def test_torch_s_random_numbers_stay_where_they_are():
    before = torch.random.get_rng_state()
    network("all", np.float32).to_torch()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_modules_of_fastmlp_can_be_copied_and_pickled():
    module = network("all", np.float64).to_torch()
    x = torch.from_numpy(rows(network("all", np.float64)))
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), module(x))


def test_pixels_are_given_in_shares_of_255():
    mlp = network("plain", np.float32)
    x = np.random.default_rng(0).integers(0, 256, (20, 7), np.uint8)
    found = outputs_in_torch(mlp.to_torch(), x.astype(np.float32) / np.float32(255))
    assert_close(mlp._outputs(x), found, 1e-6)


@pytest.mark.parametrize(
    "activation", [Activation.of(lambda z: z * z, lambda z: 2 * z), Activation()]
)
def test_activations_of_a_user_s_own_are_refused(activation):
    mlp = build([5, 4, 3], [lambda: activation, Identity])
    with pytest.raises(ValueError, match=r"own activations .*, got activations\[0\], Activation"):
        mlp.to_torch()


def test_what_products_are_computed_in_stays_behind():
    mlp = network("plain", np.float32)
    expected = mlp._outputs(rows(mlp))
    mlp.compute_dtype = "bfloat16"
    assert_close(outputs_in_torch(mlp.to_torch(), rows(mlp)), expected, 1e-6)


# Training


LOSSES = {
    "classes": (SoftmaxCrossEntropy(), nn.CrossEntropyLoss()),
    "smoothed": (SoftmaxCrossEntropy(0.1), nn.CrossEntropyLoss(label_smoothing=0.1)),
    "labels": (BinaryCrossEntropy(), nn.BCEWithLogitsLoss()),
    "squares": (MeanSquaredError(), nn.MSELoss()),
    "absolute": (MeanAbsoluteError(), nn.L1Loss()),
    "huber": (Huber(0.5), nn.HuberLoss(delta=0.5)),
    "counts": (PoissonNLL(), nn.PoissonNLLLoss()),
}
RULES = {
    "sgd": (optimizers.SGD(0.1, momentum=0.9), {"lr": 0.1, "momentum": 0.9}, "SGD"),
    "adamw": (
        optimizers.AdamW(0.01, weight_decay=0.1, decay_all=True),
        {"lr": 0.01, "weight_decay": 0.1},
        "AdamW",
    ),
    "rmsprop": (optimizers.RMSprop(0.01), {"lr": 0.01}, "RMSprop"),
}


def targets(loss, samples, outputs):
    rng = np.random.default_rng(3)
    if loss in ("classes", "smoothed"):
        return rng.integers(0, outputs, samples)
    return rng.integers(0, 2, (samples, outputs)).astype(np.float64)


def train_in_torch(module, criterion, optimizer, x, y, steps=3):
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        criterion(module(torch.from_numpy(x)), torch.from_numpy(y)).backward()
        optimizer.step()


def assert_same_steps(mlp, module, loss="classes", rule="sgd"):
    """Three steps in float64, of all that is learnt, and the running means."""
    x, y = rows(mlp, 32), targets(loss, 32, mlp.output_size)
    own_rule, arguments, name = RULES[rule]
    mlp.criterion, mlp.optimizer = LOSSES[loss][0], own_rule
    mlp.batchnorm_reduction = "mean"
    mlp.fit(x, y, batch_size=32, epochs=3, shuffle=False)
    optimizer = getattr(torch.optim, name)(module.parameters(), **arguments)
    train_in_torch(module, LOSSES[loss][1], optimizer, x, y)
    back = MLP.from_torch(module)
    assert_close(back.parameters, mlp.parameters, 1e-12)
    for theirs, ours in zip(back.bn_layers, mlp.bn_layers, strict=True):
        assert_close(theirs.running_mean, ours.running_mean, 1e-12)


@every_kind
def test_steps_from_one_network_are_the_same(kind):
    """But for dropout, which draws other masks."""
    mlp = network(kind, np.float64)
    mlp.dropout = 0.0
    assert_same_steps(mlp, mlp.to_torch())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("loss", LOSSES)
def test_steps_of_every_loss_and_rule(loss, rule):
    """Without biases before batch norm: their gradients are 0, and their steps of rounding."""
    mlp = network("batch norm of the first", np.float64)
    assert_same_steps(mlp, mlp.to_torch(), loss, rule)


def test_a_network_from_torch_makes_the_same_steps():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Linear(7, 17), nn.BatchNorm1d(17, eps=1e-8), nn.ReLU(), nn.Linear(17, 3)
    ).double()
    assert_same_steps(MLP.from_torch(module), module)


def test_running_variances_are_biased_here_and_unbiased_there():
    """With the same shares of the old value: the docstring's N / (N - 1)."""
    mlp = network("batch norm of the first", np.float64)
    module = mlp.to_torch()
    before = mlp.bn_layers[0].running_var.copy()
    x = rows(mlp, 32)
    mlp.forward(x)
    module.train()(torch.from_numpy(x))
    moved = mlp.bn_layers[0].running_var - 0.7 * before
    expected = (0.7 * before + moved * 32 / 31)[0]
    assert_allclose(module[1].running_var.numpy(), expected, rtol=1e-12)
