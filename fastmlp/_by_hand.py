"""A network that is trained step by step, in the engine's panels as ``fit`` trains it.

``forward``, ``backward`` and ``step`` are parts of one step of the compiled epoch. The network's
arrays are brought up to date when somebody looks at one, and what its layers keep of a forward pass
is fetched when it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ._layout import Layout
from ._pace import Pace
from .engine import Objective, Trainer, data_of
from .kernels._geometry import geometry_of, padded_width
from .kernels._rates import unit_for
from .kernels.network import BACKWARD, FORWARD, UPDATE, WHOLE_STEP, Data, StepFigures
from .kernels.pointwise import SOFTMAX, Loss
from .kernels.rules import FACTORS
from .layers._state import Later
from .layers.activation import is_compiled
from .layers.loss import is_compiled_criterion
from .threads import get_num_threads
from .validation import in_unit_interval, label_rows, readable_labels

if TYPE_CHECKING:
    from ._parts import NetworkParts

# Multiply-adds of a step per thread. More than for ``fit``, whose threads have their job already:
# here they are called up for each of a step's three parts, which takes 30 to 90 µs.
WORK_PER_THREAD = 12_000_000

_ANY_LOSS = Loss(SOFTMAX)
_NO_FIGURES = StepFigures(np.empty(0), np.empty(0), np.empty(0))


def panels_for(mlp: NetworkParts, rows: int) -> ByHand | None:
    """What trains a network by hand on such a batch; None where its layers have to.

    That is, with norms and other extras, with activations of the user's own, on large batches, and
    in a callback of its own ``fit``.
    """
    buffers = mlp.buffers
    if rows == 0 or buffers.session is not None or not all(map(is_compiled, mlp.activations)):
        return None
    needs = _present_needs(mlp)
    layout, unit, *_ = needs
    if layout.has_extras or geometry_of(rows, layout.dtype, unit).chunks > 1:
        return None
    panels: ByHand | None = buffers.panels
    if panels is None or panels.needs != needs or panels.rows < rows:
        buffers.look()
        panels = buffers.panels = ByHand(mlp, rows, needs)
    return panels


def _present_needs(mlp: NetworkParts) -> tuple[Any, ...]:
    """What decides on the panels: first the layout, then the unit."""
    # Not the property, which asks NumPy for a dtype's name: 5 µs of a step of some 500.
    optimizer, unit = mlp.optimizer, unit_for(mlp._compute_dtype)
    kept = optimizer.states, optimizer.average is None, optimizer.clip_norm is None
    return mlp.layout, unit, get_num_threads(), *kept


class _PaceByHand:
    """On how many threads the parts of a step run, found as ``fit`` finds it: see ``_pace``."""

    def __init__(self, most: int) -> None:
        self._pace = Pace(most)
        self._call = self._pace.next()
        self._steps, self._seconds, self._of_step = 0, 0.0, 0.0

    @property
    def threads(self) -> int:
        """For the next part."""
        return self._call.threads

    def took(self, part: int, seconds: float) -> None:
        """Say how long a part took. Only those from the last forward to an update are a step."""
        self._of_step = seconds + (0 if part == FORWARD else self._of_step)
        if part != UPDATE:
            return
        self._steps += 1
        self._seconds += self._of_step
        if self._steps >= self._call.steps:
            self._pace.took(self._call, self._seconds)
            self._call = self._pace.next()
            self._steps, self._seconds = 0, 0.0


class ByHand:
    """The panels of a network between the calls of its ``forward``, ``backward`` and ``step``.

    Whatever they know better than the network's own arrays goes there when somebody looks; from
    then on these may change, and are read again before the next part of a step.
    """

    def __init__(self, mlp: NetworkParts, rows: int, needs: tuple[Any, ...]) -> None:
        """rows : most of a batch    needs : what decides on the panels"""
        self._buffers, self.rows, self.needs = mlp.buffers, rows, needs
        layout: Layout = needs[0]
        learnt, statistics = self._buffers.for_writing()
        objective = Objective(mlp.optimizer.options, apart=True)
        self._trainer = Trainer(layout, learnt, statistics, rows, objective, needs[1])
        most = min(self._trainer.threads, 3 * layout.multiply_adds * rows // WORK_PER_THREAD)
        self._pace = _PaceByHand(max(1, most))
        self._order = np.arange(rows, dtype=np.int64)
        self._classes = np.zeros(rows, np.int64)
        self._scale: Any = layout.dtype.type(1)
        self._factors = np.zeros((1, len(layout.groups) * FACTORS), layout.dtype)
        # What the panels know better, and what they are to read again.
        self._learnt_is_newer = self._gradients_are_newer = self._gradients_are_zero = False
        self._learnt_is_stale = self._gradients_are_stale = True
        self._class_weights: np.ndarray | None = None
        self._passes = 0
        self._fetched: dict[int, np.ndarray] = {}  # activations, by layer
        self._x: Any = None
        self.output: np.ndarray | None = None

    @property
    def are_newer(self) -> bool:
        """Whether the network's arrays are to be brought up to date before they are read."""
        return self._learnt_is_newer or self._gradients_are_newer

    def look(self) -> None:
        """Bring the network's arrays up to date, and read them again before going on."""
        with self._buffers.lock:
            if self._learnt_is_newer:
                self._trainer.unpack()
            if self._gradients_are_newer:
                self._bring_gradients()
            self._learnt_is_newer = False
            self._gradients_are_newer = self._gradients_are_zero = False
            self._learnt_is_stale = self._gradients_are_stale = True

    def _bring_gradients(self) -> None:
        gradients = self._buffers.own_gradients
        if self._gradients_are_zero:
            gradients[...] = 0
        else:
            self._trainer.unpack_gradients(gradients)
            gradients *= self._scale

    def serve(self, mlp: NetworkParts) -> bool:
        """Whether they are still those of the network as it is, and nobody else trains it."""
        free = self._buffers.session is None and all(map(is_compiled, mlp.activations))
        return free and self.needs == _present_needs(mlp)

    def know(self, mlp: NetworkParts) -> bool:
        """Whether the network's last forward was theirs, and they can go back from it."""
        last = mlp.output is not None and mlp.output is self.output
        # Who has asked for what is kept may have changed it.
        untouched = last and not self._fetched
        return untouched and is_compiled_criterion(mlp.criterion) and self.serve(mlp)

    def zero_gradients(self) -> None:
        """Set all gradients to 0."""
        self._gradients_are_newer = self._gradients_are_zero = True
        self._gradients_are_stale = False

    def forward(self, mlp: NetworkParts, x: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """The outputs for rows of x, (N, K), and what each activation keeps.

        The layers are told where to find what they keep.
        """
        self._x, self.output = x, None
        self._passes += 1
        self._fetched = {}
        self._run(FORWARD, mlp, self._data(self._classes[: len(x)]))
        self.output = self._fetch(self._trainer.packed.activations.values, mlp.nlayers - 1)
        states = [self._later(self._state, index) for index in range(self._layers)]
        for index, (linear, activation) in enumerate(
            zip(mlp.linear_layers, mlp.activations, strict=True)
        ):
            linear.x, activation.state = self._later(self._input, index), states[index]
        return self.output, states

    def backward(
        self, mlp: NetworkParts, labels: np.ndarray, weights: np.ndarray | None, scale: float
    ) -> None:
        """The gradients of all parameters for the last forward's rows, in the panels."""
        criterion: Any = mlp.criterion
        dtype, output = mlp.dtype, self.output
        assert output is not None
        rows = label_rows(labels, mlp.output_size, dtype)
        criterion.logits, criterion.labels = output, rows
        now = output.copy()
        criterion.loss = Later(lambda: criterion.losses(now, rows))
        self._put_outputs(output)
        self._class_weights = criterion.weights_of_classes(dtype)
        data = self._data(readable_labels(labels, dtype), weights)
        self._run(BACKWARD, mlp, data, criterion.formula(mlp.output_size, dtype))
        self._scale, self._gradients_are_newer = dtype.type(scale), True
        self._gradients_are_stale = self._gradients_are_zero = False
        self._leave_to_others()

    def step(self, mlp: NetworkParts) -> None:
        """Update all parameters by the gradients."""
        optimizer, gradients = mlp.optimizer, self._trainer.packed.gradients
        layout: Layout = self.needs[0]
        rates = np.array([optimizer.lr])
        self._factors = optimizer.schedule(rates, mlp.updates, layout.groups, layout.dtype)
        if self._buffers.held_elsewhere():
            self.look()
        if self._gradients_are_stale:
            self._trainer.pack_gradients(self._buffers.own_gradients)
            self._scale, self._gradients_are_stale = layout.dtype.type(1), False
        elif self._gradients_are_zero:
            gradients[...] = 0
        self._run(UPDATE, mlp, self._data(self._classes[:1]))
        self._leave_to_others()

    def _run(self, part: int, mlp: NetworkParts, data: Data, loss: Loss = _ANY_LOSS) -> None:
        if self._buffers.held_elsewhere():
            # Who holds a view may have changed it unasked.
            self.look()
        trainer = self._trainer
        with self._buffers.lock:
            if self._learnt_is_stale:
                trainer.pack()
                self._learnt_is_stale = False
            self._learnt_is_newer |= part == UPDATE
            trainer.objective = Objective(mlp.optimizer.options, apart=True, loss=loss)
            trainer.part, trainer.parts = part, self._pace.threads
            started = perf_counter()
            trainer.train(data, self._factors, 0, 0, _NO_FIGURES)
            self._pace.took(part, perf_counter() - started)
            trainer.part = WHOLE_STEP

    def _leave_to_others(self) -> None:
        if self._buffers.held_elsewhere():
            self.look()

    def _data(self, labels: np.ndarray, weights: np.ndarray | None = None) -> Data:
        dtype = self._scale.dtype
        weights = None if weights is None else weights.astype(dtype)
        order, scales = self._order[: len(labels)], np.array([self._scale])
        return data_of(self._x, labels, order, scales, weights, self._class_weights)

    def _later(self, function: Callable[[int], np.ndarray], index: int) -> Any:
        """What a layer keeps of this pass; None once there has been another."""
        now = self._passes
        return Later(lambda: function(index) if self._passes == now else None)

    def _input(self, index: int) -> np.ndarray:
        """What a linear layer has read."""
        if index > 0:
            return self._activations(index - 1)
        return in_unit_interval(self._x, self._scale.dtype)

    def _state(self, index: int) -> np.ndarray:
        """What an activation takes its derivative from."""
        activations = self._activations(index)
        if self.needs[0].table["keeps_slope"][index]:
            return self._fetch(self._trainer.packed.slopes, index)
        return activations

    def _activations(self, index: int) -> np.ndarray:
        """Of layer l, one array for all who ask."""
        if index not in self._fetched:
            found = self.output if index + 1 == self._layers else None
            values = self._trainer.packed.activations.values
            self._fetched[index] = self._fetch(values, index) if found is None else found
        return self._fetched[index]

    @property
    def _layers(self) -> int:
        return len(self.needs[0].table)

    def _fetch(self, values: np.ndarray, index: int) -> np.ndarray:
        """Of blocks of layer l what is no padding, (N, F)."""
        rows = np.empty((len(self._x), self.needs[0].table["outputs"][index]), values.dtype)
        for columns, block in self._blocks(rows, values, index):
            columns[...] = block
        return rows

    def _put_outputs(self, output: np.ndarray) -> None:
        """They belong to the user, who may have changed them."""
        values, last = self._trainer.packed.activations.values, self._layers - 1
        for columns, block in self._blocks(output, values, last):
            block[...] = columns

    def _blocks(
        self, rows: np.ndarray, values: np.ndarray, index: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Columns of rows, (N, F), beside the blocks of layer l that they lie in."""
        count, pitch = padded_width(1, values.dtype), self._trainer.geometry.pitch
        at = self._trainer.table["activations"][index]
        for first in range(0, rows.shape[1], count):
            columns = rows[:, first : first + count]
            block = values[at + first * pitch :][: pitch * count].reshape(pitch, count)
            yield columns, block[: len(rows), : columns.shape[1]]
