"""What the cores of a team do in a step, number by number, and a network for that."""

import itertools
from collections import defaultdict

from benchmarks.compare._workloads import Workload
from benchmarks.cores._sharing import LINE
from benchmarks.networks import Network
from fastmlp import engine

TINY = Workload("tiny", "tiny", "train", Network((37, 70, 18, 10), "sigmoid", 19, 0.1))


def let_threads_help(monkeypatch):
    """Train even a tiny network on several threads, with scratch for each."""
    monkeypatch.setattr(engine, "STEP_WORK_PER_THREAD", 1)


def cut(blocks):
    """[(first block, width)] of panels of at most three vectors: one, or an even number of them."""
    count = next(c for c in itertools.count(1) if 3 * c >= blocks and (c == 1 or c % 2 == 0))
    starts = [panel * blocks // count for panel in range(count + 1)]
    return [(a, b - a) for a, b in itertools.pairwise(starts)]


def tiles_by_hand(part, parts, blocks, tiles):
    """{(first block, width, tile)}: every tile is of whoever has the first of its vectors."""
    place, mine = 0, set()
    for block, width in cut(blocks):
        for tile in range(tiles):
            if part * blocks * tiles // parts <= place < (part + 1) * blocks * tiles // parts:
                mine.add((block, width, tile))
            place += width
    return mine


class Numbers:
    """What every core touches and changes in a step, as sets of numbers; the layouts by hand."""

    def __init__(self, step, part, parts, half):
        self.s, self.part, self.parts, self.half = step, part, parts, half
        self.tall = -(-step.rows // step.height)

    def blocks(self, width):
        return -(-width // self.s.lanes)

    def at(self, base, row, feature):
        v = self.s.lanes
        return base + (feature // v * self.s.pitch + row) * v + feature % v

    def size(self, width):
        return self.blocks(width) * self.s.lanes * self.s.pitch

    def output(self, array, layer, row, feature):
        base = sum(map(self.size, self.s.sizes[1 : layer + 1]))
        return array, self.at(base, row, feature)

    def input(self, layer, row, feature, half=None):
        if layer > 0:
            return self.output("activations", layer - 1, row, feature)
        half = self.half if half is None else half
        return "inputs", self.at(half * self.size(self.s.sizes[0]), row, feature)

    def weight(self, array, layer, row, column):
        v, table = self.s.lanes, self.s.layout.table[layer]
        block = column // v
        start, width = next(
            (a, w) for a, w in cut(self.blocks(self.s.sizes[layer + 1])) if a <= block < a + w
        )
        padded = self.blocks(self.s.sizes[layer]) * v
        at = start * v * padded + row * width * v + column - start * v
        return array, int(table["packed_w"]) + at

    def bias(self, array, layer, column):
        return array, int(self.s.layout.table["packed_b"][layer]) + column

    def columns(self, block, width=1):
        return range(block * self.s.lanes, (block + width) * self.s.lanes)

    def rows_of(self, tile):
        return range(tile * self.s.height, (tile + 1) * self.s.height)

    def forward(self, layer):
        inputs, read, written = self.s.sizes[layer], set(), set()
        blocks = self.blocks(self.s.sizes[layer + 1])
        for block, width, tile in tiles_by_hand(self.part, self.parts, blocks, self.tall):
            for row, column in itertools.product(self.rows_of(tile), self.columns(block, width)):
                written.add(self.output("activations", layer, row, column))
                read.add(self.bias("parameters", layer, column))
            for row, k in itertools.product(self.rows_of(tile), range(inputs)):
                read.add(self.input(layer, row, k))
            for k, column in itertools.product(range(inputs), self.columns(block, width)):
                read.add(self.weight("parameters", layer, k, column))
        return read, written

    def input_gradient(self, layer):
        outputs, read, written = self.s.sizes[layer + 1], set(), set()
        blocks = self.blocks(self.s.sizes[layer])
        begin, end = (p * blocks * self.tall // self.parts for p in (self.part, self.part + 1))
        # Panels are transposed by whole squares, and by all who have a piece of them, be it within
        # another's tile.
        for block, width in cut(blocks):
            if begin < end and begin < (block + width) * self.tall and block * self.tall < end:
                padded = range(self.blocks(outputs) * self.s.lanes)
                for k, column in itertools.product(padded, self.columns(block, width)):
                    read.add(self.weight("parameters", layer, column, k))
        for block, width, tile in tiles_by_hand(self.part, self.parts, blocks, self.tall):
            for row, column in itertools.product(self.rows_of(tile), self.columns(block, width)):
                written.add(self.output("deltas", layer - 1, row, column))
                read.add(self.input(layer, row, column))
            for row, k in itertools.product(self.rows_of(tile), range(outputs)):
                read.add(self.output("deltas", layer, row, k))
        return read, written

    def update(self, layer):
        read, written, batch = set(), set(), range(self.s.rows)
        blocks = self.blocks(self.s.sizes[layer + 1])
        down = -(-self.s.sizes[layer] // self.s.height)
        for block, width, tile in tiles_by_hand(self.part, self.parts, blocks, down):
            for row, k in itertools.product(batch, self.rows_of(tile)):
                read.add(self.input(layer, row, k))
            for row, column in itertools.product(batch, self.columns(block, width)):
                read.add(self.output("deltas", layer, row, column))
            for k, column in itertools.product(self.rows_of(tile), self.columns(block, width)):
                written.add(self.weight("parameters", layer, k, column))
                written.add(self.weight("velocities", layer, k, column))
        for block in range(
            self.part * blocks // self.parts, (self.part + 1) * blocks // self.parts
        ):
            for column in self.columns(block):
                for array in ("gradients", "parameters", "velocities"):
                    written.add(self.bias(array, layer, column))
                read |= {self.output("deltas", layer, row, column) for row in batch}
        return read, written

    def loss(self, layer):
        blocks = self.blocks(self.s.sizes[-1])
        first, last = (
            -(-(part * self.tall * blocks // self.parts) // blocks) * self.s.height
            for part in (self.part, self.part + 1)
        )
        read, written = set(), set()
        for row in range(first, min(last, self.s.rows)):
            for k in range(blocks * self.s.lanes):
                read |= {self.output("activations", layer, row, k)}
                read |= {("labels", row * blocks * self.s.lanes + k)}
                written.add(self.output("deltas", layer, row, k))
            read.add(("row_weights", row))
            written |= {("losses", row), ("errors", row)}
        return read, written

    def sum_of_losses(self, layer):
        return {("losses", row) for row in range(self.s.rows)}, set()

    def gather(self, layer):
        read, written = set(), set()
        if self.part == 0:
            read = {("errors", row) for row in range(self.s.rows)}
        rows, width = self.s.rows, self.blocks(self.s.sizes[-1]) * self.s.lanes
        for row in range(self.part * rows // self.parts, (self.part + 1) * rows // self.parts):
            padded = self.blocks(self.s.sizes[0]) * self.s.lanes
            written |= {self.input(0, row, k, 1 - self.half) for k in range(padded)}
            written |= {("labels", row * width + k) for k in range(width)}
            written.add(("row_weights", row))
        return read, written


def lines_of(numbers, itemsize):
    sizes = defaultdict(lambda: itemsize, losses=8, errors=8)
    return {(array, at * sizes[array] // LINE) for array, at in numbers}
