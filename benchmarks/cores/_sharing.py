"""Which core computes, reads and writes what in every phase of a training step.

A step is cut as the kernels cut it, by their own functions: whole tiles, in contiguous stretches.
Memory is seen in cache lines. What is described are linear layers with biases, softmax
cross-entropy and momentum in the tiles of the gradient, for a batch that lies in one chunk, in
products of floats.

    forward l           reads the input of layer l, W_l and b_l; writes its output
    loss                reads the last output and the labels; writes d of it, and a loss per row
    input gradient l    reads d_l, W_l and the input of layer l; writes d_(l-1)
    update l            reads the input of layer l and d_l; changes W_l, b_l and their velocities
    gather              writes the next batch and its labels
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numba
import numpy as np

from fastmlp._layout import LayerSpec, Layout
from fastmlp.kernels._geometry import geometry_of, padded_width
from fastmlp.kernels._host import lanes, tile_rows
from fastmlp.kernels._jit import OPTIONS
from fastmlp.kernels._sync import share
from fastmlp.kernels.activation import NO_ACTIVATION
from fastmlp.kernels.matmul import PanelTiles, _panel_tiles, _panels_of_share
from fastmlp.threads import SLOT, Team

LINE = 64
_LOSS_BYTES = 8


class Stage(NamedTuple):
    """A piece of a step that every core has a share of."""

    kind: str
    layer: int


GATHER = Stage("gather", 0)


class Share(NamedTuple):
    """What one core does of a stage.

    tiles, panels : of what one core alone would do; panels that several cores need, each prepares
    touched : lines that it reads or writes    written : those that it writes; some may be named
        more than once
    """

    tiles: float
    panels: float
    touched: np.ndarray
    written: np.ndarray


@numba.njit(**OPTIONS)
def _share(team, total):
    return share(team, total)


@numba.njit(**OPTIONS)
def _panels(team, blocks, tiles, out):
    begin, end = share(team, tiles * blocks)
    count = 0
    for panel in range(*_panels_of_share(blocks, tiles, begin, end)):
        own = _panel_tiles(blocks, panel, tiles, begin, end)
        out[count, 0], out[count, 1], out[count, 2], out[count, 3] = own
        count += 1
    return count


_NO_COUNTERS = np.zeros(SLOT, np.int64)


def share_of(part: int, parts: int, total: int) -> range:
    """The pieces of work, of ``total``, that are a core's."""
    return range(*_share(Team(part, parts, _NO_COUNTERS), total))


@lru_cache(maxsize=1 << 16)
def panels_of(part: int, parts: int, blocks: int, tiles: int) -> list[PanelTiles]:
    """A core's panels of a product with ``blocks`` vectors of columns and ``tiles`` tiles down.

    Its stretch may begin within a tile that another core computes, and then it may have none of the
    tiles of its first panel.
    """
    out = np.zeros((blocks, 4), np.int64)
    count = _panels(Team(part, parts, _NO_COUNTERS), blocks, tiles, out)
    return [PanelTiles(*row) for row in out[:count].tolist()]


def tiles_of(part: int, parts: int, blocks: int, tiles: int) -> list[PanelTiles]:
    """The same, without panels of which the core has no tiles."""
    return [own for own in panels_of(part, parts, blocks, tiles) if own.first < own.last]


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


