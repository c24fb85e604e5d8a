"""What the system says of the machine: its processor, its memory, who else is busy on it, and what
is installed.

Figures are None where the system does not say.
"""

from __future__ import annotations

import os
import platform
import re
import time
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from ._version import __version__

_STAT = Path("/proc/stat")


def processor() -> str:
    """What the processor is called, with its family and model where the system tells them."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        fields = dict(re.findall(r"^([\w ]+?)\s*: (.*)$", cpuinfo.read_text(), re.MULTILINE))
        if "model name" in fields:
            family, model = fields.get("cpu family", "?"), fields.get("model", "?")
            return f"{fields['model name']} (family {family}, model {model})"
    return platform.processor() or platform.machine()


def system() -> str:
    """The operating system and the processor's instruction set; no name of the machine."""
    return f"{platform.system()} {platform.release().split('-')[0]} {platform.machine()}"


def versions(distributions: tuple[str, ...]) -> dict[str, str]:
    """Installed versions of packages, or "not installed"; that of fastmlp is its own."""
    found = {}
    for name in distributions:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = __version__ if name == "fastmlp" else "not installed"
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
