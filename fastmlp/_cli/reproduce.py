"""`fastmlp reproduce`: the experiments of the recipes, with progress, pictures and a table."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .._extras import require
from ..warmup import compile_kernels
from .completion import recipe
from .errors import CommandError
from .options import DataDir, there
from .report import table

if TYPE_CHECKING:
    from ..recipes._experiment import Outcome, Recipe, Ticker


def reproduce(
    name: Annotated[
        str | None,
        typer.Argument(help="A recipe that --list shows; or --all.", autocompletion=recipe),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Run all recipes.")] = False,
    names: Annotated[bool, typer.Option("--list", help="List the recipes and stop.")] = False,
    quick: Annotated[
        bool, typer.Option("--quick", help="Run for a few seconds, on a part of the data.")
    ] = False,
    compare: Annotated[
        bool, typer.Option("--compare", help="Also time the write-up's formulas in plain NumPy.")
    ] = False,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder for the results, by default runs/reproduce/NAME."),
    ] = None,
    page: Annotated[
        Path | None,
        typer.Option(
            callback=there,
            dir_okay=False,
            help="A Markdown page whose generated tables are replaced.",
        ),
    ] = None,
) -> None:
    """Run the experiments of a course's write-up; put its figures beside the reported ones.

    Writes the write-up's pictures, report.json and report.md, a table, which is printed too. The
    exit status is 1 if a full run misses a figure that it must reach.
    """
    from ..recipes import RECIPES, _report
    from ..recipes._experiment import Setting

    if names:
        table(("name", "what"), [(recipe.name, recipe.summary) for recipe in RECIPES])
        return
    chosen = _chosen(name, everything)
    require("matplotlib", "plot")
    if page is not None:
        _check_page(page, chosen)
    out = out or Path("runs", "reproduce", name or "all")
    outcomes: list[Outcome] = []
    with _ticker() as ticker:
        ticker.begin("loading compiled kernels, or compiling them")
        compile_kernels()
        for recipe in chosen:
            folder = out / recipe.name if everything else out
            setting = Setting(_made(folder), data_dir, quick, compare, ticker)
            done = [experiment(setting) for experiment in recipe.experiments]
            text = _report.write(folder, done, quick)
            if page is not None:
                _report.write_page(page, recipe.name, text)
            outcomes += done
    if everything:
        text = _report.write(out, outcomes, quick)
    print(f"\n{text}", flush=True)
    missed = [] if quick else _report.missed(outcomes)
    if missed:
        raise CommandError("; ".join(missed))


def _chosen(name: str | None, everything: bool) -> tuple[Recipe, ...]:
    from ..recipes import RECIPES

    if everything and name is None:
        return RECIPES
    chosen = tuple(recipe for recipe in RECIPES if recipe.name == name)
    if everything or not chosen:
        known = ", ".join(recipe.name for recipe in RECIPES)
        got = f"{name} and --all" if everything else name or "neither"
        raise typer.BadParameter(f"must be one of {known}, or --all, got {got}", param_hint="NAME")
    return chosen


def _made(out: Path) -> Path:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {out} must be a folder to write to: {error}", 2) from None
    return out


def _check_page(page: Path, recipes: Sequence[Recipe]) -> None:
    from ..recipes import _report

    try:
        for recipe in recipes:
            _report.split_page(page, recipe.name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--page") from None


@contextmanager
def _ticker() -> Iterator[Ticker]:
    """A progress bar on a terminal, a line per stage elsewhere."""
    from ..recipes._experiment import Ticker

    if not sys.stdout.isatty():

        class Lines(Ticker):
            def begin(self, what: str, total: float = 0) -> None:
                print(what, flush=True)

        yield Lines()
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()) as progress:

        class Bar(Ticker):
            task: Any = None

            def begin(self, what: str, total: float = 0) -> None:
                self.end()
                self.task = progress.add_task(what, total=total or None)

            def advance(self, done: float) -> None:
                progress.advance(self.task, done)

            def end(self) -> None:
                if self.task is not None:
                    progress.update(self.task, total=1, completed=1)

        bar = Bar()
        yield bar
        bar.end()
