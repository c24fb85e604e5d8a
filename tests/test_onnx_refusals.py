"""What MLP.from_onnx refuses: graphs of no MLP, and files made to do harm."""

import json
import os
import sys
import tracemalloc

import numpy as np
import pytest
from onnx import TensorProto, helper

from fastmlp import GELU, MLP, Mish, PeriodicEmbeddings, Tanh
from fastmlp.datasets import Column, Schema
from tests.networks import build
from tests.onnx_models import HandMade, network, onnx, small, written
from tests.onnx_mutants import mutant

# What is refused, by name


def dynamic_weights(m):
    m("MatMul", "x", "x")


def a_branch(m):
    m.linear()
    first = m("Relu")
    m.linear()
    m("Add", first, m("Tanh"))
    m("Add", "x", m.last)


def an_unknown_operator(m):
    m("LpNormalization", m.linear())


def a_domain_of_its_own(m):
    m("FusedGelu", m.linear(), domain="com.microsoft")


def two_activations(m):
    m.linear()
    m("Tanh", m("Identity", m("Sigmoid")))


def scales_between(m):
    m.linear()
    m("Tanh", m("Mul", m("Relu"), [1.0, 2.0, 3.0]))


def the_wrong_width(m):
    m.linear()
    m.linear(inputs=4)


def a_softmax_in_the_midst(m):
    m("Relu", m("Softmax", m.linear()))


def a_softmax_of_rows(m):
    m("Softmax", m.linear(), axis=0)


def nothing_linear(m):
    m("Relu", "x")


def another_shape(m):
    m("Reshape", m.linear(), np.array([3, -1]))


def slopes_of_columns(m):
    m("PRelu", m.linear(), [0.1, 0.2, 0.3])


REFUSED = {
    dynamic_weights: r"\(MatMul\) must multiply rows by a matrix of constants",
    a_branch: r"\(Add\) joins two branches",
    an_unknown_operator: r"\(LpNormalization\) is no operator of an MLP",
    a_domain_of_its_own: r"(FusedGelu|com\.microsoft)",
    two_activations: r"\(Tanh\) does not come after a linear layer",
    scales_between: r"\(Tanh\) does not come after a linear layer",
    the_wrong_width: r"\(Gemm\) must multiply 3 columns by as many rows, got \(4, 3\)",
    a_softmax_in_the_midst: r"\(Relu\) follows the end of the network",
    a_softmax_of_rows: r"\(Softmax\) must be a softmax of the columns",
    nothing_linear: r"\(Relu\) does not come after a linear layer",
    another_shape: r"\(Reshape\) must give rows of 3 columns, got \[3, -1\]",
    slopes_of_columns: r"\(PRelu\) has a number for every column",
}


@pytest.mark.parametrize("graph", REFUSED, ids=lambda graph: graph.__name__)
def test_what_no_mlp_does_is_refused_by_node_and_operator(graph, tmp_path):
    model = HandMade()
    graph(model)
    with pytest.raises(ValueError, match=f"made.onnx: not an MLP that fastmlp.*{REFUSED[graph]}"):
        MLP.from_onnx(model.save(tmp_path))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [(["N"], "must be rows of"), (["N", "D"], "must be rows of"), (["N", 3, 4], "be flattened")],
)
def test_other_inputs_are_refused(sizes, message, tmp_path):
    model = HandMade(sizes=sizes)
    model.linear()
    with pytest.raises(ValueError, match=message):
        MLP.from_onnx(model.save(tmp_path))


def test_two_networks_are_refused(tmp_path):
    model = HandMade()
    one = model.linear()
    model.last = "x"
    other = model.linear()
    with pytest.raises(ValueError, match="not all made of the same outputs of one network"):
        MLP.from_onnx(model.save(tmp_path, [one, other]))


def test_embeddings_other_than_ours_are_refused(tmp_path):
    mlp = small(embeddings=PeriodicEmbeddings(2, 3, 1, seed=0))
    model = onnx.load(written(mlp, tmp_path))
    for node in model.graph.node:
        if node.op_type == "Cos":
            node.op_type = "Sin"
    onnx.save(model, tmp_path / "sine.onnx")
    with pytest.raises(ValueError, match=r"\(Sin\) is not what periodic embeddings have there"):
        MLP.from_onnx(tmp_path / "sine.onnx")


