"""A network described as data, and the buffers in which compiled code trains and evaluates it.

``Trainer`` packs a network, runs training steps, and unpacks it again; ``infer`` runs the forward
pass. ``_layout`` makes the description.
"""

from __future__ import annotations

import time
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from . import threads
from ._layout import Layout
from .kernels import activation, rules
from .kernels._compiled import vocabulary_for
from .kernels._geometry import (
    Geometry,
    blocks_size,
    geometry_of,
    lists_size,
    norm_terms,
    padded_width,
    pitch_of,
    scratch_size,
)
from .kernels._host import aligned_zeros
from .kernels._operands import WorkspaceBlocks, allocate_workspace
from .kernels._philox import signed
from .kernels._rates import unit_for
from .kernels._reference import Pinned, again
from .kernels._units import FLOATS, FloatUnit, Unit, rows_together
from .kernels._vocabulary import APART, EXTRAS, NORMS, RARE, Vocabulary, smallest_with
from .kernels.epoch import train_steps
from .kernels.inference import infer_few_rows, infer_rows
from .kernels.network import (
    Data,
    Flat,
    Network,
    Packed,
    PackedWeights,
    Plan,
    StepFigures,
    move_buffer,
)
from .kernels.packing import strided
from .kernels.pointwise import SOFTMAX, Loss
from .kernels.rules import FACTORS, MOMENTUM
from .kernels.update import PIECE, Learnt, UpdateOptions

# Multiply-adds of a training step per thread. Less than for other work, since the threads of a
# training have their job already and only meet at barriers: two broke even with one between 1.2 and
# 2.4 million per step.
STEP_WORK_PER_THREAD = 1_200_000

# Up to this many rows the unpacked weights are read once for every row; packing them first would
# take longer.
FEW_ROWS = 4

# Rows that a thread takes through all layers at once.
INFERENCE_ROWS = 64

# Rows that one call of the compiled forward pass takes: Ctrl-C is answered between calls.
ROWS_PER_CALL = 1 << 15

# The compute dtype is chosen by timing so many trials of either dtype, each of about so many
# seconds. bfloat16 must take less than this share of float32's time.
TRIALS = 7
TRIAL_SECONDS = 0.01
TRIAL_MARGIN = 0.97


class Objective(NamedTuple):
    """What a training minimises, and how it updates the parameters: see ``kernels.network.Plan``.

    By default what the fast path does: momentum in the tiles of the gradient, and nothing else.
    """

    options: UpdateOptions = UpdateOptions(MOMENTUM, np.inf, np.inf, 0.0)
    apart: bool = False
    accumulate: int = 1
    mean_reduction: bool = True
    loss: Loss = Loss(SOFTMAX)
    squares: bool = False


def vocabulary_of(layout: Layout, objective: Objective) -> Vocabulary:
    """The smallest vocabulary that trains a network."""
    rare = bool(
        layout.table["activation"].max() > activation.LAST_FREQUENT
        or layout.table["keeps_slope"].any()
        or objective.loss.code != SOFTMAX
        or objective.options.rule > rules.LAST_FREQUENT
    )
    of_layers = NORMS * layout.has_extras | EXTRAS * layout.has_rare_extras
    apart = objective.apart or objective.squares
    return smallest_with(APART * apart | RARE * rare | of_layers)


def data_of(
    x: np.ndarray, labels: np.ndarray, order: np.ndarray, scales: np.ndarray,
    weights: np.ndarray | None = None, class_weights: np.ndarray | None = None,
    dropout: np.ndarray | None = None,
) -> Data:  # fmt: skip
    """A training set as compiled code reads it, in place.

    labels : (N,) int64 classes, or (N, K) rows of float32 or float64
    scales : (steps,) of the parameters' dtype    weights, class_weights, dropout : see
        ``Data``
    """
    matrix, nothing = strided(x), np.empty(0, scales.dtype)
    in_classes = labels.ndim == 1
    return Data(
        matrix, matrix if in_classes else strided(labels),
        labels if in_classes else np.empty(0, np.int64),
        nothing if weights is None else weights,
        nothing if class_weights is None else class_weights, order, scales,
        np.empty(0) if dropout is None else dropout,
    )  # fmt: skip


