"""A network as other libraries build it: layer by layer, with what stands around each."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..layers import Activation, BatchNorm, LayerNorm, Linear
from ..layers.activation import is_compiled, is_own
from ..layers.mixture import Mixture


class Stage(NamedTuple):
    """One layer: dropout of its input x, linear, norm, activation, and x again where it is added.

    dropout : the share of x that training drops    mixture : of a parametric activation
    """

    linear: Linear
    norm: BatchNorm | LayerNorm | None
    activation: Activation
    mixture: Mixture | None
    adds_input: bool
    dropout: float


def stages_of(mlp: Any) -> list[Stage]:
    """The layers of an ``MLP`` in their order; their arrays are the network's own."""
    norms, mixtures = mlp.bn_layers or mlp.ln_layers, mlp._mixes
    return [
        Stage(
            linear,
            norms[i] if i < len(norms) else None,
            mlp.activations[i],
            mixtures[i] if i < len(mixtures) else None,
            mlp._adds_input(i),
            mlp.dropout[i],
        )
        for i, linear in enumerate(mlp.linear_layers)
    ]


def check_activations_known(mlp: Any) -> None:
    """Raise ValueError where an activation is a user's own, which no other language has."""
    for i, activation in enumerate(mlp.activations):
        if is_own(activation) or not is_compiled(activation):
            raise ValueError(
                "only networks of fastmlp's own activations can be exported, "
                f"got activations[{i}], {activation!r}"
            )
