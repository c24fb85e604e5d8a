"""The register tile on AVX-512 in float32: what lies in registers in one turn of its loop."""

from __future__ import annotations

from benchmarks.pictures import AMBER, BLUE, GREEN, RED
from fastmlp.kernels._host import TILE_VECTORS, Registers, shape_for

from ._svg import Drawing

AVX512 = Registers(512, 32)
CELL, ROW, GAP = 160, 26, 4
LEFT, TOP = 170, 130


def draw() -> Drawing:
    shape = shape_for(AVX512, 4)
    rows, vectors, lanes = shape.rows, TILE_VECTORS, shape.lanes
    width, height = LEFT + vectors * (CELL + GAP) + 40, TOP + rows * (ROW + GAP) + 96
    drawing = Drawing(width, height, f"A register tile of {rows} rows and {vectors} vectors")
    chosen_row, chosen_vector = 0, 0

    drawing.text(LEFT, 22, "b(k, v): row k of a panel of weights", colour=AMBER)
    for v in range(vectors):
        x = LEFT + v * (CELL + GAP)
        drawing.box(x, 34, CELL, ROW, AMBER, 0.3 if v == chosen_vector else 0.12)
        for lane in range(1, lanes):
            at = x + lane * CELL / lanes
            drawing.line(at, 34, at, 34 + ROW, AMBER, width=0.5)
        drawing.text(x + CELL / 2, 76, f"{lanes} numbers, one load", anchor="middle", size=11)
    middle = LEFT + chosen_vector * (CELL + GAP) + CELL / 2
    chosen_y = TOP + chosen_row * (ROW + GAP)
    drawing.line(middle, 84, middle, chosen_y - 3, arrow=True)

    drawing.text(12, TOP - 28, "a(k, r): number k", colour=BLUE)
    drawing.text(12, TOP - 12, f"of {rows} rows", colour=BLUE)
    for r in range(rows):
        y = TOP + r * (ROW + GAP)
        drawing.box(60, y, 34, ROW, BLUE, 0.4 if r == chosen_row else 0.12)
        for v in range(vectors):
            x = LEFT + v * (CELL + GAP)
            chosen = r == chosen_row and v == chosen_vector
            drawing.box(x, y, CELL, ROW, RED if chosen else GREEN, 0.22 if chosen else 0.1)
            label = f"C[{r}, {v}] += a · b" if chosen else f"C[{r}, {v}]"
            drawing.text(x + CELL / 2, y + 18, label, anchor="middle", size=11, code=True)
    drawing.line(98, chosen_y + ROW / 2, LEFT - 3, chosen_y + ROW / 2, arrow=True)
    drawing.text(104, chosen_y + ROW / 2 - 7, "in all lanes", size=11)

    sums, spare = rows * vectors, AVX512.count - rows * vectors - vectors - 1
    y = TOP + rows * (ROW + GAP) + 28
    drawing.text(
        12, y, f"{sums} sums + {vectors} of b + 1 for a = {sums + vectors + 1} registers of "
        f"{AVX512.count}; {spare} to spare",
    )  # fmt: skip
    drawing.text(
        12, y + 22, f"a turn: {vectors} loads, {rows} broadcasts, {sums} multiply-adds of "
        f"{lanes} numbers",
    )  # fmt: skip
    drawing.text(12, y + 44, "then k + 1: the next row of the panel, the next number of each row")
    return drawing
