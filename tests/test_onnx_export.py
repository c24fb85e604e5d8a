"""MLP.to_onnx: onnxruntime gives what the network gives."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import (
    MLP,
    Activation,
    Criterion,
    Huber,
    MeanSquaredError,
    PeriodicEmbeddings,
    datasets,
)
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.layers import (
    ELU,
    BinaryCrossEntropy,
    Identity,
    LeakyReLU,
    PoissonNLL,
    ReLU,
    SoftmaxCrossEntropy,
    Softplus,
)  # fmt: skip
from fastmlp.layers.loss import CRITERIA
from tests.networks import build
from tests.onnx_models import (
    agree,
    expected,
    network,
    networks,
    onnx,
    rows,
    run,
    session_of,
    small,
    stirred,
    written,
)  # fmt: skip

DTYPES = [np.float32, np.float64]
LAYERS = {
    "plain": {},
    "no bias": {"bias": False},
    "batch norm": {"num_bn_layers": 3},
    "layer norm": {"num_ln_layers": 3},
    "residual": {"residual": True},
    "dropout": {"dropout": [0.3, 0.3, 0.3, 0.3]},
    "scales": {"scale_inputs": True},
    "parametric": {"parametric_activations": True},
    "embeddings": {"embeddings": PeriodicEmbeddings(3, 5, 2, sigma=1.0, seed=0)},
    "all": {
        "num_bn_layers": 2, "residual": True, "scale_inputs": True, "dropout": 0.5,
        "parametric_activations": True, "embeddings": PeriodicEmbeddings(5, seed=0),
    },
}  # fmt: skip


# Agreement


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_and_criterion(activation, criterion, dtype, tmp_path):
    names = [activation, activation, "identity"]
    mlp = network([6, 8, 7, 3], names, CRITERIA[criterion](), dtype=dtype)
    x = 3 * rows(mlp, 7)
    # onnxruntime has the error function in float32 alone.
    exact = dtype == np.float64 and activation != "gelu"
    agree(run(written(mlp, tmp_path), x=x), expected(mlp, x), 1e-12 if exact else 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layers", LAYERS)
def test_every_layer_at_every_number_of_rows(layers, dtype, tmp_path):
    names = ["gelu_tanh", "selu", "relu", "tanh"]
    mlp = network([5, 8, 8, 6, 3], names, dtype=dtype, **LAYERS[layers])
    session = session_of(written(mlp, tmp_path))
    named = [output.name for output in session.get_outputs()]
    # The epsilons of norms are attributes, in float32.
    tolerance = 1e-5 if dtype == np.float32 else 1e-10
    for count in (1, 2, 7, 1000):
        x = rows(mlp, count)
        found = dict(zip(named, session.run(None, {"x": x}), strict=True))
        agree(found, expected(mlp, x), tolerance)


@given(networks())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_networks_of_all_kinds(tmp_path, case):
    mlp, x = case
    agree(run(written(mlp, tmp_path), x=x), expected(mlp, x))


@pytest.mark.long
@given(networks())
@settings(max_examples=3000, deadline=None, suppress_health_check=list(HealthCheck))
def test_many_networks_of_all_kinds(tmp_path, case):
    mlp, x = case
    agree(run(written(mlp, tmp_path), x=x), expected(mlp, x))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "activation", [LeakyReLU(0.3), LeakyReLU(-0.2), ELU(0.4), ELU(-1.5), Softplus(2.5)], ids=str
)
def test_numbers_of_activations(activation, dtype, tmp_path):
    mlp = build([6, 8, 3], [lambda: activation, Identity], dtype=dtype)
    x = 3 * rows(mlp, 7)
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    agree(run(written(mlp, tmp_path), x=x), expected(mlp, x), tolerance)


@pytest.mark.parametrize("dtype", DTYPES)
def test_outputs_far_from_zero(dtype, tmp_path):
    """Where a naive softmax, softplus or rate overflows."""
    for criterion in (SoftmaxCrossEntropy(), BinaryCrossEntropy(), PoissonNLL()):
        mlp = network([4, 6, 3], ["softplus", "identity"], criterion, dtype=dtype)
        mlp.linear_layers[1].b = [[60.0, -400.0, 20.0]]
        x = 500 * rows(mlp, 50)
        if isinstance(criterion, PoissonNLL):
            x = rows(mlp, 50)
        agree(run(written(mlp, tmp_path), x=x), expected(mlp, x))


def test_a_trained_network(tmp_path):
    data = datasets.load("digits")
    mlp = build([64, 32, 10], num_bn_layers=1, dtype=np.float32)
    mlp.fit(data.train_x, data.train_y, epochs=3, seed=0)
    x = (data.test_x / 255).astype(np.float32)
    found = run(written(mlp, tmp_path), x=x)
    agree(found, expected(mlp, x))
    assert (found["prediction"] == data.test_y).mean() > 0.8


# Inputs


def test_pixels_are_scaled_as_fit_scales_them(tmp_path):
    data = datasets.load("digits")
    mlp = network([64, 16, 10], ["relu", "identity"], dtype=np.float32)
    path = written(mlp, tmp_path, input_dtype="uint8")
    assert session_of(path).get_inputs()[0].type == "tensor(uint8)"
    agree(run(path, x=data.test_x), expected(mlp, data.test_x))
    scaled = (data.test_x / 255).astype(np.float32)
    agree(run(written(mlp, tmp_path), x=scaled), expected(mlp, data.test_x))


@pytest.mark.parametrize("dtype", ["int8", "float64", 8])
def test_other_inputs_are_refused(dtype, tmp_path):
    with pytest.raises(ValueError, match="input_dtype must be one of float32, uint8, got"):
        small().to_onnx(tmp_path / "model.onnx", input_dtype=dtype)
    assert not list(tmp_path.iterdir())


def test_a_bfloat16_network_has_float32s_weights(tmp_path):
    mlp = network([20, 30, 3], ["relu", "identity"], dtype="bfloat16")
    path = written(mlp, tmp_path)
    x = rows(mlp, 7)
    assert not np.allclose(run(path, x=x)["scores"], mlp._outputs(x), rtol=0, atol=1e-5)
    mlp.compute_dtype = "float32"
    agree(run(path, x=x), expected(mlp, x))
    assert "trained with products in bfloat16" in onnx.load(path).doc_string


# Batch norm


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_batch_norm_is_folded_on_request(dtype, bias, tmp_path):
    mlp = network([5, 8, 8, 3], ["relu", "tanh", "identity"], dtype=dtype, num_bn_layers=3,
                  bias=bias)  # fmt: skip
    path = written(mlp, tmp_path, fold_batchnorm=True)
    operators = {node.op_type for node in onnx.load(path).graph.node}
    assert "Gemm" in operators
    assert "BatchNormalization" not in operators
    x = rows(mlp, 7)
    agree(run(path, x=x), expected(mlp, x), 1e-5 if dtype == np.float32 else 1e-12)


# Outputs


def test_outputs_are_chosen(tmp_path):
    mlp = small()
    x = rows(mlp, 3)
    wanted = expected(mlp, x)
    for names in (["prediction"], ["probabilities", "scores"], ("scores",)):
        path = written(mlp, tmp_path, outputs=names)
        assert list(run(path, x=x)) == list(names)
        agree(run(path, x=x), {name: wanted[name] for name in names})


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (["label"], "outputs must be of scores, probabilities, prediction with SoftmaxC.*'label'"),
        ([], "outputs must be different names, one or more, got"),
        (["scores", "scores"], "outputs must be different names"),
    ],
)
def test_other_outputs_are_refused(outputs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        small().to_onnx(tmp_path / "model.onnx", outputs=outputs)


def test_values_have_no_probabilities(tmp_path):
    message = "outputs must be of scores, prediction with MeanSquaredError, got 'probabilities'"
    with pytest.raises(ValueError, match=message):
        small(criterion=MeanSquaredError()).to_onnx(tmp_path / "m.onnx", outputs=["probabilities"])


@pytest.mark.parametrize("criterion", [BinaryCrossEntropy(), MeanSquaredError(), PoissonNLL()])
def test_a_single_output_is_a_number_a_row(criterion, tmp_path):
    mlp = network([3, 4, 1], ["relu", "identity"], criterion)
    x = rows(mlp, 5)
    found = run(written(mlp, tmp_path), x=x)
    assert found["prediction"].shape == (5,)
    agree(found, expected(mlp, x))


def test_a_criterion_of_ones_own(tmp_path):
    of_two = Criterion.of(lambda z, y: (z - y) ** 2, lambda z, y: 2 * (z - y))
    mlp = small(criterion=of_two)
    x = rows(mlp, 5)
    agree(run(written(mlp, tmp_path), x=x), expected(mlp, x))

    class Mine(Criterion):
        pass

    mlp.criterion = Mine()
    assert list(run(written(mlp, tmp_path), x=x)) == ["scores"]


# The file


def test_what_the_model_says_of_itself(tmp_path):
    model = onnx.load(written(small(criterion=Huber(0.5)), tmp_path))
    onnx.checker.check_model(model, full_check=True)
    assert (model.producer_name, model.producer_version) == ("fastmlp", fastmlp.__version__)
    assert {i.domain: i.version for i in model.opset_import} == {"": 17, "ai.onnx.ml": 3}
    assert model.doc_string == "a multi-layer perceptron, 3-4-2"
    properties = {p.key: json.loads(p.value) for p in model.metadata_props}
    assert properties == {"fastmlp.criterion": {"name": "Huber", "delta": 0.5, "reduction": "mean"}}
    meanings = {output.name: output.doc_string for output in model.graph.output}
    assert meanings == {"scores": "outputs of the network", "prediction": "values"}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


def test_operators_are_standard(tmp_path):
    """Of ONNX's own domain and none newer than the opset; onnx's checker knows them all."""
    for name in ACTIVATIONS:
        model = onnx.load(written(network([3, 4, 2], [name, "identity"]), tmp_path))
        assert {node.domain for node in model.graph.node} == {""}


def test_equal_networks_give_equal_bytes(tmp_path):
    assert written(small(), tmp_path).read_bytes() == written(small(), tmp_path).read_bytes()


def test_a_larger_file_than_there_can_be_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmlp._exchange._onnx_graph.MOST_BYTES", 10_000)
    small().to_onnx(tmp_path / "small.onnx")
    with pytest.raises(ValueError, match="a file of ONNX holds at most 10,000 bytes, and"):
        network([50, 50, 2], ["relu", "identity"]).to_onnx(tmp_path / "large.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["small.onnx"]


class _OwnReLU(ReLU):
    pass


@pytest.mark.parametrize(
    ("activation", "shown"),
    [(Activation.of(abs, abs, "hat"), r"Activation.of\(hat\)"), (_OwnReLU(), "_OwnReLU")],
)
def test_an_activation_of_ones_own_is_refused(activation, shown, tmp_path):
    mlp = build([3, 4, 2], [lambda: activation, Identity])
    with pytest.raises(ValueError, match=f"own activations can be written to ONNX.*{shown}$"):
        mlp.to_onnx(tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        small().to_onnx(tmp_path / "nowhere" / "model.onnx")


def test_the_network_stays_as_it_is(tmp_path):
    mlp = stirred(build([3, 4, 2], num_bn_layers=1))
    before = mlp.parameters.copy(), mlp.statistics.copy()
    mlp.train()
    mlp.to_onnx(tmp_path / "model.onnx", fold_batchnorm=True)
    assert mlp.train_mode
    assert_array_equal(mlp.parameters, before[0])
    assert_array_equal(mlp.statistics, before[1])
    assert isinstance(mlp, MLP)
