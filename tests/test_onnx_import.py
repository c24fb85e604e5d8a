"""MLP.from_onnx of graphs in all kinds of operators: what they mean, and which are refused."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from onnx import TensorProto

from fastmlp import MLP
from fastmlp.layers import (
    ELU,
    GELU,
    BinaryCrossEntropy,
    HardSwish,
    Identity,
    LeakyReLU,
    MeanSquaredError,
    Mish,
    PoissonNLL,
    ReLU,
    Sigmoid,
    SiLU,
    SoftmaxCrossEntropy,
    Softplus,
    Tanh,
)  # fmt: skip
from tests.onnx_models import HandMade, agree, run

D = 3


def reads(model, tmp_path, output=None, outputs=None):
    """The network of the model, which predicts what onnxruntime makes of it."""
    path = model.save(tmp_path, outputs)
    read = MLP.from_onnx(path)
    x = np.random.default_rng(1).standard_normal((9, read.input_size)).astype(np.float32)
    found = run(path, x=x.reshape(9, *model.sizes[1:]))
    shown = read.predict(x) if read.criterion.of_values else read.predict_proba(x)
    agree({"all": shown}, {"all": found[output or model.last].reshape(shown.shape)})
    return read


def swish(m):
    return m("Mul", m.last, m("Sigmoid", m.last))


def gelu(m):
    z = m.last
    m("Mul", m("Add", m("Erf", m("Div", z, np.sqrt(2.0))), 1.0), z)
    return m("Mul", m.last, 0.5)


def gelu_by_halves(m):
    half = m("Mul", m.last, 0.5)
    z = m.nodes[-1].input[0]
    return m("Add", half, m("Mul", half, m("Erf", m("Mul", z, np.sqrt(0.5)))))


def gelu_by_a_polynomial(m):
    z = m.last
    cube = m("Pow", z, 3.0)
    inner = m("Mul", m("Add", z, m("Mul", cube, 0.044715)), np.sqrt(2 / np.pi))
    return m("Mul", m("Mul", 0.5, z), m("Add", 1.0, m("Tanh", inner)))


def mish(m):
    z = m.last
    return m("Mul", z, m("Tanh", m("Log", m("Add", 1.0, m("Exp", z)))))


def hard_swish(m):
    z = m.last
    return m("Mul", z, m("Div", m("Clip", m("Add", z, 3.0), 0.0, 6.0), 6.0))


def relu_by_where(m):
    z = m.last
    return m("Where", m("Greater", z, 0.0), z, 0.0)


def leaky_by_max(m):
    return m("Max", m.last, m("Mul", m.last, 0.25))


def elu_by_exp(m):
    z = m.last
    below = m("Mul", m("Sub", m("Exp", m("Min", z, 0.0)), 1.0), 0.75)
    return m("Add", m("Relu", z), below)


def softplus(m):
    return m("Div", m("Softplus", m("Mul", m.last, 3.0)), 3.0)


def sigmoid_by_tanh(m):
    return m("Mul", m("Add", m("Tanh", m("Mul", m.last, 0.5)), 1.0), 0.5)


def sigmoid_by_division(m):
    return m("Reciprocal", m("Add", m("Exp", m("Neg", m.last)), 1.0))


PATTERNS = {
    swish: SiLU(), gelu: GELU(), gelu_by_halves: GELU(), gelu_by_a_polynomial: GELU("tanh"),
    mish: Mish(), hard_swish: HardSwish(), relu_by_where: ReLU(), leaky_by_max: LeakyReLU(0.25),
    elu_by_exp: ELU(0.75), softplus: Softplus(3.0), sigmoid_by_tanh: Sigmoid(),
    sigmoid_by_division: Sigmoid(),
}  # fmt: skip


@pytest.mark.parametrize("pattern", PATTERNS, ids=lambda pattern: pattern.__name__)
def test_activations_are_recognised_by_what_they_compute(pattern, tmp_path):
    model = HandMade()
    model.linear()
    pattern(model)
    model.linear()
    read = reads(model, tmp_path)
    assert repr(read.activations) == repr([PATTERNS[pattern], Identity()])


@pytest.mark.parametrize("opset", [20, 21])
@pytest.mark.parametrize("approximate", ["none", "tanh"])
def test_operators_of_later_opsets(approximate, opset, tmp_path):
    model = HandMade(opset)
    model.linear()
    model("Gelu", approximate=approximate)
    model.linear()
    model("Mish")
    model.linear()
    read = reads(model, tmp_path)
    assert repr(read.activations[:2]) == repr([GELU(approximate), Mish()])


def almost(m):
    return m("Mul", m.last, m("Sigmoid", m("Mul", m.last, 1.702)))


def up_to_six(m):
    return m("Clip", m.last, 0.0, 6.0)


def square(m):
    return m("Mul", m.last, m.last)


@pytest.mark.parametrize("pattern", [almost, up_to_six, square], ids=lambda p: p.__name__)
def test_what_is_almost_an_activation_is_refused(pattern, tmp_path):
    model = HandMade()
    model.linear()
    where = pattern(model)
    model.linear()
    message = rf"made.onnx: not an MLP .*node '{where}' \((Mul|Clip)\) ends a function that is none"
    with pytest.raises(ValueError, match=message):
        MLP.from_onnx(model.save(tmp_path))


def test_attributes_of_gemm(tmp_path):
    model = HandMade()
    weights = np.random.default_rng(0).standard_normal((5, D))
    model("Gemm", "x", weights, np.arange(5.0), alpha=0.5, beta=2.0, transB=1)
    model("Relu")
    model("Gemm", model.last, weights, 3.0)
    reads(model, tmp_path)


def test_products_and_sums(tmp_path):
    model = HandMade()
    draws = np.random.default_rng(0)
    model("MatMul", "x", draws.standard_normal((D, 4)))
    model("Add", draws.standard_normal((1, 4)), model.last)
    model("Tanh")
    model("MatMul", model.last, model("Transpose", draws.standard_normal((1, 4))))
    model("Sub", model.last, [0.5])
    read = reads(model, tmp_path)
    assert read.hiddens == (4,)
    assert read.linear_layers[1].b == -0.5


def test_a_layer_without_bias_gets_zeros_beside_those_that_have_one(tmp_path):
    model = HandMade()
    model("MatMul", "x", np.eye(D))
    model("Relu")
    read = reads(model, tmp_path)
    assert read.linear_layers[0].b is None
    model.linear()
    read = reads(model, tmp_path)
    assert_array_equal(read.linear_layers[0].b, np.zeros((1, D)))


def test_scaling_of_the_input_becomes_weights(tmp_path):
    """Of columns by their means and deviations, in single operators and in skl2onnx's."""
    mean, deviation = np.array([1.0, -2.0, 3.0]), np.array([0.5, 2.0, 4.0])
    model = HandMade()
    model("Div", model("Sub", "x", mean), deviation)
    model.linear()
    read = reads(model, tmp_path)
    assert not read.scale_inputs
    model = HandMade()
    model("Scaler", "x", domain="ai.onnx.ml", offset=mean, scale=1 / deviation)
    model.linear()
    reads(model, tmp_path)
    model = HandMade()
    model("Mul", "x", 0.25)
    model.linear()
    reads(model, tmp_path)


