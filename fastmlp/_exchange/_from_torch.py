"""A network from modules of PyTorch."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from ..initializers import zeros
from ..layers import Identity, SoftmaxCrossEntropy
from ..optimizers import SGD
from ..validation import check_instance
from ._torch_plan import Plan, PlannedLayer


def from_torch(cls: Any, module: Any, criterion: Any, optimizer: Any) -> Any:
    """See ``MLP.from_torch``."""
    check_instance("module", module, nn.Module)
    plan = Plan(module)
    linears = [layer.linear for layer in plan.layers]
    kind = None if plan.embedding is None else plan.embedding.kind
    kinds = [type(layer.norm) for layer in plan.layers]
    mlp = cls(
        linears[0].in_features - (0 if kind is None else kind.width),
        linears[-1].out_features,
        [linear.out_features for linear in linears[:-1]],
        [layer.activation or Identity() for layer in plan.layers],
        lambda fan_in, fan_out: np.zeros((fan_in, fan_out)),
        zeros if any(linear.bias is not None for linear in linears) else None,
        SoftmaxCrossEntropy() if criterion is None else criterion,
        optimizer=SGD() if optimizer is None else optimizer,
        dtype=plan.dtype,
        num_bn_layers=kinds.count(nn.BatchNorm1d),
        num_ln_layers=kinds.count(nn.LayerNorm),
        residual=any(layer.residual for layer in plan.layers),
        dropout=[layer.dropout for layer in plan.layers],
        scale_inputs=plan.scale is not None,
        parametric_activations=any(layer.mixture is not None for layer in plan.layers),
        embeddings=kind,
    )
    _fill(mlp, plan)
    return mlp


def _fill(mlp: Any, plan: Plan) -> None:
    """Copy all numbers that are learnt, and the running statistics."""
    if plan.embedding is not None:
        parts = [_array(part).reshape(-1) for part in plan.embedding.parameters()]
        mlp._embedding.numbers = np.concatenate(parts)
    if plan.scale is not None:
        mlp.input_scale = _array(plan.scale.scale)
    norms = mlp.bn_layers or mlp.ln_layers
    for i, layer in enumerate(plan.layers):
        own = mlp.linear_layers[i]
        own.W = _array(layer.linear.weight).T
        if layer.linear.bias is not None:
            own.b = _array(layer.linear.bias)[None]
        if layer.norm is not None:
            norms[i].gamma = _array(layer.norm.weight)[None]
            norms[i].beta = _array(layer.norm.bias)[None]
        if type(layer.norm) is nn.BatchNorm1d:
            _fill_batchnorm(norms[i], layer)
        if layer.mixture is not None:
            mlp.activation_weights[i][...] = _array(layer.mixture.weight)


def _fill_batchnorm(own: Any, layer: PlannedLayer) -> None:
    """Another eps than fastmlp's goes into the running variances."""
    norm = layer.norm
    own.alpha = 1 - norm.momentum
    own.running_mean = _array(norm.running_mean)[None]
    own.running_var = _array(norm.running_var)[None] + (norm.eps - own.eps)
    if norm.eps != own.eps:
        warnings.warn(
            f"the norm of {layer.place} adds {norm.eps:g} to its variances: predictions stay the "
            f"same, but training adds {own.eps:g}, the eps of fastmlp's batch norm",
            stacklevel=4,
        )


def _array(tensor: torch.Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array
