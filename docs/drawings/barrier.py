"""Three threads in two phases, the barrier between them, and its counter."""

from __future__ import annotations

from benchmarks.pictures import AMBER, BLUE, GREEN, RED

from ._svg import Drawing

# Where each thread ends its share of each phase, in pixels; the last one opens the barrier.
ENDS = (250, 330, 290), (560, 520, 620)
LEFT, TOP, ROW, SPACE = 90, 60, 34, 22
OPENING = 8


def draw() -> Drawing:
    threads = len(ENDS[0])
    drawing = Drawing(720, TOP + threads * (ROW + SPACE) + 96, "Threads meet at barriers")
    begin, count = LEFT, 0
    for phase, (ends, colour) in enumerate(zip(ENDS, (BLUE, GREEN), strict=True)):
        last = max(ends)
        for thread, end in enumerate(ends):
            y = TOP + thread * (ROW + SPACE)
            drawing.box(begin, y, end - begin, ROW, colour, 0.15)
            drawing.text(begin + 8, y + 22, f"its share of phase {phase + 1}", size=12)
            drawing.box(end, y, last - end, ROW, AMBER, 0)
            if last - end > 30:
                drawing.text((end + last) / 2, y + 22, "looks", anchor="middle", size=12)
            drawing.line(end, y - 4, end, y + ROW + 4, RED, width=2)
        bottom = TOP + threads * (ROW + SPACE)
        drawing.line(last + 2, TOP - 22, last + 2, bottom, dashed=True)
        drawing.text(last + 2, TOP - 28, "barrier", anchor="middle")
        for end in sorted(ends):
            count += 1
            drawing.text(end, bottom + 18, str(count), anchor="middle", colour=RED)
        begin = last + OPENING
    for thread in range(threads):
        drawing.text(12, TOP + thread * (ROW + SPACE) + 22, f"thread {thread}")
    bottom = TOP + threads * (ROW + SPACE)
    drawing.text(12, bottom + 18, "counter", colour=RED)
    rule = f"Each arrival adds 1. Who has arrived waits until the counter is {threads} times the"
    drawing.text(12, bottom + 48, rule)
    drawing.text(12, bottom + 66, "number of barriers that it has come to, and then goes on.")
    return drawing
