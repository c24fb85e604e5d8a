"""benchmarks.compare: the peers, the rounds, the record."""

import math
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import networks
from benchmarks.compare import __main__ as compare
from benchmarks.compare import _fastmlp, _machine, _readme, _results, _rounds, _tables, _worker
from benchmarks.compare._data import generated, orders
from benchmarks.compare._peers import PEERS, PROBE, Peer
from benchmarks.compare._workloads import WORKLOADS, Workload
from tests.networks import build

# The peers of the comparison

TINY = Workload(
    "tiny",
    "tiny",
    "train",
    networks.Network((784, 16, 10), "relu", 32, 0.05, samples=200),
    repeats=2,
)
TINY_BATCHNORM = replace(TINY, network=replace(TINY.network, batchnorm=True, samples=224))
TINY_INFERENCE = replace(TINY, kind="inference", rows=50)
TINY_COURSE = replace(
    WORKLOADS["course"], network=replace(WORKLOADS["course"].network, samples=300), repeats=1
)


FATAL = replace(TINY, name="fatal")


class Crash(_fastmlp.Training):
    """A peer's job that ends its process in one of the workloads."""

    def run(self, seed):
        if self.workload.name == FATAL.name:
            os._exit(3)
        super().run(seed)


JOBS = {"train": Crash}


@pytest.fixture(scope="module")
def processes():
    """Started when first asked for, kept for the module."""
    started = {}

    def process(name):
        peer = PEERS[name]
        if peer.missing():
            pytest.skip(f"{peer.missing()}; the extra 'compare' brings it")
        if name not in started:
            started[name] = _worker.Process(peer, threads=2)
        return started[name]

    yield process
    for process in started.values():
        process.close()


def figure(process, workload):
    """A peer's figure after the uncounted run and one that is counted."""
    process.send("prepare", workload)
    process.receive()
    process.send("run", 1)
    seconds, _ = process.receive()
    assert seconds > 0
    process.send("figure")
    return process.receive()


# Compiling C++ takes half a minute; the comparison itself shows whether that peer works. Parameters
# of bfloat16 are another training.
EAGER = [n for n in PEERS if n not in ("fastmlp", "torch-compile", "torch-pure-bf16")]


@pytest.mark.parametrize("name", EAGER)
def test_peers_reach_the_same_loss(processes, name):
    expected = figure(processes("fastmlp"), TINY)
    # bfloat16 has 8 bits; the others differ by rounding alone, over 28 steps.
    tolerance = 0.05 if name.endswith("-bf16") else 1e-3
    assert figure(processes(name), TINY) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", ["fastmlp-float32", "torch-bf16", "torch-pure-bf16", "jax-bf16"])
def test_peers_train_beside_bfloat16(processes, name):
    """fastmlp's own loss differs from float32's, by what the rounding of operands costs."""
    rounding = replace(TINY, compute_dtype="bfloat16")
    expected = figure(processes("fastmlp"), rounding)
    tolerance = 0.3 if name == "torch-pure-bf16" else 0.05
    reached = figure(processes(name), rounding)
    assert reached == pytest.approx(expected, rel=tolerance)
    assert reached != expected


@pytest.mark.parametrize("name", ["torch", "jax", "numpy-f64"])
def test_peers_agree_on_batch_norm(processes, name):
    expected = figure(processes("fastmlp"), TINY_BATCHNORM)
    # PyTorch keeps the unbiased variance, 32/31 of the others', which evaluation mode shows.
    tolerance = 0.02 if name == "torch" else 1e-3
    assert figure(processes(name), TINY_BATCHNORM) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", ["torch", "jax", "numpy-f32", "sklearn"])
def test_peers_predict_alike(processes, name):
    assert figure(processes(name), TINY_INFERENCE) == figure(processes("fastmlp"), TINY_INFERENCE)


def test_the_course_workload_is_the_same_in_numpy(processes):
    expected = figure(processes("numpy-f64"), TINY_COURSE)
    assert figure(processes("fastmlp"), TINY_COURSE) == pytest.approx(expected, rel=1e-9)


