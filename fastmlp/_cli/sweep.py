"""`fastmlp sweep`: many trainings, their table, and the best network."""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from .._extras import require
from .._fit_state import digests
from ..datasets import CLASSIFICATION, Dataset
from ..history import History, NotFiniteWarning
from ..mlp import MLP
from ..presets import Preset
from ..sweeps._course import Course, Entry
from ..sweeps._progress import FitsDone
from ..threads import get_num_threads
from ..warmup import compile_kernels, is_cold
from . import report, sweep_file
from .choices import checked, data_of, preset_of
from .classes import check_classes, remark_on_numbers
from .errors import INTERRUPTED, TERMINATED, CommandError
from .parts import DTypes, Parts, network_of, parts_of
from .resume import Terminated, answering_sigterm, wherever
from .samplers import Sampler, sampler_of
from .sweep_file import Sweep
from .sweep_results import MODEL, RESULTS, Results, results_in
from .train import test_figures

MOST_SHOWN = 20
"""Lines of the table; all trials are in the file."""


def run_sweep(
    config: Path, data_dir: Path | None, out: Path | None, defaults: dict[str, Any]
) -> None:
    """Train what the file asks for, and print the table.

    defaults : of the options of `train`
    Raises CommandError where the file is refused, after an interrupt, and where trials have failed.
    """
    defaults = defaults | {"data_dir": data_dir}
    plan = sweep_file.read(config, defaults)
    require("safetensors", "io")
    sampler = sampler_of(plan)
    data = data_of(sweep_file.options_of(plan, {}, defaults))
    if data.task == CLASSIFICATION:
        check_classes(data)
        remark_on_numbers(data, 'task = "regression" in [data]')
    kept = plan.to_dict() | {
        "dataset": wherever(plan.fixed.get("dataset", data.name)),
        "data": digests((data.train_x, data.train_y)),
    }
    with results_in(out or Path("runs", config.stem), kept) as results:
        trials = Trials(plan, defaults, data, results)
        with answering_sigterm():
            trials.run(sampler)
        trials.show()


class _Trial(NamedTuple):
    number: int
    values: dict[str, Any]
    mlp: MLP
    parts: Parts


