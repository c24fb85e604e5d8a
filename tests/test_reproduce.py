"""`fastmlp reproduce`: reports, the generated page, usage, and a quick run of each recipe."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fastmlp import recipes
from fastmlp.recipes import RECIPES, _experiment, _report
from fastmlp.recipes._experiment import (
    ROUNDS,
    Measure,
    Outcome,
    Recipe,
    Setting,
    Timing,
    compare,
)

DATA = os.environ.get("FASTMLP_DATA")

PICTURES = {
    "hw1p1": {"curves.png"},
    "ece421": {"average_loss.png", "total_loss.png"},
    "handin2": {"loss_and_accuracy.png"},
    "vu_dl1": {
        "figure_02_synthetic.png", "figure_03_full_batch.png", "figure_04_batch_16.png",
        "figure_05_loss_per_batch.png", "figure_06_train_and_validation.png",
        "figure_07_seeds.png", "figure_08_learning_rates.png", "figure_09_batch_sizes.png",
        "figure_10_final.png",
    },
}  # fmt: skip


def outcome(**more):
    measures = [Measure("accuracy", 0.9, 0.91, at_least=0.9), Measure("loss", None, 0.25)]
    values = {
        "title": "course", "setup": "2-3-2", "measures": measures, "pictures": [],
        "seconds": 1.0, "timing": None,
    }  # fmt: skip
    return Outcome(**(values | more))


def page_of(*names):
    """A Markdown page with a generated table for each recipe."""
    tables = ["\nold\n".join(_report.markers(name)) for name in names]
    return "\n\n".join(["# Title", "before", *tables, "after\n"])


def rows(text):
    """The table's cells, line by line, without the heading."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_table():
    text = _report.markdown([outcome(timing=Timing("1 epoch", 3.0, 0.5))], quick=False)
    assert rows(text) == [
        ["course", "accuracy", "0.9", "0.91", "≥ 0.9", "3.00", "0.50 (6.0 × faster)"],
        ["", "loss", "", "0.25", "", "", ""],
    ]
    assert "Timed in both: 1 epoch" in text
    quick = _report.markdown([outcome()], quick=True)
    assert rows(quick)[0] == ["course", "accuracy", "0.9", "0.91", "", "", ""]
    assert "quick run" in quick


@pytest.mark.parametrize(
    ("measure", "reached", "required"),
    [
        (Measure("a", None, 0.9, at_least=0.9), True, "≥ 0.9"),
        (Measure("a", None, 0.89, at_least=0.9), False, "≥ 0.9"),
        (Measure("a", None, 0.42, at_most=0.42), True, "≤ 0.42"),
        (Measure("a", None, 0.43, at_most=0.42), False, "≤ 0.42"),
        (Measure("a", None, np.nan, at_least=0.9), False, "≥ 0.9"),
        (Measure("a", None, np.nan, at_most=0.42), False, "≤ 0.42"),
        (Measure("a", None, np.nan), True, ""),
    ],
)
def test_bounds(measure, reached, required):
    assert (measure.reached, measure.required) == (reached, required)
    assert len(_report.missed([outcome(measures=[measure])])) == (not reached)


