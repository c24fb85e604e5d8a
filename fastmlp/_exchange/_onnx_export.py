"""A network as an ONNX model: its layers, and what its criterion makes of their outputs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..layers import BinaryCrossEntropy, PoissonNLL, SoftmaxCrossEntropy
from ..layers.loss import arguments_of, is_compiled_criterion, is_own
from ..validation import check_choice, check_flag, check_sequence
from ._folding import line_of_norm
from ._onnx_activations import activated, check_exportable
from ._onnx_graph import ROWS, Column, Graph, is_single

OUTPUTS = ("scores", "probabilities", "prediction")
CRITERION_KEY = "fastmlp.criterion"
"""Of the property of a model that names the criterion, as JSON."""
SCHEMA_KEY = "fastmlp.schema"
"""Of the property with the columns, categories and classes of the network's table, as JSON."""


def export(
    mlp: Any, path: Any, *, outputs: Sequence[str] | None, fold_batchnorm: bool,
    input_dtype: str | None,
) -> None:  # fmt: skip
    """What ``MLP.to_onnx`` does."""
    check_exportable(mlp.activations)
    fold = check_flag("fold_batchnorm", fold_batchnorm)
    dtype = mlp.dtype.name
    given = check_choice("input_dtype", input_dtype or dtype, (dtype, "uint8"))
    wanted = _wanted(outputs, mlp.criterion)
    g = Graph(mlp.dtype)
    pixels = given == "uint8"
    meaning = "rows of pixels, 0 to 255" if pixels else "rows of features"
    x = g.input(Column("x", given, (ROWS, mlp.input_size), meaning))
    if pixels:
        x = g("Div", g.cast(x, mlp.dtype), 255.0)
    # An Identity, so that what follows is seen to be no part of the last activation.
    scores = g("Identity", network_scores(g, mlp, x, fold=fold))
    for name in wanted:
        _add_output(g, name, mlp, scores)
    g.write(path, _title(mlp), _properties(mlp))


def network_scores(g: Graph, mlp: Any, x: str, *, fold: bool = False, prefix: str = "") -> str:
    """The outputs of the network, (N, K), of rows x, (N, D), of its dtype.

    fold : whether batch norms become part of their linear layers
    prefix : of the names of constants
    """
    if mlp._embedding is not None:
        x = _embedded(g, mlp._embedding, x, prefix)
    if mlp.input_scale is not None:
        x = g("Mul", x, g.constant(f"{prefix}input.scale", mlp.input_scale))
    for i, activation in enumerate(mlp.activations):
        z = _normalised(g, mlp, i, x, fold, f"{prefix}layers.{i}.")
        y = activated(g, z, activation)
        if i < len(mlp.activation_weights):
            weights = g.constant(f"{prefix}layers.{i}.mix", mlp.activation_weights[i])
            y = g("Add", z, g("Mul", g("Sub", y, z), weights))
        x = g("Add", y, x) if mlp._adds_input(i) else y
    return x


def _normalised(g: Graph, mlp: Any, i: int, x: str, fold: bool, prefix: str) -> str:
    """The i-th layer before its activation: the products and the norm."""
    linear = mlp.linear_layers[i]
    weights, bias = linear.W, linear.b
    norm = mlp.bn_layers[i] if i < mlp.num_bn_layers else None
    if norm is not None and fold:
        weights, bias = folded(weights, bias, norm)
    operands = [x, g.constant(f"{prefix}W", weights)]
    if bias is not None:
        operands.append(g.constant(f"{prefix}b", bias.reshape(-1)))
    z = g("Gemm", *operands)
    if norm is not None and not fold:
        names = ("gamma", "beta", "running_mean", "running_var")
        arrays = [g.constant(prefix + name, getattr(norm, name)[0]) for name in names]
        z = g("BatchNormalization", z, *arrays, epsilon=norm.eps, momentum=norm.alpha)
    if i < mlp.num_ln_layers:
        layer = mlp.ln_layers[i]
        arrays = [g.constant(prefix + name, getattr(layer, name)[0]) for name in ("gamma", "beta")]
        z = g("LayerNormalization", z, *arrays, axis=-1, epsilon=layer.eps)
    return z


def folded(weights: np.ndarray, bias: np.ndarray | None, norm: Any) -> tuple[Any, Any]:
    """(W, b) of a linear layer that does what one did with the batch norm behind it.

    By the running statistics; computed in float64, of the dtype of the weights.
    """
    factor, shift = line_of_norm(
        norm.gamma, norm.beta, norm.running_mean, norm.running_var, norm.eps
    )
    bias = shift if bias is None else bias[0] * factor + shift
    return (weights * factor).astype(weights.dtype), bias.astype(weights.dtype)[None]