@pytest.mark.parametrize("turns", [2 * np.pi, np.pi / 2])
def test_embeddings_of_other_turns_are_refused(turns, tmp_path):
    """A quarter of one makes the cosine of a float64 network from a sine."""
    embeddings = PeriodicEmbeddings(2, 3, 1, seed=0)
    model = onnx.load(written(small(np.float64, embeddings=embeddings), tmp_path))
    (tensor,) = [
        tensor for tensor in model.graph.initializer
        if (number := onnx.numpy_helper.to_array(tensor)).size == 1 and np.all(number == turns)
    ]  # fmt: skip
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.array(turns + 0.01), tensor.name))
    refused(model, tmp_path, r"\(Concat\) must have cosines of so many turns")


# Files made to do harm


def refused(model, tmp_path, message, most=1 << 20):
    """The model, a proto or bytes, is refused for that reason, for little memory."""
    path = tmp_path / "hostile.onnx"
    content = model if isinstance(model, bytes) else model.SerializeToString()
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=f"hostile.onnx: not an MLP that.*{message}") as error:
            MLP.from_onnx(path)
        assert tracemalloc.get_traced_memory()[1] < most + 8 * len(content)
    finally:
        tracemalloc.stop()
    assert len(str(error.value)) < 1000


def with_constant(tmp_path, **fields):
    """A proper model of which the first weights have other fields."""
    model = onnx.load(written(small(), tmp_path))
    tensor = model.graph.initializer[0]
    for name, value in fields.items():
        if name == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        else:
            setattr(tensor, name, value)
    return model


@pytest.mark.parametrize(
    "dims", [[10**6, 10**6], [3, 2**62], [2**40, 2**40, 2**40], [4, 3, 1000], [2**31]]
)
def test_terabytes_that_are_only_stated(dims, tmp_path):
    refused(with_constant(tmp_path, dims=dims), tmp_path, "layers.0.W.*must have .* bytes, got 48")


def test_sizes_that_are_none(tmp_path):
    refused(with_constant(tmp_path, dims=[-3, -4]), tmp_path, "'layers.0.W'.*has a negative size")
    refused(with_constant(tmp_path, raw_data=b""), tmp_path, "must have 48 bytes, got 0")
    refused(with_constant(tmp_path, data_type=15), tmp_path, "of the type 15, which no MLP has")
    model = with_constant(tmp_path)
    model.graph.initializer[0].ClearField("raw_data")
    model.graph.initializer[0].float_data.extend([1.0] * 11)
    refused(model, tmp_path, "must have 12 numbers, got 11")


def test_data_in_other_files(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(48))
    for place in ("secret", "/etc/passwd", "../secret"):
        model = with_constant(tmp_path, raw_data=b"", data_location=TensorProto.EXTERNAL)
        model.graph.initializer[0].external_data.add(key="location", value=place)
        refused(model, tmp_path, "the constant 'layers.0.W' has its data in another file")
    model = HandMade()
    model.linear()
    tensor = TensorProto(name="t", data_type=1, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="secret")
    model("Constant", "x", value=tensor)
    refused(model.proto(), tmp_path, r"node 'v1' \(Constant\) has its data in another file")


def test_branches_and_recursion(tmp_path):
    body = helper.make_graph([], "body", [], [])
    model = HandMade()
    model("If", "x", then_branch=body, else_branch=body)
    refused(model.proto(), tmp_path, r"\(If\) has branches of its own, which are not read")
    # Graphs of a node with an attribute that is a graph, as they lie in a file.
    content = b""
    for _ in range(20_000):
        for field in (6, 5, 1):
            content = bytes([8 * field + 2]) + _size(len(content)) + content
    refused(bytes([8 * 7 + 2]) + _size(len(content)) + content, tmp_path, "it is no ONNX model")


def _size(number):
    """A number as protocol buffers write it, 7 bits a byte."""
    rest, low = divmod(number, 128)
    return bytes([low]) if not rest else bytes([low + 128]) + _size(rest)


def test_functions_and_sparse_constants(tmp_path):
    model = onnx.load(written(small(), tmp_path))
    model.functions.add(name="f", domain="mine")
    refused(model, tmp_path, "it has functions of its own")
    model = onnx.load(written(small(), tmp_path))
    model.graph.sparse_initializer.add()
    refused(model, tmp_path, "it has sparse constants")


def test_a_graph_of_too_many_nodes(tmp_path):
    model = HandMade()
    model.linear()
    for _ in range(10_000):
        model("Relu")
    refused(model.proto(), tmp_path, "at most 10,000 nodes, got 10,001", most=20 << 20)


