"""The benchmark of many fits, on few rows."""

import numpy as np
import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks import sweep


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch):
    monkeypatch.setattr(sweep, "SAMPLES", 300)


def test_a_row_for_every_engine(capsys):
    sweep.main(["--engines", "threads", "processes", "--fits", "3", "--rounds", "2"])
    shown = capsys.readouterr().out
    assert "threads" in shown
    assert "processes" in shown
    assert "3 fits of 784-128-10, an epoch of 300 rows each" in shown


def test_ratios_are_of_one_worker_over_two():
    seconds = np.array([[4.0, 2.0], [6.0, 4.0], [9.0, 3.0]])
    assert sweep.row("it", seconds) == ["it", "6.00", "3.00", "2.000 (1.750 to 2.500)"]
