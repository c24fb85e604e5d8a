"""The record of a comparison: what ``results.json`` holds, and the figures that follow from it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from ._peers import PEERS
from ._rounds import Measured
from ._workloads import Workload

# Of the threads' peaks, measured one by one, that all together may miss.
SHARED_LIMIT = 0.10

# What may differ between runs that continue one another.
_PER_RUN = {"date", "warnings", "limits", "workloads", "load"}


def row(workload: Workload, measured: list[Measured]) -> dict[str, Any]:
    """A workload's part of the record."""
    probe, *peers = measured
    return {
        "name": workload.name,
        "label": workload.label,
        "unit": workload.unit,
        "batch_size": workload.network.batch_size if workload.kind != "inference" else None,
        "dtype": workload.dtype,
        "compute_dtype": workload.compute_dtype,
        "samples": workload.samples,
        "flops": workload.flops,
        "bytes": workload.bytes,
        "peak_gflops": _median(probe, "gflops"),
        "together": _median(probe, "together"),
        "libxsmm": workload.libxsmm,
        "peers": {result.peer.name: _peer(result) for result in peers},
    }


def _median(probe: Measured, figure: str) -> float | None:
    found = [extra[figure] for extra in probe.extra]
    return _significant(median(found)) if found else None


def _peer(result: Measured) -> dict[str, Any]:
    found: dict[str, Any] = {"note": result.note}
    if math.isfinite(result.figure):
        found["figure"] = float(f"{result.figure:.6g}")
    if result.seconds:
        low, high = _quartiles(result.seconds)
        found |= {
            "median": _significant(median(result.seconds)),
            "quartiles": [_significant(low), _significant(high)],
            "rounds": [_significant(value) for value in result.seconds],
        }
    return found


def _significant(value: float) -> float:
    return float(f"{value:.4g}")


def _quartiles(values: list[float]) -> tuple[float, float]:
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def beside_libraries(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in which other libraries take part, in float32 or float64."""
    return [
        row
        for row in record["workloads"]
        if not row.get("libxsmm") and not row.get("compute_dtype")
    ]


def rounding(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows in bfloat16."""
    return [row for row in record["workloads"] if row.get("compute_dtype")]


def anchors(record: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows whose share of peak stands beside LIBXSMM-DNN's."""
    return [row for row in record["workloads"] if row.get("libxsmm")]


def seconds(row: dict[str, Any], peer: str = "fastmlp") -> float | None:
    """A peer's median seconds per unit, None where it has none."""
    value: float | None = row["peers"].get(peer, {}).get("median")
    return value


def uncertainty(row: dict[str, Any], *peers: str) -> float:
    """Half of the distance of the quartiles, relative to the median.

    Of several peers, that of the ratio of their medians: the root of the sum of squares.
    """
    shares = []
    for peer in peers:
        found = row["peers"][peer]
        low, high = found["quartiles"]
        shares.append((high - low) / (2 * found["median"]))
    return math.hypot(*shares)


def share_of_peak(record: dict[str, Any], row: dict[str, Any]) -> float | None:
    """fastmlp's FLOP/s over the FMA peak of all threads.

    None for a single row, which is not multiplied by weights where it has zeros.
    """
    own, peak = seconds(row), row["peak_gflops"]
    if own is None or not peak or row["samples"] == 1:
        return None
    return float(row["flops"] / own / (1e9 * peak * record["threads"]))


def times_as_fast(row: dict[str, Any], peer: str) -> float | None:
    """How many times as fast as the peer fastmlp is.

    For fastmlp's own variants: the speed relative to fit, except that one thread is compared like
    a peer.
    """
    own, other = seconds(row), seconds(row, peer)
    if own is None or other is None:
        return None
    if peer in ("fastmlp-layers", "fastmlp-uint8"):
        return own / other
    return other / own


def times_weights_read(record: dict[str, Any], row: dict[str, Any]) -> float | None:
    """A call's time over the time to read the weights from cache on one thread."""
    own = seconds(row)
    rate = record["limits"].get("weights_read_1_thread_gbytes")
    return None if own is None or not rate else float(own / (row["bytes"] / (1e9 * rate)))


def doubts(row: dict[str, Any]) -> Iterator[str]:
    """What to know about a row: busy cores, peers without figures."""
    together = row.get("together")
    if together is not None and together < 1 - SHARED_LIMIT:
        yield f"the cores together reached {together:.0%} of their peaks"
    for name, found in row["peers"].items():
        if found["note"]:
            yield f"{PEERS[name].label}: {found['note']}"


def machine_of(record: dict[str, Any]) -> str:
    """The machine and its number of threads, as the name of a folder."""
    words = f"{record['machine']['cpu']} {record['threads']} threads"
    return re.sub("[^a-z0-9]+", "-", words.lower()).strip("-")


def setup(record: dict[str, Any]) -> dict[str, Any]:
    """What two runs must have in common for their rows to stand in one table."""
    return {name: value for name, value in record.items() if name not in _PER_RUN}


def write(record: dict[str, Any], folder: Path) -> Path:
    """results.json in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "results.json"
    path.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def read(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return record
