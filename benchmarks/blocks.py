"""Fits from files that are larger than the memory: ``python -m benchmarks.blocks WHAT``.

``speed``: microseconds a row of an epoch from an array in memory, from a memory map, and by blocks
from the map and from .npy files; in turns, medians. The file is in the system's cache.
``accuracy``: the test error after some epochs on MNIST sorted by class, the worst order a file can
have, by the rows of a block and of a window; beside a full shuffle and none.
``large``: an epoch on 10 million rows of 784 uint8, in a process whose address space is held to
2 GB, beside the same rows' cost in memory; takes 8 GB of a folder (``--folder``).

``--write`` puts the table into ``docs/large-data.md``, between its marks.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from fastmlp import datasets

from .compare._machine import describe, versions
from .compare._readme import ROOT, rewrite
from .networks import NETWORKS

PAGE = ROOT / "docs" / "large-data.md"
COLUMNS, CLASSES = 784, 10
SPEED_NETWORKS = ("784-512-512-10", "784-128-10", "784-64-64-32-10")
ACCURACY_NETWORK = "784-128-10"
BLOCKS, WINDOWS = (100, 400, 1337), (5_000, 10_000, 20_000, 40_000)
LIMIT = 2 << 30
# Rows that are made, or read into memory for the comparison, at a time.
PIECE, IN_MEMORY = 100_000, 500_000


def write_rows(folder: Path, rows: int) -> tuple[Path, Path]:
    """Files of random pixels and classes, a piece at a time, which are then in the cache."""
    rng = np.random.default_rng(0)
    paths = folder / "x.npy", folder / "y.npy"
    with paths[0].open("wb") as x, paths[1].open("wb") as y:
        for file, shape in ((x, (rows, COLUMNS)), (y, (rows,))):
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
        for first in range(0, rows, PIECE):
            count = min(PIECE, rows - first)
            x.write(rng.bytes(count * COLUMNS))
            y.write(rng.integers(0, CLASSES, count, np.uint8).tobytes())
    return paths


def microseconds(name: str, data: dict[str, Any]) -> float:
    """A row of an epoch."""
    network = NETWORKS[name]
    history = network.build().fit(**data, batch_size=network.batch_size, seed=0)
    return sum(history.epoch_seconds) / (len(history.step_loss) * network.batch_size) * 1e6


def speed(names: Sequence[str], rows: int, rounds: int) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of a table."""
    with tempfile.TemporaryDirectory() as folder:
        x, y = write_rows(Path(folder), rows)
        labels = np.load(y)
        ways: dict[str, dict[str, Any]] = {
            "in memory": {"x": np.load(x), "labels": labels},
            "memory map": {"x": np.load(x, mmap_mode="r"), "labels": labels},
            "map, by blocks": {
                "x": np.load(x, mmap_mode="r"), "labels": labels, "shuffle": "blocks",
            },
            "files, by blocks": {"x": datasets.open_blocks([(x, y)])},
        }  # fmt: skip
        lines = []
        for name in names:
            times: dict[str, list[float]] = {way: [] for way in ways}
            for turn in range(rounds + 1):
                for way, data in ways.items():
                    found = microseconds(name, data)
                    if turn > 0:
                        times[way].append(found)
            base = times["in memory"]
            cells = [f"{statistics.median(base):.2f}"]
            for way in list(ways)[1:]:
                ratios = [a / b for a, b in zip(times[way], base, strict=True)]
                cells.append(
                    f"{statistics.median(times[way]):.2f} ({statistics.median(ratios):.2f})"
                )
            lines.append([name, str(NETWORKS[name].batch_size), *cells])
    return ["network", "batch", *ways], lines


def sorted_mnist() -> tuple[np.ndarray, np.ndarray, datasets.Dataset]:
    data = datasets.load("mnist")
    order = np.argsort(data.train_y, kind="stable")
    return data.train_x[order], data.train_y[order], data


def in_blocks(x: np.ndarray, y: np.ndarray, rows: int) -> list[tuple[np.ndarray, ...]]:
    places = range(rows, len(x), rows)
    return list(zip(np.split(x, places), np.split(y, places), strict=True))


def error_of(data: datasets.Dataset, seed: int, epochs: int, **given: Any) -> float:
    """Of the test rows, in percent, after some epochs from weights of that seed."""
    network = NETWORKS[ACCURACY_NETWORK]
    mlp = network.build(seed=seed)
    mlp.fit(**given, epochs=epochs, batch_size=network.batch_size, seed=seed)
    return 100 * float(mlp.evaluate(data.test_x, data.test_y)[1])


def accuracy(
    seeds: int, epochs: int, blocks: Sequence[int], windows: Sequence[int]
) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of a table: errors, and how much they are above the full shuffle's."""
    x, y, data = sorted_mnist()
    heads = ["rows of a block", *(f"window {window:,}" for window in windows)]
    full = [error_of(data, s, epochs, x=x, labels=y) for s in range(seeds)]
    none = [error_of(data, s, epochs, x=x, labels=y, shuffle=False) for s in range(seeds)]
    empty = [""] * (len(windows) - 1)
    lines = [
        ["full shuffle", _spread(full), *empty],
        ["sorted, no shuffle", _spread(none), *empty],
    ]
    for rows in blocks:
        given, cells = in_blocks(x, y, rows), []
        for window in windows:
            found = [error_of(data, s, epochs, x=given, window=window) for s in range(seeds)]
            above = np.subtract(found, full)
            cells.append(f"{np.mean(found):.2f} ({_difference(above)})")
            print(f"blocks of {rows}, window {window}: {cells[-1]}", flush=True)
        lines.append([f"{rows:,}", *cells])
    return heads, lines


