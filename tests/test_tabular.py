"""The benchmark on tables: what is measured, what is kept, what the page says."""

import json

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.dummy import DummyClassifier, DummyRegressor

from benchmarks import tabular, tabular_models, tabular_sets
from benchmarks.compare._readme import marks
from benchmarks.tabular_models import Model
from benchmarks.tabular_sets import MOST_TEST_ROWS, MOST_TRAINING_ROWS, Table

SIZE = 40


def toy(classes):
    frame = pd.DataFrame({"a": np.arange(SIZE), "b": ["x", "y"] * (SIZE // 2)})
    return frame.astype({"b": "category"}), np.arange(SIZE) % 2 if classes else np.arange(
        SIZE
    ) * 1.0


def dummy(classes, seed):
    return DummyClassifier(strategy="prior") if classes else DummyRegressor()


def missing(classes, seed):
    raise ImportError("no module named missing")


@pytest.fixture
def toys(monkeypatch):
    """Two tables and three models in the place of the benchmark's own, by name."""
    tables = {
        "coin": Table("coin", True, lambda: toy(True)),
        "line": Table("line", False, lambda: toy(False)),
        "digits": tabular_sets.BY_NAME["digits"],
    }
    models = [Model("RealMLP", dummy), Model("other", dummy), Model("missing", missing)]
    monkeypatch.setattr(tabular, "TABLES", tables)
    monkeypatch.setattr(tabular, "MODELS", models)
    monkeypatch.setattr(tabular, "VARIANTS", [Model("dropout", dummy)])
    every = [*models, *tabular.VARIANTS]
    monkeypatch.setattr(tabular, "BY_NAME", {model.name: model for model in every})


def test_splits():
    table = Table("big", False, lambda: (pd.DataFrame({"a": np.arange(20_000)}), np.arange(20_000)))
    split, other = table.split(0), table.split(1)
    assert len(split.y) == MOST_TRAINING_ROWS
    assert len(split.y_test) == MOST_TEST_ROWS
    assert not set(split.y) & set(split.y_test)
    assert_array_equal(split.x["a"], split.y)
    assert_array_equal(split.x_test["a"], split.y_test)
    assert_array_equal(split.y, table.split(0).y)
    assert (split.y != other.y).any()
    few = Table("small", True, lambda: toy(True)).split(0)
    assert (len(few.y), len(few.y_test)) == (30, 10)


def test_errors(toys):
    """A guess at random of two equal classes, and the mean of numbers."""
    coin, line = (
        tabular.measure(tabular.TABLES[name], tabular.BY_NAME["other"], 0)
        for name in ("coin", "line")
    )
    split = tabular.TABLES["coin"].split(0)
    guess = int(split.y.mean() > 0.5)
    assert coin["error"] == np.mean(split.y_test != guess)
    split = tabular.TABLES["line"].split(0)
    assert line["error"] == pytest.approx(np.sqrt(np.mean((split.y_test - split.y.mean()) ** 2)))
    assert (line["rows"], line["test_rows"], line["columns"]) == (30, 10, 2)


def test_a_run_goes_on_where_it_stopped(toys, tmp_path, capsys):
    path = tmp_path / "folder" / "results.json"
    tabular.run(path, ["coin"], ["RealMLP", "missing"], [0, 1], False)
    assert "missing: left out, no module named missing" in capsys.readouterr().out
    before = json.loads(path.read_text())["rows"]
    assert [(row["model"], row["seed"]) for row in before] == [("RealMLP", 0), ("RealMLP", 1)]
    tabular.run(path, ["coin", "line"], ["RealMLP", "other"], [0, 1], False)
    after = json.loads(path.read_text())["rows"]
    assert after[:2] == before
    assert len(after) == 8
    tabular.run(path, ["coin"], ["RealMLP"], [0], True)
    again = json.loads(path.read_text())["rows"]
    assert len(again) == 8
    assert before[0] not in again


@pytest.mark.parametrize(
    ("errors", "expected"), [([3, 1, 2], [3, 1, 2]), ([1, 2, 1, 4], [1.5, 3, 1.5, 4]), ([5], [1])]
)
def test_ranks(errors, expected):
    assert tabular.ranks(errors) == expected


def row(table, model, seed, error):
    return {
        "table": table, "model": model, "seed": seed, "error": error, "fit_seconds": 123.4,
        "predict_seconds": 0.0123, "rows": 30, "columns": 2, "test_rows": 10,
    }  # fmt: skip


def test_the_page(toys):
    rows = [
        row("coin", "RealMLP", 0, 0.1), row("coin", "RealMLP", 1, 0.3),
        row("coin", "other", 0, 0.5), row("line", "RealMLP", 0, 2.0), row("line", "other", 0, 1.0),
        row("line", "missing", 0, 0.5), row("coin", "dropout", 1, 0.25),
        row("coin", "dropout", 0, 0.07),
    ]  # fmt: skip
    machine = {"cpu": "CPU", "cores": 2, "system": "Linux", "python": "3"}
    text = tabular.page({"rows": rows, "machine": machine, "versions": {"numpy": "2"}})
    for line in (
        "| table | rows | columns | RealMLP | other | missing |",
        "| coin | 30 | 2 | **20.00 ± 14.14** | 50.00 |  |",
        "| *line* | 30 | 2 | 200.00 | 100.00 | **50.00** |",
        "| mean rank |  |  | 1.50 | 1.50 |  |",
        "| coin | 30 | 2 | 120 | 120 |  |",
        "| coin | 30 | 2 | 0.012 | 0.012 |  |",
        "| table | dropout |",
        "| coin | -4.00 ± 1.00 |",
        "1 seeds, with these exceptions. 2 of RealMLP; dropout (on coin). "
        "CPU, 2 cores, Linux, Python 3; numpy 2.",
    ):
        assert line in text.splitlines()


def test_how_many_seeds_there_are(toys):
    rows = [row(table, "other", seed, 0.1) for table in ("coin", "line") for seed in range(3)]
    assert tabular._seeds(tabular.Grid(rows)) == "3 seeds"
    rows += [row(table, "few", 0, 0.1) for table in ("line", "coin")]
    rows += [row("line", "missing", seed, 0.1) for seed in range(2)]
    assert tabular._seeds(tabular.Grid(rows)) == (
        "3 seeds, with these exceptions. 1 of few (on coin; line). 2 of missing (on line)"
    )


def test_the_committed_page_shows_the_committed_record():
    text = tabular.PAGE.read_text(encoding="utf-8")
    begin, end = marks("tabular")
    assert f"{begin}\n{tabular.page(tabular.load(tabular.RESULTS))}\n{end}" in text


def test_the_rival_is_shown_where_all_three_were_measured(toys):
    rows = [
        row("coin", tabular.RIVAL, 0, 0.2) | {"fit_seconds": seconds} for seconds in (600, 480, 9e9)
    ]
    rows += [
        row("coin", "RealMLP", 0, 0.1),
        row("coin", "bfloat16", 0, 0.125) | {"fit_seconds": 60},
    ]
    rows += [row("line", tabular.RIVAL, 0, 0.2), row("line", "RealMLP", 0, 0.1)]
    assert tabular._beside_rival(tabular.Grid(rows)) == [
        ["coin", "4.9 ×", "10.0 ×", "20.00", "10.00", "12.50"]
    ]


def test_what_the_page_is_made_from_is_between_its_marks():
    text = tabular.PAGE.read_text(encoding="utf-8")
    assert all(text.count(mark) == 1 for mark in marks("tabular"))


def test_estimators_get_frames_that_they_take():
    """Numbers and words with gaps, through what stands before each estimator."""
    frame = pd.DataFrame({"a": [1.0, np.nan, 3.0, 4.0], "b": ["x", None, "y", "x"]})
    frame = frame.astype({"b": "category"})

    class Estimator:
        def fit(self, x, y, **options):
            self.seen, self.options = x, options

        def predict(self, x):
            return x["a"].to_numpy()[:, None]

    words = tabular_models._without_missing_words
    inner = Estimator()
    model = tabular_models._Prepared(inner, words, lambda names: {"cat_features": names})
    model.fit(frame, None)
    assert inner.options == {"cat_features": ["b"]}
    assert inner.seen["b"].tolist() == ["x", "missing", "y", "x"]
    assert model.predict(frame).shape == (4,)
    inner = Estimator()
    model = tabular_models._Prepared(
        inner, tabular_models._without_missing_numbers, lambda names: {}
    )
    model.fit(frame[["a"]], None)
    assert inner.seen["a"].tolist() == [1, 8 / 3, 3, 4]


@pytest.mark.parametrize("classes", [True, False])
def test_standardised_networks(classes):
    frame, y = toy(classes)
    frame.loc[3, "a"] = np.nan
    model = tabular_models._standardised(classes, dummy(classes, 0)).fit(frame, y)
    columns = model[0].transform(frame)
    np.testing.assert_allclose(columns[:, 0].mean(), 0, atol=1e-12)
    assert model.predict(frame).shape == y.shape
