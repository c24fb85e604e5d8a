"""The machine and the software on it, in words."""

from __future__ import annotations

import platform
import re
from importlib import metadata
from pathlib import Path

from ._version import __version__


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