def _spread(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.2f}"


def _difference(values: np.ndarray) -> str:
    """With its standard error: seeds are paired."""
    error = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
    return f"{np.mean(values):+.2f} ± {error:.2f}"


# A process of its own, whose address space is limited once everything is imported.
_CHILD = """
import json, resource, sys
import numpy as np
from benchmarks import blocks
from fastmlp import datasets
from pathlib import Path
name, x, y, limit, rows, steps = sys.argv[1], *map(Path, sys.argv[2:4]), *map(int, sys.argv[4:])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    data = {"x": datasets.open_blocks([(x, y)])}
else:
    data = {"x": np.array(np.load(x, mmap_mode="r")[:rows]), "labels": np.load(y)[:rows]}
took = blocks.microseconds(name, data | {"max_steps": steps or None})
# Not ru_maxrss, which begins with that of the process that this one was forked from.
status = dict(line.split(":") for line in open("/proc/self/status"))
peak = int(status["VmHWM"].split()[0]) << 10
print(json.dumps({"microseconds": took, "peak": peak}))
"""


def in_a_process(
    name: str, paths: tuple[Path, Path], limit: int, rows: int, max_steps: int = 0
) -> dict[str, Any]:
    """Microseconds a row, and the peak of the memory in bytes.

    limit : bytes of address space, in which blocks of all rows are read; 0 for none, and so many
        rows in memory    max_steps : 0 for an epoch
    """
    arguments = [name, *map(str, paths), str(limit), str(rows), str(max_steps)]
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, *arguments], capture_output=True, text=True, check=False,
        cwd=ROOT,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=given) as folder:
        yield Path(folder)


def large(name: str, rows: int, folder: Path | None) -> tuple[list[str], list[list[str]]]:
    """Heads and lines of a table."""
    with _folder(folder) as where:
        paths = write_rows(where, rows)
        size = sum(path.stat().st_size for path in paths)
        print(f"{size / 1e9:.1f} GB were written", flush=True)
        some = min(rows, IN_MEMORY)
        before = in_a_process(name, paths, 0, some)
        found = in_a_process(name, paths, LIMIT, rows)
        after = in_a_process(name, paths, 0, some)
    base = statistics.mean((before["microseconds"], after["microseconds"]))
    heads = [
        "network",
        "rows",
        "GB",
        "GB at the peak",
        "µs a row",
        f"µs of {some:,} in memory",
        "ratio",
    ]
    line = [
        name, f"{rows:,}", f"{size / 1e9:.2f}", f"{found['peak'] / 1e9:.2f}",
        f"{found['microseconds']:.2f}", f"{base:.2f}", f"{found['microseconds'] / base:.2f}",
    ]  # fmt: skip
    return heads, [line]


def markdown(heads: Sequence[str], lines: Sequence[Sequence[str]], note: str) -> str:
    """A table and what it was measured on."""
    rows = [heads, ["---", *["---:"] * (len(heads) - 1)], *lines]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    machine, used = describe(), versions()
    return (
        f"{text}\n\n{note} {machine['cpu']}, {machine['cores']} cores, fastmlp {used['fastmlp']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.blocks", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", choices=("speed", "accuracy", "large"))
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, metavar="NAME")
    parser.add_argument("--rows", type=int, help="600,000 for speed, 10 million for large")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--blocks", type=int, nargs="+", default=BLOCKS)
    parser.add_argument("--windows", type=int, nargs="+", default=WINDOWS)
    parser.add_argument("--folder", type=Path, help="for the rows of large")
    parser.add_argument("--write", action="store_true", help="into docs/large-data.md")
    given = parser.parse_args()
    names = given.networks or SPEED_NETWORKS
    if given.what == "speed":
        found = speed(names, given.rows or 600_000, given.rounds)
        note = (
            f"Microseconds a row of an epoch of {given.rows or 600_000:,} rows of {COLUMNS} uint8, "
            f"and in parentheses beside those in memory; medians of {given.rounds} rounds."
        )
    elif given.what == "accuracy":
        found = accuracy(given.seeds, given.epochs, given.blocks, given.windows)
        note = (
            f"Test error in percent after {given.epochs} epochs of {ACCURACY_NETWORK}, the mean of "
            f"{given.seeds} seeds; in parentheses how much that is above the full shuffle's, with "
            "its standard error."
        )
    else:
        found = large(names[0], given.rows or 10_000_000, given.folder)
        note = (
            "One epoch in a process that may have 2 GB of address space; its peak is of memory "
            "that it really had."
        )
    text = markdown(*found, note)
    Console().print(Markdown(text))
    if given.write:
        rewrite(PAGE, text, f"blocks-{given.what}")


if __name__ == "__main__":
    main()
