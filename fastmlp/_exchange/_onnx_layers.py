"""From the steps of a graph to the layers of an MLP: what has no layer becomes part of one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.layernorm import EPS
from ..layers import Activation, Identity
from ._folding import line_of_norm
from ._onnx_steps import (
    Activated,
    BatchNorm,
    Embedded,
    Input,
    LayerNorm,
    Line,
    Linear,
    Residual,
    Step,
)  # fmt: skip

# How far two numbers may be from each other that float32 has rounded.
_ROUNDED = 1e-6


@dataclass
class Layer:
    """One layer of an MLP, as far as it has been read.

    scaled : whether columns were scaled or shifted before it, which W and b now do
    """

    W: np.ndarray
    b: np.ndarray | None
    scaled: bool
    norm: BatchNorm | LayerNorm | None = None
    activation: Activation | None = None
    mix: np.ndarray | None = None
    residual: bool = False
    # What is to be done to x @ W + b, at last.
    scale: Any = 1.0
    shift: Any = 0.0

    def follow(self, scale: Any, shift: Any) -> None:
        """Let it do x * scale + shift, too, before its activation."""
        if isinstance(self.norm, BatchNorm):
            gamma, beta = self.norm.gamma * scale, self.norm.beta * scale + shift
            self.norm = dataclasses.replace(self.norm, gamma=gamma, beta=beta)
        elif self.norm is not None:
            ones = np.ones(self.norm.width)
            gamma = ones * scale if self.norm.gamma is None else self.norm.gamma * scale
            beta = ones * shift + (0 if self.norm.beta is None else self.norm.beta * scale)
            self.norm = dataclasses.replace(self.norm, gamma=gamma, beta=beta)
        else:
            self.scale, self.shift = self.scale * scale, self.shift * scale + shift

    def finish(self) -> None:
        """Let W and b do all that was to follow."""
        if np.any(self.scale != 1):
            self.W = self.W * self.scale
            self.b = None if self.b is None else self.b * self.scale
        if np.any(self.shift):
            self.b = (0.0 if self.b is None else self.b) + np.ones(self.W.shape[1]) * self.shift

    def fold(self) -> None:
        """Let the linear layer do what its batch norm does."""
        norm = self.norm
        assert isinstance(norm, BatchNorm)
        self.norm = None
        self.follow(*line_of_norm(norm.gamma, norm.beta, norm.mean, norm.var, norm.eps))


class Layers:
    """The layers that steps come to; ``room`` is how many weights they may have in all."""

    def __init__(self, steps: Iterable[Step], room: float) -> None:
        self._room = room
        self.layers: list[Layer] = []
        self.embedded: Embedded | None = None
        self.input_scale: np.ndarray | None = None
        self.dtype: np.dtype[Any] = np.dtype(np.float32)
        # What is to be done to columns before the next layer.
        self._scale: Any = 1.0
        self._shift: Any = 0.0
        for step in steps:
            self._take(step)
        if not self.layers:
            raise ValueError("it has no linear layer")
        if self._is_pending:
            raise ValueError(f"{step.where} scales or shifts what the last activation gives")
        self._settle_norms()
        self._check_residual()
        for layer in self.layers:
            layer.finish()

    def _take(self, step: Step) -> None:
        match step:
            case Input():
                self.input_size, self._scale = step.width, 255.0 if step.pixels else 1.0
            case Embedded():
                self.embedded = step
            case Line():
                self._follow(step.scale, step.shift)
            case Linear():
                self._take_linear(step)
            case BatchNorm():
                self._take_batchnorm(step)
            case LayerNorm():
                self._take_layernorm(step)
            case Activated():
                layer = self._open_layer(step)
                layer.activation, layer.mix = step.activation, step.mix
            case Residual():
                if self.layers[-1].residual or self.layers[-1].scaled or self._is_pending:
                    raise ValueError(f"{step.where} adds what the layer does not take as it is")
                self.layers[-1].residual = True

    @property
    def _is_pending(self) -> bool:
        """Whether columns are to be scaled or shifted."""
        scale = self._scale
        near = np.ndim(scale) == 0 and abs(scale - 1) < _ROUNDED
        return bool(not near or np.any(self._shift))

    @property
    def _open(self) -> Layer | None:
        """The last layer where it has no activation yet."""
        last = self.layers[-1] if self.layers else None
        return last if last is not None and last.activation is None and not last.residual else None

    def _open_layer(self, step: Step) -> Layer:
        layer = self._open
        if layer is None or self._is_pending:
            raise ValueError(f"{step.where} does not come after a linear layer or its norm")
        return layer

    def _follow(self, scale: Any, shift: Any) -> None:
        if self._open is not None:
            self._open.follow(scale, shift)
        else:
            self._scale, self._shift = self._scale * scale, self._shift * scale + shift

    def _take_linear(self, step: Linear) -> None:
        self._room -= step.W.size
        if self._room < 0:
            raise ValueError(
                f"{step.where} makes the weights of all layers more than the file has bytes for: "
                "layers that share weights are not read"
            )
        if step.W.dtype.itemsize > 4:
            self.dtype = np.dtype(np.float64)
        weights = step.W if step.alpha == 1 else step.W * step.alpha
        bias = step.b if step.beta == 1 or step.b is None else step.b * step.beta
        scaled = self._is_pending
        if scaled:
            scale, shift = self._scale, self._shift
            if np.any(shift):
                moved = np.broadcast_to(np.asarray(shift, np.float64), len(weights)) @ weights
                bias = moved if bias is None else bias + moved
            if not self.layers and np.ndim(scale) and not np.any(shift):
                self.input_scale = scale
            else:
                weights = weights * np.reshape(scale, (-1, 1))
        self._scale, self._shift = 1.0, 0.0
        if self._open is not None:
            self._open.activation = Identity()
        self.layers.append(Layer(weights, bias, scaled))

    def _take_batchnorm(self, step: BatchNorm) -> None:
        layer = self._open
        if layer is not None and layer.norm is None:
            layer.norm = step
        else:
            self._follow(*line_of_norm(step.gamma, step.beta, step.mean, step.var, step.eps))

    def _take_layernorm(self, step: LayerNorm) -> None:
        layer = self._open_layer(step)
        if isinstance(layer.norm, BatchNorm):
            layer.fold()
        if layer.norm is not None:
            raise ValueError(f"{step.where} follows another layer norm")
        if not 0 < step.eps < np.inf:
            raise ValueError(f"{step.where} must have an epsilon above 0, got {step.eps:g}")
        if abs(step.eps / EPS - 1) > _ROUNDED:
            # Larger by c, columns have c**2 times the variance, beside which eps is 1 / c**2 of it.
            layer.follow(np.sqrt(EPS / step.eps), 0.0)
        layer.norm = step

    def _settle_norms(self) -> None:
        """Batch norms of the first so many layers stay; layer norms must be theirs."""
        by_rows = [isinstance(layer.norm, LayerNorm) for layer in self.layers]
        self.layer_norms = sum(by_rows)
        if any(by_rows[self.layer_norms :]):
            norms = [layer.norm for layer in self.layers if isinstance(layer.norm, LayerNorm)]
            raise ValueError(f"{norms[-1].where} must follow layers that all have layer norm")
        normed = [isinstance(layer.norm, BatchNorm) for layer in self.layers]
        self.batch_norms = 0 if self.layer_norms else [*normed, False].index(False)
        for layer in self.layers[self.batch_norms :]:
            if isinstance(layer.norm, BatchNorm):
                layer.fold()

    def _check_residual(self) -> None:
        """Every layer adds its input where it can, or none does."""
        self.residual = any(layer.residual for layer in self.layers)
        for i, layer in enumerate(self.layers[:-1]):
            rows, columns = layer.W.shape
            if self.residual and rows == columns and not layer.residual:
                raise ValueError(
                    f"layer {i} must add its input to its output, as other layers of this network "
                    "do: an MLP has residual connections wherever widths agree, or nowhere"
                )
        if self.layers[-1].residual:
            raise ValueError("the last layer adds its input to its output, which no MLP's does")
