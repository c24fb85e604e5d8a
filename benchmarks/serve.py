"""The example server under load: ``python -m benchmarks.serve``.

``examples/serve.py`` serves 784-512-512-10 in a process and on a core of its own; this one sends
single rows over kept connections of the loopback, by a clock: so many requests a second, whether
the answers come or not. A latency counts from the moment at which a request is due, so that one
that has to wait for a free connection, or for this process, is not flattered. Every answer is
compared with the network's own prediction. With ``--write`` the table goes to ``docs/serving.md``,
between its marks.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.markdown import Markdown

from .compare._machine import describe, versions
from .compare._readme import ROOT, rewrite
from .compare._tables import markdown_table
from .networks import NETWORKS

SERVER, PAGE = ROOT / "examples" / "serve.py", ROOT / "docs" / "serving.md"
NAME = "784-512-512-10"
BODIES = ("json", "float32", "uint8")
# Seconds that an answer, or the start of the server, may take.
PATIENCE = 120


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Load(NamedTuple):
    """So many requests a second, for so long, over so many connections."""

    rate: int
    seconds: float
    connections: int


class Question(NamedTuple):
    """A request, whole, and the body of its answer."""

    request: bytes
    answer: bytes


@contextlib.contextmanager
def served(mlp: Any, core: int | None = None) -> Iterator[int]:
    """The port at which a process serves the network, on that core."""
    with tempfile.TemporaryDirectory() as folder:
        mlp.save(Path(folder, "model.safetensors"))
        command = [sys.executable, str(SERVER), str(Path(folder, "model.safetensors")), "--port=0"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                if core is not None:
                    os.sched_setaffinity(process.pid, {core})
                line = process.stdout.readline()  # type: ignore[union-attr]
                yield int(line.rpartition(":")[2])
            finally:
                process.kill()


def question(mlp: Any, row: np.ndarray, body: str) -> Question:
    """A row of uint8, in JSON, or in bytes of float32 or uint8."""
    x = row[None] if body == "uint8" else np.round(row[None] / np.float32(255), 4)
    if body == "json":
        content, path, kind = json.dumps([round(float(v), 4) for v in x[0]]).encode(), "", "json"
    else:
        content, path, kind = x.tobytes(), f"?dtype={body}", "octet-stream"
    head = (
        f"POST /predict{path} HTTP/1.1\r\nhost: localhost\r\n"
        f"content-type: application/{kind}\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    answer = json.dumps({"predictions": mlp.predict(x).tolist()}, separators=(",", ":"))
    return Question(head.encode() + content, answer.encode())


async def _ask(connection: Connection, asked: Question) -> None:
    reader, writer = connection
    writer.write(asked.request)
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    found = await reader.readexactly(length)
    if not head.startswith(b"HTTP/1.1 200") or found != asked.answer:
        raise RuntimeError(f"expected {asked.answer!r}, got {head!r} {found!r}")


@contextlib.asynccontextmanager
async def _connections(port: int, count: int) -> AsyncIterator[list[Connection]]:
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(count)]
    try:
        yield opened
    finally:
        for _, writer in opened:
            writer.close()
            await writer.wait_closed()


async def _send(port: int, questions: list[Question], load: Load) -> tuple[list[float], float]:
    """Latencies, and the seconds that all took; raises where an answer is late by PATIENCE."""
    latencies: list[float] = []
    async with _connections(port, load.connections) as connections:
        for connection in connections:
            await _ask(connection, questions[0])
        started = time.perf_counter() + 0.1

        async def share(first: int) -> None:
            for i in range(first, round(load.rate * load.seconds), load.connections):
                due = started + i / load.rate
                await asyncio.sleep(max(0, due - time.perf_counter()))
                await _ask(connections[first], questions[i % len(questions)])
                latencies.append(time.perf_counter() - due)

        shares = asyncio.gather(*map(share, range(load.connections)))
        await asyncio.wait_for(shares, load.seconds + PATIENCE)
        return latencies, time.perf_counter() - started


def measure(mlp: Any, rows: np.ndarray, bodies: Sequence[str], load: Load) -> list[list[str]]:
    """A row for each body: what was asked and answered, and percentiles of the latencies in ms."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    apart = len(cores) > 1
    found = []
    with served(mlp, cores[0] if apart else None) as port:
        if apart:
            os.sched_setaffinity(0, {cores[1]})
        try:
            for body in bodies:
                questions = [question(mlp, row, body) for row in rows]
                latencies, took = asyncio.run(_send(port, questions, load))
                at = np.percentile(latencies, [50, 90, 99, 100]) * 1e3
                size = len(questions[0].request)
                found.append(
                    [body, f"{size:,}", f"{len(latencies):,}", f"{len(latencies) / took:.0f}"]
                    + [f"{value:.2f}" for value in at]
                )
        finally:
            if apart:
                os.sched_setaffinity(0, cores)
    return found


def table(rows: list[list[str]], load: Load) -> str:
    """In Markdown, with what it was measured on."""
    heads = ["body", "bytes", "answers", "a second", "p50", "p90", "p99", "worst"]
    text = markdown_table(heads, rows)
    machine, used = describe(), versions()
    busy = " ".join(f"{value:.1f}" for value in os.getloadavg())
    return (
        f"{text}\n\n{NAME}, single rows, {load.rate:,} requests a second asked for during "
        f"{load.seconds:g} s over {load.connections} connections; latencies in ms from the moment "
        f"a request is due. {machine['cpu']}, {machine['cores']} cores, load average {busy}, "
        f"fastmlp {used['fastmlp']}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--bodies", nargs="+", choices=BODIES, default=BODIES)
    parser.add_argument("--write", action="store_true", help="into docs/serving.md")
    arguments = parser.parse_args()
    load = Load(arguments.rate, arguments.seconds, arguments.connections)
    rows = np.random.default_rng(0).integers(0, 256, (100, 784), np.uint8)
    found = measure(NETWORKS[NAME].build(), rows, arguments.bodies, load)
    text = table(found, load)
    Console().print(Markdown(text))
    if arguments.write:
        rewrite(PAGE, text, "served")


if __name__ == "__main__":
    main()
