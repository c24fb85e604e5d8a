"""A layer's weights as the network has them and as the engine has them, and a batch in blocks."""

from __future__ import annotations

from benchmarks.pictures import AMBER, BLUE, GREEN, PURPLE

from ._svg import Drawing

LANES = 16
# Of 5 vectors of columns: two panels, of two and of three.
PANELS, INPUTS = (2, 3), 6
COLOURS = GREEN, AMBER
UNIT, ROW = 52, 20


def _matrix(drawing: Drawing, x: float, y: float) -> None:
    """W with its panels next to each other, and in what order each is read."""
    at = x
    for panel, (vectors, colour) in enumerate(zip(PANELS, COLOURS, strict=True)):
        for row in range(INPUTS):
            drawing.box(at, y + row * ROW, vectors * UNIT, ROW, colour, 0.22 - 0.03 * row)
        middle = at + vectors * UNIT / 2
        drawing.text(middle, y + 15, f"{vectors * LANES} numbers", anchor="middle", size=11)
        drawing.text(
            middle, y + INPUTS * ROW + 18, f"panel {panel}", anchor="middle", colour=colour
        )
        drawing.line(middle, y + ROW + 4, middle, y + INPUTS * ROW - 4, arrow=True)
        at += vectors * UNIT


def _tape(drawing: Drawing, y: float, pieces: list[tuple[float, str, str]], title: str) -> None:
    """Memory from left to right: (width, colour, label) of each piece."""
    drawing.text(12, y - 8, title)
    at = 12.0
    for width, colour, label in pieces:
        drawing.box(at, y, width, ROW + 4, colour)
        drawing.text(at + width / 2, y + 16, label, anchor="middle", size=11)
        at += width


def draw() -> Drawing:
    columns = sum(PANELS) * LANES
    drawing = Drawing(720, 560, "Weights in rows and in panels, and activations in blocks")
    drawing.text(12, 22, f"W of a layer, {INPUTS} inputs and {columns} outputs")
    _matrix(drawing, 12, 34)
    drawing.text(330, 64, "layer.W, a view of mlp.parameters:", code=True, size=12)
    drawing.text(330, 84, "row by row, over both panels")
    drawing.text(330, 118, "the engine's packed buffer:")
    drawing.text(330, 138, "panel by panel, each row by row, so that a tile")
    drawing.text(330, 156, "reads its weights from one end to the other")

    whole = 640 / (INPUTS / 2 + 0.4)
    rows = [(whole, PURPLE, f"row {r}: {columns}") for r in range(3)] + [(60, PURPLE, "...")]
    _tape(drawing, 224, rows, "flat: W of layer 0, its b, then W of layer 1 ...")
    share = 640 / (2.2 * sum(PANELS))
    packed = []
    for panel, (vectors, colour) in enumerate(zip(PANELS, COLOURS, strict=True)):
        for row in range(2):
            packed.append((vectors * share, colour, f"panel {panel}, row {row}"))
        packed.append((share * 0.5, colour, "..."))
    _tape(drawing, 288, packed, "packed: panel 0 with all its rows, then panel 1")

    drawing.text(12, 352, f"a batch in blocks of {LANES} features: block, then row, then feature")
    for block in range(3):
        x = 12 + block * 190
        for row in range(5):
            last = row == 4
            drawing.box(x, 364 + row * ROW, 150, ROW, BLUE, 0.0 if last else 0.2 - 0.03 * row)
            words = "an empty row" if last else f"row {row}: features {block * LANES} ..."
            drawing.text(x + 75, 379 + row * ROW, words, anchor="middle", size=11)
        if block < 2:
            drawing.line(x + 153, 364 + 4.5 * ROW, x + 187, 374, arrow=True)
    words = (
        f"A tile reads number k of several rows, which lie {LANES} numbers apart, and for",
        "k + 1 their neighbours. A weight gradient reads the same block along the rows.",
        "The empty row keeps blocks from lying a multiple of 2,048 bytes apart.",
    )
    for line, text in enumerate(words):
        drawing.text(12, 496 + 20 * line, text)
    return drawing