def test_scaling_of_the_output_becomes_weights(tmp_path):
    model = HandMade()
    model.linear()
    model("Tanh")
    model.linear(2)
    model("Add", model("Mul", model.last, [10.0, 20.0]), [100.0, 0.0])
    assert reads(model, tmp_path).hiddens == (D,)


def norm(model, operator="BatchNormalization", **attributes):
    draws = np.random.default_rng(len(model.nodes))
    arrays = [draws.standard_normal(D), draws.standard_normal(D)]
    if operator == "BatchNormalization":
        arrays += [draws.standard_normal(D), draws.uniform(0.1, 2, D)]
    model(operator, model.last, *arrays, **attributes)


@pytest.mark.parametrize("epsilon", [1e-8, 1e-5, 1e-3])
def test_batch_norms_of_any_epsilon(epsilon, tmp_path):
    model = HandMade()
    for _ in range(2):
        model.linear()
        norm(model, epsilon=epsilon, momentum=0.75)
        model("Relu")
    model.linear()
    read = reads(model, tmp_path)
    assert read.num_bn_layers == 2
    assert [layer.alpha for layer in read.bn_layers] == [0.75, 0.75]


def test_batch_norms_elsewhere_become_weights(tmp_path):
    """Before the first layer, behind an activation, and after a layer that has none."""
    model = HandMade()
    norm(model)
    model.linear()
    model("Relu")
    norm(model)
    model.linear()
    norm(model)
    read = reads(model, tmp_path)
    assert read.num_bn_layers == 0


def test_two_norms_of_one_layer(tmp_path):
    model = HandMade()
    model.linear()
    norm(model)
    norm(model)
    model("Relu")
    model.linear()
    norm(model)
    norm(model, "LayerNormalization")
    with pytest.raises(ValueError, match=r"LayerNormalization\) must follow layers that all have"):
        MLP.from_onnx(model.save(tmp_path))
    model = HandMade()
    model.linear()
    norm(model)
    norm(model, "LayerNormalization", axis=1)
    model("Relu")
    model.linear()
    read = reads(model, tmp_path)
    assert (read.num_bn_layers, read.num_ln_layers) == (0, 1)


@pytest.mark.parametrize("epsilon", [1e-7, 1e-5, 0.1])
def test_layer_norms_of_any_epsilon(epsilon, tmp_path):
    model = HandMade()
    model.linear()
    norm(model, "LayerNormalization", epsilon=epsilon)
    model("Relu")
    model.linear()
    assert reads(model, tmp_path).num_ln_layers == 1