def test_weights_that_are_used_again_and_again(tmp_path):
    """A file of kilobytes is no network of megabytes."""
    model = HandMade(sizes=["N", 64])
    weights = model.constant(np.ones((64, 64)))
    for _ in range(1000):
        model("MatMul", model.last, weights)
    refused(model.proto(), tmp_path, "layers that share weights are not read", most=4 << 20)


def test_constants_that_grow_by_broadcasting(tmp_path):
    model = HandMade()
    model.linear()
    model("Add", np.ones((5000, 1)), np.ones((1, 5000)))
    refused(model.proto(), tmp_path, r"\(Add\) computes a constant that is larger than those")


def test_constants_that_are_computed_again_and_again(tmp_path):
    model = HandMade()
    vector = model.constant(np.ones(10_000))
    for _ in range(1000):
        model("Add", vector, vector)
    refused(model.proto(), tmp_path, "computes constants of more than 16 times", most=4 << 20)


def test_an_input_of_more_columns_than_there_can_be(tmp_path):
    model = HandMade(sizes=["N", 2**62])
    model("Scaler", domain="ai.onnx.ml", offset=[1.0], scale=[1.0])
    model.linear()
    refused(model.proto(), tmp_path, r"\(ai.onnx.ml.Scaler\) computes constants of more than")


def test_numbers_that_are_none(tmp_path):
    """Of norms; the checkpoint's own reader takes them for weights, and so does this one."""
    model = HandMade()
    model.linear()
    arrays = [np.ones(3), np.ones(3), np.ones(3), np.array([1.0, -1.0, np.nan])]
    model("BatchNormalization", model.last, *arrays)
    refused(model.proto(), tmp_path, r"\(BatchNormalization\) must have variances above -epsilon")
    model = HandMade()
    model.linear()
    model("LayerNormalization", model.last, np.ones(3), np.ones(3), epsilon=0.0)
    refused(model.proto(), tmp_path, r"\(LayerNormalization\) must have an epsilon above 0, got 0")


@pytest.mark.parametrize(
    "text",
    [
        "", "[" * 100_000, "{}", "[1]", '{"name": "Mine"}', '{"name": ["Huber"]}',
        '{"name": "Huber", "delta": NaN}', '{"name": "Huber", "delta": 1' + "0" * 5000 + "}",
    ],
)  # fmt: skip
def test_a_criterion_that_is_none(text, tmp_path):
    model = onnx.load(written(small(), tmp_path))
    helper.set_model_props(model, {"fastmlp.criterion": text})
    refused(model, tmp_path, "its property 'fastmlp.criterion' names no criterion")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "Expecting value"),
        ("[" * 100_000, "recursion"),
        ("[1]", ""),
        ("{}", "a schema must have columns, targets, classes and a dtype"),
        ('{"columns": [3], "targets": ["a"], "classes": null, "dtype": "float32"}', "a column"),
    ],
)
def test_a_schema_that_is_none(text, why, tmp_path):
    model = onnx.load(written(small(), tmp_path))
    helper.set_model_props(model, {"fastmlp.schema": text})
    refused(model, tmp_path, f"its property 'fastmlp.schema' names no schema: .*{why}")


def test_a_schema_of_another_network(tmp_path):
    mlp = small()
    columns = tuple(Column(f"c{k}") for k in range(mlp.input_size + 1))
    of_more = Schema(columns, ("y",), tuple(range(mlp.output_size)), "float32")
    model = onnx.load(written(mlp, tmp_path))
    helper.set_model_props(model, {"fastmlp.schema": json.dumps(of_more.to_dict())})
    refused(model, tmp_path, f"schema must have {mlp.input_size} features, got {len(columns)}")


