"""`fastmlp doctor`: what it finds, what it says to do, and how it is read."""

import itertools
import json
import os
import re
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import _machine
from fastmlp._cli import findings, speed_check
from fastmlp._cli.findings import Finding, Line
from fastmlp.kernels._vocabulary import Apart
from tests.command_line import files as names_in
from tests.processes import run_python
from tools import speed_record

VARIABLES = (
    "FASTMLP_NUM_THREADS", "NUMBA_NUM_THREADS", "NUMBA_OPT", "NUMBA_CPU_NAME",
    "NUMBA_CPU_FEATURES", "NUMBA_BOUNDSCHECK", "NUMBA_DEBUGINFO", "NUMBA_ENABLE_AVX",
    "NUMBA_CACHE_DIR",
)  # fmt: skip

QUIET = speed_check.Speed(
    busy_cores=0.1, peak_gflops=115.0, together=0.98, seconds=1.7e-5, share_of_peak=0.85, threads=2
)
ZEN4 = "AMD EPYC (family 25, model 17)"


@pytest.fixture
def healthy(command, monkeypatch):
    """A machine with nothing to find, as far as a test can make it one; measured as QUIET."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(_machine, "memory", lambda: _machine.Memory(8 << 30, 4 << 30))
    monkeypatch.setattr(_machine, "cpu_model", lambda: ZEN4)
    monkeypatch.setattr(findings, "usable_cores", lambda: 2)
    monkeypatch.setattr(findings, "cores_to_run_on", lambda: {0, 1})
    monkeypatch.setattr(findings, "get_num_threads", lambda: 2)
    monkeypatch.setattr(findings, "_requirements", lambda: iter(()))
    monkeypatch.setattr(findings._compiled, "epochs_on_disk", lambda: {EPOCH})
    monkeypatch.setattr(speed_check, "is_ready", lambda: True)
    monkeypatch.setattr(speed_check, "measure", lambda: QUIET)
    return command


# Its vocabulary is told by its name alone.
EPOCH = findings._compiled.Epoch("float32", findings.FloatUnit, Apart)


def found(check):
    """(lines as a dict, findings)"""
    each = list(check)
    lines = {line.name.strip(): line.value for line in each if isinstance(line, Line)}
    return lines, [finding for finding in each if isinstance(finding, Finding)]


def test_a_healthy_machine(healthy):
    status, output, errors = healthy("doctor")
    assert (status, errors) == (0, "")
    assert re.search(rf"^  processor +{re.escape(ZEN4)}$", output, re.MULTILINE)
    assert re.search(r"^  training +float32: plain layers, SGD and Adam$", output, re.MULTILINE)
    for figure in ("115 GFLOP/s a thread, float32", "98% of 2 times the peak of one thread",
                   "85% of 2 times the peak of one thread, 1.02 s for 60,000 rows"):  # fmt: skip
        assert re.search(rf"^  \w+ +{figure}:\s+as good as\s+the record$", output, re.MULTILINE)
    assert output.endswith("\n\nno problem found\n")


def test_without_its_seconds(healthy, monkeypatch):
    monkeypatch.setattr(speed_check, "measure", None)
    status, output, _ = healthy("doctor --no-speed")
    assert status == 0
    assert "Speed" not in output


def test_as_json_it_says_the_same(healthy, monkeypatch):
    monkeypatch.setenv("NUMBA_OPT", "1")
    status, output, errors = healthy("doctor --json")
    said = json.loads(output)
    assert (status, errors) == (1, "")
    assert list(said) == ["report", "speed", "findings"]
    assert list(said["report"]) == [*findings.CHECKS, "Speed"]
    assert said["speed"] == QUIET._asdict()
    assert said["findings"] == [
        {"what": "NUMBA_OPT=1 optimises kernels less", "do": "unset NUMBA_OPT", "problem": True}
    ]
    assert said["report"]["Variables"]["NUMBA_OPT"] == "1"


# What each makes of a healthy machine.
ILL = {
    "too many threads": (
        lambda p: p.setenv("FASTMLP_NUM_THREADS", "5")
        or p.setattr(findings, "get_num_threads", lambda: 5),
        "5 threads on 2 cores wait", "unset FASTMLP_NUM_THREADS, or set it to 2",
    ),
    "another processor": (
        lambda p: p.setenv("NUMBA_CPU_NAME", "haswell"),
        "compiled for another processor, by NUMBA_CPU_NAME", "unset NUMBA_CPU_NAME",
    ),
    "no optimising": (
        lambda p: p.setenv("NUMBA_OPT", "0"), "NUMBA_OPT=0 optimises kernels less",
        "unset NUMBA_OPT",
    ),
    "checks": (
        lambda p: p.setenv("NUMBA_BOUNDSCHECK", "1"),
        "NUMBA_BOUNDSCHECK=1 checks every index", "unset NUMBA_BOUNDSCHECK",
    ),
    "no data": (
        lambda p: p.setenv("FASTMLP_DATA", "missing"),
        "no folder missing, which FASTMLP_DATA names", "unset FASTMLP_DATA",
    ),
    "little memory": (
        lambda p: p.setattr(_machine, "memory", lambda: _machine.Memory(1 << 30, 100_000_000)),
        "only 100 MB of memory are free", "end other programs",
    ),
    "a full disk": (
        lambda p: p.setattr(findings, "_LEAST_DISK", 1 << 60), "are free for machine code",
        "NUMBA_CACHE_DIR",
    ),
    "an old package": (
        lambda p: p.setattr(findings, "_requirements", lambda: iter([NEWER])),
        "numpy .* is older than 100.1", 'python -m pip install "numpy>=100.1"',
    ),
    "busy neighbours": (
        lambda p: p.setattr(speed_check, "measure", lambda: QUIET._replace(busy_cores=1.4)),
        "other processes keep 1.4 cores busy", "wait for them or end them",
    ),
}  # fmt: skip
NEWER = findings._Requirement("numpy", "100.1", "")


@pytest.mark.parametrize(("make", "what", "do"), ILL.values(), ids=ILL)
def test_one_problem_and_what_to_do(make, what, do, healthy, monkeypatch):
    make(monkeypatch)
    status, output, errors = healthy("doctor --json")
    (finding,) = json.loads(output)["findings"]
    assert (status, errors) == (1, "")
    assert re.search(what, finding["what"])
    assert do in finding["do"]


def test_a_note_is_no_problem(healthy, monkeypatch):
    monkeypatch.setattr(findings._compiled, "epochs_on_disk", set)
    monkeypatch.setattr(speed_check, "is_ready", lambda: False)
    status, output, _ = healthy("doctor")
    assert status == 0
    assert "fastmlp warmup has to compile" in output
    assert "\nnote: the kernels are not compiled yet" in output
    assert "\n   -> fastmlp warmup does it" in output
    assert output.endswith("no problem found\n")


def test_fewer_threads_than_cores_are_a_note(healthy, monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    monkeypatch.setattr(findings, "get_num_threads", lambda: 1)
    lines, (finding,) = found(findings._threads())
    assert lines["threads"] == "1, by NUMBA_NUM_THREADS"
    assert finding.what == "1 of 2 cores compute, as NUMBA_NUM_THREADS says"
    assert not finding.problem


def test_cores_say_what_limits_them(healthy, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(findings, "cores_to_run_on", lambda: set(range(4)))
    assert found(findings._threads())[0]["cores"] == "8, 4 by affinity, 2 by quota"


# The speed, beside the record


# Of the figures that the package comes with, or will, none matters here.
RECORD = speed_check.records()[0]._replace(
    processor=ZEN4, threads=2, peak_gflops=115.4, together=0.9822, share_of_peak=0.849
)


def judged(**changes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(speed_check, "records", lambda: [RECORD])
        return found(speed_check.judge(QUIET._replace(**changes), ZEN4))


def verdicts(lines):
    return [lines[name].split(": ", 1)[1] for name in ("peak", "together", "training")]


AS_GOOD = "as good as the record"


def test_a_speed_as_recorded_is_no_finding():
    lines, wrong = judged()
    assert wrong == []
    assert verdicts(lines) == [AS_GOOD] * 3
    assert lines["record"] == "peak 115 GFLOP/s, together 98%, training 85%"
    assert lines["of"] == "this processor, 2 threads"
    better, wrong = judged(share_of_peak=0.95, peak_gflops=130.0, together=1.01)
    assert (verdicts(better), wrong) == ([AS_GOOD] * 3, [])


# Of each figure: so much less than the record, what is said of it, and what to do.
SHORT = {
    "peak": (
        "peak_gflops", 0.5 * 115.4, "58 GFLOP/s a thread, float32: 50% below the record, usually "
        "by saving power, heat, or a core shared with others", "look whether it saves power",
    ),
    "together": (
        "together", 0.5, "50% of 2 times the peak of one thread: 49% below the record, usually by "
        "threads that share the units of one core", "FASTMLP_NUM_THREADS=1",
    ),
    "training": (
        "share_of_peak", 0.4, "40% of 2 times the peak of one thread, 1.02 s for 60,000 rows: 53% "
        "below the record, usually by others that use the same caches and memory",
        "fastmlp doctor --json",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SHORT)
def test_what_falls_short(name):
    """Its line and its finding say so, and those of the others do not."""
    field, value, said, do = SHORT[name]
    lines, (finding,) = judged(**{field: value})
    assert lines[name] == said
    assert finding.what == f"{name}: {said}"
    assert finding.problem
    assert do in finding.do
    assert verdicts(lines).count(AS_GOOD) == 2


@pytest.mark.parametrize(("field", "name", "share", "below"), [
    ("peak_gflops", "peak", 0.81, "19%"), ("together", "together", 0.93, "7%"),
    ("share_of_peak", "training", 0.88, "12%"),
])  # fmt: skip
def test_a_little_less_is_said_and_is_no_finding(field, name, share, below):
    lines, wrong = judged(**{field: share * getattr(RECORD, field)})
    assert lines[name].endswith(f": {below} below the record, which is within what is usual")
    assert wrong == []


def test_beside_busy_processes_nothing_else_is_concluded():
    _, wrong = judged(busy_cores=1.0, share_of_peak=0.1, peak_gflops=10.0, together=0.2)
    assert ["busy" in finding.what for finding in wrong] == [True]
    lines, _ = judged(busy_cores=1.0, share_of_peak=0.1)
    assert verdicts(lines)[2] == "88% below the record, beside busy processes"
    assert judged(busy_cores=None)[1] == []
    assert len(judged(busy_cores=None, together=0.2)[1]) == 1


def test_other_processors_and_other_threads_are_not_judged_by_the_record():
    slow = QUIET._replace(share_of_peak=0.3, peak_gflops=30.0)
    lines, wrong = found(speed_check.judge(slow, "another"))
    assert (lines["of"], wrong) == ("another processor, 2 threads", [])
    none = "no record of such a machine"
    assert verdicts(lines) == [none, "good", none]
    lines, wrong = judged(share_of_peak=0.3, threads=4)
    assert (verdicts(lines), wrong) == ([AS_GOOD, "good", none], [])
    lines, (finding,) = judged(together=0.6, threads=4)
    assert verdicts(lines)[1].startswith("less than 90%, usually by threads that share")
    assert "FASTMLP_NUM_THREADS=2" in finding.do


def test_the_record_is_the_one_of_the_benchmarks():
    assert speed_record.TARGET.read_text(encoding="utf-8") == speed_record.text()
    for record in speed_check.records():
        assert 0 < record.share_of_peak < 1


def test_the_network_is_the_record_s():
    """6 FLOPs for each weight and row, but for 4 in the first layer: its input has no gradient."""
    sizes = [784, 512, 512, 10]
    first, *others = (a * b for a, b in itertools.pairwise(sizes))
    assert speed_check.records()[0].flops_per_sample == 4 * first + 6 * sum(others)
    layers = speed_check.network().linear_layers
    assert [layers[0].in_feature, *(layer.out_feature for layer in layers)] == sizes


def test_measuring():
    """For as little as it can."""
    speed = speed_check.measure(0.0)
    assert speed.peak_gflops > 0
    assert 0 < speed.together < 2
    record = speed_check.records()[0]
    rate = record.flops_per_sample / speed.seconds / 1e9
    assert speed.share_of_peak == pytest.approx(rate / (speed.peak_gflops * speed.threads))


# The machine


def test_others_that_are_busy(tmp_path, monkeypatch):
    """Three cores' ticks, user to steal, between two looks a while apart."""
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_CLK_TCK": 100}[name], raising=False)
    stat = tmp_path / "stat"
    stat.write_text("cpu  10 0 0 500 7 0 0 0 0 0\ncpu0 1 2\n")
    looks = iter([0.0, 2.0])
    watch = SimpleNamespace(
        perf_counter=lambda: next(looks),
        sleep=lambda seconds: stat.write_text("cpu  110 100 100 900 99 100 100 100 9 9\n"),
    )
    monkeypatch.setattr(_machine, "time", watch)
    assert _machine.busy_cores(2.0, stat) == 3.0


