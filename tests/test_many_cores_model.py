"""The model of training on many cores: its limits, what it is made from, its page."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks.compare._readme import marks
from benchmarks.compare._workloads import WORKLOADS
from benchmarks.cores import __main__ as command
from benchmarks.cores import _measure, _page, _record
from benchmarks.cores._model import Costs, Parts, Seconds, Timed, barrier_of, seconds_on, split
from benchmarks.cores._sharing import Stage, Step
from benchmarks.cores._traffic import Phase, phases_on
from benchmarks.networks import Network
from tests.many_cores import TINY, let_threads_help
from tests.pictures import assert_readable
from tests.processes import ROOT

# The model


FREE = Costs(0.0, 0.0, np.inf)
EVEN = Step((256, 192, 96), 64, "float32")


def equal_times(step, panels=0.0):
    """A microsecond for every stage, some of it for the panels of those that prepare them."""
    stages = {
        stage: Seconds(1e-6, 0.0)
        for phase in step.phases
        for stage in phase
        if stage.kind != "sum of losses"
    }
    for stage in stages:
        if stage.kind in _measure.TILED_BY_ROWS:
            stages[stage] = Seconds(1e-6 - panels, panels)
    return Timed(stages, {1: 1e-6 * len(stages)})


@pytest.mark.parametrize("cost", [0.0, 1.0])
def test_one_core_takes_what_was_measured(cost):
    timed = Timed({**equal_times(EVEN, 2e-7).stages}, {1: 5e-5})
    parts = seconds_on(phases_on(EVEN, 1), timed, Costs(cost, cost, 1e-30), 10**9)
    assert_allclose(parts.step, 5e-5, rtol=1e-12)


def test_where_nothing_is_lost_the_split_is_perfect():
    """Two halves of whole tiles; lines and barriers free."""
    timed = equal_times(EVEN)
    for cores, exact in ((2, True), (5, False), (64, False)):
        parts = seconds_on(phases_on(EVEN, cores), timed, FREE, 10**6)
        assert parts[1:] == (0, 0)
        if exact:
            assert_allclose(parts.step, timed.step[1] / cores, rtol=1e-12)
        else:
            assert parts.step >= timed.step[1] / cores * (1 - 1e-12)


def test_a_phase_takes_what_its_busiest_core_takes():
    """By hand: tiles in thirds of 1, 1 and 2 quarters; the last core receives most."""
    first, second = Stage("forward", 0), Stage("update", 0)
    phases = [
        Phase([first], np.array([[0.25, 0.25, 0.5]]), np.array([[1, 1, 1.0]]), np.array([9, 0, 1])),
        Phase([second], np.array([[0.5, 0.5, 0]]), np.zeros((1, 3)), np.array([0, 2, 40])),
    ]
    timed = Timed({first: Seconds(8.0, 1.0), second: Seconds(6.0, 0.0)}, {1: 30.0})
    # The step is twice as slow as its stages. Work: 2 * (4 + 1) and 2 * 3; 1 and 2 lines.
    parts = seconds_on(phases, timed, Costs(0.1, 0.02, 1e9), 0)
    assert_allclose(parts, [10 + 6, 0.3, 2 * 0.03])
    # Lines so dear that who has no tiles is the busiest.
    parts = seconds_on(phases, timed, Costs(1.0, 0.02, 1e9), 0)
    assert_allclose(parts, [2 * 3 + 0, 9 + 40, 2 * 0.03])


def test_the_gather_waits_for_the_memory():
    gather = Stage("gather", 0)
    phase = Phase([gather], np.array([[0.5, 0.5, 0]]), np.zeros((1, 3)), np.zeros(3, int))
    timed = Timed({gather: Seconds(8.0, 0.0)}, {1: 8.0})
    for memory, expected in ((100.0, 5.0), (1000.0, 4.0), (1.0, 8.0)):
        assert_allclose(seconds_on([phase], timed, Costs(0, 0, memory), 500).step, expected)


def test_barriers_grow_with_the_cores():
    costs = Costs(0.0, 3.0, 1.0)
    assert [barrier_of(costs, cores) for cores in (1, 2, 4, 64)] == [0, 3, 6, 96]


def test_what_panels_take_is_told_from_what_tiles_take():
    assert_allclose(split(2 + 16 * 0.5, 2 + 0.5, 16), [8, 2])
    assert split(5.0, 5.0, 1) == (5, 0)
    assert split(16.0, 0.9, 16) == (16, 0)


def test_more_cores_than_tiles_do_not_help():
    step = Step((64, 16, 10), 8, "float32")
    timed = equal_times(step)
    few, many = (seconds_on(phases_on(step, n), timed, Costs(0, 1e-9, np.inf), 0) for n in (32, 64))
    assert many.work >= few.work * (1 - 1e-12)
    assert many.step > few.step


# What is measured


def test_the_least_of_bursts_counts():
    times, asked = iter([9, 9, 9, 9, 9, 9, 12, 8, 16, *[40] * 10**6]), []

    def burst(turns):
        asked.append(turns)
        return next(times) * 1e-4

    assert _measure.least(burst, 1e-3, 2, 8) == 8e-4 / 8
    assert asked[:7] == [2, 2, 4, 4, 8, 8, 8]
    assert set(asked[6:]) == {8}


def test_two_threads_meet_and_pass_lines_on():
    with _measure.at_most(2):
        assert 0 < _measure.barrier_seconds(0.01) < 1
        assert 0 <= _measure.line_seconds(0.01) < 1
    one, sums = np.full(64, 2, np.float32), np.zeros(64, np.float32)
    with _measure.at_most(2):
        _measure.on_threads(_measure._pass_on, 2, (one, one, sums, 1))
    assert not one.any()


@pytest.mark.long
def test_everything_of_a_network_is_measured(monkeypatch):
    let_threads_help(monkeypatch)
    timed = _measure.timed(TINY, 0.001)
    stages = {s for phase in Step(TINY.network.sizes, 19, "float32").phases for s in phase}
    assert set(timed.stages) == stages - {Stage("sum of losses", 2)}
    assert all(min(seconds) >= 0 and sum(seconds) > 0 for seconds in timed.stages.values())
    assert 0 < timed.step[1] < 1
    assert 0 < timed.step[2] < 1


def test_more_threads_than_a_fit_would_take_are_refused():
    with (
        _measure.at_most(2),
        pytest.raises(ValueError, match="count must be at most 1 here, got 2"),
    ):
        _measure.timed(TINY, 0.001)


def test_one_core_is_not_enough(monkeypatch, capsys):
    monkeypatch.setattr(command, "usable_cores", lambda: 1)
    with pytest.raises(SystemExit):
        command.main([])
    assert "two cores are needed" in capsys.readouterr().err


# The record and its page


@pytest.fixture(scope="module")
def modelled():
    timed = Timed(
        {stage: Seconds(2e-5, 1e-6) for stage in equal_times(EVEN).stages},
        {1: 2e-4, 2: 1.1e-4},
    )
    row = _record.row_of(replace(TINY, network=Network(EVEN.sizes, "relu", 64, 0.1)), timed)
    assert _record.timed_of(row) == timed
    measured = {
        "date": "2000-01-01", "machine": {"cpu": "CPU"}, "together": 0.98, "warnings": [],
        "costs": {"line": 6e-9, "barrier": 4e-8, "memory": 4e10}, "rows": [row],
    }  # fmt: skip
    return _record.with_curves(measured)


@pytest.fixture
def record(modelled):
    """Five rows, each the same."""
    return modelled | {"rows": copy.deepcopy(modelled["rows"] * 5)}


def test_the_record_holds_what_the_model_says(record):
    row, costs = record["rows"][0], _record.costs_of(record)
    assert len(row["cores"]) == 64
    for cores in (1, 2, 7):
        phases = phases_on(EVEN, cores)
        parts = seconds_on(phases, _record.timed_of(row), costs, 64 * 1024)
        found = row["cores"][cores - 1]
        assert_allclose(found["parts"], parts, rtol=1e-5)
        received = np.sum([phase.received for phase in phases], axis=0)
        assert_allclose(found["kilobytes"], received.max() * 64 / 1000, rtol=1e-5)
        dearer = seconds_on(phases, _record.timed_of(row), Costs(24e-9, 16e-8, 4e10), 64 * 1024)
        assert_allclose(found["dearer"], dearer.step, rtol=1e-5)
    assert_allclose(_record.miss(row), Parts(*row["cores"][1]["parts"]).step / 1.1e-4 - 1)
    assert _record.threads_of_fit(row) == (256 * 192 + 192 * 96) * 3 * 64 // 1_200_000


def test_the_page_shows_the_record(record):
    for row in record["rows"]:
        row["cores"] = [
            {"parts": [2e-4 / n, 1e-6 * n, 0.0], "dearer": 4e-5, "kilobytes": 3.0 * n}
            for n in range(1, 65)
        ]
    text = _page.page(record, "picture.svg")
    for line in (
        "| 256-192-96 ReLU | 64 | 200.0 | 110.0 | 102.0 | -7.3% | 2.0 | 0.0 |",
        "| 256-192-96 ReLU | 2.0 | 3.7 | 6.1 | 7.0 | 5.2 | 3.0 | 7.1 | 14 | 10 | 5.0 |",
        "| 256-192-96 ReLU | 6 | 24 | 192 | 0% | 95% |",
        "![Speed over one core, by cores](picture.svg)",
    ):
        assert line in text.splitlines()
    assert (
        "misses two cores by at most 7%. Between them a line costs 6.0 ns and a barrier 40 ns"
        in text
    )


def test_the_picture_is_the_record_s(record, tmp_path):
    for name in ("one.svg", "two.svg"):
        _page.draw(record, tmp_path / name)
    text = (tmp_path / "one.svg").read_text(encoding="utf-8")
    assert_readable(text)
    assert text == (tmp_path / "two.svg").read_text(encoding="utf-8")


def test_the_page_of_the_repository_is_its_record():
    """And the model is near to two measured cores: it was within 16 percent in a quiet run."""
    if not command.RECORD.exists():
        pytest.skip("no record is kept: python -m benchmarks.cores --write")
    record = json.loads(command.RECORD.read_text(encoding="utf-8"))
    text = command.PAGE.read_text(encoding="utf-8")
    begin, end = marks("cores")
    shown = text.partition(begin)[2].partition(end)[0]
    assert shown.strip() == _page.page(record, "images/cores.svg").strip()
    assert f"]({command.PICTURE.relative_to(ROOT / 'docs').as_posix()})" in shown
    assert command.PICTURE.is_file()
    assert [row["name"] for row in record["rows"]] == list(command.NAMES)
    for row in record["rows"]:
        network = WORKLOADS[row["name"]].network
        assert (tuple(row["sizes"]), row["batch"]) == (network.sizes, network.batch_size)
        assert abs(_record.miss(row)) <= 0.2
        again = [_record.predicted(row, _record.costs_of(record), cores) for cores in (1, 2, 3)]
        assert again == row["cores"][:3]


@pytest.mark.long
def test_the_command_measures_and_draws(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command.main(["--seconds", "0.02"])
    record = json.loads((tmp_path / "runs" / "cores" / "cores.json").read_text())
    assert [len(row["cores"]) for row in record["rows"]] == [64] * 5
    assert (tmp_path / "runs" / "cores" / "cores.svg").stat().st_size > 1000
    assert "784-512-512-10" in capsys.readouterr().out