def test_layer_norm_in_single_operators(tmp_path):
    model = HandMade()
    z = model.linear()
    centred = model("Sub", z, model("ReduceMean", axes=[-1]))
    variance = model("ReduceMean", model("Mul", centred, centred), axes=[1])
    model("Div", centred, model("Sqrt", model("Add", variance, 1e-5)))
    model("Mul", model.last, [1.0, 2.0, -3.0])
    model("Add", model.last, [1.0, 0.0, 5.0])
    model("Tanh")
    model.linear()
    read = reads(model, tmp_path)
    assert read.num_ln_layers == 1
    assert_array_equal(read.ln_layers[0].gamma, [[1.0, 2.0, -3.0]])


def test_residual_connections(tmp_path):
    model = HandMade()
    for _ in range(2):
        before = model.last
        model.linear()
        model("Add", before, model("Tanh"))
    model.linear(2)
    assert reads(model, tmp_path).residual
    model.linear(2, 2)
    model("Add", model.nodes[-1].input[0], model.last)
    with pytest.raises(ValueError, match="the last layer adds its input"):
        MLP.from_onnx(model.save(tmp_path))


def test_residual_connections_here_and_there_are_refused(tmp_path):
    model = HandMade()
    model("Add", "x", model.linear())
    model.linear()
    model("Relu")
    model.linear()
    with pytest.raises(ValueError, match="layer 1 must add its input to its output, as other"):
        MLP.from_onnx(model.save(tmp_path))


def test_a_flattened_input(tmp_path):
    for operator, operands in (("Flatten", []), ("Reshape", [np.array([-1, 12])])):
        model = HandMade(sizes=["N", 3, 4])
        model(operator, "x", *operands)
        model("MatMul", model.last, np.random.default_rng(0).standard_normal((12, 2)))
        assert reads(model, tmp_path).input_size == 12


def test_rows_of_a_fixed_number(tmp_path):
    """As PyTorch writes a module for the rows of its example: the network takes any number."""
    model = HandMade()
    model("Reshape", model.linear(), np.array([2, 3]))
    model("Relu")
    model.linear()
    mlp = MLP.from_onnx(model.save(tmp_path))
    assert mlp.hiddens == (3,)
    assert mlp.predict(np.ones((5, mlp.input_size))).shape == (5, 3)


def test_dropout_is_left_out(tmp_path):
    model = HandMade()
    model.linear()
    model("Relu")
    model("Dropout", model.last, 0.5)
    model.linear()
    reads(model, tmp_path)


# How a graph ends


def ended(operator, criterion, outputs=D, **attributes):
    model = HandMade()
    model.linear()
    model("Relu")
    model.linear(outputs)
    model(operator, **attributes)
    return model, criterion


def test_the_criterion_follows_from_the_end(tmp_path):
    for operator, kind in (
        ("Softmax", SoftmaxCrossEntropy), ("Sigmoid", BinaryCrossEntropy), ("Exp", PoissonNLL),
        ("Identity", MeanSquaredError), ("Tanh", MeanSquaredError),
    ):  # fmt: skip
        model, _ = ended(operator, kind)
        read = reads(model, tmp_path)
        assert type(read.criterion) is kind
        assert isinstance(read.activations[1], Tanh if operator == "Tanh" else Identity)


def test_a_decision_alone(tmp_path):
    model, _ = ended("ArgMax", None, axis=1)
    model.result = TensorProto.INT64
    path = model.save(tmp_path)
    read = MLP.from_onnx(path)
    x = np.random.default_rng(0).standard_normal((50, D)).astype(np.float32)
    assert isinstance(read.criterion, SoftmaxCrossEntropy)
    assert_array_equal(read.predict(x), run(path, x=x)[model.last][:, 0])


def test_a_criterion_can_be_given(tmp_path):
    model, _ = ended("Sigmoid", None)
    path = model.save(tmp_path)
    read = MLP.from_onnx(path, criterion=SoftmaxCrossEntropy())
    assert isinstance(read.activations[1], Sigmoid)
    read = MLP.from_onnx(path, criterion=MeanSquaredError())
    assert isinstance(read.activations[1], Sigmoid)
    x = np.random.default_rng(0).standard_normal((5, D)).astype(np.float32)
    agree({"all": read.predict(x)}, {"all": run(path, x=x)[model.last]})
    model, _ = ended("Identity", None)
    read = MLP.from_onnx(model.save(tmp_path), criterion=SoftmaxCrossEntropy(0.1))
    assert read.criterion.label_smoothing == 0.1
    model, _ = ended("Softmax", None)
    with pytest.raises(ValueError, match="ends with a softmax, which is SoftmaxCrossEntropy's"):
        MLP.from_onnx(model.save(tmp_path), criterion=MeanSquaredError())
    with pytest.raises(TypeError, match="criterion must be an object of class Criterion"):
        MLP.from_onnx(model.save(tmp_path), criterion="mse")
    with pytest.raises(TypeError, match="optimizer must be an object of class Optimizer"):
        MLP.from_onnx(model.save(tmp_path), optimizer="adam")
