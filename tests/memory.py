"""How much memory a call takes."""

import contextlib
import gc
import tracemalloc
from pathlib import Path

import pytest


def peak_memory(function):
    """Bytes at the peak of a call, of what Python and NumPy ask for."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def takes(function):
    """Megabytes of the process at the peak of a call, those of C libraries too."""
    before = forget_peak()
    if not before:
        pytest.skip("this system does not tell how much memory a process has")
    function()
    return (memory("VmHWM") - before) / 1024


def memory(name):
    """A figure of this process's memory in kilobytes, 0 where the system does not tell."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0


def forget_peak():
    """Let the peak begin anew; what the process has now, in kilobytes, or 0 where it cannot."""
    gc.collect()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0
    return memory("VmRSS")
