"""The machine and the software, as the record names them; and what makes a run less trustworthy."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp._cores import usable_cores
from fastmlp._machine import cpu_model, installed_version, system
from fastmlp._version import __version__
from fastmlp.kernels._host import vector_registers

DISTRIBUTIONS = (
    "fastmlp", "numba", "llvmlite", "numpy", "scikit-learn", "torch", "jax", "jaxlib",
)  # fmt: skip

_SUPPLIES = Path("/sys/class/power_supply")


def describe() -> dict[str, Any]:
    """Processor, cores, vector width, operating system; no name of the machine."""
    return {
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "vector_bits": vector_registers().bits,
        "system": system(),
        "python": platform.python_version(),
        "numpy_blas": _blas(),
    }


def versions() -> dict[str, str]:
    """Installed versions of all that takes part."""
    found = {name: installed_version(name) or "not installed" for name in DISTRIBUTIONS}
    # A clone has one without being installed.
    return found | {"fastmlp": __version__}


def warnings(threads: int) -> list[str]:
    """Reasons to doubt the figures that can be seen before anything is measured."""
    found = []
    if threads > usable_cores():
        found.append(f"{threads} threads on {usable_cores()} cores")
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > 0.25 * usable_cores():
        found.append(f"load average {os.getloadavg()[0]:.1f} before the start")
    if _on_battery(_SUPPLIES.glob("*")):
        found.append("running on battery")
    return found


def _on_battery(supplies: Iterable[Path]) -> bool:
    return any(
        (supply / "status").is_file() and (supply / "status").read_text().strip() == "Discharging"
        for supply in supplies
    )


def _blas() -> str:
    blas: Any = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()
