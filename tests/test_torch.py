"""Networks to and from PyTorch: the same outputs, the same steps, and what is refused."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import (
    ELU,
    MLP,
    Activation,
    BinaryCrossEntropy,
    Huber,
    Identity,
    LeakyReLU,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonNLL,
    SoftmaxCrossEntropy,
    Softplus,
    optimizers,
)
from tests.exchange import (
    TOLERANCE,
    every_activation,
    every_dtype,
    every_kind,
    network,
    networks,
    of_activation,
    rows,
)
from tests.networks import assert_close, build

torch = pytest.importorskip("torch", reason="networks from and to PyTorch need PyTorch")
nn = torch.nn


def outputs_in_torch(module, x):
    with torch.no_grad():
        return module(torch.from_numpy(x)).numpy()


def assert_same_outputs(mlp, module, x):
    """In evaluation mode, of both, to the rounding of the dtype."""
    found = outputs_in_torch(module.eval(), x)
    assert found.dtype == mlp.dtype
    assert_close(mlp._outputs(x), found, TOLERANCE[mlp.dtype.type])


def assert_same_network(mlp, other):
    """To the bit, all that a module holds."""
    assert_array_equal(other.parameters, mlp.parameters)
    assert_array_equal(other.statistics, mlp.statistics)
    assert (other.dtype, other.dropout, other.embeddings) == (
        mlp.dtype, mlp.dropout, mlp.embeddings,
    )  # fmt: skip
    assert list(map(repr, other.activations)) == list(map(repr, mlp.activations))
    assert [norm.alpha for norm in other.bn_layers] == [norm.alpha for norm in mlp.bn_layers]


# To PyTorch


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


# From PyTorch


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


def test_what_products_are_computed_in_stays_behind():
    mlp = network("plain", np.float32)
    expected = mlp._outputs(rows(mlp))
    mlp.compute_dtype = "bfloat16"
    assert_close(outputs_in_torch(mlp.to_torch(), rows(mlp)), expected, 1e-6)


class Subclass(nn.Linear):
    """What a subclass computes is unknown."""


class Own(nn.Module):
    def forward(self, x):
        return x


def with_hook():
    module = chain()
    module[0].register_forward_hook(lambda *_: None)
    return module


def residual(*parts):
    from fastmlp._exchange._torch_modules import Residual

    return Residual(*parts)


def scaled(width, *parts):
    from fastmlp._exchange._torch_modules import InputScale

    return nn.Sequential(InputScale(torch.ones(width)), *parts)


def parametric(width):
    from fastmlp._exchange._torch_modules import ParametricActivation

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
        lambda: nn.Sequential(residual(nn.Linear(3, 3)), nn.Linear(3, 3), nn.Linear(3, 3)),
        r"module\[1\], Linear\(.*residual connections must be around all",
    ),
    "residual connection of the last layer": (
        lambda: nn.Sequential(nn.Linear(3, 3), residual(nn.Linear(3, 3))),
        r"Linear\(.*residual connections must be around all",
    ),
    "two layers in a residual connection": (
        lambda: nn.Sequential(residual(nn.Linear(3, 3), nn.Linear(3, 3)), nn.Linear(3, 2)),
        r"module\[0\], Residual\(\): a residual connection goes around one layer",
    ),
    "dropout in a residual connection": (
        lambda: nn.Sequential(residual(nn.Dropout(0.5), nn.Linear(3, 3)), nn.Linear(3, 2)),
        r"module\[0\]\[0\], Dropout\(.*before the residual connection",
    ),
    "activation after a residual connection": (
        lambda: nn.Sequential(residual(nn.Linear(3, 3)), nn.ReLU(), nn.Linear(3, 2)),
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