class Trials:
    """Those of a sweep, of which some may have been run before."""

    def __init__(
        self, plan: Sweep, defaults: Mapping[str, Any], data: Dataset, results: Results
    ) -> None:
        self._plan, self._defaults, self._data, self._results = plan, defaults, data, results
        self._parts: dict[bool, Parts] = {}  # by whether they are standardised
        self._begun = 0
        self._running: dict[int, _Trial] = {}  # in the order of their beginning
        self._failed: set[int] = set()

    def run(self, sampler: Sampler) -> None:
        """Train what is missing.

        Raises CommandError after an interrupt, and where there is nothing to validate on.
        """
        plan, there = self._plan, len(self._results.of_trials)
        train, held = (part[1] for part in self._parts_of(standardise=False)[:2] if part)
        print(
            f"{self._data.name}: {len(train):,} training, {len(held):,} validation samples\n"
            f"{plan.total} trials of {', '.join(plan.varied) or 'one setting'}, {there} of them "
            f"are there already\nresults go to {self._results.folder}\n",
            flush=True,
        )
        if there < plan.total:
            self._compile()
        most = plan.workers or (1 if plan.sampler == "optuna" else get_num_threads())
        course = Course(self._entries(sampler), lambda: ThreadPoolExecutor(most), most, retries=0)
        try:
            with (
                warnings.catch_warnings(),
                FitsDone(plan.total - there, "trial") as shown,
                contextlib.closing(course.results()) as ends,
            ):
                warnings.simplefilter("error", NotFiniteWarning)
                for i, result in ends:
                    trial = self._running.pop(i)
                    self._ended(trial, result)
                    shown.tell(trial.number, trial.mlp, result)
        except KeyboardInterrupt as interrupt:
            terminated = isinstance(interrupt, Terminated)
            raise CommandError(
                f"{'terminated' if terminated else 'interrupted'} after "
                f"{len(self._results.of_trials)} of {plan.total} trials: the same command goes on",
                TERMINATED if terminated else INTERRUPTED,
            ) from None

    def _compile(self) -> None:
        values = self._plan.lists | {key: [v] for key, v in self._plan.fixed.items()}
        for dtype in values.get("dtype", [self._defaults["dtype"]]):
            for computed in values.get("compute-dtype", [None]):
                with report.compiling(is_cold(dtype, computed)):
                    compile_kernels(dtype, computed)

    def _parts_of(self, standardise: bool) -> Parts:
        """Made once, so that all trials read the same arrays."""
        if standardise not in self._parts:
            self._parts[standardise] = parts_of(self._data, True, standardise)
        parts = self._parts[standardise]
        if parts.validation is None:
            raise CommandError(
                f"{self._data.name}: a sweep needs 10 training samples or more, of which it holds "
                f"out a tenth to validate on, got {len(parts.train[1])}"
            )
        return parts

    def _entries(self, sampler: Sampler) -> Iterator[Entry | None]:
        """The trials that are missing, as ``Course`` takes them."""
        told = 0
        for number in range(self._plan.total):
            while told <= number - sampler.ahead:
                if told in self._results.of_trials or told in self._failed:
                    record = self._results.of_trials.get(told, {})
                    sampler.tell(told, record.get("val_error"))
                    told += 1
                else:
                    yield None
            values = sampler.ask(number)
            if number not in self._results.of_trials:
                yield self._begin(number, values)

    def _begin(self, number: int, values: dict[str, Any]) -> Entry:
        o = sweep_file.options_of(self._plan, values, self._defaults)
        preset: Preset = preset_of(o, self._data.name, checked(o))
        mlp = network_of(self._data, preset, o.seed, DTypes(o.dtype, o.compute_dtype))
        parts = self._parts_of(preset.standardise)
        self._running[self._begun] = _Trial(number, values, mlp, parts)
        self._begun += 1
        return mlp, parts.arguments(preset, o.seed)

    def _ended(self, trial: _Trial, result: History | BaseException) -> None:
        record: dict[str, Any] = {"trial": trial.number, **trial.values}
        if isinstance(result, History):
            trial.parts.undo(trial.mlp)
            for name in ("val_error", "val_loss"):
                value = getattr(result, name)[-1]
                record[name] = value if math.isfinite(value) else None
            record["seconds"] = sum(result.epoch_seconds)
            self._results.add(record, trial.mlp, result)
        elif isinstance(result, NotFiniteWarning):
            record |= {"val_error": None, "val_loss": None, "why": str(result)}
            self._results.add(record, None, None)
        elif isinstance(result, Exception):
            self._failed.add(trial.number)
        else:
            raise result

    def show(self) -> None:
        """The table, and what the best network does on the test set.

        Raises CommandError where some trials have failed.
        """
        results, plan = self._results, self._plan
        keys = ["trial", *plan.varied, "val_error", "val_loss"]
        if self._begun:
            print(flush=True)
        if results.of_trials:
            rows = [[_in_words(r.get(key)) for key in keys] for r in results.ranked[:MOST_SHOWN]]
            report.records([key.replace("_", " ") for key in keys], rows)
        best = results.best
        if best is not None:
            path = results.folder / MODEL
            figures = [
                ("best", f"trial {best['trial']}"),
                *test_figures(self._data, MLP.load(path)),
                ("network", str(path)),
                ("all trials", str(results.folder / RESULTS)),
            ]
            print(flush=True)
            report.table(("", ""), figures)
        if self._failed:
            raise CommandError(
                f"{len(self._failed)} of {plan.total} trials failed: the same command tries them "
                "again"
            )


def _in_words(value: Any) -> str:
    if value is None:
        return "diverged"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
