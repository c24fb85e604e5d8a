"""The page for those who come from PyTorch or Keras: every row of its tables, built and compared.

What stands in a cell is evaluated as it stands there. The other libraries' sides are skipped where
they are not installed; Keras runs on PyTorch.
"""

import ast
import inspect
import os
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose

import fastmlp
from fastmlp import MLP, History, callbacks, datasets, initializers, optimizers, schedules
from fastmlp.history import FitPlan
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.layers import activation_named
from fastmlp.layers.loss import CRITERIA
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "migrating.md").read_text(encoding="utf-8")
TABLES = {
    title: re.findall(r"^\| (`.*?|\w.*?) \| (`.*?|\w.*?) \|(.*)\|$", text, re.MULTILINE)[1:]
    for title, text in re.findall(r"^### ([^\n]+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
}
LOSS_WEIGHTS = [1.0, 2.0, 0.5, 3.0]
FASTMLP = {
    **{name: getattr(fastmlp, name) for name in fastmlp.__all__},
    **{name: getattr(optimizers, name) for name in optimizers.__all__},
    **{name: getattr(initializers, name) for name in ("he_normal", "xavier_normal")},
    "callbacks": callbacks, "datasets": datasets, "schedules": schedules, "mlp": MLP,
    "fit": MLP.fit, "w": LOSS_WEIGHTS,
}  # fmt: skip
# Calls whose cells give only some of the arguments.
PARTS = MLP, MLP.fit


def code_of(cell):
    return re.findall(r"`([^`]+)`", cell)


def every_row_of(*titles):
    """Parametrized by (left code, right code, remark)."""
    rows = [
        pytest.param(code_of(left)[0], code_of(right)[0], remark.strip(), id=code_of(left)[0])
        for title in titles
        for left, right, remark in TABLES[title]
    ]
    assert len(rows) >= 5
    return pytest.mark.parametrize(("left", "right", "remark"), rows)


def every_code(column, kind):
    """Parametrized by what stands in one column of all tables of a library."""
    cells = [row[column] for title in TABLES if title.endswith(kind) for row in TABLES[title]]
    codes = sorted({code for cell in cells for code in code_of(cell)})
    assert len(codes) > 30
    return pytest.mark.parametrize("code", codes)


def assert_exists(code, names):
    """The function of a call is there, and takes such arguments; without calling it."""
    try:
        call = ast.parse(code, mode="eval").body
        whole = True
    except SyntaxError:  # An argument by itself, of a layer or of ``MLP``.
        call = ast.parse(f"layer({code})", mode="eval").body
        whole = False
    if not isinstance(call, ast.Call):
        assert isinstance(call, ast.Name | ast.Constant), code
        return
    if code.startswith("x."):
        return
    function = eval(ast.unparse(call.func), {}, names)
    keywords = {keyword.arg: None for keyword in call.keywords}
    try:
        signature = inspect.signature(function)
    except ValueError:  # A function in C, which tells nobody.
        return
    bound = isinstance(call.func, ast.Attribute) and call.func.value.id in ("m", "mlp")
    positional = [None] * (len(call.args) + (bound or function is MLP.fit))
    whole = whole and function not in PARTS
    (signature.bind if whole else signature.bind_partial)(*positional, **keywords)


@every_code(1, "PyTorch")
def test_what_stands_beside_pytorch_is_there(code):
    assert_exists(code, FASTMLP | {"layer": MLP})


@every_code(1, "Keras")
def test_what_stands_beside_keras_is_there(code):
    assert_exists(code, FASTMLP | {"layer": MLP})


def network(optimizer=None, **options):
    """6-4-3 in float64, of the layers that a row is about."""
    options = {"hiddens": [4]} | options
    arrays = initializers.he_normal(0, np.float64), lambda d: np.full((1, d), 0.1)
    return MLP(
        6, 3, activations=[fastmlp.Tanh(), fastmlp.Identity()], weight_init_fn=arrays[0],
        bias_init_fn=arrays[1], criterion=fastmlp.SoftmaxCrossEntropy(),
        optimizer=optimizer or optimizers.SGD(), **options,
    )  # fmt: skip


def course(optimizer, steps=6):
    """(gradients of every step, parameters before and after) of a network trained by hand."""
    mlp = network(optimizer)
    rng = np.random.default_rng(3)
    x, y = 3 * rng.standard_normal((40, 6)), rng.integers(0, 3, 40)
    before, gradients = mlp.parameters.copy(), []
    for _ in range(steps):
        mlp.forward(x)
        mlp.backward(y)
        gradients.append(mlp.gradients.copy())
        mlp.step()
    return gradients, before, mlp.parameters.copy()


def curve(activation):
    """(values, slopes) on both sides of 0."""
    z = np.linspace(-4, 4, 41)
    return activation.forward(z), activation.derivative()


TARGETS = {
    "SoftmaxCrossEntropy": lambda rng: rng.integers(0, 4, 7),
    "BinaryCrossEntropy": lambda rng: rng.integers(0, 2, (7, 4)).astype(float),
    "PoissonNLL": lambda rng: rng.poisson(2.0, (7, 4)).astype(float),
}


def loss_of(criterion):
    """(outputs, targets, mean loss of a batch, its derivative)."""
    rng = np.random.default_rng(1)
    outputs = 2 * rng.standard_normal((7, 4))
    make = TARGETS.get(type(criterion).__name__, lambda rng: rng.standard_normal((7, 4)))
    targets = make(rng)
    losses = criterion.forward(outputs, targets)
    shares = criterion.class_shares(targets)
    total = len(outputs) if shares is None else shares.sum()
    return outputs, targets, losses.sum() / total, criterion.derivative() / total


def names_beside(title):
    """The classes of fastmlp's in a table."""
    return {code_of(right)[0].partition("(")[0] for _, right, _ in TABLES[title]}


def test_nothing_is_missing_from_the_tables():
    """Every activation; every criterion and optimizer, but those that PyTorch has not."""
    activations = {type(activation_named(name)).__name__ for name in ACTIVATIONS}
    assert names_beside("Activations of PyTorch") == {*activations, "parametric_activations=True"}
    assert names_beside("Losses of PyTorch") == CRITERIA.keys() - {"Quantile"}
    known = optimizers.BY_NAME.keys() - {"Lion", "Momentum"}
    assert names_beside("Optimizers of PyTorch") == known


# PyTorch


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="compares with PyTorch")


