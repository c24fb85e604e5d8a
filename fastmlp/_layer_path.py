"""The network layer by layer, a step at a time: HW1P1's interface."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._by_hand import panels_for
from ._measures import total_count
from ._parts import NetworkParts
from .layers import Activation, Criterion
from .layers.activation import is_compiled
from .validation import check_sample_weight, check_samples, in_unit_interval, label_rows


class LayerPath(NetworkParts):
    """Base of ``MLP``, which calls ``_begin``: forward, backward and step, by the layers."""

    batchnorm_reduction: str
    criterion: Criterion

    def _begin(self) -> None:
        """In training mode, before the first forward."""
        self.train_mode = True
        self.output = None
        # What each activation kept of the last forward, what its inputs were multiplied by, and
        # what made means in the last backward.
        self._states: list[Any] = [None] * self.nlayers
        self._factors: list[np.ndarray | None] = [None] * self.nlayers
        self._gradient_scale = 1.0

    def __call__(self, x: Any) -> np.ndarray:
        return self.forward(x)

    def forward(self, x: Any) -> np.ndarray:
        """The output activations, (N, K), of a batch x, (N, D); kept in ``output``.

        x : uint8 (scaled to [0, 1]), float32 or float64, as in ``fit``
        In training mode batch norm uses the batch's own moments, and dropout drops. Where an
        activation of the user's own raises, or Ctrl-C comes, running statistics and
        ``dropout_steps`` are as before, and there is no last forward to go back from.
        """
        x = check_samples("x", x, self.input_size)
        panels = panels_for(self, len(x))
        if panels is not None:
            self.output = None
            self._factors = [None] * self.nlayers
            self.output, self._states = panels.forward(self, x)
            return self.output
        # Whatever the layers keep from here on is of no whole pass.
        self.output = None
        steps = self.dropout_steps
        statistics = self.statistics.copy() if self.bn and self.train_mode else None
        try:
            self.output = self._through_layers(x)
        except BaseException:
            self.dropout_steps = steps
            if statistics is not None:
                self.statistics = statistics
            raise
        return self.output

    def _through_layers(self, out: np.ndarray) -> np.ndarray:
        if out.dtype == np.uint8:
            out = in_unit_interval(out, self.dtype)
        if self._embedding is not None:
            out = self._embedding.forward(out)
        if self._scale is not None:
            out = self._scale.forward(out)
        self._factors = self._draw_factors(len(out))
        for i, factors in enumerate(self._factors):
            if factors is not None:
                out = out.astype(self.dtype, copy=False) * factors
            out = self.linear_layers[i].forward(out)
            if i < self.num_bn_layers:
                out = self.bn_layers[i].forward(out, eval=not self.train_mode)
            if i < self.num_ln_layers:
                out = self.ln_layers[i].forward(out)
            activation = self.activations[i]
            mixed = i < len(self._mixes)
            out = self._mixes[i].forward(activation, out) if mixed else activation.forward(out)
            if self._adds_input(i):
                out = out + self.linear_layers[i].x
            # An activation may have several places, here or in other networks, but one state.
            self._states[i] = activation.state
        return out

    def _last_output(self, labels: Any) -> tuple[np.ndarray, np.ndarray]:
        """(last output, labels as the criterion takes them), once they fit each other."""
        if self.output is None:
            raise RuntimeError("call forward before backward, error or total_loss")
        return self.output, self.criterion.check_targets("labels", labels, *self.output.shape)

    def _rows(self, labels: np.ndarray) -> np.ndarray:
        return label_rows(labels, self.output_size, self.dtype)

    def backward(self, labels: Any, sample_weight: Any = None) -> None:
        """Compute the gradients of all parameters from the last forward, in the mode it was in.

        labels : as in ``fit``    sample_weight : as in ``fit``, (N,)
        No gradient with respect to the input is computed.
        Raises RuntimeError before the first forward, and ValueError on labels of another batch
        size, before anything has changed. Where an activation or criterion of the user's own
        raises, the gradients are of no use; parameters, momenta and counters are as before.
        """
        output, labels = self._last_output(labels)
        weights = check_sample_weight("sample_weight", sample_weight, len(output))
        count = total_count(self.criterion, labels, weights)
        scale = 1 / count if count > 0 else 0.0
        panels = self.buffers.panels
        if panels is not None and panels.know(self):
            panels.backward(self, labels, weights, scale)
            # One that has taken another's place since the forward goes back from what that kept.
            for i in reversed(range(self.nlayers)):
                self.activations[i].state = self._states[i]
        else:
            self._back_through_layers(output, labels, weights, scale)
        self._gradient_scale = scale

    def _back_through_layers(
        self, output: np.ndarray, labels: np.ndarray, weights: np.ndarray | None, scale: float
    ) -> None:
        self.criterion.forward(output, self._rows(labels))
        delta: Any = self.criterion.derivative()
        if weights is not None:
            delta = weights.astype(delta.dtype)[:, None] * delta
        for i in reversed(range(self.nlayers)):
            activation = self.activations[i]
            activation.state = self._states[i]
            factors = None if i + 1 == self.nlayers else self._factors[i + 1]
            adds_input = self._adds_input(i)
            if adds_input and factors is not None:
                delta, factors = delta * factors, None
            passing = delta
            if i < len(self._mixes):
                delta = self._mixes[i].backward(activation, delta, factors, scale)
            else:
                delta = _backward_through(activation, delta, factors)
            if i < self.num_bn_layers:
                delta = self.bn_layers[i].backward(delta)
            if i < self.num_ln_layers:
                delta = self.ln_layers[i].backward(delta)
            through = i > 0 or self._embedding is not None
            delta = self.linear_layers[i].backward(delta, input_gradient=through, scale=scale)
            if adds_input and i > 0:
                delta = delta + passing
        if self._embedding is not None:
            for factors in (self._factors[0], self.input_scale):
                delta = delta if factors is None else delta * factors
            self._embedding.backward(delta, scale)
        if self._scale is not None:
            self._scale.backward_from(self.linear_layers[0])

    def zero_grads(self) -> None:
        """Set all gradients to 0."""
        panels = self.buffers.panels
        if panels is not None and self.buffers.session is None:
            panels.zero_gradients()
        else:
            self.gradients[:] = 0

    def step(self) -> None:
        """Update all parameters from their gradients.

        momentum_W = momentum * momentum_W - lr * dW;  W += momentum_W; the same for b. Batch norm
        learns without momentum. Reference: HW1P1, section 3.5.3.
        """
        panels = self.buffers.panels
        if panels is not None and panels.serve(self):
            panels.step(self)
            self.updates += 1
            return
        scale = self._gradient_scale if self.batchnorm_reduction == "mean" else 1.0
        self.buffers.update(self.layout, self.optimizer, self.updates, scale)
        self.updates += 1

    def train(self) -> None:
        """Training mode: batch norm uses and records the moments of each batch; dropout drops."""
        self.train_mode = True

    def eval(self) -> None:
        """Evaluation mode: batch norm uses the running statistics, and nothing is dropped."""
        self.train_mode = False

    def error(self, labels: Any) -> int:
        """How many samples of the last forward are classified wrongly."""
        output, labels = self._last_output(labels)
        return int(np.count_nonzero(output.argmax(axis=1) != self._rows(labels).argmax(axis=1)))

    def total_loss(self, labels: Any) -> float:
        """Sum of the per-sample losses of the last forward."""
        output, labels = self._last_output(labels)
        return self.criterion(output, self._rows(labels)).sum()


def _backward_through(
    activation: Activation, delta: np.ndarray, factors: np.ndarray | None
) -> np.ndarray:
    """The gradient before an activation, from that after it and after dropout by ``factors``."""
    if factors is None:
        return activation.backward(delta)
    if is_compiled(activation):
        # In the order of the compiled epoch, which keeps the slopes and the factors in one.
        return delta * activation.backward(factors)
    return activation.backward(delta * factors)