def test_what_a_peer_cannot_do_is_said(processes):
    process = processes("sklearn")
    process.send("prepare", TINY_BATCHNORM)
    with pytest.raises(_worker.PeerError, match="no batch norm"):
        process.receive()


def test_a_crash_is_an_error_of_the_peer_alone():
    process = _worker.Process(Peer("crash", "crash", __name__), threads=1)
    process.send("prepare", FATAL)
    with pytest.raises(_worker.PeerError, match="exit code 3"):
        process.receive()


def test_a_comparison_goes_on_without_those_that_fail(monkeypatch):
    others = [Peer("crash", "crash", __name__), Peer("absent", "absent", "m", {"no-such": "1"})]
    monkeypatch.setattr(_rounds, "PEERS", PEERS | {peer.name: peer for peer in others})
    names, said = [peer.name for peer in others], []
    with _rounds.Comparison(threads=1, say=said.append) as comparison:
        _, own, crashed, absent = comparison.measure(FATAL, ["fastmlp", *names], rounds=2)
        _, again, revived, _ = comparison.measure(TINY, ["fastmlp", *names], rounds=2)
    assert [len(own.seconds), own.note] == [2, ""]
    assert (crashed.note, crashed.seconds) == ("crashed, exit code 3", [])
    assert (absent.note, absent.seconds) == ("no-such is not installed", [])
    assert "crash: crashed, exit code 3" in said
    assert (len(revived.seconds), revived.figure) == (2, again.figure)


def test_long_workloads_get_fewer_rounds(monkeypatch):
    monkeypatch.setattr(_rounds, "LONG_SECONDS", 0.0)
    demanding = replace(TINY, rounds=_rounds.FEW_ROUNDS + 1)
    with _rounds.Comparison(threads=1, say=lambda text: None) as comparison:
        _, own = comparison.measure(TINY, ["fastmlp"], rounds=9)
        _, enough = comparison.measure(demanding, ["fastmlp"], rounds=9)
    assert len(own.seconds) == _rounds.FEW_ROUNDS
    assert len(enough.seconds) == demanding.rounds


def test_a_measurement_waits_for_cores_of_its_own_but_not_for_ever(monkeypatch):
    shares = iter([0.5, 0.6, 0.95, 0.5, 0.4])
    monkeypatch.setattr(_rounds, "_PAUSE_SECONDS", 0.0)
    comparison, probe = _rounds.Comparison(threads=2), _rounds.Measured(PROBE)
    monkeypatch.setattr(comparison, "_ask", lambda *_: (1.0, {"together": next(shares)}))
    comparison._patience = 2.5
    comparison._await_cores(probe)
    assert [extra["together"] for extra in probe.extra] == [0.95]
    comparison._await_cores(probe)
    assert [extra["together"] for extra in probe.extra] == [0.95, 0.4]


def test_a_network_beside_libxsmm_has_its_own_widths():
    workload = WORKLOADS["libxsmm-768-128-64"]
    workload = replace(workload, network=replace(workload.network, samples=300))
    with _rounds.Comparison(threads=1, say=lambda text: None) as comparison:
        _, own = comparison.measure(workload, ["fastmlp"], rounds=1)
    assert own.seconds
    assert 0 < own.figure < math.log(64)


def test_the_probe_measures_the_peak():
    process = _worker.Process(PROBE, threads=1)
    try:
        process.send("prepare", TINY)
        process.receive()
        process.send("run", 0)
        figures = process.receive()[1]
        assert figures["gflops"] > 0.1
        assert 0 < figures["together"] < 1.5
    finally:
        process.close()


