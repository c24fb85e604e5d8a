"""`fastmlp train`, once the options are checked and the data are read."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..callbacks import ProgressBar
from ..datasets import CLASSIFICATION, Dataset
from ..history import History, NotFiniteWarning
from ..initializers import he_normal, xavier_normal, zeros
from ..layers import Identity, MeanSquaredError, SoftmaxCrossEntropy, activation_named
from ..mlp import MLP
from ..presets import Preset, has_momentum, optimizer_for, schedule_for
from ..threads import get_num_threads
from ..warmup import compile_kernels
from . import report, targets
from .classes import check_classes, table_remarks
from .errors import INTERRUPTED, TERMINATED, CommandError
from .resume import CHECKPOINT, Job, Terminated, answering_sigterm

VALIDATION_ROWS = 5_000
"""Most rows that are held out of the training part for the curves, or a tenth of it if less."""

_NOTHING = "the first epoch, nothing was written"

Rows = tuple[np.ndarray, np.ndarray]


class DTypes(NamedTuple):
    """Of the parameters, and what products are computed in (None: the same)."""

    parameters: str
    compute: str | None = None


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
        train, validation = (
            _split(data) if preset.validate else ((data.train_x, data.train_y), None)
        )
        mlp = job.unfinished or _network(data, preset, seed, dtypes)
        _announce(data, (train, validation), mlp, preset, seed, _together(processes, job))
        units = None if data.task == CLASSIFICATION else targets.units_of(train[1])
        if units is not None:
            print(targets.remark(data, units))
        if (state := mlp.unfinished) is not None:
            print(f"going on in epoch {state.epoch + 1}, after step {state.step}")
        print(f"results go to {out}\n", flush=True)
        moments = _moments(train[0]) if preset.standardise else None
    try:
        with ranks.together():
            report.announce_compilation(*dtypes)
            compile_kernels(*dtypes)
            rows = train if moments is None else (_standardised(train[0], moments), train[1])
            parts = _scaled(rows, units), None if validation is None else _scaled(validation, units)
        history = _fit(data.name, mlp, *parts, preset, seed, job, out)
    except KeyboardInterrupt as interrupt:
        terminated = isinstance(interrupt, Terminated)
        kept = _keep_unfinished(out, mlp, moments, units) if ranks.rank == 0 else ""
        message = f"{'terminated' if terminated else 'interrupted'} in {kept}"
        raise CommandError(message, TERMINATED if terminated else INTERRUPTED) from None
    if ranks.rank > 0:
        return
    _take_plain_data(mlp, moments, units)
    _write_and_show(out, data, mlp, history, _samples_per_second(history, preset, len(train[1])))
    (out / CHECKPOINT).unlink(missing_ok=True)


def _samples_per_second(history: History, preset: Preset, rows: int) -> float:
    """Of the training alone; the last batch of an epoch may be short."""
    samples = len(history.step_loss) * preset.batch_size
    return min(samples, len(history.epoch_seconds) * rows) / sum(history.epoch_seconds)


def _write_and_show(out: Path, data: Dataset, mlp: MLP, history: History, speed: float) -> None:
    """The files in the folder, and a table of how well and how fast it went."""
    files = report.write_model(out, mlp, history)
    files += report.write_mistakes(out, mlp, data)
    figures = [
        *_test_figures(data, mlp),
        ("training time", f"{sum(history.epoch_seconds):.2f} s"),
        ("training speed", f"{speed:,.0f} samples/s"),
        *(("" if index else "files", str(path)) for index, path in enumerate(files)),
    ]
    print(flush=True)
    report.table(("", ""), figures)


def _test_figures(data: Dataset, mlp: MLP) -> list[tuple[str, str]]:
    figures = mlp.figures(data.test_x, data.test_y)
    if data.task != CLASSIFICATION:
        return targets.figures_in_words(figures)
    accuracy = f"{100 * (1 - figures.error):.2f} %"
    return [("test loss", f"{figures.loss:.4f}"), ("test accuracy", accuracy)]


def _fit(
    name: str, mlp: MLP, train: Rows, validation: Rows | None, preset: Preset, seed: int,
    job: Job, out: Path,
) -> History:  # fmt: skip
    """Train, or go on with an unfinished fit, with progress on standard output.

    Raises CommandError, which names the data set, when fit refuses the data, and when the loss does
    not stay finite: such a network is not worth writing.
    """
    try:
        with ProgressBar() as bar, warnings.catch_warnings():
            warnings.simplefilter("error", NotFiniteWarning)
            return mlp.fit(
                *train,
                epochs=preset.epochs,
                batch_size=preset.batch_size,
                max_steps=preset.max_steps,
                seed=seed,
                validation_data=validation,
                callbacks=[bar, job.checkpoint(out)],
                lr_schedule=schedule_for(preset, validation is not None),
                resume="auto",
                comm=job.ranks.comm,
                shards=job.options["shards"],
            )
    except ValueError as error:
        raise CommandError(f"{name}: {error}") from None
    except NotFiniteWarning as warning:
        raise CommandError(f"{warning}: nothing was written; try a smaller --lr") from None


def _moments(x: np.ndarray) -> tuple[float, float]:
    """(mean, standard deviation) of all pixels, uint8 counted as fractions of 255."""
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return float(x.mean() / scale), float(x.std() / scale)


def _standardised(x: np.ndarray, moments: tuple[float, float]) -> np.ndarray:
    mean, deviation = moments
    scale = 255.0 if x.dtype == np.uint8 else 1.0
    return (x.astype(np.float32) - np.float32(scale * mean)) / np.float32(scale * deviation)


def _scaled(rows: Rows, units: targets.Units | None) -> Rows:
    return rows if units is None else (rows[0], units.scaled(rows[1]))


def _take_plain_data(
    mlp: MLP, moments: tuple[float, float] | None, units: targets.Units | None
) -> None:
    """Make it a network of pixels and targets as they are in the data."""
    _take_pixels(mlp, moments)
    if units is not None:
        units.give_to(mlp)


def _take_pixels(mlp: MLP, moments: tuple[float, float] | None) -> None:
    """Fold (x - m) / s into the first layer, so that the network takes plain pixels."""
    if moments is None:
        return
    mean, deviation = moments
    first = mlp.linear_layers[0]
    w = first.W / deviation
    first.b = first.b - mean * w.sum(axis=0)
    first.W = w


def _keep_unfinished(
    out: Path, mlp: MLP, moments: tuple[float, float] | None, units: targets.Units | None
) -> str:
    """Write what there is of an interrupted training; in words, in which epoch it was and where."""
    history, says = mlp.history, ""
    if mlp.unfinished is not None:
        mlp.save(out / CHECKPOINT)
        # What follows is another network, with which it could not go on.
        mlp.unfinished = None
        says = f"`fastmlp train --resume {out}` goes on; "
    if history is None or not history.train_loss:
        return f"epoch 1: {says}no other result is there yet" if says else _NOTHING
    _take_plain_data(mlp, moments, units)
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


def _split(data: Dataset) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those to validate on, or None.

    Without a validation part, a random tenth of the training part is held out, the same each time:
    the file may be sorted by class.
    """
    if data.valid_x is not None and data.valid_y is not None:
        return (data.train_x, data.train_y), (data.valid_x, data.valid_y)
    rows = len(data.train_y)
    count = min(rows // 10, VALIDATION_ROWS)
    if count == 0:
        return (data.train_x, data.train_y), None
    held = np.zeros(rows, bool)
    held[np.random.default_rng(0).permutation(rows)[:count]] = True
    return (data.train_x[~held], data.train_y[~held]), (data.train_x[held], data.train_y[held])


# Activations that are flat on both sides, for which Glorot and Bengio derive their deviation.
_SATURATING = ("sigmoid", "hard_sigmoid", "tanh", "softsign", "identity")


def _network(data: Dataset, preset: Preset, seed: int, dtypes: DTypes) -> MLP:
    initializer = xavier_normal if preset.activation in _SATURATING else he_normal
    hidden = [activation_named(preset.activation) for _ in preset.hidden]
    classes = data.task == CLASSIFICATION
    criterion = SoftmaxCrossEntropy(preset.label_smoothing) if classes else MeanSquaredError()
    return MLP(
        data.train_x.shape[1],
        data.num_outputs,
        list(preset.hidden),
        [*hidden, Identity()],
        initializer(seed, dtypes.parameters),
        zeros,
        criterion,
        num_bn_layers=len(preset.hidden) if preset.batchnorm else 0,
        num_ln_layers=len(preset.hidden) if preset.layernorm else 0,
        optimizer=optimizer_for(preset),
        compute_dtype=dtypes.compute,
        dropout=[preset.input_dropout, *(preset.dropout for _ in preset.hidden)],
    )


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
    data: Dataset, parts: tuple[Rows, Rows | None], mlp: MLP, preset: Preset, seed: int,
    together: str,
) -> None:  # fmt: skip
    train, validation = parts
    held = 0 if validation is None else len(validation[1])
    sizes = "-".join(map(str, (mlp.input_size, *preset.hidden, mlp.output_size)))
    extras = ", batch norm" if preset.batchnorm else ""
    extras += ", layer norm" if preset.layernorm else ""
    extras += f", dropout {preset.dropout:g}" if preset.dropout else ""
    extras += f", input dropout {preset.input_dropout:g}" if preset.input_dropout else ""
    extras += f", label smoothing {preset.label_smoothing:g}" if preset.label_smoothing else ""
    computed = f" computed in {mlp.compute_dtype}" if mlp.compute_dtype != mlp.dtype.name else ""
    print(
        f"{data.name}: {len(train[1]):,} training, {held:,} validation, "
        f"{len(data.test_y):,} test samples\n"
        + "".join(f"{remark}\n" for remark in table_remarks(data))
        + f"{sizes} {preset.activation}{extras}, {mlp.dtype}{computed}, "
        f"batch {preset.batch_size}, lr {preset.lr:g} ({preset.lr_schedule}), "
        f"{_update(preset)}, seed {seed}, "
        f"threads {get_num_threads()}{together}",
        flush=True,
    )