@pytest.mark.parametrize("content", [b"", b"\x00", b"PK\x03\x04", b"\xff" * 100, b"hello\n"])
def test_other_files(content, tmp_path):
    refused(content, tmp_path, "")


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.onnx"):
        MLP.from_onnx(tmp_path / "none.onnx")
    with pytest.raises(IsADirectoryError):
        MLP.from_onnx(tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no such file")
def test_a_file_without_an_end(tmp_path):
    with pytest.raises(ValueError, match="/dev/zero: not an MLP"):
        MLP.from_onnx("/dev/zero")


def test_without_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    for call in (small().to_onnx, MLP.from_onnx):
        with pytest.raises(ImportError, match=r"onnx is not installed: .*'onnx'"):
            call(tmp_path / "model.onnx")


def test_a_larger_file_than_there_can_be(tmp_path, monkeypatch):
    monkeypatch.setattr("fastmlp._exchange._onnx_file.MOST_BYTES", 1000)
    refused(bytes(1001), tmp_path, "it must have at most 1,000 bytes, got 1,001")


def test_long_names_are_cut_in_messages(tmp_path):
    model = HandMade()
    model.nodes.append(helper.make_node("Relu", ["x"], ["y"], "n" * 10_000))
    model.last = "y"
    refused(model.proto(), tmp_path, r"node 'nnnnn.*\.\.\.' \(Relu\) does not come after")


# Found by mutants


def test_a_slice_by_what_is_no_constant(tmp_path):
    model = HandMade()
    model("Slice", "x", "x", np.array([2]), np.array([1]))
    refused(model.proto(), tmp_path, r"\(Slice\) must take the first columns")


def test_embeddings_by_numbers_without_axes(tmp_path):
    model = onnx.load(written(small(embeddings=PeriodicEmbeddings(1, 1, 1, seed=0)), tmp_path))
    for tensor in model.graph.initializer:
        if tensor.name == "input.frequencies":
            del tensor.dims[:]
    refused(model, tmp_path, r"\(Concat\) must have embeddings of 1 columns")


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    """Files of all that is read: ours, and in operators as other programs write them."""
    folder = tmp_path_factory.mktemp("seeds")
    rich = {"num_bn_layers": 2, "residual": True, "parametric_activations": True}
    front = {"scale_inputs": True, "embeddings": PeriodicEmbeddings(2, 2, 1, seed=0)}
    pixels = {"input_dtype": "uint8", "outputs": ["probabilities"]}
    files = [
        written(small(), folder).read_bytes(),
        written(build([3, 3, 3, 2], [GELU, Mish, Tanh], **rich), folder).read_bytes(),
        written(network([3, 4, 2], ["silu", "identity"], num_ln_layers=1, **front), folder)
        .read_bytes(),
        written(small(num_bn_layers=1), folder, **pixels).read_bytes(),
    ]  # fmt: skip
    model = HandMade(13, sizes=["N", 1, 3])
    model("Flatten")
    z = model.linear()
    centred = model("Sub", z, model("ReduceMean", axes=[-1]))
    variance = model("ReduceMean", model("Pow", centred, 2.0), axes=[-1])
    model("Div", centred, model("Sqrt", model("Add", variance, 1e-5)))
    model("Mul", model.last, model("Sigmoid"))
    model("Add", model("MatMul", model.last, np.eye(3)), [1.0, 2.0, 3.0])
    model("Softmax", axis=1)
    files.append(model.proto().SerializeToString())
    model = HandMade()
    model("Scaler", domain="ai.onnx.ml", offset=[1.0], scale=[2.0])
    model.linear()
    model("PRelu", model.last, 0.25)
    p = model("Sigmoid", model.linear(1))
    model("Concat", model("Sub", 1.0, p), p, axis=1)
    model("ArgMax", axis=1)
    model("ArrayFeatureExtractor", np.array([3, 5]), model.last, domain="ai.onnx.ml")
    model.result = TensorProto.INT64
    files.append(model.proto().SerializeToString())
    for content in files:
        (folder / "seed.onnx").write_bytes(content)
        MLP.from_onnx(folder / "seed.onnx")
    return files


def read_mutants(seeds, numbers, tmp_path):
    """How many mutants are read; all others are refused with an error that names the file."""
    path, read = tmp_path / "mutant.onnx", 0
    for number in numbers:
        path.write_bytes(mutant(seeds, number))
        try:
            mlp = MLP.from_onnx(path)
        except Exception as error:
            names_it = isinstance(error, ValueError) and str(error).startswith(f"{path}: ")
            if not names_it:
                raise AssertionError(f"mutant {number}: {type(error).__name__}: {error}") from error
            continue
        assert isinstance(mlp, MLP)
        read += 1
    return read


def test_mutants(seeds, tmp_path):
    assert 0 < read_mutants(seeds, range(600), tmp_path) < 300


@pytest.mark.long
@pytest.mark.parametrize("part", range(10))
def test_many_mutants(part, seeds, tmp_path):
    """220,000 in all; none takes more memory than the first thousand."""
    resource = pytest.importorskip("resource", reason="the peak of memory is told on POSIX")
    first = 22_000 * part
    read = read_mutants(seeds, range(first, first + 1000), tmp_path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    read += read_mutants(seeds, range(first + 1000, first + 22_000), tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (32 << 10)
    assert read > 1000
