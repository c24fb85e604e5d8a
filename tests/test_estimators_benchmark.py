"""The benchmark of the estimators, on few rows."""

import os

import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks import estimators as benchmark
from benchmarks.compare._readme import marks


@pytest.fixture(name="cores")
def impatient(monkeypatch):
    monkeypatch.setattr(benchmark, "PATIENCE_SECONDS", 0.0)
    return benchmark.Cores()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_row_has_seconds_and_two_ratios(cores):
    case = benchmark.Case("few", 50, 3, {"max_iter": 2})
    name, taken, *ratios = benchmark.measure(case, 2, cores)
    assert name == "few"
    assert float(taken.removesuffix(" s")) > 0
    for ratio in ratios:
        low, middle, high = (float(ratio.replace("(", "").strip(")").split()[i]) for i in (1, 0, 3))
        assert 0 < low <= middle <= high


def test_ratio_is_theirs_over_ours():
    times = benchmark.np.array([[1.0, 2.0], [1.0, 4.0], [2.0, 6.0]])
    assert benchmark._ratio(times) == "3.00 (2.50 to 3.50)"


def test_section_names_the_machine_and_stands_on_the_page():
    text = benchmark.section([["few", "1 s", "2.00 (1.00 to 3.00)", ""]], 0.5)
    assert "| few | 1 s | 2.00 (1.00 to 3.00) |  |" in text
    assert "scikit-learn 1." in text
    page = benchmark.PAGE.read_text(encoding="utf-8")
    begin, end = marks("speed")
    assert 0 < page.index(begin) < page.index("MNIST, 784-100-10") < page.index(end)
    assert os.path.relpath(benchmark.PAGE, benchmark.ROOT) == "docs/scikit-learn.md"
