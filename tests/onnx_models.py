"""Running ONNX models, and networks of every kind to write to them."""

import itertools

import numpy as np
import pytest
from hypothesis import strategies as st

from fastmlp import MLP, PeriodicEmbeddings, SoftmaxCrossEntropy
from fastmlp.kernels.activation import ACTIVATIONS
from fastmlp.layers import activation_named
from fastmlp.layers.loss import CRITERIA
from tests.networks import batch, build

onnx = pytest.importorskip("onnx", reason="ONNX files need the extra onnx")
helper, numpy_helper, TensorProto = onnx.helper, onnx.numpy_helper, onnx.TensorProto
runtime = pytest.importorskip("onnxruntime", reason="ONNX files are run by onnxruntime")
runtime.set_default_logger_severity(4)

AGREEMENT = 1e-5
"""Relative to the largest value, in either dtype: that of the error function is float32's."""


def session_of(path):
    """What runs the model, on one thread."""
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    return runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def run(path, **inputs):
    """The outputs of the model, by name."""
    session = session_of(path)
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


def expected(mlp, x):
    """What the model of a network gives of x, by name."""
    outputs = {"scores": mlp._outputs(x), "prediction": mlp.predict(x)}
    if not mlp.criterion.of_values:
        outputs["probabilities"] = mlp.predict_proba(x)
    return outputs


def agree(found, wanted, tolerance=AGREEMENT):
    """The same names, shapes and dtypes; values to the tolerance of the largest.

    Classes and labels need not be the same where scores that differ by so little decide them.
    """
    assert found.keys() == wanted.keys()
    for name, value in found.items():
        assert (value.shape, value.dtype) == (wanted[name].shape, wanted[name].dtype), name
        scale = max(1, np.abs(wanted[name]).max(initial=0))
        if name == "prediction" and value.dtype.kind == "i" and "scores" in wanted:
            clear = decided(wanted["scores"], value.shape, tolerance)
            value = np.where(clear, value, wanted[name])
        np.testing.assert_allclose(value, wanted[name], rtol=0, atol=tolerance * scale)


def decided(scores, shape, tolerance):
    """Of that shape: whether each label is clear, or the class of each row clearly ahead."""
    if scores.size == np.prod(shape):
        margins = np.abs(scores).reshape(shape)
    else:
        margins = np.diff(np.sort(scores))[:, -1]
    return margins > 2 * tolerance * max(1, np.abs(scores).max(initial=0))


def stirred(mlp, seed=0):
    """The network with all that training changes away from where it begins: norms, scales."""
    draws = np.random.default_rng(seed)
    mlp.parameters += 0.1 * draws.standard_normal(mlp.parameters.shape)
    mlp.statistics = np.abs(mlp.statistics + draws.standard_normal(mlp.statistics.shape)) + 0.1
    mlp.eval()
    return mlp


def network(sizes, names, criterion=None, seed=0, **options):
    """A network with activations of these names, one for every layer."""
    activations = iter([activation_named(name) for name in names])

    def made(*arguments, **others):
        return MLP(*arguments[:6], criterion or SoftmaxCrossEntropy(), *arguments[7:], **others)

    layers = [lambda: next(activations)] * len(names)
    return stirred(build(sizes, layers, made, seed=seed, **options), seed)


def rows(mlp, count, seed=1):
    """Rows for a network, of its dtype."""
    return batch(count, mlp.input_size, 1, dtype=mlp.dtype, seed=seed)[0]


@st.composite
def networks(draw):
    """Networks of all layers, activations, criteria and dtypes, with rows for them."""
    widths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=3))
    columns, outputs = draw(st.integers(1, 9)), draw(st.integers(2, 5))
    names = draw(st.lists(st.sampled_from(sorted(ACTIVATIONS)), min_size=4, max_size=4))
    names = [*names[: len(widths)], draw(st.sampled_from(["identity", "tanh", "sigmoid"]))]
    options = {"dtype": draw(st.sampled_from([np.float32, np.float64]))}
    options["bias"] = draw(st.booleans())
    norm = draw(st.sampled_from(["num_bn_layers", "num_ln_layers"]))
    options[norm] = draw(st.integers(0, len(widths) + 1))
    if options.get("num_ln_layers"):
        # Where columns are nearly equal, layer norm is steep, and float32's last digit is seen.
        options["dtype"] = np.float64
    options["parametric_activations"] = draw(st.booleans())
    front = draw(st.booleans())
    sizes = [columns, *widths, outputs]
    first = columns
    if draw(st.booleans()):
        kind = PeriodicEmbeddings(draw(st.integers(1, columns)), 3, draw(st.integers(1, 2)), seed=0)
        options["embeddings"], first = kind, columns + kind.width
    options["scale_inputs"] = front
    shapes = [(first, widths[0]), *itertools.pairwise(widths)]
    has_front = front or "embeddings" in options
    can_add = any(a == b for a, b in shapes) and not (has_front and first == widths[0])
    options["residual"] = can_add and draw(st.booleans())
    criterion = CRITERIA[draw(st.sampled_from(sorted(CRITERIA)))]()
    mlp = network(sizes, names, criterion, seed=draw(st.integers(0, 99)), **options)
    return mlp, rows(mlp, draw(st.integers(1, 20)))


def small(dtype=np.float32, criterion=None, **options):
    """A network of 3 inputs, 4 hidden neurons and 2 outputs."""
    return network([3, 4, 2], ["relu", "identity"], criterion, dtype=dtype, **options)


def written(mlp, tmp_path, **options):
    """The path of its model."""
    path = tmp_path / "model.onnx"
    mlp.to_onnx(path, **options)
    return path


class HandMade:
    """A graph made by hand: an input x of 3 columns, nodes, and the last result as output."""

    def __init__(self, opset=17, **inputs):
        self.opset, self.nodes, self.constants = opset, [], []
        self.sizes, self.element = (
            inputs.get("sizes", ["N", 3]),
            inputs.get("element", TensorProto.FLOAT),
        )
        self.last, self.result = "x", TensorProto.FLOAT

    def constant(self, array, name=None):
        array = np.asarray(array)
        array = array.astype(np.float32) if array.dtype == np.float64 else array
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def __call__(self, operator, *operands, domain="", **attributes):
        """Operands: names, or arrays that become constants; by default the last result."""
        names = [x if isinstance(x, str) else self.constant(x) for x in operands or [self.last]]
        self.last = f"v{len(self.nodes)}"
        node = helper.make_node(operator, names, [self.last], domain=domain, **attributes)
        self.nodes.append(node)
        return self.last

    def linear(self, outputs=3, inputs=3, seed=0, **attributes):
        draws = np.random.default_rng([seed, len(self.nodes)])
        weights = draws.standard_normal((inputs, outputs))
        return self("Gemm", self.last, weights, draws.standard_normal(outputs), **attributes)

    def proto(self, outputs=None):
        x = helper.make_tensor_value_info("x", self.element, self.sizes)
        results = [
            helper.make_tensor_value_info(name, self.result, ["N", "K"])
            for name in outputs or [self.last]
        ]
        graph = helper.make_graph(self.nodes, "made", [x], results, self.constants)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("ai.onnx.ml", 3)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=8)

    def save(self, tmp_path, outputs=None):
        path = tmp_path / "made.onnx"
        path.write_bytes(self.proto(outputs).SerializeToString())
        return path
