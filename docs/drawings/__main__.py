"""``python -m docs.drawings``: write the drawings of the pages on how it works, and a table."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.compare._readme import rewrite
from benchmarks.compare._tables import markdown_table
from benchmarks.cores._record import label

from . import barrier, memory, step, tile

DOCS = Path(__file__).parent.parent
RECORD = DOCS.parent / "benchmarks" / "results" / "cores.json"
PAGE = DOCS / "how-it-works" / "barrier.md"
DRAWINGS = {"barrier": barrier, "memory": memory, "step": step, "tile": tile}


def costs() -> str:
    """What barriers cost the networks of the record, on two cores, as a table."""
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    each = record["costs"]["barrier"]
    rows = []
    for row in record["rows"]:
        work, lines, barriers = row["cores"][1]["parts"]
        whole = work + lines + barriers
        rows.append([
            label(row), str(row["batch"]), f"{barriers / each:.0f}", f"{1e9 * barriers:.0f}",
            f"{1e6 * lines:.1f}", f"{1e6 * whole:.0f}", f"{barriers / whole:.2%}",
            f"{lines / whole:.1%}",
        ])  # fmt: skip
    head = [
        "network", "batch", "barriers a step", "ns", "lines, µs", "step, µs", "barriers' share",
        "lines' share",
    ]  # fmt: skip
    return (
        f"{markdown_table(head, rows)}\n\nTwo threads on two cores: a barrier costs "
        f"{1e9 * each:.0f} ns, a cache line that the other core has changed "
        f"{1e9 * record['costs']['line']:.1f} ns. Steps by [the model](../cores.md) of them. "
        f"{record['machine']['cpu']}, {record['date']}."
    )


def main() -> None:
    for name, module in DRAWINGS.items():
        path = DOCS / "images" / f"{name}.svg"
        path.write_text(str(module.draw()), encoding="utf-8")
        print(path.relative_to(DOCS.parent))
    rewrite(PAGE, costs(), "costs")


if __name__ == "__main__":
    main()