def test_threads_on_one_core_reach_half_of_their_peaks():
    """Whatever else runs: two threads cannot do more than one core's work."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    alone = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code = "import fastmlp; fastmlp.set_num_threads(2); "
    code += "from benchmarks.compare._probe import peak_gflops as p, share_together as s; "
    code += "print(s('float32', 2, p('float32')))"
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", alone + code], cwd=root, capture_output=True)
    assert 0 < float(done.stdout) < 0.6


def test_missing_and_old_packages_are_named():
    assert Peer("p", "p", "m", {"no-such-package": "1.0"}).missing() == (
        "no-such-package is not installed"
    )
    assert "is older than 999.0" in Peer("p", "p", "m", {"numpy": "999.0"}).missing()
    assert Peer("p", "p", "m", {"numpy": "1.26"}).missing() is None


def test_a_doubtful_machine_is_named(monkeypatch, tmp_path):
    supply = tmp_path / "BAT0"
    supply.mkdir()
    (supply / "status").write_text("Discharging\n")
    monkeypatch.setattr(_machine, "_SUPPLIES", tmp_path)
    monkeypatch.setattr(_machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0), raising=False)
    assert _machine.warnings(threads=4) == [
        "4 threads on 2 cores", "load average 3.0 before the start", "running on battery",
    ]  # fmt: skip
    (supply / "status").write_text("Charging\n")
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 9.0, 9.0))
    assert _machine.warnings(threads=2) == []


def test_threads_are_set_for_every_library():
    one, four = _worker.environment(1), _worker.environment(4)
    assert {name for name in one if one[name] == "1" and four[name] == "4"} == {
        "FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS", "NPROC",
    }  # fmt: skip
    assert one["XLA_FLAGS"].endswith("false")
    assert four["XLA_FLAGS"].endswith("true")


def test_orders_are_those_of_fit():
    """A network that has seen the rows in ``orders`` is the one that fit has trained."""
    fitted, looped = build([5, 4, 3]), build([5, 4, 3])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 5)), rng.integers(0, 3, 20)
    fitted.fit(x, y, epochs=2, batch_size=6, seed=7)
    for order in orders(20, 7, 2):
        looped.fit(x[order], y[order], batch_size=6, shuffle=False)
    np.testing.assert_array_equal(fitted.parameters, looped.parameters)


def test_generated_images_have_mnists_shape_and_can_be_learnt():
    data = generated(train=1000, test=100)
    assert data.train_x.shape == (1000, 784)
    assert data.train_x.dtype == data.test_x.dtype == np.uint8
    assert set(data.train_y) == set(range(10))
    centres = [data.train_x[data.train_y == k].mean(axis=0) for k in range(10)]
    distances = [((data.test_x - centre) ** 2).sum(axis=1) for centre in centres]
    assert (np.argmin(distances, axis=0) == data.test_y).mean() > 0.9


# The record


def measured(name, figure, seconds=(1.0, 1.1, 1.2)):
    return _rounds.Measured(PEERS[name], list(seconds), figure=figure)


@pytest.mark.parametrize("wrong", [0.6, math.nan])
def test_a_peer_with_another_loss_is_void(wrong):
    results = [measured("fastmlp", 0.5), measured("torch", 0.501), measured("jax", wrong)]
    _rounds.judge(results)
    assert [bool(result.seconds) for result in results] == [True, True, False]
    assert results[2].note.startswith("void")


def test_fastmlp_itself_can_be_void():
    results = [measured("fastmlp", 0.6), measured("torch", 0.5), measured("jax", 0.501)]
    _rounds.judge(results)
    assert not results[0].seconds


def test_bfloat16_may_differ_more_and_has_no_say():
    results = [measured("fastmlp", 0.5), measured("torch-bf16", 0.55)]
    _rounds.judge(results)
    assert all(result.seconds for result in results)


@pytest.fixture
def record():
    """A record with one workload: fastmlp, a peer, a peer that failed."""
    failed = _rounds.Measured(PEERS["jax"], note="jax is not installed")
    results = [
        _rounds.Measured(PROBE, [0.1], [{"gflops": 100.0, "together": 0.55}]),
        measured("fastmlp", 0.5, [0.5, 0.5, 0.5]),
        measured("torch", 0.5, [1.0, 2.0, 3.0]),
        failed,
    ]
    workload = WORKLOADS["784-512-512-10"]
    return {
        "date": "2026-01-01", "quick": False, "threads": 2, "rounds": 3, "data": "MNIST",
        "machine": _machine.describe(), "versions": _machine.versions(), "warnings": [],
        "limits": {
            "peak_float32_gflops": 100.0, "peak_float64_gflops": 50.0, "read_gbytes": 30.0,
            "triad_gbytes": 35.0, "weights_read_1_thread_gbytes": 90.0,
            "weights_read_gbytes": 180.0,
        },
        "workloads": [_results.row(workload, results)],
    }  # fmt: skip


def test_figures_that_follow_from_the_record(record):
    (row,) = record["workloads"]
    assert _results.times_as_fast(row, "torch") == pytest.approx(4)
    assert _results.times_as_fast(row, "jax") is None
    flops = WORKLOADS["784-512-512-10"].flops
    assert _results.share_of_peak(record, row) == pytest.approx(flops / 0.5 / 200e9)
    assert list(_results.doubts(row)) == [
        "the cores together reached 55% of their peaks", "JAX: jax is not installed",
    ]  # fmt: skip


def test_what_a_figure_is_uncertain_by(record):
    """Half of the distance of the quartiles: 0.5 of 2; of a ratio, of both medians together."""
    (row,) = record["workloads"]
    row["peers"]["fastmlp"]["quartiles"] = [0.425, 0.575]
    assert _results.uncertainty(row, "torch") == pytest.approx(0.25)
    assert _results.uncertainty(row, "fastmlp", "torch") == pytest.approx(math.hypot(0.15, 0.25))
    assert "| 0.500 ± 15% |" in _tables.markdown(record)
    assert "| 4.0 ± 29% |" in _tables.markdown(record)


def test_rows_in_bfloat16_have_a_table_of_their_own(record):
    own, other = measured("fastmlp", 0.05, [0.25]), measured("torch-bf16", 0.05, [0.75])
    workload = WORKLOADS["784-512-512-10-bf16"]
    record["workloads"].append(_results.row(workload, [_rounds.Measured(PROBE), own, other]))
    first, second = _tables.markdown(record).split("\n\n")[:2]
    assert "bfloat16" not in first
    assert second.splitlines()[0] == "| workload | batch | seconds | of peak | × PyTorch bf16 |"
    assert "784-512-512-10 ReLU, bfloat16 | 128 | 0.250 ± 0% |  | 3.0 ± 0% |" in second
    assert len(_results.beside_libraries(record)) == len(_results.rounding(record)) == 1


def test_shares_of_peak_stand_beside_libxsmm(record, capsys):
    workload = WORKLOADS["libxsmm-768-128-64"]
    probe = _rounds.Measured(PROBE, [0.1], [{"gflops": 100.0, "together": 1.0}])
    own = measured("fastmlp", 0.1, [workload.flops / 100e9])  # half of what two threads could
    record["workloads"].append(_results.row(workload, [probe, own]))
    assert "768-128-64 ReLU, batch 32: 50% (72%)" in _tables.markdown(record)
    assert "| 768-128-64" not in _tables.markdown(record)
    _tables.print_record(record)
    assert re.search(r"768-128-64 ReLU.* 50% .* 72% ", capsys.readouterr().out)


def test_an_interrupted_run_is_resumed(record, monkeypatch, tmp_path, capsys):
    arguments = compare._arguments(["--resume", "--workloads", "one-row", "784-512-512-10"])
    begun = compare._new_record(arguments) | {"workloads": record["workloads"]}
    _results.write(begun | {"date": "2000-01-01", "limits": {}}, tmp_path)
    asked = []

    class Stub(_rounds.Comparison):
        def start(self, names):
            pass

        def limits(self, workload):
            return record["limits"]

        def measure(self, workload, names, rounds):
            asked.append(workload.name)
            return [_rounds.Measured(PROBE), measured("fastmlp", 0.1)]

    monkeypatch.setattr(compare, "Comparison", Stub)
    found = compare.measure(arguments, tmp_path)
    assert asked == ["one-row"]
    assert [row["name"] for row in found["workloads"]] == ["784-512-512-10", "one-row"]
    assert found["workloads"][0] == record["workloads"][0]
    assert _results.read(tmp_path)["workloads"] == found["workloads"]
    capsys.readouterr()

    arguments = compare._arguments(["--resume", "--threads", "1"])
    monkeypatch.setattr(_machine, "usable_cores", lambda: 64)
    with pytest.raises(SystemExit, match="machine, threads differ"):
        compare.measure(arguments, tmp_path)
    with pytest.raises(SystemExit, match="no earlier run"):
        compare.measure(arguments, tmp_path / "empty")


def test_the_readme_shows_the_record(record, tmp_path):
    readme = tmp_path / "README.md"
    begin, end = _readme.marks("speed")
    other = "\n".join(_readme.marks("accuracy"))
    readme.write_text(f"before\n{begin}\nold\n{end}\nafter\n{other}\n", encoding="utf-8")
    _results.write(record, tmp_path)
    text = _readme.section(_results.read(tmp_path), "results")
    assert not _readme.is_current(readme, text)
    _readme.rewrite(readme, text)
    assert _readme.is_current(readme, text)
    content = readme.read_text(encoding="utf-8")
    assert content.startswith("before\n")
    assert content.endswith(f"after\n{other}\n")
    assert "| 784-512-512-10 ReLU | 128 | 0.500 ± 0% |" in content
    record["workloads"][0]["peers"]["fastmlp"]["median"] = 0.4
    assert not _readme.is_current(readme, _readme.section(record, "results"))


def test_a_readme_without_markers_is_refused(record, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text("nothing here", encoding="utf-8")
    with pytest.raises(ValueError, match="must contain"):
        _readme.rewrite(readme, "text")


def test_the_record_prints_and_draws(record, tmp_path, capsys):
    from benchmarks.compare import _plots

    _tables.print_record(record)
    printed = capsys.readouterr().out
    assert "4.0 ± 25%" in printed
    assert "jax is not installed" in printed
    _plots.bar_chart(record, tmp_path / "bars.png")
    _plots.roofline(record, tmp_path / "roofline.png")
    for name in ("bars.png", "roofline.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.fixture
def two_machines(record, tmp_path, monkeypatch):
    """The records of two in a folder, the other with a peer of its own."""
    monkeypatch.setattr(_readme, "ROOT", tmp_path)
    own = measured("fastmlp", 0.5, [2.0])
    other = record | {
        "machine": record["machine"] | {"cpu": "Other (9)"},
        "workloads": [
            _results.row(
                WORKLOADS["784-128-10"],
                [
                    _rounds.Measured(PROBE, [0.1], [{"gflops": 100.0, "together": 1.0}]),
                    own,
                    measured("jax", 0.5, [3.0]),
                ],
            )
        ],
    }
    for each in (record, other):
        _results.write(each, tmp_path / _readme.folder_of("readme", each))
    return record, other


def test_a_machine_has_a_folder_of_its_own(two_machines):
    record, other = two_machines
    assert _readme.folder_of("readme", other) == _readme.RESULTS / "other-9-2-threads"
    assert _readme.folder_of("bfloat16", other).name == "bfloat16"
    kept = dict(_readme.kept("readme"))
    assert kept == {_readme.folder_of("readme", each): each for each in two_machines}
    assert _readme.kept("bfloat16") == []
    assert record["machine"]["cpu"] != other["machine"]["cpu"]


def test_the_readme_has_a_table_and_a_caption_of_each_machine(two_machines, tmp_path):
    from benchmarks.compare import _plots

    text = _readme.PAGES["readme"].text()
    assert text.count("| workload |") == 2
    assert "Other (9), 2 threads, 2026-01-01: an epoch of MNIST is trained 1.5 times as" in text
    assert "as fast as by JAX" in text
    assert len(re.findall(r"!\[", text)) == 1
    _plots.front_chart(two_machines, tmp_path / "bars.png")
    assert (tmp_path / "bars.png").read_bytes().startswith(b"\x89PNG")


def test_rows_beside_busy_processes_stand_below_the_tables(record):
    assert _tables.markdown(record | {"load": "| network |"}).endswith("\n\n| network |")


@pytest.mark.parametrize("page", _readme.PAGES.values(), ids=_readme.PAGES)
def test_the_committed_pages_show_the_committed_results(page):
    text = page.text()
    assert _readme.is_current(_readme.ROOT / page.path, text)
    images = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(images) == (
        1 if page.path == Path("README.md") else 2 * len(_readme.kept(page.kind))
    )
    assert all((_readme.ROOT / page.path.parent / image).exists() for image in images)
