"""The phases of a training step of three layers, and what each reads and writes."""

from __future__ import annotations

from benchmarks.pictures import AMBER, BLUE, GREEN, PURPLE, RED

from ._svg import Drawing

# (title, colour, what it computes) of each piece of work, phase by phase.
FORWARD, LOSS, BACKWARD, UPDATE, GATHER = BLUE, PURPLE, GREEN, RED, AMBER
PHASES = (
    ((FORWARD, "a0 = act(x @ W0 + b0)"),),
    ((FORWARD, "a1 = act(a0 @ W1 + b1)"),),
    ((FORWARD, "z2 = a1 @ W2 + b2"), (LOSS, "loss and d2, row by row")),
    ((BACKWARD, "d1 = (d2 @ W2.T) * act'"),),
    ((UPDATE, "W2 by a1.T @ d2"), (BACKWARD, "d0 = (d1 @ W1.T) * act'")),
    ((UPDATE, "W1 by a0.T @ d1"), (UPDATE, "W0 by x.T @ d0"), (GATHER, "the next batch")),
)
LEGEND = (
    (FORWARD, "forward"), (LOSS, "loss"), (BACKWARD, "input gradient"),
    (UPDATE, "weight gradient and update"), (GATHER, "gather"),
)  # fmt: skip
WIDTH, ROW, GAP, LEFT, TOP = 190, 30, 10, 100, 56


def draw() -> Drawing:
    height = TOP + len(PHASES) * (ROW + GAP) + 40
    drawing = Drawing(720, height, "The phases of a training step")
    at = 12
    for colour, name in LEGEND:
        drawing.box(at, 14, 14, 14, colour, 0.4)
        drawing.text(at + 20, 26, name, size=12)
        at += 42 + 7 * len(name)
    for number, works in enumerate(PHASES):
        y = TOP + number * (ROW + GAP)
        drawing.text(12, y + 20, f"phase {number + 1}")
        for place, (colour, words) in enumerate(works):
            x = LEFT + place * (WIDTH + 8)
            drawing.box(x, y, WIDTH, ROW, colour)
            drawing.text(x + WIDTH / 2, y + 19, words, anchor="middle", size=12, code=True)
        line = y + ROW + GAP / 2
        drawing.line(12, line, 708, line, dashed=True, width=1)
    drawing.text(12, height - 14, "Dashed: a barrier. All threads share the work of each phase.")
    return drawing
