"""Networks from PyTorch: what comes with them, and what is refused."""

import numpy as np
import pytest

from fastmlp import ELU, MLP, Identity, LeakyReLU, MeanSquaredError, Softplus, optimizers
from tests.exchange import every_dtype, rows
from tests.networks import assert_close

pytest.importorskip("torch", reason="networks from PyTorch need PyTorch")

import torch
from torch import nn

from fastmlp._exchange._torch_modules import InputScale, ParametricActivation, Residual
from tests.in_torch import assert_same_outputs, outputs_in_torch


def chain(*extra):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3), *extra)


def test_defaults():
    mlp = MLP.from_torch(chain())
    assert repr(mlp.criterion) == "SoftmaxCrossEntropy()"
    assert repr(mlp.optimizer) == repr(optimizers.SGD())
    assert mlp.train_mode
    chosen = MLP.from_torch(chain(), MeanSquaredError(), optimizers.Adam(0.01))
    assert repr(chosen.criterion) == "MeanSquaredError()"
    assert repr(chosen.optimizer) == repr(optimizers.Adam(0.01))


@every_dtype
def test_nested_modules_and_those_that_do_nothing(dtype):
    torch.manual_seed(2)
    module = nn.Sequential(
        nn.Flatten(),
        nn.Sequential(
            nn.Dropout(0.2), nn.Linear(12, 6), nn.Sequential(nn.LayerNorm(6), nn.LeakyReLU(0.2))
        ),
        nn.Identity(),
        nn.Sequential(nn.Linear(6, 4), nn.Identity(), nn.ELU(0.5, inplace=True), nn.Dropout(0.0)),
        nn.Linear(4, 4),
        nn.Dropout(0.0),
        nn.Identity(),
        nn.Linear(4, 2),
        nn.Dropout(0.0),
    ).to(getattr(torch, np.dtype(dtype).name))
    mlp = MLP.from_torch(module)
    assert mlp.dropout == (0.2, 0, 0, 0)
    assert list(map(repr, mlp.activations)) == list(
        map(repr, [LeakyReLU(0.2), ELU(0.5), Identity(), Identity()])
    )
    x = np.random.default_rng(0).standard_normal((20, 3, 4)).astype(dtype)
    assert_close(mlp._outputs(x.reshape(20, 12)), outputs_in_torch(module.eval(), x), 1e-6)


def test_a_linear_layer_alone():
    torch.manual_seed(0)
    module = nn.Linear(5, 3)
    mlp = MLP.from_torch(module)
    assert_same_outputs(mlp, module, rows(mlp))


@pytest.mark.parametrize("having", [(True, False), (False, True), (False, False)])
def test_layers_without_bias(having):
    """Where another has one, it begins with zeros."""
    module = nn.Sequential(nn.Linear(7, 5, having[0]), nn.Tanh(), nn.Linear(5, 3, having[1]))
    mlp = MLP.from_torch(module)
    assert_same_outputs(mlp, module, rows(mlp))
    for has, layer in zip(having, mlp.linear_layers, strict=True):
        assert (layer.b is None) == (not any(having))
        assert layer.b is None or bool(layer.b.any()) == has


@every_dtype
def test_another_eps_goes_into_the_running_variances(dtype):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    module.to(getattr(torch, np.dtype(dtype).name))
    with torch.no_grad():
        module[1].running_var *= 1e-4
    with pytest.warns(UserWarning, match=r"norm of module\[0\] adds 1e-05 .* training adds 1e-08"):
        mlp = MLP.from_torch(module)
    assert_same_outputs(mlp, module, rows(mlp))


def test_softplus_without_its_straight_line():
    module = nn.Sequential(nn.Linear(7, 5), nn.Softplus(2.0), nn.Linear(5, 3)).double()
    mlp = MLP.from_torch(module)
    x = 40 * rows(mlp)
    assert np.abs(mlp._outputs(x) - outputs_in_torch(module, x)).max() < 1e-8
    assert repr(mlp.activations[0]) == repr(Softplus(2.0))


class Subclass(nn.Linear):
    """What a subclass computes is unknown."""


class Own(nn.Module):
    def forward(self, x):
        return x


def with_hook():
    module = chain()
    module[0].register_forward_hook(lambda *_: None)
    return module


def scaled(width, *parts):
    return nn.Sequential(InputScale(torch.ones(width)), *parts)


def parametric(width):
    return ParametricActivation(nn.ReLU(), torch.ones(width))


def twice():
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


def tied():
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[1].bias = module[0].bias
    return module


