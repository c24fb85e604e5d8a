"""The default number of threads: affinity, and the quota of a control group, versions 2 and 1."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmlp import _cores

CORES = 64


@pytest.fixture
def cores(monkeypatch, tmp_path):
    """usable_cores on a machine of 64 cores, with the files given and this membership."""
    monkeypatch.setattr(_cores, "_cores_to_run_on", lambda: CORES)

    def usable(membership, files):
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (tmp_path / "membership").write_text(membership)
        return _cores.usable_cores(str(tmp_path / "cgroup"), str(tmp_path / "membership"))

    return usable


def v1(folder, quota, period=100_000):
    """The two files of a group of version 1."""
    return {
        f"{folder}/cpu.cfs_quota_us": f"{quota}\n",
        f"{folder}/cpu.cfs_period_us": f"{period}\n",
    }


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("max 100000\n", CORES),
        ("200000 100000\n", 2),
        ("280000 100000\n", 2),
        ("150000 50000\n", 3),
        ("50000 100000\n", 1),
        ("6400000 100000\n", CORES),
        ("99900000 100000\n", CORES),
        ("", CORES),
        ("nonsense\n", CORES),
        ("0 100000\n", CORES),
        ("100000 0\n", CORES),
    ],
)
def test_version_2_as_a_container_sees_it(limit, expected, cores):
    assert cores("0::/\n", {"cpu.max": limit}) == expected


def test_version_2_takes_the_tightest_of_nested_groups(cores):
    inner, outer = "a.slice/b.slice/cpu.max", "a.slice/cpu.max"
    files = {inner: "max 100000", outer: "300000 100000", "cpu.max": "900000 100000"}
    assert cores("0::/a.slice/b.slice\n", files) == 3
    assert cores("0::/a.slice/b.slice\n", {inner: "200000 100000"}) == 2
    # Other groups' limits are nobody else's.
    assert cores("0::/c.slice\n", {}) == 9


def test_a_group_whose_name_has_a_colon(cores):
    assert cores("0::/with:colon\n", {"with:colon/cpu.max": "200000 100000"}) == 2


@pytest.mark.parametrize("path", ["/docker/0123", "/../../user.slice"])
def test_a_group_that_the_container_is_not_shown(path, cores):
    """Its own limit is then at the root of what it is shown; above that nothing is looked for."""
    files = {"cpu.max": "400000 100000", "../cpu.max": "100000 100000"}
    assert cores(f"0::{path}\n", files) == 4


@pytest.mark.parametrize(
    ("controllers", "mount"),
    [("cpu", "cpu"), ("cpu,cpuacct", "cpu,cpuacct"), ("cpuacct,cpu", "cpu")],
)
def test_version_1(controllers, mount, cores):
    membership = f"9:memory:/m\n4:{controllers}:/docker/0123\n0::/\n"
    assert cores(membership, v1(f"{mount}/docker/0123", -1)) == CORES
    assert cores(membership, v1(f"{mount}/docker/0123", 280_000)) == 2
    assert cores(membership, v1(mount, 50_000, 50_000)) == 1


def test_version_1_of_other_controllers_is_not_read(cores):
    assert (
        cores("3:cpuset:/x\n2:cpuacct:/x\n", v1("cpu/x", 100_000) | v1("cpuset/x", 100_000))
        == CORES
    )


@pytest.mark.parametrize("membership", ["", "\n\n", "nonsense\n", "a:b\n"])
def test_a_membership_that_says_nothing(membership, cores):
    assert cores(membership, {}) == CORES


def test_without_control_groups(monkeypatch, tmp_path):
    monkeypatch.setattr(_cores, "_cores_to_run_on", lambda: CORES)
    missing = str(tmp_path / "missing")
    assert _cores.usable_cores(missing, missing) == CORES


def test_never_more_than_the_process_may_run_on(monkeypatch, tmp_path):
    missing = str(tmp_path / "missing")
    monkeypatch.setattr(os, "process_cpu_count", lambda: 7, raising=False)
    assert _cores.usable_cores(missing, missing) == 7
    monkeypatch.setattr(os, "process_cpu_count", lambda: None, raising=False)
    assert _cores.usable_cores(missing, missing) == 1
    monkeypatch.delattr(os, "process_cpu_count")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 3, 5}, raising=False)
    assert _cores.usable_cores(missing, missing) == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert _cores.usable_cores(missing, missing) == 5


def test_the_module_needs_nothing_that_is_slow_to_import():
    """It is on the way of ``import fastmlp``."""
    program = (
        # What these import is Python's to choose, and differs from version to version.
        "import collections.abc, importlib.util, math, sys; before = set(sys.modules);"
        "spec = importlib.util.spec_from_file_location('cores', sys.argv[1]);"
        "cores = importlib.util.module_from_spec(spec); spec.loader.exec_module(cores);"
        "assert cores.usable_cores() >= 1; print(*sorted(set(sys.modules) - before))"
    )
    output = subprocess.run(
        [sys.executable, "-I", "-c", program, Path(_cores.__file__)],
        capture_output=True, text=True, check=True, timeout=60,
    ).stdout  # fmt: skip
    assert set(output.split()) <= {"__future__"}
