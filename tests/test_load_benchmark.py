"""The benchmark of training beside busy processes, on few rows."""

import time

import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks import load
from fastmlp import _pace

NAME = "784-64-64-32-10"


@pytest.fixture(autouse=True)
def few_rows(monkeypatch):
    monkeypatch.setattr(load, "SAMPLES", 300)


@pytest.mark.parametrize("way", load.WAYS)
def test_a_row_for_every_load(way):
    rows = load.measure(NAME, 2, [0, 1], way)
    assert [row[:2] for row in rows] == [[NAME, "0"], [NAME, "1"]]
    heads = load.table([], 2).splitlines()[0].count("|") - 1
    assert all(len(row) == heads for row in rows)
    assert "| busy processes |" in load.table(rows, 2)


def test_busy_processes_end():
    with load.busy(2) as running:
        time.sleep(0.1)
        assert all(process.poll() is None for process in running)
    assert all(process.poll() is not None for process in running)


def test_a_fixed_number_of_threads_tries_no_other(monkeypatch):
    seen = []

    class Watched(_pace.Pace):
        def next(self):
            call = super().next()
            seen.append((call.threads, _pace.TRIALS))
            return call

    monkeypatch.setattr("fastmlp._session.Pace", Watched)
    load.seconds_of_epochs(NAME, 2, threads=1)
    assert {threads for threads, _ in seen} == {1}
    assert {trials for _, trials in seen} == {False}
    assert _pace.TRIALS