@pytest.mark.parametrize("content", ["", "cpu 1 2 3\n", "intr 1 2 3 4 5 6 7 8 9\n"])
def test_what_the_system_does_not_say(content, tmp_path):
    path = tmp_path / "file"
    assert (_machine.busy_cores(0.0, path), _machine.memory(path)) == (None, None)
    path.write_text(content)
    assert (_machine.busy_cores(0.0, path), _machine.memory(path)) == (None, None)


def test_memory(tmp_path):
    path = tmp_path / "meminfo"
    path.write_text("MemTotal:  8 kB\nMemFree:  1 kB\nMemAvailable:   4 kB\nHugePages_Total: 0\n")
    assert _machine.memory(path) == (8192, 4096)


# Machine code


def test_machine_code_that_nobody_reads(tmp_path):
    """In a cache of its own: a kernel's code as it is, and of an earlier version."""
    program = """
import numpy as np, sys
from pathlib import Path
from fastmlp._cli import findings
from fastmlp.kernels import loss
loss.softmax(np.empty((1, 3)), np.ones((1, 3)))
folder = next(Path(sys.argv[1]).rglob("*.nbc")).parent
old = folder / "epoch.train_steps-1.py311.0123456789abcdef.0123456789abcdef.nbc"
old.write_bytes(bytes(10))
now, earlier = findings._files_of_code(folder)
print(len(now), [path.name for path in earlier] == [old.name])
"""
    process = run_python("-c", program, tmp_path, NUMBA_CACHE_DIR=str(tmp_path))
    assert (process.stdout, process.stderr) == ("1 True\n", "")


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "taken").write_text("")
    lines, (finding,) = found(findings._room(tmp_path / "taken"))
    assert lines == {"writable": "no"}
    assert "machine code cannot be kept: Not a directory" in finding.what
    assert "NUMBA_CACHE_DIR" in finding.do
    lines, wrong = found(findings._room(tmp_path / "new" / "folder"))
    assert (lines["writable"][:4], wrong) == ("yes,", [])
    assert names_in(tmp_path) == {"taken"}


