"""A network that is trained step by step, in the engine's panels as ``fit`` trains it.

``forward``, ``backward`` and ``step`` are parts of one step of the compiled epoch. The network's
arrays are brought up to date when somebody looks at one, and what its layers keep of a forward pass
is fetched when it is asked for.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ._layout import Layout
from ._pace import Pace
from .engine import Objective, Trainer, data_of
from .kernels._geometry import geometry_of, padded_width
from .kernels._rates import unit_for
from .kernels._reference import Pinned
from .kernels._units import Unit
from .kernels.epoch import train_steps
from .kernels.network import BACKWARD, FORWARD, UPDATE, StepFigures
from .kernels.packing import strided
from .kernels.pointwise import SOFTMAX, Loss
from .kernels.rules import FACTORS
from .layers._state import Later
from .layers.activation import is_compiled
from .layers.loss import is_compiled_criterion
from .threads import Crew, get_num_threads
from .validation import in_unit_interval, label_rows, readable_labels

if TYPE_CHECKING:
    from ._parts import NetworkParts

# Of updates that come one by one, the factors are computed for so many at a time.
UPDATES_AHEAD = 64

_ANY_LOSS = Loss(SOFTMAX)
_NO_FIGURES = StepFigures(np.empty(0), np.empty(0), np.empty(0))


def panels_for(mlp: NetworkParts, rows: int) -> ByHand | None:
    """What trains a network by hand on such a batch; None where its layers have to.

    That is, with norms and other extras, with activations of the user's own, on large batches, and
    in a callback of its own ``fit``.
    """
    buffers = mlp.buffers
    panels: ByHand | None = buffers.panels
    if panels is not None and rows <= panels.rows and panels.serve(mlp):
        return panels
    if buffers.session is not None or not all(map(is_compiled, mlp.activations)):
        return None
    layout, unit = mlp.layout, unit_for(mlp._compute_dtype)
    if layout.has_extras or geometry_of(rows, layout.dtype, unit).chunks > 1:
        return None
    buffers.look()
    panels = buffers.panels = ByHand(mlp, rows, layout, unit)
    return panels


def _present_needs(mlp: NetworkParts) -> tuple[Any, ...]:
    """What decides on the panels of a network; all else of it stays as it is."""
    dtype, optimizer = mlp.dtype, mlp.optimizer
    formulas = [a.formula(dtype) if is_compiled(a) else None for a in mlp.activations]
    kept = optimizer.states, optimizer.average is None, optimizer.clip_norm is None
    # Not the property, which asks NumPy for a dtype's name: 5 µs of a step of some 300.
    return formulas, [*mlp._dropout], mlp._compute_dtype, get_num_threads(), kept


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


class _Factors:
    """The rule's factors of one update after another, at the optimizer's own rate.

    They are computed anew where the optimizer has changed: for one alone, that takes 25 µs.
    """

    def __init__(self, groups: Sequence[Any], dtype: Any) -> None:
        self._groups, self._dtype = groups, dtype
        self._first, self._rows = 0, np.zeros((0, len(groups) * FACTORS), dtype)
        self._made_by: tuple[Any, ...] = ()

    def of(self, optimizer: Any, done: int) -> np.ndarray:
        """(groups * FACTORS,) of the update after so many."""
        made_by = type(optimizer), optimizer.__getstate__()
        if not 0 <= done - self._first < len(self._rows) or made_by != self._made_by:
            self._first, self._made_by = done, copy.deepcopy(made_by)
            rates = np.full(UPDATES_AHEAD, optimizer.lr)
            self._rows = optimizer.schedule(rates, done, self._groups, self._dtype)
        row: np.ndarray = self._rows[done - self._first]
        return row


class ByHand:
    """The panels of a network between the calls of its ``forward``, ``backward`` and ``step``.

    Whatever they know better than the network's own arrays goes there when somebody looks; from
    then on these may change, and are read again before the next part of a step.
    """

    def __init__(self, mlp: NetworkParts, rows: int, layout: Layout, unit: Unit) -> None:
        """rows : most of a batch"""
        self._buffers, self.rows = mlp.buffers, rows
        self._needs = _present_needs(mlp)
        learnt, statistics = self._buffers.for_writing()
        objective = Objective(mlp.optimizer.options, apart=True)
        self._trainer = Trainer(layout, learnt, statistics, rows, objective, unit)
        self._table = self._trainer.table
        self._pace = _PaceByHand(self._trainer.threads)
        self._of_updates = _Factors(layout.groups, layout.dtype)
        # What the compiled parts read: they are called with the same arguments each time.
        self._order, self._classes = np.arange(rows, dtype=np.int64), np.zeros(rows, np.int64)
        self._scales, self._nothing = np.ones(1, layout.dtype), np.empty((1, 0), layout.dtype)
        self._factors = np.zeros((1, len(layout.groups) * FACTORS), layout.dtype)
        self._data = Pinned(data_of(self._nothing, self._classes, self._order, self._scales))
        self._plan = Pinned(self._trainer.plan())
        self._activations = self._trainer.packed.activations.values
        self._outputs = self._blocks(self._activations, self._layers - 1, rows)
        self._samples, self._part = self._data.field("x"), self._plan.field("part")
        self._unusual_labels = False
        self._objective: Objective | None = None
        self._crew = Crew(train_steps, ())
        # What the panels know better, and what they are to read again.
        self._learnt_is_newer = self._gradients_are_newer = self._gradients_are_zero = False
        self._learnt_is_stale = self._gradients_are_stale = True
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
            # In one go: a signal's handler may bring them, too, at any moment.
            np.multiply(self._trainer.gradients(), self._scales[0], out=gradients)

    def serve(self, mlp: NetworkParts) -> bool:
        """Whether they are still those of the network as it is, and nobody else trains it."""
        return self._buffers.session is None and self._needs == _present_needs(mlp)

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
        self._samples[...] = strided(x)
        if len(x) != self._data.value.order.size:
            self._data.change(order=self._order[: len(x)])
        if self._unusual_labels:
            self._tell_labels(self._classes, None, self._nothing[0])
        self._run(FORWARD, mlp)
        if self._outputs.rows != len(x):
            self._outputs = self._blocks(self._activations, self._layers - 1, len(x))
        self.output = self._outputs.fetch()
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
        logits, targets = output.copy(), labels.copy() if labels.ndim == 1 else labels
        rows = Later(lambda: label_rows(targets, mlp.output_size, dtype))
        criterion.logits, criterion.labels = output, rows
        criterion.loss = Later(lambda: criterion.losses(logits, rows.fetch()))
        # They belong to the user, who may have changed them.
        self._outputs.put(output)
        self._tell_labels(labels, weights, criterion.weights_of_classes(dtype))
        self._run(BACKWARD, mlp)
        self._scales[0], self._gradients_are_newer = scale, True
        self._gradients_are_stale = self._gradients_are_zero = False
        self._leave_to_others()

    def _tell_labels(
        self, labels: np.ndarray, weights: np.ndarray | None, class_weights: np.ndarray
    ) -> None:
        """Have the compiled parts read them; those without weights, of classes, need least."""
        dtype, in_classes = self._scales.dtype, labels.ndim == 1
        if in_classes:
            self._classes[: len(labels)] = labels
        unusual = not in_classes or weights is not None or class_weights.size > 0
        if unusual or self._unusual_labels:
            rows = self._nothing if in_classes else readable_labels(labels, dtype)
            self._data.change(
                y=strided(rows),
                classes=self._classes[: len(labels) if in_classes else 0],
                weights=self._nothing[0] if weights is None else weights.astype(dtype),
                class_weights=class_weights,
            )
            self._rows = rows
        self._unusual_labels = unusual

    def step(self, mlp: NetworkParts) -> None:
        """Update all parameters by the gradients."""
        self._factors[0] = self._of_updates.of(mlp.optimizer, mlp.updates)
        if self._buffers.held_elsewhere():
            self.look()
        if self._gradients_are_stale:
            self._trainer.pack_gradients(self._buffers.own_gradients)
            self._scales[0], self._gradients_are_stale = 1, False
        elif self._gradients_are_zero:
            self._trainer.packed.gradients[...] = 0
        self._run(UPDATE, mlp)
        self._leave_to_others()

    def _run(self, part: int, mlp: NetworkParts) -> None:
        if self._buffers.held_elsewhere():
            # Who holds a view may have changed it unasked.
            self.look()
        with self._buffers.lock:
            if self._learnt_is_stale:
                self._trainer.pack()
                self._learnt_is_stale = False
            self._learnt_is_newer |= part == UPDATE
            if part != FORWARD or self._objective is None:
                self._tell_objective(mlp)
            self._part[...] = part
            started = perf_counter()
            self._crew.run(self._pace.threads)
            if part == UPDATE:
                # A signal's handler may have looked just before they were changed.
                self._learnt_is_newer, self._learnt_is_stale = True, False
            self._pace.took(part, perf_counter() - started)

    def _tell_objective(self, mlp: NetworkParts) -> None:
        """Of the network as it is now: by its criterion and rule the vocabulary is chosen."""
        criterion: Any = mlp.criterion
        loss = _ANY_LOSS
        if is_compiled_criterion(criterion):
            loss = criterion.formula(mlp.output_size, mlp.dtype)
        objective = Objective(mlp.optimizer.options, apart=True, loss=loss)
        if objective == self._objective:
            return
        trainer = self._trainer
        trainer.objective = self._objective = objective
        self._plan.change(options=objective.options, loss=loss)
        network = trainer.network(trainer.vocabulary)
        arguments = network, self._data, self._plan, self._factors, 0, 0, _NO_FIGURES
        self._crew = Crew(train_steps, arguments)

    def _leave_to_others(self) -> None:
        if self._buffers.held_elsewhere():
            self.look()

    def _later(self, function: Callable[[int], np.ndarray], index: int) -> Any:
        """What a layer keeps of this pass; None once there has been another."""
        now = self._passes
        return Later(lambda: function(index) if self._passes == now else None)

    def _input(self, index: int) -> np.ndarray:
        """What a linear layer has read."""
        if index > 0:
            return self._activations_of(index - 1)
        return in_unit_interval(self._x, self._scales.dtype)

    def _state(self, index: int) -> np.ndarray:
        """What an activation takes its derivative from."""
        activations = self._activations_of(index)
        if self._table["keeps_slope"][index]:
            return self._blocks(self._trainer.packed.slopes, index, len(self._x)).fetch()
        return activations

    def _activations_of(self, index: int) -> np.ndarray:
        """Of layer l, one array for all who ask."""
        if index not in self._fetched:
            found = self.output if index + 1 == self._layers else None
            if found is None:
                found = self._blocks(self._activations, index, len(self._x)).fetch()
            self._fetched[index] = found
        return self._fetched[index]

    @property
    def _layers(self) -> int:
        return len(self._table)

    def _blocks(self, values: np.ndarray, index: int, rows: int) -> _Blocks:
        """Of layer l, for so many rows."""
        at, width = self._table["activations"][index], int(self._table["outputs"][index])
        return _Blocks(values[at:], rows, width, self._trainer.geometry.pitch)


class _Blocks:
    """A matrix in blocks of columns, each one vector wide."""

    def __init__(self, values: np.ndarray, rows: int, width: int, pitch: int) -> None:
        """values : from the first block on    pitch : rows from block to block"""
        self.rows, self._width, self._dtype = rows, width, values.dtype
        lanes = padded_width(1, values.dtype)
        self._columns = []
        for first in range(0, width, lanes):
            block = values[first * pitch :][: pitch * lanes].reshape(pitch, lanes)
            self._columns.append((slice(first, first + lanes), block[:rows, : width - first]))

    def fetch(self) -> np.ndarray:
        """(rows, width), a copy."""
        matrix = np.empty((self.rows, self._width), self._dtype)
        for columns, block in self._columns:
            matrix[:, columns] = block
        return matrix

    def put(self, matrix: np.ndarray) -> None:
        """Overwrite it by one of its shape."""
        for columns, block in self._columns:
            block[...] = matrix[:, columns]