def test_a_page_keeps_all_but_one_recipe_s_table(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(page_of("one", "two"), encoding="utf-8")
    _report.write_page(page, "two", "first")
    _report.write_page(page, "two", "second")
    kept, _, _ = page_of("one", "two").rpartition("old")
    assert page.read_text(encoding="utf-8").startswith(f"{kept}\nsecond\n")
    assert page.read_text(encoding="utf-8").endswith("\n\nafter\n")
    with pytest.raises(ValueError, match="must have the lines <!-- reproduce:three:begin -->"):
        _report.split_page(page, "three")


@pytest.fixture
def no_pause(monkeypatch):
    """Nothing spins here."""
    monkeypatch.setattr(_experiment, "PAUSE", 0)


def test_both_sides_are_timed_after_preparation(tmp_path, no_pause):
    calls = []

    def prepared():
        calls.append("prepare")
        return lambda: calls.append("numpy")

    def fastmlp():
        calls.append("fastmlp")

    assert compare(Setting(tmp_path), "work", prepared, fastmlp) is None
    assert calls == []
    timing = compare(Setting(tmp_path, compare=True), "work", prepared, fastmlp)
    assert calls == ["prepare", *["numpy", "fastmlp"] * ROUNDS]
    assert timing.work == "work"


def test_the_best_round_of_each_counts(tmp_path, monkeypatch):
    clock = iter([0, 5, 0, 3, 0, 4, 0, 1, 0, 9, 0, 2])
    monkeypatch.setattr(_experiment, "ROUNDS", 3)
    watch = SimpleNamespace(perf_counter=lambda: next(clock), sleep=lambda seconds: None)
    monkeypatch.setattr(_experiment, "time", watch)
    setting = Setting(tmp_path, compare=True)
    timing = compare(setting, "work", lambda: lambda: None, lambda: None)
    assert (timing.numpy_seconds, timing.fastmlp_seconds) == (4, 1)


def test_list(command):
    status, out, _ = command("reproduce --list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[1:]] == [r.name for r in RECIPES]


@pytest.mark.parametrize("line", ["", "iris", "hw1p1 --all", "hw1p1 --data-dir nowhere"])
def test_wrong_usage(command, line):
    status, out, err = command(f"reproduce {line}")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1


def test_a_page_without_markers_is_refused_before_any_work(command, tmp_path):
    Path("page.md").write_text("# Title\n")
    status, _, err = command("reproduce hw1p1 --quick --page page.md")
    assert status == 2
    assert "must have the lines" in err
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", ["hw1p1", "ece421"])
def test_missing_data_end_with_what_to_put_where(command, name):
    status, _, err = command(f"reproduce {name} --quick")
    assert status == 1
    assert {"hw1p1": "mnist was not found", "ece421": "images and labels"}[name] in err


@pytest.mark.skipif(not DATA, reason="FASTMLP_DATA names no folder with MNIST and notMNIST")
@pytest.mark.parametrize("name", PICTURES)
def test_quick_run(command, name, tmp_path, monkeypatch):
    """One round of the timings: NumPy takes two thirds of this test's time otherwise."""
    monkeypatch.setattr(_experiment, "ROUNDS", 1)
    Path("page.md").write_text(page_of(*PICTURES), encoding="utf-8")
    status, out, err = command(
        f"reproduce {name} --quick --compare --data-dir {DATA} --out out --page page.md"
    )
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    written = {path.name for path in Path("out").iterdir()}
    assert written == PICTURES[name] | {"report.json", "report.md"}
    text = Path("out", "report.md").read_text(encoding="utf-8")
    assert text in out
    begin, end = _report.markers(name)
    assert f"{begin}\n\n{text}\n{end}" in Path("page.md").read_text(encoding="utf-8")
    for words in ("reported", "reproduced", "NumPy, s", "fastmlp, s"):
        assert words in text.splitlines()[0]
    report = json.loads(Path("out", "report.json").read_text(encoding="utf-8"))
    assert report["quick"]
    experiments = report["experiments"]
    assert {picture for e in experiments for picture in e["pictures"]} == PICTURES[name]
    for experiment in experiments:
        assert experiment["timing"]["numpy_seconds"] > 0
        assert experiment["timing"]["fastmlp_seconds"] > 0
        assert all(np.isfinite(m["reproduced"]) for m in experiment["measures"])
    for picture in PICTURES[name]:
        assert Path("out", picture).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("accuracy", "status"), [(0.95, 0), (0.5, 1)])
def test_a_full_run_must_reach_its_bounds(command, monkeypatch, accuracy, status):
    measures = [Measure("accuracy", 0.9, accuracy, at_least=0.9)]
    recipe = Recipe("tiny", "nothing", (lambda setting: outcome(measures=measures),))
    monkeypatch.setattr(recipes, "RECIPES", (recipe,))
    got, out, err = command("reproduce --all")
    assert got == status
    assert (err == "") == (status == 0)
    assert "accuracy" in out
    assert Path("runs/reproduce/all/tiny/report.json").exists()
    assert Path("runs/reproduce/all/report.json").exists()