@pytest.fixture
def in_torch(torch):
    """The names of the page's left column."""
    from torch import nn, optim
    from torch.optim import lr_scheduler, swa_utils
    from torch.utils import data

    return {
        "torch": torch, "nn": nn, "optim": optim, "lr_scheduler": lr_scheduler, "m": nn.Module,
        "DataLoader": data.DataLoader, "loss": torch.zeros(()), "step": optim.Optimizer.step,
        "DistributedDataParallel": nn.parallel.DistributedDataParallel,
        **vars(swa_utils), **vars(nn.utils),
    }  # fmt: skip


@every_code(0, "PyTorch")
def test_what_is_said_of_pytorch_is_there(code, in_torch):
    if code in ("loss.backward()", "step()", "m(x)"):
        return
    assert_exists(code, in_torch)


@every_row_of("Layers of PyTorch")
def test_layers_of_pytorch(left, right, remark, in_torch):
    """The network with the option has such a layer, of the same sizes and shares."""
    module = eval(left, in_torch)
    if right.startswith("x."):
        x = np.zeros((2, 3, 5))
        assert eval(right, {"x": x}).shape == tuple(module(in_torch["torch"].tensor(x)).shape)
        return
    options = eval(f"dict({right})")
    modules = {type(m): m for m in network(**options).to_torch()}
    bare = r"(eps|momentum|bias)=[^,)]+"
    found = modules[type(module)]
    expected = module if left != "nn.Linear(6, 4)" else in_torch["nn"].Linear(4, 3)
    assert re.sub(bare, "", repr(found)) == re.sub(bare, "", repr(expected))


@every_row_of("Activations of PyTorch")
def test_activations_of_pytorch(left, right, remark, in_torch):
    if right.endswith("=True"):
        assert remark.startswith("not the same")
        return
    z = in_torch["torch"].linspace(-4, 4, 41, dtype=in_torch["torch"].float64, requires_grad=True)
    a = eval(left, in_torch)(z)
    a.sum().backward()
    own, slopes = curve(eval(right, dict(FASTMLP)))
    assert_allclose(own, a.detach().numpy(), atol=1e-8)
    # At 0, where ReLU and its kind have none, a library may choose any slope.
    there = np.abs(z.detach().numpy()) > 1e-6
    assert_allclose(slopes[there], z.grad.numpy()[there], atol=1e-8)


