"""MLP.from_onnx of what PyTorch and skl2onnx export."""

import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fastmlp import MLP, SoftmaxCrossEntropy
from tests.onnx_models import agree

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)

# PyTorch

ACTIVATIONS = {
    "ReLU": {}, "GELU": {}, "Mish": {}, "SiLU": {}, "Hardswish": {}, "Hardsigmoid": {},
    "Softplus": {"beta": 2.0}, "Softsign": {}, "SELU": {}, "ELU": {"alpha": 0.5},
    "LeakyReLU": {"negative_slope": 0.2}, "Tanh": {}, "Sigmoid": {}, "Identity": {},
}  # fmt: skip


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="this compares with PyTorch's exporters")


def sequential(torch, norm, dtype):
    """All activations one after the other, half of them with a bias before, and dropout."""
    nn = torch.nn
    layers = [nn.Flatten(), nn.Linear(6, 5)]
    activations = [getattr(nn, name)(**options) for name, options in ACTIVATIONS.items()]
    for i, activation in enumerate([*activations, nn.GELU(approximate="tanh")]):
        layers += [getattr(nn, norm)(5, eps=1e-4)] if norm else []
        layers += [activation, nn.Dropout(0.2), nn.Linear(5, 5, bias=i % 2 == 0)]
    module = nn.Sequential(*layers).to(dtype).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if tensor.is_floating_point():
                tensor.uniform_(0.1, 1) if "var" in name else tensor.normal_(0, 0.7)
    return module


def exported(torch, module, tmp_path, **options):
    """(path of the module's model, whose rows may be as many as one likes; rows, its outputs)"""
    path = tmp_path / "torch.onnx"
    dtype = next(module.parameters()).dtype
    with warnings.catch_warnings():
        # Of the exporter about itself.
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.zeros(2, 2, 3, dtype=dtype),), path, **options)
    x = torch.randn(9, 2, 3, dtype=dtype)
    return path, x.numpy().reshape(9, 6), module(x).detach().numpy()


@pytest.mark.parametrize("opset", [11, 13, 17, 20])
@pytest.mark.parametrize("norm", ["", "BatchNorm1d", "LayerNorm"])
def test_torchscript(norm, opset, torch, tmp_path):
    """In opset 11 layer norm, GELU and others are of single operators, in 20 none is."""
    module = sequential(torch, norm, torch.float32)
    path, x, wanted = exported(
        torch, module, tmp_path, dynamo=False, opset_version=opset, input_names=["x"],
        dynamic_axes={"x": {0: "N"}},
    )  # fmt: skip
    read = MLP.from_onnx(path)
    agree({"all": read.predict(x)}, {"all": wanted})
    names = [type(activation).__name__ for activation in read.activations]
    given = [name.replace("Hards", "HardS") for name in ACTIVATIONS]
    assert names == [*given, "GELU", "Identity"]
    assert read.num_bn_layers == 15 * (norm == "BatchNorm1d")
    assert read.num_ln_layers == 15 * (norm == "LayerNorm")


def test_torchscript_in_float64(torch, tmp_path):
    module = sequential(torch, "BatchNorm1d", torch.float64)
    path, x, wanted = exported(torch, module, tmp_path, dynamo=False)
    read = MLP.from_onnx(path)
    assert read.dtype == np.float64
    # Numbers of activations are attributes, in float32.
    agree({"all": read.predict(x)}, {"all": wanted}, 1e-7)


def test_torchscript_with_a_softmax(torch, tmp_path):
    nn = torch.nn
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3), nn.Softmax(1))
    path, x, wanted = exported(torch, module.eval(), tmp_path, dynamo=False)
    read = MLP.from_onnx(path)
    assert isinstance(read.criterion, SoftmaxCrossEntropy)
    agree({"all": read.predict_proba(x)}, {"all": wanted})


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="PyTorch's newer exporter needs it")
@pytest.mark.parametrize("norm", ["", "BatchNorm1d", "LayerNorm"])
def test_dynamo(norm, torch, tmp_path):
    module = sequential(torch, norm, torch.float32)
    path, x, wanted = exported(torch, module, tmp_path, dynamo=True, external_data=False)
    agree({"all": MLP.from_onnx(path).predict(x)}, {"all": wanted})


def test_a_convolution_is_refused(torch, tmp_path):
    nn = torch.nn
    module = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Flatten(), nn.Linear(6, 2)).eval()
    path, _, _ = exported(torch, module, tmp_path, dynamo=False)
    with pytest.raises(ValueError, match=r"torch.onnx: .*\(Conv\) takes an input of more than two"):
        MLP.from_onnx(path)


# skl2onnx


def converted(estimator, tmp_path, dtype=np.float32, **options):
    """The network in skl2onnx's model of an estimator, and rows of its dtype."""
    skl2onnx = pytest.importorskip("skl2onnx", reason="this reads what skl2onnx writes")
    path = tmp_path / "sklearn.onnx"
    model = skl2onnx.to_onnx(estimator, X[:1].astype(dtype), options=options or None)
    path.write_bytes(model.SerializeToString())
    return MLP.from_onnx(path), X.astype(dtype)


TARGETS = {
    "classes": Y, "two": Y > 0, "texts": np.array(["a", "b", "c"])[Y],
    "labels": np.stack([Y > 0, Y > 1, Y == 1], axis=1).astype(int),
}  # fmt: skip


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("targets", TARGETS)
def test_classifiers(targets, activation, zipmap, tmp_path):
    model = MLPClassifier((6, 5), activation, max_iter=20, random_state=0).fit(X, TARGETS[targets])
    for dtype, tolerance in ((np.float32, 1e-5), (np.float64, 1e-12)):
        if targets == "labels" and zipmap:
            break
        read, x = converted(model, tmp_path, dtype, zipmap=zipmap)
        assert read.dtype == dtype
        wanted = model.predict_proba(X)
        wanted = wanted[:, 1:] if targets == "two" else wanted
        agree({"all": read.predict_proba(x)}, {"all": wanted.astype(dtype)}, tolerance)
        places = read.predict(x)
        named = places if targets == "labels" else model.classes_[places]
        if dtype == np.float64:
            np.testing.assert_array_equal(named, model.predict(X))


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_regressors(activation, outputs, tmp_path):
    y = np.stack([Y, 5 - Y], axis=1)[:, :outputs].squeeze()
    model = MLPRegressor(
        hidden_layer_sizes=(6, 5), activation=activation, max_iter=20, random_state=0
    ).fit(X, y)
    read, x = converted(model, tmp_path, np.float64)
    agree({"all": read.predict(x)}, {"all": model.predict(X)}, 1e-12)


def test_a_pipeline_with_a_scaler(tmp_path):
    model = make_pipeline(StandardScaler(), MLPClassifier((6,), max_iter=20, random_state=0))
    read, x = converted(model.fit(X, Y), tmp_path)
    agree({"all": read.predict_proba(x)}, {"all": model.predict_proba(X).astype(np.float32)})