class Step:
    """A step of a network on batches of ``rows`` rows.

    Raises ValueError where a batch would lie in several chunks.
    """

    def __init__(self, sizes: tuple[int, ...], rows: int, dtype: Any) -> None:
        self.sizes, self.rows, self.dtype = sizes, rows, np.dtype(dtype)
        self.lanes, self.height = lanes(self.dtype.itemsize), tile_rows(self.dtype.itemsize)
        geometry = geometry_of(rows, self.dtype)
        if geometry.chunks > 1:
            raise ValueError(f"a batch must lie in one chunk, got {rows} rows in {geometry.chunks}")
        self.pitch = geometry.pitch
        layers = [LayerSpec(a, b, NO_ACTIVATION, True, False) for a, b in pairwise(sizes)]
        self.layout = Layout(layers, self.dtype)

    @property
    def layers(self) -> int:
        return len(self.sizes) - 1

    @property
    def phases(self) -> list[list[Stage]]:
        """The stages between two barriers, from the first forward to the gather of the next."""
        last = self.layers - 1
        whole_rows = len(tiles_of(0, 1, self.blocks(self.sizes[-1]), 1)) == 1
        found = [[Stage("forward", layer)] for layer in range(self.layers)]
        loss = Stage("loss", last)
        if whole_rows:
            found[-1].append(loss)
        else:
            found.append([loss])
        phase = [Stage("sum of losses", last)]
        for layer in range(last, 0, -1):
            found.append([*phase, Stage("input gradient", layer)])
            phase = [Stage("update", layer)]
        return [*found, [*phase, Stage("update", 0), GATHER]]

    def share(self, stage: Stage, part: int, parts: int, half: int) -> Share:
        """What a core does of a stage.

        half : of the input buffer, 0 or 1, from which this step reads
        """
        of = {
            "forward": self._forward, "loss": self._loss, "sum of losses": self._sum_of_losses,
            "input gradient": self._input_gradient, "update": self._update, "gather": self._gather,
        }  # fmt: skip
        return of[stage.kind](stage.layer, part, parts, half)

    def blocks(self, width: int) -> int:
        """Vectors that hold so many numbers."""
        return ceil_div(width, self.lanes)

    @cached_property
    def starts(self) -> dict[str, int]:
        """The first line of every array, and, under "end", how many there are."""
        vector = self.lanes * self.dtype.itemsize
        activations = self.pitch * sum(map(self.blocks, self.sizes[1:])) * vector
        parameters = self.layout.packed * self.dtype.itemsize
        sizes = {
            "inputs": 2 * self.pitch * self.blocks(self.sizes[0]) * vector,
            "activations": activations, "deltas": activations,
            "parameters": parameters, "velocities": parameters, "gradients": parameters,
            "labels": self.rows * self.blocks(self.sizes[-1]) * vector,
            "row_weights": self.rows * self.dtype.itemsize,
            "losses": self.rows * _LOSS_BYTES, "errors": self.rows * _LOSS_BYTES,
        }  # fmt: skip
        starts, at = {}, 0
        for name, size in sizes.items():
            starts[name] = at
            at += ceil_div(size, LINE)
        return starts | {"end": at}

    def _lines(self, array: str, vectors: np.ndarray | range) -> np.ndarray:
        """Lines of vectors of an array, counted from its first."""
        size = self.lanes * self.dtype.itemsize
        return np.asarray(vectors, np.int64).ravel() * size // LINE + self.starts[array]

    def _numbers(self, array: str, rows: range, itemsize: int) -> np.ndarray:
        """Lines of an array with a number of ``itemsize`` bytes for each row."""
        return np.asarray(rows, np.int64) * itemsize // LINE + self.starts[array]

    def _in_blocks(self, array: str, at: int, blocks: range, rows: range) -> np.ndarray:
        """Lines of some rows of some blocks of a batch that begins at a vector of an array."""
        return self._lines(array, at + np.add.outer(self.pitch * np.array(blocks, int), rows))

    def _output(self, array: str, layer: int, blocks: range, rows: range) -> np.ndarray:
        """The same of a layer's outputs, activations or deltas."""
        at = self.pitch * sum(map(self.blocks, self.sizes[1 : layer + 1]))
        return self._in_blocks(array, at, blocks, rows)

    def _input(self, layer: int, half: int, blocks: range, rows: range) -> np.ndarray:
        """The same of what a layer reads."""
        if layer > 0:
            return self._output("activations", layer - 1, blocks, rows)
        at = half * self.pitch * self.blocks(self.sizes[0])
        return self._in_blocks("inputs", at, blocks, rows)

    def _weights(self, array: str, layer: int, panel: PanelTiles, rows: range) -> np.ndarray:
        """Lines of some rows of a panel of a layer's weights, or of their velocities."""
        padded = padded_width(self.sizes[layer], self.dtype)
        at = int(self.layout.table["packed_w"][layer]) // self.lanes + panel.block * padded
        return self._lines(
            array, range(at + rows.start * panel.vectors, at + rows.stop * panel.vectors)
        )

    def _biases(self, array: str, layer: int, blocks: range) -> np.ndarray:
        at = int(self.layout.table["packed_b"][layer]) // self.lanes
        return self._lines(array, range(at + blocks.start, at + blocks.stop))

    def _rows_of(self, tiles: PanelTiles) -> range:
        return range(tiles.first * self.height, tiles.last * self.height)

    def _forward(self, layer: int, part: int, parts: int, half: int) -> Share:
        inputs, blocks = self.sizes[layer], self.blocks(self.sizes[layer + 1])
        tiles = ceil_div(self.rows, self.height)
        mine, read, written = tiles_of(part, parts, blocks, tiles), [], []
        for own in mine:
            columns, rows = range(own.block, own.block + own.vectors), self._rows_of(own)
            read.append(self._input(layer, half, range(self.blocks(inputs)), rows))
            read.append(self._weights("parameters", layer, own, range(inputs)))
            read.append(self._biases("parameters", layer, columns))
            written.append(self._output("activations", layer, columns, rows))
        return _product(mine, tiles * blocks, blocks, read, written)

    def _input_gradient(self, layer: int, part: int, parts: int, half: int) -> Share:
        inputs, outputs = self.blocks(self.sizes[layer]), self.blocks(self.sizes[layer + 1])
        tiles = ceil_div(self.rows, self.height)
        # Every panel is transposed, even one without tiles.
        mine, read, written = panels_of(part, parts, inputs, tiles), [], []
        for own in mine:
            blocks, rows = range(own.block, own.block + own.vectors), self._rows_of(own)
            read.append(self._output("deltas", layer, range(outputs), rows))
            features = range(blocks.start * self.lanes, blocks.stop * self.lanes)
            read += [
                self._weights("parameters", layer, panel, features)
                for panel in tiles_of(0, 1, outputs, 1)
            ]
            read.append(self._input(layer, half, blocks, rows))
            written.append(self._output("deltas", layer - 1, blocks, rows))
        return _product(mine, tiles * inputs, inputs, read, written)

    def _update(self, layer: int, part: int, parts: int, half: int) -> Share:
        blocks, batch = self.blocks(self.sizes[layer + 1]), range(self.rows)
        tiles = ceil_div(self.sizes[layer], self.height)
        mine, read, written = tiles_of(part, parts, blocks, tiles), [], []
        for own in mine:
            features = self._rows_of(own)
            under = range(features.start // self.lanes, self.blocks(features.stop))
            read.append(self._input(layer, half, under, batch))
            columns = range(own.block, own.block + own.vectors)
            read.append(self._output("deltas", layer, columns, batch))
            written.append(self._weights("parameters", layer, own, features))
            written.append(self._weights("velocities", layer, own, features))
        biases = share_of(part, parts, blocks)
        read.append(self._output("deltas", layer, biases, batch))
        written += [
            self._biases(array, layer, biases)
            for array in ("gradients", "parameters", "velocities")
        ]
        return _product(mine, tiles * blocks, blocks, read, written)

    def _loss(self, layer: int, part: int, parts: int, half: int) -> Share:
        """Of the rows whose logits the core computed, where they lie in one panel."""
        blocks = self.blocks(self.sizes[-1])
        stretch = share_of(part, parts, ceil_div(self.rows, self.height) * blocks)
        first, last = (
            min(self.rows, ceil_div(end, blocks) * self.height)
            for end in (stretch.start, stretch.stop)
        )
        rows, all_blocks = range(first, last), range(blocks)
        read = [
            self._output("activations", layer, all_blocks, rows),
            self._lines("labels", range(first * blocks, last * blocks)),
            self._numbers("row_weights", rows, self.dtype.itemsize),
        ]
        written = [
            self._output("deltas", layer, all_blocks, rows),
            *(self._numbers(array, rows, _LOSS_BYTES) for array in ("losses", "errors")),
        ]
        # Rows are worked on as many at a time as a vector has lanes.
        work = self.blocks(len(rows)) / self.blocks(self.rows)
        return _share_of(work, 0.0, read, written)

    def _sum_of_losses(self, layer: int, part: int, parts: int, half: int) -> Share:
        """Every core adds up all of them."""
        return _share_of(0.0, 0.0, [self._numbers("losses", range(self.rows), _LOSS_BYTES)], [])

    def _gather(self, layer: int, part: int, parts: int, half: int) -> Share:
        """The next step's rows, into the other half; and the first core adds up the errors."""
        rows, labels = share_of(part, parts, self.rows), self.blocks(self.sizes[-1])
        read = [self._numbers("errors", range(self.rows * (part == 0)), _LOSS_BYTES)]
        written = [
            self._input(0, 1 - half, range(self.blocks(self.sizes[0])), rows),
            self._lines("labels", range(rows.start * labels, rows.stop * labels)),
            self._numbers("row_weights", rows, self.dtype.itemsize),
        ]
        return _share_of(len(rows) / self.rows, 0.0, read, written)


def _product(
    mine: list[PanelTiles],
    work: int,
    blocks: int,
    read: list[np.ndarray],
    written: list[np.ndarray],
) -> Share:
    """A share of the tiles of a product: of ``work`` vectors of tiles in ``blocks`` of columns."""
    tiles = sum(own.vectors * (own.last - own.first) for own in mine)
    return _share_of(tiles / work, sum(own.vectors for own in mine) / blocks, read, written)


def _share_of(
    tiles: float, panels: float, read: list[np.ndarray], written: list[np.ndarray]
) -> Share:
    none = np.empty(0, np.int64)
    return Share(
        tiles, panels, np.concatenate([none, *read, *written]), np.concatenate([none, *written])
    )