@every_row_of("Losses of PyTorch")
def test_losses_of_pytorch(left, right, remark, in_torch):
    torch = in_torch["torch"]
    outputs, targets, loss, slope = loss_of(eval(right, dict(FASTMLP)))
    z = torch.tensor(outputs, requires_grad=True)
    weights = torch.tensor(LOSS_WEIGHTS, dtype=torch.float64)
    value = eval(left, in_torch | {"w": weights})(z, torch.tensor(targets))
    value.backward()
    assert_allclose(loss, value.item(), rtol=1e-12)
    assert_allclose(slope, z.grad.numpy(), rtol=1e-10, atol=1e-14)


@every_row_of("Optimizers of PyTorch")
def test_optimizers_of_pytorch(left, right, remark, in_torch, request):
    """The same parameters from the same gradients."""
    torch = in_torch["torch"]
    gradients, before, after = course(eval(right, dict(FASTMLP)))
    # NAdam keeps a product in the default dtype.
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    request.addfinalizer(lambda: torch.set_default_dtype(usual))
    w = torch.tensor(before, requires_grad=True)
    rule = eval(left, in_torch | {"p": [w]})
    for gradient in gradients:
        w.grad = torch.tensor(gradient)
        rule.step()
    assert np.abs(after - before).max() > 1e-4
    assert_allclose(after, w.detach().numpy(), rtol=0, atol=1e-10)


@every_row_of("Schedules of PyTorch")
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler:UserWarning")
@pytest.mark.filterwarnings("ignore:The epoch parameter in `scheduler:UserWarning")
def test_schedules_of_pytorch(left, right, remark, in_torch):
    torch, (unit, *_) = in_torch["torch"], remark.split(";")
    every = {"epoch": 5, "step": 1}[unit]
    o = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3)
    scheduler = eval(left, in_torch | {"o": o})
    expected = []
    for step in range(30):
        expected.append(o.param_groups[0]["lr"])
        o.step()
        if (step + 1) % every == 0 and step < 29:
            scheduler.step()
    plan = FitPlan(6, 5, 8, 40, False, 30)
    found = eval(right, dict(FASTMLP)).rates(0.3, np.arange(30), plan, History())
    assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


def test_the_block_that_needs_pytorch(torch, tmp_path, monkeypatch):
    """Behind the page's other blocks, whose names it uses."""
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    for code in re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        exec(code, names)
    assert (tmp_path / "digits.pt").exists()


# Keras


@pytest.fixture(scope="module")
def keras():
    pytest.importorskip("torch", reason="Keras runs on PyTorch here")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras", reason="compares with Keras")


@pytest.fixture
def in_keras(keras):
    return {
        **vars(keras.optimizers), **vars(keras.callbacks), **vars(keras.losses),
        **vars(keras.layers), **vars(keras.regularizers),
        "m": keras.Model, "layer": keras.layers.Dense,
        "set_random_seed": keras.utils.set_random_seed,
    }  # fmt: skip


@every_code(0, "Keras")
def test_what_is_said_of_keras_is_there(code, in_keras):
    assert_exists(code, in_keras)


@every_row_of("Activations of Keras")
def test_activations_of_keras(left, right, remark, keras):
    z = np.linspace(-4, 4, 41)
    expected = keras.activations.get(eval(left))(keras.ops.convert_to_tensor(z))
    own, _ = curve(eval(right, dict(FASTMLP)))
    assert_allclose(own, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


@every_row_of("Losses of Keras")
def test_losses_of_keras(left, right, remark, in_keras):
    outputs, targets, loss, _ = loss_of(eval(right, dict(FASTMLP)))
    if left.startswith("Categorical"):
        targets = np.eye(4)[targets]
    assert_allclose(loss, float(eval(left, in_keras)(targets, outputs)), rtol=1e-5)


@every_row_of("Optimizers of Keras")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_optimizers_of_keras(left, right, remark, keras, in_keras):
    """The same parameters from the same gradients, where these are large beside any epsilon."""
    gradients, before, after = course(eval(right, dict(FASTMLP)))
    w = keras.Variable(before, dtype="float64")
    rule = eval(left, in_keras)
    for gradient in gradients:
        rule.apply([keras.ops.convert_to_tensor(gradient)], [w])
    large = (np.abs(gradients) > 0.02).all(axis=0)
    assert large.sum() >= 5
    moved = np.abs(after - before)[large].max()
    assert moved > 1e-4
    found = w.value.detach().numpy()[large]
    assert_allclose(after[large], found, rtol=0, atol=1e-3 * moved)
