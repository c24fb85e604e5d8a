"""`fastmlp train`, once the options are checked and the data are read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..datasets import CLASSIFICATION, Dataset
from ..history import History, NotFiniteWarning
from ..mlp import MLP
from ..presets import Preset, has_momentum
from ..threads import get_num_threads
from ..warmup import compile_for, is_cold_for
from . import report, targets
from .classes import check_classes, remark_on_numbers, table_remarks
from .errors import INTERRUPTED, TERMINATED, CommandError
from .lines import say
from .live import progress_bar
from .page import write_page
from .parts import DTypes, Parts, network_of, parts_of
from .resume import CHECKPOINT, Job, Terminated, answering_sigterm

_NOTHING = "the first epoch, nothing was written"


def train_and_report(
    data: Dataset, preset: Preset, *, seed: int, dtypes: DTypes, out: Path | None, job: Job
) -> None:
    """Train, test and write the results into the folder out; print as it goes.

    out : by default the first of runs/NAME, runs/NAME-2, ... that is not there yet
    Raises CommandError when labels or data are refused, when the folder cannot be made, when the
    loss does not stay finite, and, after writing what there is, when the user interrupts or the
    system sends SIGTERM; OSError, which names the file, when one cannot be written.
    """
    ranks = job.ranks
    with answering_sigterm(), ExitStack() as stack:
        with ranks.together():
            if data.task == CLASSIFICATION:
                check_classes(data)
                remark_on_numbers(data)
            # The first rank writes for all.
            folder = Path(os.devnull)
            if ranks.rank == 0:
                folder = stack.enter_context(_results_folder(out, data.name))
        _train_into(folder, data, preset, seed, dtypes, job)


def _train_into(
    out: Path, data: Dataset, preset: Preset, seed: int, dtypes: DTypes, job: Job
) -> None:
    ranks, processes = job.ranks, job.ranks.everywhere(os.getpid())
    with ranks.together():
        parts = parts_of(data, preset.validate, preset.standardise)
        mlp = job.unfinished or network_of(data, preset, seed, dtypes)
        _announce(data, parts, mlp, preset, seed, _together(processes, job))
        if parts.units is not None:
            say(targets.remark(data, parts.units))
        if (state := mlp.unfinished) is not None:
            print(f"going on in epoch {state.epoch + 1}, after step {state.step}")
        print(f"results go to {out}\n", flush=True)
    try:
        with ranks.together(), report.compiling(is_cold_for(mlp)):
            compile_for(mlp)
        history = _fit(data.name, mlp, parts.arguments(preset, seed), job, out)
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        kept = _keep_unfinished(out, mlp, parts) if ranks.rank == 0 else ""
        message = f"{'terminated' if terminated else 'interrupted'} in {kept}"
        raise CommandError(message, TERMINATED if terminated else INTERRUPTED) from None
    if ranks.rank > 0:
        return
    parts.undo(mlp)
    files = report.write_model(out, mlp, history)
    files += report.write_mistakes(out, mlp, data)
    # The columns of a table are in any case.
    preset = replace(preset, standardise=parts.moments is not None)
    files += write_page(out, data, mlp, preset, job, _rows(data, parts))
    (out / CHECKPOINT).unlink(missing_ok=True)
    figures = [
        *test_figures(data, mlp),
        ("training time", f"{sum(history.epoch_seconds):.2f} s"),
        ("training speed", f"{_samples_per_second(history, preset, parts):,.0f} samples/s"),
    ]
    print(flush=True)
    report.results(figures, files)


def _rows(data: Dataset, parts: Parts) -> list[tuple[str, str]]:
    """How many the training had, and what was done to their targets."""
    held = 0 if parts.validation is None else len(parts.validation[1])
    counts = ("training samples", len(parts.train[1])), ("validation samples", held)
    rows = [(name, f"{count:,}") for name, count in counts]
    return rows if parts.units is None else [*rows, ("targets", targets.remark(data, parts.units))]


def _samples_per_second(history: History, preset: Preset, parts: Parts) -> float:
    """Of the training alone; the last batch of an epoch may be short."""
    samples, rows = len(history.step_loss) * preset.batch_size, len(parts.train[1])
    return min(samples, len(history.epoch_seconds) * rows) / sum(history.epoch_seconds)


def test_figures(data: Dataset, mlp: MLP) -> list[tuple[str, str]]:
    """How good a network is on the test set, in words."""
    figures = mlp.figures(data.test_x, data.test_y)
    if data.task != CLASSIFICATION:
        return targets.figures_in_words(figures)
    accuracy = f"{100 * (1 - figures.error):.2f} %"
    return [("test loss", f"{figures.loss:.4f}"), ("test accuracy", accuracy)]


def _fit(name: str, mlp: MLP, arguments: dict[str, Any], job: Job, out: Path) -> History:
    """Train, or go on with an unfinished fit, with progress on standard output.

    Raises CommandError, which names the data set, when fit refuses the data, and when the loss does
    not stay finite: such a network is not worth writing.
    """
    try:
        threads = get_num_threads() if job.ranks.size == 1 else None
        with progress_bar(mlp, threads) as bar, warnings.catch_warnings():
            warnings.simplefilter("error", NotFiniteWarning)
            return mlp.fit(
                **arguments, callbacks=[bar, job.checkpoint(out)], resume="auto",
                comm=job.ranks.comm, shards=job.options["shards"],
            )  # fmt: skip
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None
    except NotFiniteWarning as warning:
        raise CommandError(f"{warning}: nothing was written; try a smaller --lr") from None


def _keep_unfinished(out: Path, mlp: MLP, parts: Parts) -> str:
    """Write what there is of an interrupted training; in words, in which epoch it was and where."""
    history, says = mlp.history, ""
    if mlp.unfinished is not None:
        mlp.save(out / CHECKPOINT)
        # What follows is another network, with which it could not go on.
        mlp.unfinished = None
        says = f"`fastmlp train --resume {out}` goes on; "
    if history is None or not history.train_loss:
        return f"epoch 1: {says}no other result is there yet" if says else _NOTHING
    parts.undo(mlp)
    report.write_model(out, mlp, history)
    return (
        f"epoch {len(history.train_loss) + 1}: {says}"
        f"the network as it was then, and the history before, are in {out}"
    )


@contextmanager
def _results_folder(out: Path | None, name: str) -> Iterator[Path]:
    """The folder for the results; a numbered one is removed if nothing was written into it."""
    if out is not None:
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"--out {out} must be a folder to write to: {error}", 2) from None
        yield out
        return
    folder = _numbered_folder(Path("runs", name))
    try:
        yield folder
    finally:
        # Only an empty folder can be removed.
        with suppress(OSError):
            folder.rmdir()


def _numbered_folder(first: Path) -> Path:
    """A new folder of that name, or of the first of NAME-2, NAME-3, ... that is free.

    Made at once, so that two trainings that start together do not share one.
    """
    number, folder = 1, first
    try:
        first.parent.mkdir(parents=True, exist_ok=True)
        while not _make_new(folder):
            number += 1
            folder = first.with_name(f"{first.name}-{number}")
    except OSError as error:
        raise CommandError(f"{folder} cannot be made, give another --out: {error}", 2) from None
    return folder


def _make_new(folder: Path) -> bool:
    try:
        folder.mkdir()
    except FileExistsError:
        return False
    return True


def _update(preset: Preset) -> str:
    """The update rule in words."""
    if not has_momentum(preset.optimizer):
        return preset.optimizer
    name = "" if preset.optimizer == "momentum" else f"{preset.optimizer} with "
    return f"{name}momentum {preset.momentum:g}"


def _together(processes: list[int], job: Job) -> str:
    """Which processes train together, and on how many shards of a batch; nothing of one.

    Of one that dies mpiexec tells the number.
    """
    shards, count = job.options["shards"], len(processes)
    says = "" if shards is None else f", shards {shards}"
    if count == 1:
        return says
    return f" in each of {count} processes ({', '.join(map(str, processes))}){says}"


def _announce(
    data: Dataset, parts: Parts, mlp: MLP, preset: Preset, seed: int, together: str
) -> None:
    held = 0 if parts.validation is None else len(parts.validation[1])
    sizes = "-".join(map(str, (mlp.input_size, *preset.hidden, mlp.output_size)))
    extras = ", batch norm" if preset.batchnorm else ""
    extras += ", layer norm" if preset.layernorm else ""
    extras += f", dropout {preset.dropout:g}" if preset.dropout else ""
    extras += f", input dropout {preset.input_dropout:g}" if preset.input_dropout else ""
    extras += f", label smoothing {preset.label_smoothing:g}" if preset.label_smoothing else ""
    computed = f" computed in {mlp.compute_dtype}" if mlp.compute_dtype != mlp.dtype.name else ""
    say(
        f"{data.name}: {len(parts.train[1]):,} training, {held:,} validation, "
        f"{len(data.test_y):,} test samples\n"
        + "".join(f"{remark}\n" for remark in table_remarks(data))
        + f"{sizes} {preset.activation}{extras}, {mlp.dtype}{computed}, "
        f"batch {preset.batch_size}, lr {preset.lr:g} ({preset.lr_schedule}), "
        f"{_update(preset)}, seed {seed}, "
        f"threads {get_num_threads()}{together}"
    )
