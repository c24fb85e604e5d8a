"""MLP.from_onnx of what MLP.to_onnx wrote: it comes back."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_array_equal

from fastmlp import MLP, Huber, PeriodicEmbeddings, optimizers
from fastmlp.datasets import Column, Schema
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.layers import (
    BinaryCrossEntropy,
    Quantile,
    SoftmaxCrossEntropy,
)  # fmt: skip
from fastmlp.layers.loss import CRITERIA
from tests.networks import assert_same_state, state
from tests.onnx_models import agree, network, networks, onnx, rows, small, written
from tests.test_onnx_export import DTYPES, LAYERS


def same(read, mlp, x):
    """A network read back gives what the other gave: its arrays are the same."""
    assert_same_state(state(read), state(mlp))
    read.eval()
    assert_array_equal(read._outputs(x), mlp._outputs(x))
    assert repr(read.activations) == repr(mlp.activations)
    assert repr(read.criterion) == repr(mlp.criterion)
    assert read.dtype == mlp.dtype


# What to_onnx wrote


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", LAYERS)
def test_every_layer_comes_back(layers, dtype, tmp_path):
    names = ["gelu_tanh", "selu", "relu", "tanh"]
    mlp = network([5, 8, 8, 6, 3], names, dtype=dtype, **LAYERS[layers])
    read = MLP.from_onnx(written(mlp, tmp_path))
    assert read.train_mode
    same(read, mlp, rows(mlp, 7))
    for name in ("num_bn_layers", "num_ln_layers", "residual", "scale_inputs"):
        assert getattr(read, name) == getattr(mlp, name)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_criterion_comes_back(activation, criterion, dtype, tmp_path):
    """Also of the last layer, by every single output of the model."""
    mlp = network([4, 5, 3], [activation] * 2, CRITERIA[criterion](), dtype=dtype)
    x = rows(mlp, 7)
    same(MLP.from_onnx(written(mlp, tmp_path)), mlp, x)
    same(MLP.from_onnx(written(mlp, tmp_path, outputs=["prediction", "scores"])), mlp, x)
    if mlp.criterion.of_values:
        same(MLP.from_onnx(written(mlp, tmp_path, outputs=["prediction"])), mlp, x)
    else:
        same(MLP.from_onnx(written(mlp, tmp_path, outputs=["probabilities"])), mlp, x)
        read = MLP.from_onnx(written(mlp, tmp_path, outputs=["prediction"]))
        assert_array_equal(read.predict(x), mlp.predict(x))


@given(networks())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_networks_of_all_kinds_come_back(tmp_path, case):
    predicts_the_same(tmp_path, *case)


@pytest.mark.long
@given(networks())
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_networks_of_all_kinds_come_back(tmp_path, case):
    predicts_the_same(tmp_path, *case)


def predicts_the_same(tmp_path, mlp, x):
    read = MLP.from_onnx(written(mlp, tmp_path))
    tolerance = 1e-5 if mlp.dtype == np.float32 else 1e-12
    agree({"all": read._outputs(x)}, {"all": mlp._outputs(x)}, tolerance)
    assert read.hiddens == mlp.hiddens


TABLE = Schema(
    (Column("age"), Column("job", ("baker", "smith")), Column("hours")), ("buys",), ("no", "yes"),
    "float64",
)  # fmt: skip


@pytest.mark.parametrize("schema", [TABLE, None], ids=["a table's", "none"])
@pytest.mark.parametrize("input_dtype", ["uint8", None])
def test_a_schema_comes_back(schema, input_dtype, tmp_path):
    """And with it classes by their names, wherever the network is saved or written to next."""
    mlp = network([4, 6, 2], ["relu", "identity"])
    mlp.schema = schema
    read = MLP.from_onnx(written(mlp, tmp_path, input_dtype=input_dtype))
    assert read.schema == schema
    again = MLP.from_onnx(written(read, tmp_path))
    assert again.schema == schema


def test_arguments_of_a_criterion_come_back(tmp_path):
    criteria = [
        Huber(0.5, "sum"), Quantile(0.9), SoftmaxCrossEntropy(0.1, [1.0, 2.0]),
        BinaryCrossEntropy("sum"),
    ]  # fmt: skip
    for criterion in criteria:
        read = MLP.from_onnx(written(small(criterion=criterion), tmp_path))
        assert repr(read.criterion) == repr(criterion)


def test_pixels_come_back_as_pixels(tmp_path):
    front = {"scale_inputs": True, "embeddings": PeriodicEmbeddings(5, 3, 2, sigma=1.0, seed=0)}
    for options in ({}, front):
        mlp = network([16, 8, 3], ["relu", "identity"], dtype=np.float32, **options)
        check_pixels(mlp, tmp_path)


def check_pixels(mlp, tmp_path):
    x = np.random.default_rng(0).integers(0, 256, (9, 16)).astype(np.uint8)
    read = MLP.from_onnx(written(mlp, tmp_path, input_dtype="uint8"))
    assert_array_equal(read.predict_proba(x), mlp.predict_proba(x))


def test_a_folded_network_comes_back_without_batch_norm(tmp_path):
    mlp = network([4, 5, 3], ["relu", "identity"], dtype=np.float64, num_bn_layers=2)
    read = MLP.from_onnx(written(mlp, tmp_path, fold_batchnorm=True))
    assert read.num_bn_layers == 0
    x = rows(mlp, 7)
    agree({"all": read._outputs(x)}, {"all": mlp._outputs(x)}, 1e-12)


def test_cosines_of_float64_as_other_programs_write_them(tmp_path):
    """to_onnx writes sines, a quarter of a turn further."""
    mlp = small(np.float64, embeddings=PeriodicEmbeddings(2, 3, 1, sigma=1.0, seed=0))
    path = written(mlp, tmp_path)
    model = onnx.load(path)
    nodes = model.graph.node
    (sine,) = [node for node in nodes if node.op_type == "Sin"]
    (further,) = [node for node in nodes if node.output[0] == sine.input[0]]
    sine.op_type, sine.input[0] = "Cos", further.input[0]
    nodes.remove(further)
    onnx.save(model, path)
    same(MLP.from_onnx(path), mlp, rows(mlp, 7))


def test_it_trains_on(tmp_path):
    mlp = network([4, 5, 3], ["relu", "identity"], num_bn_layers=1, dtype=np.float32)
    read = MLP.from_onnx(written(mlp, tmp_path), optimizer=optimizers.SGD(lr=0.5))
    assert isinstance(read.optimizer, optimizers.SGD)
    assert isinstance(MLP.from_onnx(written(mlp, tmp_path)).optimizer, optimizers.Adam)
    x, y = rows(mlp, 60), np.arange(60) % 3
    before = read.evaluate(x, y)[0]
    read.fit(x, y, epochs=20, batch_size=20, seed=0)
    assert read.evaluate(x, y)[0] < before
