"""What the system says of the machine: its processor, its memory, who else is busy on it, and
which packages are installed.

Each is None where the system does not say.
"""

from __future__ import annotations

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

_STAT = Path("/proc/stat")


def cpu_model() -> str:
    """The processor's name, with its family and model on x86."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE))
        if "model name" in fields:
            family, model = fields.get("cpu family", "?"), fields.get("model", "?")
            return f"{fields['model name']} (family {family}, model {model})"
    return platform.processor() or platform.machine()


def system() -> str:
    """The operating system, without what its builder added to its version."""
    return f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"


def installed_version(package: str) -> str | None:
    """By the name that pip knows; None also in a bundle that left out what the package says."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version up to its release, to be compared: without zeros at their end."""
    numbers = re.match(r"\d+(?:\.\d+)*", version)
    found = tuple(map(int, numbers[0].split("."))) if numbers else ()
    while found and found[-1] == 0:
        found = found[:-1]
    return found


class Memory(NamedTuple):
    """Bytes of the machine's memory."""

    total: int
    available: int  # without swapping


def memory(meminfo: Path = Path("/proc/meminfo")) -> Memory | None:
    """Of Linux, whose Documentation/filesystems/proc.rst says what the fields mean."""
    try:
        kilobytes = dict(re.findall(r"^(\w+): +(\d+) kB$", meminfo.read_text(), re.MULTILINE))
        return Memory(*(1024 * int(kilobytes[name]) for name in ("MemTotal", "MemAvailable")))
    except (OSError, KeyError):
        return None


def busy_cores(seconds: float, stat: Path = _STAT) -> float | None:
    """How many cores' time others took while this process slept for so long.

    Others are processes and, on a virtual machine, its neighbours (proc(5): "steal").
    """
    before, began = _taken(stat), time.perf_counter()
    time.sleep(seconds)
    after, ended = _taken(stat), time.perf_counter()
    if before is None or after is None:
        return None
    # The clock counts in hundredths of a second.
    return max(0.0, (after - before) / (ended - began))


def _taken(stat: Path) -> float | None:
    """Seconds that all cores were not idle since the system started."""
    try:
        name, *ticks = stat.read_text().splitlines()[0].split()
    except (OSError, IndexError):
        return None
    if name != "cpu" or len(ticks) < 8:
        return None
    user, nice, system, _idle, _waiting, irq, softirq, steal = map(int, ticks[:8])
    # Time of guests is in that of users already.
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
