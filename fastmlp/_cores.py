"""How many cores the process may use: those it may run on, and those its control group pays for."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator


def usable_cores(
    root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup", *, among: int | None = None
) -> int:
    """The number of cores to compute on by default, at least 1.

    root : where control groups are mounted     membership : the file that names the process's own
    among : how many cores there are, by default those that the process may run on

    A quota of 2.5 cores counts as 2: with a third thread the group would be stopped for a part of
    every period, and one stopped thread keeps all others waiting. ``os.process_cpu_count``, which
    Python has since 3.13, also follows PYTHON_CPU_COUNT. Control groups are Linux's; elsewhere, and
    where they cannot be read, there is no quota.
    """
    cores = _cores_to_run_on() if among is None else among
    return max(1, int(min(cores, _quota(root, membership))))


def cores_to_run_on() -> set[int]:
    """The numbers of the cores that the process may run on; all where the system cannot say."""
    try:
        return os.sched_getaffinity(0)
    except AttributeError:
        return set(range(os.cpu_count() or 1))


def _cores_to_run_on() -> int:
    count = getattr(os, "process_cpu_count", None)
    if count is not None:
        return count() or 1
    return len(cores_to_run_on())


def _quota(root: str, membership: str) -> float:
    """Cores' worth of time that the tightest of the process's groups has; infinite without limit.

    Reference: Linux's Documentation/admin-guide/cgroup-v2.rst and scheduler/sched-bwc.rst.
    """
    return min(map(_limit, _groups(root, membership)), default=math.inf)


def _groups(root: str, membership: str) -> Iterator[str]:
    """Folders of the groups that limit the process's time: its own, and all above it."""
    for line in _read(membership).splitlines():
        # hierarchy:controllers:path, with no controllers named for version 2
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        names = [name for name in path.split("/") if name]
        if ".." in names:
            # The group lies outside of what this container is shown.
            names = []
        for mount in {f"{root}/{controllers}", f"{root}/cpu"} if controllers else {root}:
            # A container may be shown its own group as the root, and be told the path outside:
            # folders that do not exist limit nothing.
            for depth in range(len(names) + 1):
                yield "/".join([mount, *names[:depth]])


def _limit(group: str) -> float:
    """Quota over period of one group, in cores."""
    text = _read(f"{group}/cpu.max")
    if not text:
        text = _read(f"{group}/cpu.cfs_quota_us") + _read(f"{group}/cpu.cfs_period_us")
    try:
        quota, period = map(int, text.split())
    except ValueError:  # No such files, or no limit: "max 100000".
        return math.inf
    return quota / period if quota > 0 and period > 0 else math.inf


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