# Versions


def test_requirements(monkeypatch):
    lines = [
        "numba>=0.62", "pandas>=2.2; extra == 'tables'", 'typer<2,>=0.18; extra == "cli"',
        "fastmlp[io]; extra == 'cli'", "pytest>=8; extra == 'test'", "torch; extra == 'torch'",
    ]  # fmt: skip
    monkeypatch.setattr(metadata, "requires", lambda name: lines)
    assert list(findings._requirements()) == [
        ("numba", "0.62", ""), ("pandas", "2.2", "tables"), ("typer", "0.18", "cli"),
        ("torch", "0", "torch"),
    ]  # fmt: skip


def test_extras(monkeypatch):
    wanted = [("numpy", "1.26", ""), ("numpy", "1", "here"), ("nothing-such", "1", "there")]
    monkeypatch.setattr(
        findings, "_requirements", lambda: iter(findings._Requirement(*each) for each in wanted)
    )
    lines, wrong = found(findings.versions())
    assert (lines["extras"], lines["there"], wrong) == ("here", "lacks nothing-such", [])


def test_the_version_of_what_is_installed():
    assert _machine.installed_version("numpy") == np.__version__
    assert _machine.installed_version("nothing-such") is None


def test_versions_are_compared_by_number():
    mixed = ["3.10.7", "1.0.1", "0.18.1", "0.18", "1.0rc1", "0.9"]
    order = ["0.9", "0.18", "0.18.1", "1.0rc1", "1.0.1", "3.10.7"]
    assert sorted(mixed, key=_machine.release) == order
    assert _machine.release("2.0") == _machine.release("2") == _machine.release("2+cpu")
    assert _machine.release("unknown") == ()


# How it is read


def test_a_users_folder_is_not_told(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert findings.brief(tmp_path / "a" / "b") == str(Path("~/a/b"))
    assert findings.brief(Path("elsewhere")) == "elsewhere"


@pytest.mark.parametrize("columns", [40, 80])
def test_lines_fit_the_terminal(columns, healthy, monkeypatch):
    """Words alone may be longer: paths and what is to be typed are not broken."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NUMBA_OPT", "0")
    _, output, _ = healthy("doctor")
    for line in output.splitlines():
        assert len(line) <= columns or len(line.split()) == 1
    assert "\x1b" not in output
    assert "unset NUMBA_OPT\n" in output


def test_without_compiling_nothing_runs():
    process = run_python("-m", "fastmlp.cli", "doctor", NUMBA_DISABLE_JIT="1")
    message = "NUMBA_DISABLE_JIT must not be set: kernels run only compiled"
    assert (process.returncode, process.stdout) == (2, "")
    assert process.stderr == f"fastmlp: {message}\n"


def test_its_help_says_what_it_looks_at(command):
    status, output, _ = command("doctor --help")
    assert status == 0
    for word in ("processor", "threads", "machine code", "versions", "variables", "data"):
        assert word in output.lower()
    assert "exit status is 1" in output
