"""Tables and figure of a fit on several machines, from what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..networks import NETWORKS
from ..pictures import COLOURS, picture
from ._measure import NAMES
from ._model import LINKS, MACHINES, Link, Model, Step, fitted

# Share of so many machines' speed that the second table asks for.
EFFICIENCY = 0.5
_SHOWN = (2, 8, 32, 128, 1024)
_TICKS = (2, 8, 32, 128, 512)
# A load above which it is said.
BUSY = 0.5


def model_of(record: dict[str, Any]) -> Model:
    """Of a machine, by its steps alone."""
    return fitted(_steps(record))


def link_of(record: dict[str, Any]) -> Link:
    """What lies between the two processes that were measured."""
    sizes, seconds = (np.array(list(values), float) for values in _items(record["link"]))
    # An exchange is two messages of half the bytes.
    per_byte, start = np.linalg.lstsq(
        np.column_stack([sizes, np.ones(len(sizes))]) / seconds[:, None], np.ones(len(sizes)),
        rcond=None,
    )[0]  # fmt: skip
    return Link(max(start, 0) / 2, 1 / per_byte)


def _items(values: dict[str, float]) -> tuple[list[str], list[float]]:
    return list(values), list(values.values())


def _steps(record: dict[str, Any]) -> list[Step]:
    return [
        Step(name, int(batch), seconds)
        for name, batches in record["alone"].items()
        for batch, seconds in batches.items()
    ]


def sections(record: dict[str, Any]) -> dict[str, str]:
    """The parts of the page by their names."""
    return {
        "ranks-measured": _measured(record),
        "ranks-model": _model(record),
        "ranks-batches": _batches(record),
    }


def _measured(record: dict[str, Any]) -> str:
    lines = [
        "| network | batch | µs, one process, two threads | two processes, one thread each "
        "| of its speed | by messages | of its speed |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in NAMES:
        batch = NETWORKS[name].batch_size
        one, memory, messages = _of_own_batch(record, name)
        lines.append(
            f"| {name} | {batch} | {one * 1e6:,.0f} | {memory * 1e6:,.0f} | {one / memory:.2f} "
            f"| {messages * 1e6:,.0f} | {one / messages:.2f} |"
        )
    busy = f", beside other programs: load {record['load']:.1f} at the start"
    busy = busy if record["load"] > BUSY else ""
    return "\n".join([*lines, "", f"{record['machine']['cpu']}, medians of epochs{busy}."])


def _of_own_batch(record: dict[str, Any], name: str) -> tuple[float, float, float]:
    one: float = record["alone"][name][str(NETWORKS[name].batch_size)]
    return one, record["memory"][name], record["messages"][name]


def _model(record: dict[str, Any]) -> str:
    model, link = model_of(record), link_of(record)
    off = [
        model.seconds(NETWORKS[step.name], step.batch) / step.seconds - 1 for step in _steps(record)
    ]
    machines = "\n".join(
        f"| {name} | {of.latency * 1e6:.1f} | {of.bandwidth / 1e9:.1f} |"
        for name, of in {"two processes here, measured": link, **LINKS}.items()
    )
    speed = 1e-9 / model.operation
    moved = f"{1e-9 / model.byte:,.0f} GB/s" if model.byte > 0 else "nothing for bytes"
    return (
        f"Fitted to {len(off)} measured steps: {speed:,.0f} Gflop/s, {moved}, and "
        f"{model.step * 1e6:.0f} µs a step. The model is {min(off):+.0%} to {max(off):+.0%} off "
        f"them, {np.median(np.abs(off)):.0%} in the median.\n\n"
        f"| network between machines | µs a message | GB/s |\n| --- | ---: | ---: |\n{machines}"
    )


def _batches(record: dict[str, Any]) -> str:
    heads = " | ".join(f"{machines:,}" for machines in _SHOWN)
    lines = [
        f"| | network | {heads} |", f"| --- | --- |{' ---: |' * len(_SHOWN)}",
    ]  # fmt: skip
    for wanted, says in ((0.0, "faster than one"), (EFFICIENCY, "half of their speed")):
        for of_link in LINKS:
            for name in NAMES:
                batches = _batches_of(record, name, of_link, wanted, _SHOWN)
                cells = " | ".join(f"{batch:,}" for batch in batches)
                lines.append(f"| {says}, {of_link} | {name} | {cells} |")
    return "\n".join(lines)


def _batches_of(
    record: dict[str, Any], name: str, link: str, efficiency: float, machines: tuple[int, ...]
) -> list[int]:
    """Rounded up; at least a row for each machine."""
    model, network = model_of(record), NETWORKS[name]
    found = (model.batch_for(network, n, LINKS[link], efficiency) for n in machines)
    return [max(n, int(np.ceil(batch))) for n, batch in zip(machines, found, strict=True)]


def draw(record: dict[str, Any], path: Path) -> None:
    """The batches from which machines help, over their number."""
    with picture(path, 9.6, 4.0) as figure:
        panels = figure.subplots(1, len(LINKS), sharey=True, gridspec_kw={"wspace": 0.06})
        for axes, link in zip(panels, LINKS, strict=True):
            for colour, name in zip(COLOURS, NAMES, strict=False):
                for efficiency, style in ((0.0, "-"), (EFFICIENCY, "--")):
                    batches = _batches_of(record, name, link, efficiency, MACHINES)
                    label = name if efficiency == 0 else None
                    axes.plot(MACHINES, batches, style, color=colour, label=label)
            axes.set_xscale("log", base=2)
            axes.set_xticks(_TICKS, [f"{n:,}" for n in _TICKS])
            axes.set_yscale("log")
            axes.set_title(link)
            axes.set_xlabel("machines")
            axes.grid(alpha=0.3)
        panels[0].set_ylabel("rows of a batch")
        panels[1].legend(title="—: faster than one, - -: half of their speed", fontsize=8)
