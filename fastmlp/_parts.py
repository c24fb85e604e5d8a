"""What a network is made of: its layers, and the buffers that their arrays are views of."""

from __future__ import annotations

import copy
import itertools
import secrets
from collections.abc import Iterable
from typing import Any, Self

import numpy as np

from ._attributes import BufferView, LayerPlaces, OptimizerAttribute
from ._buffers import Buffers, Layers, check_replacement, replaceable_activations
from ._fit_state import FitState
from ._layout import Layout, layout_of
from .engine import faster_compute_dtype
from .kernels.dropout import dropout_factors
from .layers import BatchNorm, Criterion, LayerNorm, Linear
from .layers._state import fixed
from .layers.activation import formula_of
from .layers.embedding import Embedding, PeriodicEmbeddings
from .layers.mixture import Mixture
from .layers.scale import InputScale
from .optimizers import Optimizer
from .validation import (
    check_compute_dtype,
    check_count,
    check_dropout,
    check_flag,
    check_instance,
    check_word,
)


class NetworkParts:
    """Base of ``MLP``, which sets the sizes and calls ``_build``."""

    input_size: int = fixed()
    output_size: int = fixed()
    hiddens: tuple[int, ...] = fixed()
    nlayers: int = fixed()
    num_bn_layers: int = fixed()
    num_ln_layers: int = fixed()
    bn: bool = fixed()
    residual: bool = fixed()
    scale_inputs: bool = fixed()
    parametric_activations: bool = fixed()
    embeddings: PeriodicEmbeddings | None = fixed()
    dtype: np.dtype[Any] = fixed()
    buffers: Buffers = fixed()
    criterion: Criterion
    output: np.ndarray | None
    train_mode: bool
    updates: int
    dropout_steps: int
    _activations: Layers
    _optimizer: Optimizer
    _compute_dtype: str | None
    _dropout: tuple[float, ...]
    _dropout_seed: int
    _scale: InputScale | None
    _embedding: Embedding | None
    _mixes: list[Mixture]
    _unfinished: FitState | None = None

    parameters = BufferView("All weights, biases, gammas and betas, (P,); assigning copies.")
    gradients = BufferView("The gradients of ``parameters``, of the same layout, (P,).")
    velocities = BufferView("The first state of the update rule: momenta, (P,).")
    squares = BufferView("Its second state, running means of squared gradients, (P,) or empty.")
    averages = BufferView("Running means of ``parameters``, (P,); empty without ``average``.")
    statistics = BufferView("The running means and variances of the batch norms, (S,).")

    lr = OptimizerAttribute("Learning rate of ``step`` and ``fit``.")
    momentum = OptimizerAttribute("Momentum, where the optimizer has it.")
    weight_decay = OptimizerAttribute("Weight decay, as the optimizer defines it.")

    linear_layers = LayerPlaces("The linear layers; one of the same shape can take a place.")
    bn_layers = LayerPlaces("The batch norms of the first so many layers, replaceable likewise.")
    ln_layers = LayerPlaces("The layer norms of the first so many layers, replaceable likewise.")
    activations = LayerPlaces("The activations, one per layer; any can be replaced.")

    @property
    def optimizer(self) -> Optimizer:
        """The update rule, this network's own: assigning one copies it.

        Another rule than the present one starts from the beginning, with no moments and no updates.
        """
        return self._optimizer

    @optimizer.setter
    def optimizer(self, value: Optimizer) -> None:
        check_instance("optimizer", value, Optimizer)
        present, new = self._optimizer, copy.copy(value)
        self.buffers.serve(new)
        present.leave()
        self._optimizer = new
        if new.kind != present.kind:
            self.updates = 0
            self.buffers.forget(self._optimizer)

    @property
    def unfinished(self) -> FitState | None:
        """Where the last ``fit`` stands, if it was interrupted or is under way; otherwise None.

        ``fit(resume=True)`` goes on from there, ``save`` keeps it. Assigning None forgets it. Of a
        fit under way only its callbacks are told, who see the network as of that step.
        """
        session = self.buffers.session
        return self._unfinished if session is None else session.unfinished()

    @unfinished.setter
    def unfinished(self, value: FitState | None) -> None:
        if value is not None:
            check_instance("unfinished", value, FitState)
        self._unfinished = value

    @property
    def compute_dtype(self) -> str:
        """What the operands of products are rounded to; "auto" until ``fit`` has measured it."""
        return self._compute_dtype or self.dtype.name

    @compute_dtype.setter
    def compute_dtype(self, value: str | None) -> None:
        self._compute_dtype = check_compute_dtype(value, self.dtype)
        for layer in self.linear_layers:
            layer.compute_dtype = self._compute_dtype

    def settle_compute_dtype(self, batch_size: int) -> None:
        """Put what is faster at that batch size in the place of "auto"."""
        if self.compute_dtype == "auto":
            self.compute_dtype = faster_compute_dtype(self.layout, batch_size)

    @property
    def dropout(self) -> tuple[float, ...]:
        """The share of each layer's input that is dropped in training mode; (nlayers,) numbers.

        One number sets it for the outputs of all hidden layers.
        """
        return self._dropout

    @dropout.setter
    def dropout(self, value: Any) -> None:
        self._dropout = check_dropout(value, self.nlayers)

    @property
    def drops(self) -> bool:
        """Whether anything is dropped in training mode."""
        return any(self._dropout)

    @property
    def dropout_seed(self) -> int:
        """What is dropped follows from this, of 64 bits, and from ``dropout_steps``.

        Assigning begins anew: ``dropout_steps``, the number of forward passes in training mode that
        have dropped anything, becomes 0.
        """
        return self._dropout_seed

    @dropout_seed.setter
    def dropout_seed(self, value: int | None) -> None:
        self._dropout_seed = (
            secrets.randbits(64) if value is None else check_word("dropout_seed", value)
        )
        self.dropout_steps = 0

    @property
    def input_scale(self) -> np.ndarray | None:
        """What the columns of x, and embeddings, are multiplied by, (D,), or None."""
        scale: np.ndarray | None = None if self._scale is None else self._scale.scale
        return scale

    @input_scale.setter
    def input_scale(self, value: Any) -> None:
        if self._scale is None:
            raise AttributeError("only networks with scale_inputs=True have an input_scale")
        self._scale.scale = value

    @property
    def activation_weights(self) -> list[np.ndarray]:
        """The w of z + w * (act(z) - z), (F,) of each hidden layer; empty without them."""
        return [layer.mix[0] for layer in self._mixes]

    def _check_norms(self, name: str, count: int) -> int:
        """How many of the first layers have a norm."""
        if check_count(name, count, least=0) > self.nlayers:
            raise ValueError(
                f"{name} must be at most {self.nlayers}, the number of layers, got {count}"
            )
        return int(count)

    def _check_residual(self, residual: bool) -> bool:
        residual = check_flag("residual", residual)
        widths = (self._first_width, *self.hiddens)
        if residual and not any(a == b for a, b in itertools.pairwise(widths)):
            raise ValueError(
                "residual=True needs a hidden layer whose input is as wide as its output, got the "
                f"widths {'-'.join(map(str, widths))}"
            )
        first, front = widths[0], self.scale_inputs or self.embeddings is not None
        if front and residual and self.hiddens[:1] == (first,):
            raise ValueError(
                "scale_inputs and embeddings need a first layer that does not add its input to its "
                f"output, as residual=True has it do between the widths {first}-{first}"
            )
        return residual

    @property
    def _first_width(self) -> int:
        """How many inputs the first layer has: the columns of x and their embeddings."""
        return self.input_size + (0 if self.embeddings is None else self.embeddings.width)

    def _check_embeddings(self, embeddings: Any) -> PeriodicEmbeddings | None:
        if embeddings is None:
            return None
        check_instance("embeddings", embeddings, PeriodicEmbeddings)
        if embeddings.columns > self.input_size:
            raise ValueError(
                f"embeddings must be of at most {self.input_size} columns, those of x, "
                f"got {embeddings.columns}"
            )
        kind: PeriodicEmbeddings = embeddings
        return kind

    def _check_parametric(self, parametric: bool) -> bool:
        if check_flag("parametric_activations", parametric) and not self.hiddens:
            raise ValueError("parametric_activations=True needs a hidden layer, got none")
        return bool(parametric)

    def _adds_input(self, index: int) -> bool:
        """Whether a layer's input is added to its output."""
        linear = self.linear_layers[index]
        same = linear.in_feature == linear.out_feature
        return self.residual and same and index + 1 < self.nlayers

    def _draw_factors(self, rows: int) -> list[np.ndarray | None]:
        """What each layer's input is multiplied by in the next forward pass, None for nothing."""
        factors: list[np.ndarray | None] = [None] * self.nlayers
        if self.train_mode and self.drops:
            for i, (share, linear) in enumerate(
                zip(self._dropout, self._linear_layers, strict=True)
            ):
                if share:
                    drawn = factors[i] = np.empty((rows, linear.in_feature), self.dtype)
                    dropout_factors(drawn, share, i, self.dropout_steps, self._dropout_seed)
            self.dropout_steps += 1
        return factors

    def _build(self, weight_init_fn: Any, bias_init_fn: Any, dtype: Any) -> None:
        sizes = (self._first_width, *self.hiddens, self.output_size)
        linear_layers: list[Linear] = []
        for d0, d1 in itertools.pairwise(sizes):
            layer = Linear(d0, d1, weight_init_fn, bias_init_fn, dtype)
            dtype = layer.W.dtype
            linear_layers.append(layer)
        self.dtype = np.dtype(dtype)
        bn_layers = [BatchNorm(width, dtype=dtype) for width in sizes[1 : self.num_bn_layers + 1]]
        ln_layers = [LayerNorm(width, dtype=dtype) for width in sizes[1 : self.num_ln_layers + 1]]
        kind = self.embeddings
        self._embedding = None if kind is None else Embedding(kind, self.dtype)
        self._scale = InputScale(self._first_width, self.dtype) if self.scale_inputs else None
        widths = self.hiddens if self.parametric_activations else ()
        self._mixes = [Mixture(width, self.dtype) for width in widths]
        self._own_layers(linear_layers, bn_layers, ln_layers)
        self.buffers.forget(self._optimizer)

    def _own_layers(
        self,
        linear_layers: Iterable[Linear],
        bn_layers: Iterable[BatchNorm],
        ln_layers: Iterable[LayerNorm],
    ) -> None:
        """Make the layers this network's, their arrays views of new buffers."""
        check, replace = check_replacement, self._replace_layer
        self._linear_layers = Layers("linear_layers", linear_layers, check, replace)
        self._bn_layers = Layers("bn_layers", bn_layers, check, replace)
        self._ln_layers = Layers("ln_layers", ln_layers, check, replace)
        self._bias = self._linear_layers[0].b is not None
        self.buffers = Buffers(self.layout)
        for layers in (self._linear_layers, self._bn_layers, self._ln_layers):
            for index, layer in enumerate(layers):
                self.buffers.adopt(layer, self.layout.table[index])
        for layer, row in zip(self._mixes, self.layout.table, strict=False):
            self.buffers.adopt(layer, row)
        for front in (self._embedding, self._scale):
            if front is not None:
                self.buffers.adopt(front, self.layout.table[0])
        self.buffers.serve(self._optimizer)

    def _replace_layer(self, index: int, present: Any, new: Any) -> None:
        self.buffers.look()
        present.leave()
        self.buffers.adopt(new, self.layout.table[index])
        if isinstance(new, Linear):
            new.compute_dtype = self._compute_dtype
        # What the layers keep of the last forward is not the new one's.
        self.output = None

    @property
    def layout(self) -> Layout:
        """Where each parameter lies in the flat buffers."""
        sizes = (self._first_width, *self.hiddens, self.output_size)
        formulas = [formula_of(a, self.dtype) for a in self._activations]
        alphas = [norm.alpha for norm in self._bn_layers]
        extras = self._dropout, len(self._ln_layers), self.residual
        embedding = None if self.embeddings is None else self.embeddings.sizes
        learnt = self.scale_inputs, self.parametric_activations, embedding
        return layout_of(
            sizes, tuple(formulas), self._bias, tuple(alphas), *extras, *learnt, self.dtype
        )

    def __getstate__(self) -> dict[str, Any]:
        # The layers carry copies of their views; the buffers are made anew from them.
        state = {name: value for name, value in self.__dict__.items() if name != "buffers"}
        state["_unfinished"] = self.unfinished
        for name in ("_linear_layers", "_bn_layers", "_ln_layers", "_activations"):
            state[name] = list(state[name])
        return state | {name: np.array(getattr(self, name)) for name in ("squares", "averages")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        kept = {name: state.pop(name) for name in ("squares", "averages")}
        self.__dict__.update(state)
        self._activations = replaceable_activations(self._activations, self.nlayers)
        self._own_layers(self._linear_layers, self._bn_layers, self._ln_layers)
        self.squares, self.averages = kept["squares"], kept["averages"]

    def __copy__(self) -> Self:
        """A network of its own, as ``copy.deepcopy`` makes it: layers belong to one network."""
        return copy.deepcopy(self)

    def __repr__(self) -> str:
        sizes = "-".join(map(str, (self.input_size, *self.hiddens, self.output_size)))
        return (
            f"{type(self).__name__}({sizes}, {self.dtype}, {self.layout.parameters:,} parameters)"
        )
