"""The MLP that an ONNX model holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from ..datasets import Schema
from ..kernels.batchnorm import EPS
from ..layers import (
    BinaryCrossEntropy,
    Criterion,
    Identity,
    MeanSquaredError,
    PoissonNLL,
    Sigmoid,
    SoftmaxCrossEntropy,
)  # fmt: skip
from ..layers.embedding import PeriodicEmbeddings
from ..layers.loss import CRITERIA
from ..optimizers import Adam, Optimizer
from ..validation import check_instance
from ._onnx_export import CRITERION_KEY, SCHEMA_KEY
from ._onnx_file import read_model, shortened
from ._onnx_flow import Flow, Head, together
from ._onnx_functions import is_activation, is_rate, is_step
from ._onnx_layers import Layer, Layers
from ._onnx_nodes import Reader
from ._onnx_steps import Activated, BatchNorm, LayerNorm, Step

# The least a weight takes in a file: float16.
_BYTES_OF_A_WEIGHT = 2

# What a graph ends with, and whose it is.
_ENDS: dict[str, type[Criterion]] = {
    "softmax": SoftmaxCrossEntropy, "decision": SoftmaxCrossEntropy,
    "sigmoid": BinaryCrossEntropy, "step": BinaryCrossEntropy,
    "rate": PoissonNLL, "values": MeanSquaredError,
}  # fmt: skip


def read_network(
    cls: Any, path: Any, criterion: Criterion | None, optimizer: Optimizer | None
) -> Any:
    """What ``MLP.from_onnx`` does; cls is MLP."""
    if criterion is not None:
        check_instance("criterion", criterion, Criterion)
    if optimizer is not None:
        check_instance("optimizer", optimizer, Optimizer)
    try:
        # Numbers of a file may be as large as they like.
        with np.errstate(all="ignore"):
            return _read(cls, read_model(path), criterion, optimizer)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: not an MLP that fastmlp can read: {error}") from None


def _read(cls: Any, model: Any, criterion: Criterion | None, optimizer: Optimizer | None) -> Any:
    noted = _noted_criterion(model)
    outputs = Reader(model).read()
    last, kind = _ending(outputs, criterion or noted, noted is not None)
    layers = Layers(last.path(), model.ByteSize() / _BYTES_OF_A_WEIGHT)
    criterion = criterion or noted or _ENDS[kind]()
    mlp = _network(cls, layers, criterion, Adam() if optimizer is None else optimizer)
    mlp.schema = _noted(model, SCHEMA_KEY, Schema.from_dict)
    return mlp


def _noted_criterion(model: Any) -> Criterion | None:
    return _noted(model, CRITERION_KEY, lambda noted: CRITERIA[noted.pop("name")](**noted))


def _noted(model: Any, key: str, make: Callable[[Any], Any]) -> Any:
    """What ``to_onnx`` wrote into a property; None where it is not there."""
    text = next((p.value for p in model.metadata_props if p.key == key), None)
    if text is None:
        return None
    try:
        return make(json.loads(text))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        what = key.rpartition(".")[2]
        raise ValueError(f"its property {key!r} names no {what}: {error}") from None


def _ending(
    outputs: list[tuple[str, Any]], criterion: Criterion | None, is_ours: bool
) -> tuple[Step, str]:
    """The last step of the network, and what the graph makes of it, a key of ``_ENDS``.

    is_ours : whether an output by the name of scores has what the network gives
    """
    for name, value in outputs:
        if is_ours and name == "scores" and isinstance(value, Flow):
            return value.settle(), "values"
    flows, kinds = [], []
    for name, value in outputs:
        if not isinstance(value, (Flow, Head)):
            raise ValueError(f"its output {shortened(name)!r} is not made of its input")
        flow, kind = (value.flow, value.kind) if isinstance(value, Head) else (value, "values")
        if kind != "decision" and is_step(flow.values):
            kind = "step"
        flows.append(flow)
        kinds.append(kind)
    return _common_ending(flows, kinds, criterion)


def _common_ending(
    flows: list[Flow], kinds: list[str], criterion: Criterion | None
) -> tuple[Step, str]:
    """As ``_ending``, of the flows that outputs are made of, and how."""
    # A decision follows from the outputs that the others show.
    shown = [f for f, kind in zip(flows, kinds, strict=True) if kind not in ("decision", "step")]
    if not shown:
        return flows[0].step if kinds[0] == "step" else flows[0].settle(), kinds[0]
    same = together(shown)
    if same is None:
        raise ValueError("its outputs are not all made of the same outputs of one network")
    if "softmax" in kinds:
        if criterion is not None and not isinstance(criterion, SoftmaxCrossEntropy):
            name = type(criterion).__name__
            raise ValueError(f"it ends with a softmax, which is SoftmaxCrossEntropy's, got {name}")
        return flows[kinds.index("softmax")].settle(), "softmax"
    for end, cls in (("sigmoid", BinaryCrossEntropy), ("rate", PoissonNLL)):
        if criterion is None or isinstance(criterion, cls):
            for flow in same:
                if _is_end(flow, end):
                    return flow.step, end
    last = same[0].settle()
    if isinstance(last, Activated) and last.before is not None and last.mix is None:
        is_sigmoid = isinstance(last.activation, Sigmoid)
        if is_sigmoid and (criterion is None or isinstance(criterion, BinaryCrossEntropy)):
            return last.before, "sigmoid"
    return last, "values"


def _is_end(flow: Flow, end: str) -> bool:
    """Whether a flow is what a criterion makes of the outputs of a network."""
    return is_rate(flow.values) if end == "rate" else is_activation(flow.values, end)


def _network(cls: Any, read: Layers, criterion: Criterion, optimizer: Optimizer) -> Any:
    layers = read.layers
    weights = iter([layer.W for layer in layers])
    biases = iter([np.zeros(layer.W.shape[1]) if layer.b is None else layer.b for layer in layers])
    embeddings = None
    if read.embedded is not None:
        sizes = read.embedded.columns, read.embedded.frequencies, read.embedded.outputs
        embeddings = PeriodicEmbeddings(*sizes)
    widths = [layer.W.shape[1] for layer in layers]
    mlp = cls(
        read.input_size, widths[-1], widths[:-1],
        [layer.activation or Identity() for layer in layers],
        lambda fan_in, fan_out: next(weights),
        (lambda fan_out: next(biases)) if any(layer.b is not None for layer in layers) else None,
        criterion, optimizer=optimizer, dtype=read.dtype,
        num_bn_layers=read.batch_norms, num_ln_layers=read.layer_norms, residual=read.residual,
        scale_inputs=read.input_scale is not None, embeddings=embeddings,
        parametric_activations=any(layer.mix is not None for layer in layers),
    )  # fmt: skip
    if read.embedded is not None:
        mlp._embedding.numbers = read.embedded.numbers
    if read.input_scale is not None:
        mlp.input_scale = read.input_scale
    for view, layer in zip(mlp.activation_weights, layers, strict=False):
        if layer.mix is not None:
            view[...] = layer.mix
    _fill_norms(mlp, layers)
    return mlp


def _fill_norms(mlp: Any, layers: list[Layer]) -> None:
    norms = [layer.norm for layer in layers if layer.norm is not None]
    for layer, norm in zip([*mlp.bn_layers, *mlp.ln_layers], norms, strict=True):
        if norm.gamma is not None:
            layer.gamma = np.reshape(norm.gamma, (1, -1))
        if norm.beta is not None:
            layer.beta = np.reshape(norm.beta, (1, -1))
        if isinstance(norm, BatchNorm):
            layer.alpha = norm.alpha
            layer.running_mean = norm.mean.reshape(1, -1)
            # Of another epsilon, so that their sum is the same.
            more = 0.0 if abs(norm.eps / EPS - 1) < 1e-6 else norm.eps - EPS
            layer.running_var = norm.var.reshape(1, -1) + more
        else:
            assert isinstance(norm, LayerNorm)
