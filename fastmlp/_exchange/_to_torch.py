"""A network as modules of PyTorch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn

from .. import layers
from ..layers import Activation, BatchNorm, LayerNorm
from ._stages import Stage, check_activations_known, stages_of
from ._torch_modules import InputScale, ParametricActivation, PeriodicEmbedding, Residual

# Each activation beside PyTorch's, and the arguments that both know by one name.
ACTIVATIONS: dict[type[Activation], tuple[type[nn.Module], tuple[str, ...]]] = {
    layers.Identity: (nn.Identity, ()),
    layers.Sigmoid: (nn.Sigmoid, ()),
    layers.Tanh: (nn.Tanh, ()),
    layers.ReLU: (nn.ReLU, ()),
    layers.LeakyReLU: (nn.LeakyReLU, ("negative_slope",)),
    layers.ELU: (nn.ELU, ("alpha",)),
    layers.SELU: (nn.SELU, ()),
    layers.Softplus: (nn.Softplus, ("beta",)),
    layers.Softsign: (nn.Softsign, ()),
    layers.HardSigmoid: (nn.Hardsigmoid, ()),
    layers.HardSwish: (nn.Hardswish, ()),
    layers.SiLU: (nn.SiLU, ()),
    layers.Mish: (nn.Mish, ()),
    layers.GELU: (nn.GELU, ("approximate",)),
}

# PyTorch's softplus is z beyond this; exp(-40) is nothing beside 40 in float64 too.
_SOFTPLUS_END = 40


def to_torch(mlp: Any) -> nn.Sequential:
    """See ``MLP.to_torch``."""
    check_activations_known(mlp)
    modules: list[nn.Module] = []
    if mlp.embeddings is not None:
        modules.append(PeriodicEmbedding(mlp.embeddings, _copy(mlp._embedding.numbers)))
    if mlp.input_scale is not None:
        modules.append(InputScale(_copy(mlp.input_scale)))
    for stage in stages_of(mlp):
        if stage.dropout:
            modules.append(nn.Dropout(stage.dropout))
        body = list(_body(stage))
        modules += [Residual(*body)] if stage.adds_input else body
    return nn.Sequential(*modules).eval()


def _body(stage: Stage) -> Iterator[nn.Module]:
    """Linear, norm and activation, each where there is one."""
    w, b = stage.linear.W, stage.linear.b
    parameters = {"weight": w.T} if b is None else {"weight": w.T, "bias": b[0]}
    # Without drawing weights, which would move PyTorch's random numbers on.
    linear = nn.utils.skip_init(
        nn.Linear, *w.shape, bias=b is not None, dtype=torch.from_numpy(w).dtype
    )
    yield _filled(linear, parameters)
    if stage.norm is not None:
        yield _norm(stage.norm)
    if stage.mixture is not None:
        yield ParametricActivation(_activation(stage.activation), _copy(stage.mixture.mix[0]))
    elif not isinstance(stage.activation, layers.Identity):
        yield _activation(stage.activation)


def _norm(norm: BatchNorm | LayerNorm) -> nn.Module:
    arrays = {"weight": norm.gamma[0], "bias": norm.beta[0]}
    dtype = torch.from_numpy(norm.gamma).dtype
    if isinstance(norm, LayerNorm):
        return _filled(nn.LayerNorm(norm.in_feature, norm.eps, dtype=dtype), arrays)
    arrays |= {name: getattr(norm, name)[0] for name in norm.statistics}
    momentum = 1 - norm.alpha
    return _filled(nn.BatchNorm1d(norm.in_feature, norm.eps, momentum, dtype=dtype), arrays)


def _activation(activation: Activation) -> nn.Module:
    cls, names = ACTIVATIONS[type(activation)]
    arguments = {name: getattr(activation, name) for name in names}
    if cls is nn.Softplus:
        arguments["threshold"] = _SOFTPLUS_END
    return cls(**arguments)


@torch.no_grad()
def _filled(module: nn.Module, arrays: dict[str, np.ndarray]) -> nn.Module:
    """The module with these parameters and buffers."""
    for name, array in arrays.items():
        getattr(module, name).copy_(torch.from_numpy(array))
    return module


def _copy(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array, order="C"))
