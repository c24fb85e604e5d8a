"""Faulty ONNX files: real ones with bytes or parts changed, the same for the same number."""

import numpy as np
import onnx
from onnx import TensorProto, helper

OPERATORS = [
    "Abs", "Add", "ArgMax", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Cos",
    "Div", "Dropout", "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "Greater",
    "Identity", "If", "LayerNormalization", "LeakyRelu", "Loop", "MatMul", "Max", "Min", "Mul",
    "PRelu", "Pow", "Range", "ReduceMean", "Relu", "Reshape", "Sigmoid", "Sin", "Slice",
    "Softmax", "Softplus", "Sqrt", "Squeeze", "Sub", "Tanh", "Tile", "Transpose", "Unsqueeze",
    "Where", "ArrayFeatureExtractor", "Binarizer", "LabelEncoder", "Normalizer", "Scaler", "ZipMap",
]  # fmt: skip
NUMBERS = [0, 1, -1, 2, 3, 7, 255, 65536, 2**31 - 1, -(2**31), 2**40, 2**62, 2**63 - 1, -(2**63)]
FLOATS = [0.0, -1.0, 1e-5, 1e-30, 3e38, -3e38, float("inf"), float("nan")]


def mutant(seeds, number):
    """The bytes of one of the files with a few faults; ``number`` decides on all of it."""
    draws = np.random.default_rng([7, number])
    content = seeds[number % len(seeds)]
    by_parts = draws.random() < 0.8
    for _ in range(draws.geometric(0.6)):
        if by_parts:
            content = _with_other_parts(content, draws)
        else:
            content = _with_other_bytes(content, seeds, draws)
    return content


def _with_other_bytes(content, seeds, draws):
    at, end = sorted(draws.integers(0, len(content) + 1, 2).tolist())
    match draws.integers(0, 7):
        case 0:
            return content[:at] + bytes([int(draws.integers(256))]) + content[at + 1 :]
        case 1:
            bit = 1 << int(draws.integers(8))
            return content[:at] + bytes(b ^ bit for b in content[at : at + 1]) + content[at + 1 :]
        case 2:
            return content[:at]
        case 3:
            return content[:at] + content[min(end, at + 16) :]
        case 4:
            return content[:end] + content[at : at + 64] + content[end:]
        case 5:
            return content[:at] + draws.bytes(int(draws.integers(1, 9))) + content[at:]
        case _:
            other = seeds[int(draws.integers(len(seeds)))]
            return content[:at] + other[int(draws.integers(len(other))) :]


def _with_other_parts(content, draws):
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except Exception:
        return content
    graph = model.graph
    choices = [_change_model]
    choices += [_change_node] * 6 * bool(graph.node)
    choices += [_change_constant] * 2 * bool(graph.initializer)
    choices[int(draws.integers(len(choices)))](model, draws)
    return model.SerializeToString()


def _pick(things, draws):
    return things[int(draws.integers(len(things)))]


def _any_name(graph, draws):
    names = [name for node in graph.node for name in (*node.input, *node.output)]
    return _pick([*names, *(t.name for t in graph.initializer), "", "nowhere"], draws)


def _change_model(model, draws):
    graph = model.graph
    match draws.integers(0, 7):
        case 0 if graph.input and graph.input[0].type.tensor_type.shape.dim:
            sizes = graph.input[0].type.tensor_type.shape.dim
            _pick(sizes, draws).dim_value = _pick(NUMBERS, draws)
        case 1 if graph.input:
            graph.input[0].type.tensor_type.elem_type = int(draws.integers(0, 20))
        case 2 if model.opset_import:
            model.opset_import[0].version = _pick([1, 7, 9, 12, 13, 17, 21, 25, 2**40], draws)
        case 3:
            texts = ['{"name": "Huber", "delta": NaN}', "[" * 5000, '{"name": 1}', "{}", "nul"]
            helper.set_model_props(model, {"fastmlp.criterion": _pick(texts, draws)})
        case 4 if graph.output:
            graph.output[0].name = _any_name(graph, draws)
        case 5 if graph.node:
            graph.node.append(_pick(graph.node, draws))
        case 6 if graph.node:
            del graph.node[int(draws.integers(len(graph.node)))]


def _change_node(model, draws):
    graph = model.graph
    node = _pick(graph.node, draws)
    match draws.integers(0, 9):
        case 0 | 8:
            node.op_type = _pick(OPERATORS, draws)
            node.domain = _pick([node.domain] * 9 + ["ai.onnx.ml", "com.microsoft"], draws)
        case 1 | 2 if node.input:
            node.input[int(draws.integers(len(node.input)))] = _any_name(graph, draws)
        case 3:
            node.input.append(_any_name(graph, draws))
        case 4 if node.input:
            del node.input[int(draws.integers(len(node.input)))]
        case 5 if node.attribute:
            attribute = _pick(node.attribute, draws)
            attribute.i, attribute.f = _pick(NUMBERS, draws), _pick(FLOATS, draws)
            attribute.type = _pick([1, 2, int(draws.integers(0, 15))], draws)
        case 6:
            value = _pick([*NUMBERS, *FLOATS, [1, 0], b"tanh", [2**62] * 3], draws)
            name = _pick(["axis", "alpha", "epsilon", "perm", "to", "transB", "value"], draws)
            node.attribute.append(helper.make_attribute(name, value))
        case 7:
            branch = helper.make_graph([], "branch", [], [])
            node.attribute.append(helper.make_attribute("then_branch", branch))


def _change_constant(model, draws):
    tensor = _pick(model.graph.initializer, draws)
    match draws.integers(0, 7):
        case 0 if tensor.dims:
            tensor.dims[int(draws.integers(len(tensor.dims)))] = _pick(NUMBERS, draws)
        case 1:
            tensor.dims.append(_pick(NUMBERS, draws))
        case 2:
            tensor.raw_data = tensor.raw_data[: int(draws.integers(len(tensor.raw_data) + 1))]
        case 3:
            tensor.data_type = int(draws.integers(0, 24))
        case 4:
            tensor.data_location = TensorProto.EXTERNAL
            tensor.external_data.add(key="location", value="../../etc/passwd")
        case 5:
            tensor.raw_data = draws.bytes(len(tensor.raw_data))
        case 6:
            tensor.name = _any_name(model.graph, draws)