def _embedded(g: Graph, embedding: Any, x: str, prefix: str) -> str:
    """x with periodic embeddings behind its columns.

    Column by column: (n, N, H) cosines of (n, N, 1) values, and (n, N, M) sums of them.
    """
    sizes = embedding.kind.sizes
    w, b, v, c = embedding_arrays(embedding.numbers, sizes)
    first = g("Slice", x, *(
        g.constant(f"{prefix}input.{name}", np.array([value]))
        for name, value in (("first", 0), ("last", sizes.columns), ("axis", 1))
    ))  # fmt: skip
    axis = g.constant(f"{prefix}input.last_axis", np.array([2]))
    values = g("Unsqueeze", g("Transpose", first, perm=[1, 0]), axis)
    turns = g("Mul", values, g.constant(f"{prefix}input.frequencies", w[:, None]))
    angles = g("Mul", turns, 2 * math.pi)
    angles = g("Add", angles, g.constant(f"{prefix}input.phases", b[:, None]))
    # onnxruntime before 1.29 has the cosine in float32 alone.
    by_sine = g.dtype == np.float64
    cosines = g("Sin", g("Add", angles, math.pi / 2)) if by_sine else g("Cos", angles)
    factors = np.ascontiguousarray(v.transpose(0, 2, 1))
    sums = g("MatMul", cosines, g.constant(f"{prefix}input.factors", factors))
    sums = g("Add", sums, g.constant(f"{prefix}input.offsets", c[:, None]))
    width = np.array([0, sizes.columns * sizes.outputs])
    rows = g("Transpose", sums, perm=[1, 0, 2])
    flat = g("Reshape", rows, g.constant(f"{prefix}input.width", width))
    return g("Concat", x, flat, axis=1)


def embedding_arrays(numbers: np.ndarray, sizes: Any) -> list[np.ndarray]:
    """w and b, (n, H) each, v, (n, M, H), and c, (n, M): views of an embedding's numbers."""
    n, h, m = sizes
    shapes = ((n, h), (n, h), (n, m, h), (n, m))
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    return [part.reshape(s) for part, s in zip(np.split(numbers, ends[:-1]), shapes, strict=True)]


def _wanted(outputs: Sequence[str] | None, criterion: Any) -> list[str]:
    """The outputs that are asked for, or all that there are. Raises ValueError."""
    there = ["scores"]
    if is_compiled_criterion(criterion):
        there = [name for name in OUTPUTS if name != "probabilities" or not criterion.of_values]
    if outputs is None:
        return there
    wanted = check_sequence("outputs", outputs)
    if not wanted or len(set(wanted)) < len(wanted):
        raise ValueError(f"outputs must be different names, one or more, got {outputs!r}")
    for name in wanted:
        if name not in there:
            raise ValueError(
                f"outputs must be of {', '.join(there)} with {type(criterion).__name__}, "
                f"got {name!r}"
            )
    return wanted


def _add_output(g: Graph, name: str, mlp: Any, scores: str) -> None:
    dtype = mlp.dtype.name
    shape: tuple[Any, ...] = ROWS, mlp.output_size
    if name == "scores":
        g.output(scores, Column(name, dtype, shape, "outputs of the network"))
    elif name == "probabilities":
        what = "labels" if isinstance(mlp.criterion, BinaryCrossEntropy) else "classes"
        value = probabilities(g, mlp.criterion, scores)
        g.output(value, Column(name, dtype, shape, f"probabilities of {what}"))
    elif isinstance(mlp.criterion, SoftmaxCrossEntropy):
        value = g("ArgMax", scores, axis=1, keepdims=0)
        g.output(value, Column(name, "int64", (ROWS,), "the most likely class"))
    else:
        meaning = "values"
        value = values(g, mlp.criterion, scores)
        if isinstance(mlp.criterion, BinaryCrossEntropy):
            dtype, meaning = "int64", "labels, 0 or 1"
        if is_single(shape):
            value, shape = g.squeezed(value), shape[:1]
        g.output(value, Column(name, dtype, shape, meaning))


def probabilities(g: Graph, criterion: Any, scores: str) -> str:
    """What ``criterion.probabilities`` makes of outputs."""
    if isinstance(criterion, BinaryCrossEntropy):
        return g("Sigmoid", scores)
    return g("Softmax", scores, axis=1)


def values(g: Graph, criterion: Any, scores: str) -> str:
    """What outputs stand for, (N, K): labels as int64, rates, or themselves."""
    if isinstance(criterion, BinaryCrossEntropy):
        return g.cast(g("Greater", scores, 0.0), np.int64)
    if isinstance(criterion, PoissonNLL):
        # exp, which goes on as a straight line from the largest log-rate.
        largest = criterion.formula(1, g.dtype).parameter
        rate = g("Exp", g("Min", scores, largest))
        return g("Mul", rate, g("Max", g("Sub", scores, largest - 1), 1.0))
    return scores


def _title(mlp: Any) -> str:
    widths = "-".join(map(str, (mlp.input_size, *mlp.hiddens, mlp.output_size)))
    computed = ""
    if mlp.compute_dtype != mlp.dtype.name:
        computed = f", trained with products in {mlp.compute_dtype}"
    return f"a multi-layer perceptron, {widths}{computed}"


def _properties(mlp: Any) -> dict[str, str]:
    found = {}
    if is_compiled_criterion(mlp.criterion) and not is_own(mlp.criterion):
        found[CRITERION_KEY] = {"name": type(mlp.criterion).__name__, **arguments_of(mlp.criterion)}
    if mlp.schema is not None:
        found[SCHEMA_KEY] = mlp.schema.to_dict()
    return {key: json.dumps(value) for key, value in found.items()}
