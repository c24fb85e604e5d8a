"""benchmarks.compare: the record, the tables and pages made of it, and a run that goes on."""

import math
import re
from pathlib import Path

import pytest

import fastmlp
from benchmarks.compare import __main__ as compare
from benchmarks.compare import _machine, _readme, _results, _rounds, _tables
from benchmarks.compare._peers import PEERS, PROBE
from benchmarks.compare._workloads import WORKLOADS
from tests.pictures import assert_readable


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
    _plots.bar_chart(record, tmp_path / "bars.svg")
    _plots.roofline(record, tmp_path / "roofline.svg")
    for name in ("bars.svg", "roofline.svg"):
        assert_readable((tmp_path / name).read_text(encoding="utf-8"))


def test_versions_of_all_that_takes_part(monkeypatch):
    monkeypatch.setattr(_machine, "installed_version", lambda name: {"numpy": "2.0"}.get(name))
    found = _machine.versions()
    assert set(found) == set(_machine.DISTRIBUTIONS)
    assert (found["numpy"], found["torch"]) == ("2.0", "not installed")
    assert found["fastmlp"] == fastmlp.__version__


def test_no_two_peers_look_alike():
    from benchmarks.compare import _plots

    assert set(_plots._STYLES) == set(_plots._ALL_PEERS)
    assert len(set(_plots._STYLES.values())) == len(_plots._STYLES)


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
    assert "Other (9), 2 threads, 2026-01-01: on these networks an epoch of MNIST is " in text
    assert "trained 1.5 times as" in text
    assert "as fast as by JAX" in text
    assert len(re.findall(r"!\[", text)) == 1
    _plots.front_chart(two_machines, tmp_path / "bars.svg")
    assert_readable((tmp_path / "bars.svg").read_text(encoding="utf-8"))


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