class Trainer:
    """Trains a network in packed buffers, between ``pack`` and ``unpack``."""

    def __init__(
        self, layout: Layout, flat: Learnt, statistics: np.ndarray, batch_size: int,
        objective: Objective, unit: Unit = FLOATS, rows: int | None = None,
    ) -> None:  # fmt: skip
        """flat, statistics : the network's own buffers, which ``unpack`` brings up to date
        rows : the most of a batch that it is given at a time, by default all
        """
        self.layout, self.flat, self.statistics, self.unit = layout, flat, statistics, unit
        self.objective = objective
        self.batch_size, self.table = batch_size, layout.table.copy()
        rows = batch_size if rows is None else rows
        self.geometry = self._microbatch(rows)
        # Forward, weight gradient and input gradient.
        work = 3 * layout.multiply_adds * rows
        self.threads = threads.count_for(work, STEP_WORK_PER_THREAD)
        # How many of them take part in a call; a session sets it before each.
        self.parts = self.threads
        self.packed = self._buffers()
        # What the epoch has been called with: it is the same memory in the next call.
        self._pinned: Pinned | None = None
        self._data: Pinned | None = None
        self._plan: Pinned | None = None
        # Whether its batches have columns of zeros, as far as is known.
        self.zeros = False
        self._vocabularies: dict[tuple[Any, ...], Vocabulary] = {}

    def _microbatch(self, rows: int) -> Geometry:
        """How the rows lie that go through the network at a time: all of them for batch norm."""
        whole = geometry_of(rows, self.layout.dtype, self.unit)
        if (self.table["flat_mean"] >= 0).any():
            return whole
        return whole._replace(rows=min(whole.rows, whole.chunk_rows))

    def _buffers(self) -> Packed:
        layout, dtype = self.layout, self.layout.dtype
        outputs = [layer.outputs for layer in layout.layers]
        sizes = [blocks_size(self.geometry, width, dtype) for width in outputs]
        self.table["activations"] = np.cumsum([0, *sizes[:-1]])
        activations = sum(sizes)
        normalised = any(layer.normalised for layer in layout.layers)
        by_rows = any(layer.layernorm for layer in layout.layers)
        residual = self.table["residual"].astype(bool)
        embedded = layout.layers[0].embedding is not None
        parametric = any(layer.parametric for layer in layout.layers)
        changed = [*self.table["keeps_slope"], *self.table["dropout"][1:], *residual]
        keeps_slopes = any(changed) or parametric
        widest = max(padded_width(width, dtype) for width in outputs)
        inputs = [layer.inputs for layer in layout.layers]
        rounded = not isinstance(self.unit, FloatUnit)
        group = rows_together(type(self.unit))
        workspace = allocate_workspace(
            self.unit, dtype,
            [
                WorkspaceBlocks(
                    2 * blocks_size(self.geometry, inputs[0], dtype),
                    by_feature=True, by_row=True, values=bool(residual[0]), turned=True,
                ),
                WorkspaceBlocks(activations, by_feature=True, by_row=True, turned=True),
                WorkspaceBlocks(normalised * activations),
                WorkspaceBlocks(activations, by_feature=True, by_row=True),
                WorkspaceBlocks(embedded * blocks_size(self.geometry, inputs[0], dtype)),
            ],
            [
                *[layout.packed * (array.size > 0) for array in self.flat],
                layout.packed,
                self.threads * PIECE,
                rounded * self.threads * group * padded_width(inputs[0], dtype),
                self.geometry.rows * padded_width(outputs[-1], dtype), self.geometry.rows,
                normalised * len(outputs) * widest, normalised * len(outputs) * widest,
                max(np.multiply(residual, sizes)),
                by_rows * len(outputs) * self.geometry.rows,
                keeps_slopes * activations,
                parametric * activations,
            ],
            self.threads * scratch_size(self.unit, max(inputs), max(outputs), dtype),
            np.zeros,
        )  # fmt: skip
        x, y, normals, deltas, input_deltas = workspace[:5]
        *learnt, gradients, staged, gathered = workspace[5:12]
        labels, row_weights, means, variances, skips, scales = workspace[12:18]
        slopes, bends, scratch = workspace[18:]
        losses, errors = np.zeros((2, self.geometry.rows))
        normed = self.objective.options.norm_limit < np.inf or self.objective.squares
        # Rounded operands, and inputs that other numbers are made of, are taken whole.
        sees = not rounded and not embedded and self.table[0]["flat_scale"] < 0
        seen = aligned_zeros(sees * self.threads * padded_width(inputs[0], dtype), dtype)
        lists = aligned_zeros(sees * lists_size(inputs[0], self.threads, dtype), np.int32)
        return Packed(
            self.unit, Learnt(*learnt), gradients, staged,
            np.zeros(normed * norm_terms(self.table)), scratch, gathered, x, labels, row_weights,
            y, normals, slopes, bends, deltas, input_deltas, skips, means, variances, scales,
            losses, errors, seen, lists, np.zeros(2, np.int64),
        )  # fmt: skip

    def draw_masks(self, seed: int, before: int) -> None:
        """Say what dropout draws from: a seed, and as which step an epoch's first one counts.

        Both of 64 bits; a negative ``before`` wraps around.
        """
        self.packed.masks[:] = signed(seed), before

    @property
    def vocabulary(self) -> Vocabulary:
        """How much the epoch knows that trains the network."""
        objective = self.objective
        needed = (
            objective.apart, objective.squares, objective.loss.code, objective.options.rule
        )  # fmt: skip
        if needed not in self._vocabularies:
            least = vocabulary_of(self.layout, objective)
            known = vocabulary_for(self.layout.dtype.name, self.unit, least, self.zeros)
            self._vocabularies[needed] = known
        return self._vocabularies[needed]

    def run(self, function: Any, *arguments: Any) -> Any:
        """Call a kernel on as many threads as take part."""
        return threads.run(function, self.parts, arguments)

    def pack(self) -> None:
        """Take over the flat parameters, and what is kept of each."""
        for packed, flat in self._pairs():
            self.run(move_buffer, self.table, packed, flat, False)

    def _pairs(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(packed, flat) of all that is learnt."""
        both = zip(self.packed.learnt, self.flat, strict=True)
        return [(packed, flat) for packed, flat in both if flat.size > 0]

    def network(self, vocabulary: Vocabulary) -> Pinned:
        """The network as the epoch of a vocabulary takes it."""
        if self._pinned is None or self._pinned.value.vocabulary is not vocabulary:
            self._pinned = Pinned(Network(self.table, self.statistics, self.packed, vocabulary))
        return self._pinned

    def train(
        self, data: Data, schedule: np.ndarray, first: int, last: int,
        steps_out: StepFigures,
    ) -> int:  # fmt: skip
        """Run steps first ... last-1 of an epoch; see ``kernels.epoch.train_steps``.

        Returns the step it ended before: ``last``, or the first whose loss is not finite.
        """
        self._data, self._plan = again(self._data, data), again(self._plan, self.plan())
        arguments = self._data, self._plan, schedule, first, last, steps_out
        ended: int = self.run(train_steps, self.network(self.vocabulary), *arguments)
        return ended

    def plan(self, shard: int = 0, shards: int = 1) -> Plan:
        """How to train on a shard of each batch; by default on all of it."""
        rows, chunk_rows, pitch = self.geometry
        return Plan(self.batch_size, rows, chunk_rows, pitch, *self.objective, shard, shards)

    def gradients(self) -> np.ndarray:
        """The gradients that the last step has left, flat, (P,); with ``apart`` alone."""
        flat = np.empty(self.layout.parameters, self.layout.dtype)
        self.unpack_gradients(flat)
        return flat

    def unpack_gradients(self, flat: np.ndarray) -> None:
        """flat = the gradients that the last step has left."""
        self.run(move_buffer, self.table, self.packed.gradients, flat, True)

    def pack_gradients(self, flat: np.ndarray) -> None:
        """Have the next update made by other gradients."""
        self.run(move_buffer, self.table, self.packed.gradients, flat, False)

    def unpack(self) -> None:
        """Bring the flat buffers up to date."""
        for packed, flat in self._pairs():
            self.run(move_buffer, self.table, packed, flat, True)


@lru_cache(maxsize=64)
def faster_compute_dtype(layout: Layout, batch_size: int) -> str:
    """float32 or bfloat16, whichever takes less time for the network's training steps.

    Measured on random weights and rows: several trials of either, in turns, of which the fastest
    counts. float32 where bfloat16 gains less than the noise of such a measurement.
    """
    if layout.dtype != np.float32:
        return layout.dtype.name
    trials = {name: _Trial(layout, batch_size, name) for name in ("float32", "bfloat16")}
    for trial in trials.values():
        trial.seconds(1)
        trial.steps = 1 + int(TRIAL_SECONDS / trial.seconds(1))
    best = dict.fromkeys(trials, np.inf)
    for _ in range(TRIALS):
        for name, trial in trials.items():
            best[name] = min(best[name], trial.seconds(trial.steps))
    return "bfloat16" if best["bfloat16"] < TRIAL_MARGIN * best["float32"] else "float32"


class _Trial:
    """A network that is trained only to be timed."""

    def __init__(self, layout: Layout, batch_size: int, compute_dtype: str) -> None:
        generator = np.random.default_rng(0)
        parameters = generator.standard_normal(layout.parameters).astype(layout.dtype) / 32
        nothing = np.empty(0, layout.dtype)
        learnt = Learnt(parameters, np.zeros_like(parameters), nothing, nothing)
        statistics = np.ones(layout.statistics, layout.dtype)
        unit = unit_for(compute_dtype)
        self.trainer = Trainer(layout, learnt, statistics, batch_size, Objective(), unit)
        self.trainer.pack()
        self.x = generator.random((batch_size, layout.layers[0].columns), np.float32)
        classes = generator.integers(0, layout.layers[-1].outputs, batch_size)
        self.batch = batch_size
        self.data = data_of(self.x, classes, np.arange(0), np.zeros(0, layout.dtype))
        self.steps = 1

    def seconds(self, steps: int) -> float:
        """Seconds per step, in a trial of so many."""
        order = np.tile(np.arange(self.batch), steps)
        schedule = np.zeros((steps, len(self.trainer.layout.groups) * FACTORS), self.x.dtype)
        out = StepFigures(np.zeros(steps), np.zeros(steps), np.empty(0))
        data = self.data._replace(order=order, scales=np.zeros(steps, self.x.dtype))
        started = time.perf_counter()
        self.trainer.train(data, schedule, 0, steps, out)
        return (time.perf_counter() - started) / steps


def infer(
    layout: Layout, flat: Flat, x: np.ndarray, unit: Unit = FLOATS, *, finite: bool = False
) -> np.ndarray:
    """The network's outputs for the rows of x, (N, K), batch norm by its running statistics.

    x : (N, D) uint8, float32 or float64, any strides, read in place.    unit : what multiplies
    finite : whether the caller knows that all weights are finite. A few rows then take less time,
        since weights that meet a zero need not be read; an infinity or NaN among them would be
        missed.
    """
    dtype = layout.dtype
    out = np.empty((len(x), layout.layers[-1].outputs), dtype)
    if len(x) <= FEW_ROWS:
        scratch = np.empty(4 * layout.widest, dtype), np.empty(layout.widest, np.int64)
        infer_few_rows(out, layout.table, flat, tuple(strided(x)), unit, finite, *scratch)
        return out
    weights = aligned_zeros(layout.packed, dtype)
    wanted = threads.count_for(layout.parameters)
    threads.run(move_buffer, wanted, (layout.table, weights, flat.parameters, False))
    network = PackedWeights(layout.table, flat, weights, unit)
    for first in range(0, len(x), ROWS_PER_CALL):
        rows = slice(first, first + ROWS_PER_CALL)
        _infer_packed(out[rows], layout, network, x[rows])
    return out


def _infer_packed(out: np.ndarray, layout: Layout, network: PackedWeights, x: np.ndarray) -> None:
    """``infer`` from packed weights, for as many rows as one call takes."""
    # Chunks are so small that every thread has one, even where all rows would fit in one chunk.
    wanted = threads.count_for(layout.multiply_adds * len(out))
    rows = min(INFERENCE_ROWS, -(-len(out) // wanted))
    chunk_rows = geometry_of(rows, layout.dtype, network.unit).chunk_rows
    geometry = Geometry(len(out), chunk_rows, pitch_of(chunk_rows))
    blocks = WorkspaceBlocks(wanted * layout.widest * geometry.pitch, by_feature=True)
    scratch = scratch_size(network.unit, layout.widest, 0, layout.dtype)
    workspace = allocate_workspace(
        network.unit, layout.dtype, [blocks, blocks], [], wanted * scratch
    )
    taken = np.zeros(1, np.int64)
    arguments = out.reshape(-1), network, strided(x), geometry, workspace, taken
    threads.run(infer_rows, wanted, arguments)