ORDER = "order is linear, norm, activation, dropout"
REFUSED = {
    "softmax": (lambda: chain(nn.Softmax(1)), r"module\[3\], Softmax\(dim=1\): it takes"),
    "convolution": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)),
        r"module\[0\], Conv2d\(1, 2, kernel_size=\(3, 3\).*it takes",
    ),
    "own": (Own, r"module, Own\(\): it takes nn.Sequential of linear layers"),
    "nested": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.ReLU(), nn.PReLU())),
        r"module\[1\]\[1\], PReLU\(num_parameters=1\): it takes",
    ),
    "subclass": (lambda: nn.Sequential(Subclass(3, 3)), r"module\[0\], Subclass\(.*it takes"),
    "hook": (with_hook, r"module\[0\], Linear\(.*its hooks would be lost"),
    "one layer twice": (twice, r"module\[2\], Linear\(.*its weight is that of module\[0\], too"),
    "tied": (tied, r"module\[1\], Linear\(.*its bias is that of module\[0\], too"),
    "nothing": (lambda: nn.Sequential(nn.Flatten()), r"must have an nn\.Linear, got none"),
    "activation first": (
        lambda: nn.Sequential(nn.ReLU(), nn.Linear(3, 3)), rf"module\[0\], ReLU\(\): the {ORDER}"
    ),
    "two activations": (lambda: chain(nn.Tanh(), nn.ReLU()), rf"module\[4\], ReLU.* {ORDER}"),
    "norm after activation": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.LayerNorm(3)),
        rf"module\[2\], LayerNorm\(\(3,\).*{ORDER}",
    ),
    "activation after dropout": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.ReLU(), nn.Linear(3, 3)),
        rf"module\[2\], ReLU\(\): the {ORDER}",
    ),
    "two dropouts": (
        lambda: nn.Sequential(nn.Dropout(0.5), nn.Dropout(0.5), nn.Linear(3, 3)),
        r"module\[1\], Dropout\(p=0\.5.*a dropout before it already",
    ),
    "dropout at the end": (
        lambda: chain(nn.Dropout(0.5)), r"module\[3\], Dropout\(p=0\.5.*a linear layer must follow"
    ),
    "alpha dropout": (lambda: chain(nn.AlphaDropout()), r"module\[3\], AlphaDropout"),
    "all dropped": (
        lambda: nn.Sequential(nn.Linear(3, 3), nn.Dropout(1.0), nn.Linear(3, 3)),
        r"dropout\[1\] must be at least 0 and below 1, got 1\.0",
    ),
    "flatten late": (lambda: chain(nn.Flatten()), r"module\[3\], Flatten\(.*must come first"),
    "flatten of samples": (
        lambda: nn.Sequential(nn.Flatten(0), nn.Linear(3, 3)), r"module\[0\], Flatten\(start_dim=0"
    ),
    "widths": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 3)),
        r"module\[1\], Linear\(.*layer before it has 4 outputs",
    ),
    "width of a norm": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(5)),
        r"module\[1\], BatchNorm1d\(.*layer before it has 4 outputs",
    ),
    "norm of the second layer": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3), nn.LayerNorm(3)),
        r"module\[1\], Linear\(.*norms must be of one kind, from the first on",
    ),
    "two kinds of norm": (
        lambda: nn.Sequential(
            nn.Linear(3, 4), nn.BatchNorm1d(4, 1e-8), nn.Linear(4, 3), nn.LayerNorm(3)
        ),
        r"module\[2\], Linear\(.*norms must be of one kind",
    ),
    "fixed norm": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, elementwise_affine=False)),
        r"module\[1\], LayerNorm\(.*learnt weight and bias",
    ),
    "layer norm's eps": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4, eps=1e-6)),
        r"module\[1\], LayerNorm\(\(4,\), eps=1e-06.*of one axis, with an eps of 1e-05",
    ),
    "no statistics": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)),
        r"module\[1\], BatchNorm1d\(.*running statistics and a momentum",
    ),
    "cumulative statistics": (
        lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, momentum=None)),
        r"module\[1\], BatchNorm1d\(.*running statistics and a momentum",
    ),
    "threshold": (
        lambda: chain(nn.Softplus(1.0, 10.0)), r"module\[3\], Softplus\(.*threshold .* at least 20"
    ),
    "half": (
        lambda: chain().half(), r"Linear\(.*weight must be float32 or float64, got float16"
    ),
    "two dtypes": (
        lambda: chain(nn.Linear(3, 2).double()),
        r"module\[3\], Linear\(.*weight must be float32, got float64",
    ),
    "one output": (lambda: nn.Linear(3, 1), r"at least 2 with SoftmaxCrossEntropy"),
    "part of the residual connections": (
        lambda: nn.Sequential(Residual(nn.Linear(3, 3)), nn.Linear(3, 3), nn.Linear(3, 3)),
        r"module\[1\], Linear\(.*residual connections must be around all",
    ),
    "residual connection of the last layer": (
        lambda: nn.Sequential(nn.Linear(3, 3), Residual(nn.Linear(3, 3))),
        r"Linear\(.*residual connections must be around all",
    ),
    "two layers in a residual connection": (
        lambda: nn.Sequential(Residual(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Linear(3, 2)),
        r"module\[0\], Residual\(\): a residual connection goes around one layer",
    ),
    "dropout in a residual connection": (
        lambda: nn.Sequential(Residual(nn.Dropout(0.5), nn.Linear(3, 3)), nn.Linear(3, 2)),
        r"module\[0\]\[0\], Dropout\(.*before the residual connection",
    ),
    "activation after a residual connection": (
        lambda: nn.Sequential(Residual(nn.Linear(3, 3)), nn.ReLU(), nn.Linear(3, 2)),
        rf"module\[1\], ReLU\(\): the {ORDER}",
    ),
    "scales of another width": (
        lambda: scaled(4, nn.Linear(3, 2)), r"module\[1\], Linear\(.*there are 4 scales before it"
    ),
    "late scales": (lambda: scaled(3, scaled(3, nn.Linear(3, 2))), r"module\[1\]\[0\], InputScale"),
    "a part of the parametric activations": (
        lambda: nn.Sequential(
            nn.Linear(3, 4), parametric(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2)
        ),
        r"module\[2\], Linear\(.*activations must be parametric in all layers but the last",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_what_no_network_can_have_is_refused(make, message):
    """By name and place."""
    with pytest.raises(ValueError, match=message):
        MLP.from_torch(make())


def test_what_is_no_module():
    with pytest.raises(TypeError, match="module must be an object of class Module, got 'net'"):
        MLP.from_torch("net")
