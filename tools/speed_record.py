"""Write fastmlp/data/speed.json: what `fastmlp doctor` compares a machine with.

    python -m tools.speed_record

Of every machine in benchmarks/results it keeps what the first workload came to: the threads' peak,
how much of it they reached together, and the share of it that training reached.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.compare import _results

ROOT = Path(__file__).parent.parent
WORKLOAD = "784-512-512-10"
TARGET = ROOT / "fastmlp" / "data" / "speed.json"


def shipped() -> dict[str, Any]:
    """The content of the file, from the records as they are."""
    files = sorted((ROOT / "benchmarks" / "results").glob("*/results.json"))
    machines = [_of(_results.read(path.parent)) for path in files]
    return {"workload": WORKLOAD, "machines": machines}


def _of(record: dict[str, Any]) -> dict[str, Any]:
    (row,) = (row for row in record["workloads"] if row["name"] == WORKLOAD)
    share = _results.share_of_peak(record, row)
    assert share is not None
    return {
        "processor": record["machine"]["cpu"],
        "vector_bits": record["machine"]["vector_bits"],
        "threads": record["threads"],
        "date": record["date"],
        "batch_size": row["batch_size"],
        "flops_per_sample": row["flops"] / row["samples"],
        "peak_gflops": row["peak_gflops"],
        "together": row["together"],
        "share_of_peak": round(share, 3),
    }


def text() -> str:
    """The file, as it is written."""
    return json.dumps(shipped(), indent=1) + "\n"


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
