"""The commands of `fastmlp`: their options, and the checks of what the user gave."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import numpy as np
import typer

from .. import __version__, datasets
from .._extras import require
from .._ranks import RankError
from ..layers import activation_named
from ..presets import OPTIMIZERS, PRESETS, SCHEDULES, has_momentum, preset_for, usual_rate
from ..threads import set_num_threads
from ..validation import check_choice, check_compute_dtype
from ..warmup import warmup
from . import report
from .errors import INTERRUPTED, CommandError
from .export import export
from .inspect import inspect
from .models import ModelFile, load
from .mpi import first_before_others, world
from .options import DataDir, Mpi, Shards
from .predict import lines
from .report import table
from .reproduce import reproduce
from .resume import Job, go_on, options_to_keep
from .train import DTypes, train_and_report

# Typer exports only this subclass of click's UsageError, and newer versions bring their own click.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    # Rich's help takes a third of 80 columns for frames and breaks lines where this file does.
    rich_markup_mode=None,
)

LARGEST = 1e30
"""Well inside the range of float32."""

DType = Annotated[str, typer.Option(metavar="NAME", help="float32 or float64.")]

ComputeDType = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="What matrix products are computed in, if not in the dtype: bfloat16, or auto for "
        "the faster of the two.",
    ),
]


def run(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name; return the exit status.

    Raises CommandError after wrong usage and when data cannot be loaded, KeyboardInterrupt after
    Ctrl-C.
    """
    try:
        status = app(list(arguments), prog_name="fastmlp", standalone_mode=False)
    except _UsageError as error:
        where = error.ctx.command_path if error.ctx else "fastmlp"
        # Some messages have several lines; spaces may be part of a path.
        message = " ".join(error.format_message().split("\n")).rstrip(".")
        raise CommandError(f"{message}; see {where} --help", 2) from None
    except datasets.DatasetError as error:
        raise CommandError(str(error)) from None
    except RankError as error:
        # mpiexec puts the statuses of all processes together: the first one's shall stand.
        raise CommandError(str(error), 1 if error.here == 0 else 0) from None
    except typer.Abort:
        raise KeyboardInterrupt from None
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return status or 0


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"fastmlp {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """Train multi-layer perceptrons on the CPU."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command()
def train(
    context: typer.Context,
    dataset: Annotated[
        str | None,
        typer.Argument(
            metavar="DATASET",
            help="A name that `fastmlp datasets` lists, or the path of an .npz with x and y, or of "
            "a .csv or .parquet table. By default mnist, or digits if mnist is neither found nor "
            "downloaded.",
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="COLUMN",
            help="Of a table, the column with the classes, or with the numbers of a regression; "
            "several of these as a,b.",
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(metavar="NAME", help="classification, or regression of a file's targets.")
    ] = datasets.CLASSIFICATION,
    hidden: Annotated[
        str | None,
        typer.Option(metavar="WIDTHS", help="Widths of the hidden layers, like 512,512; or none."),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Of the hidden layers: relu, gelu, tanh and so on."),
    ] = None,
    batchnorm: Annotated[
        bool | None,
        typer.Option("--batchnorm/--no-batchnorm", help="Use batch norm in every hidden layer."),
    ] = None,
    layer_norm: Annotated[
        bool, typer.Option("--layer-norm", help="Use layer norm there instead.")
    ] = False,
    dropout: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of the hidden layers' outputs that each step drops, from 0 to less than 1.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="N", help="Passes over the training set.")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Samples per step.")] = None,
    lr: Annotated[
        float | None,
        typer.Option(metavar="RATE", help="Learning rate, the highest of its schedule."),
    ] = None,
    lr_schedule: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="one-cycle: the rate rises, then falls to zero; or constant, step, exponential, "
            "cosine, inverse-scaling, plateau.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="momentum, sgd, adam, adamw, nadam, radam, rmsprop, adagrad, adamax or lion; "
            "without --lr at its usual rate.",
        ),
    ] = None,
    momentum: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="From 0 to less than 1, if the optimizer has one."),
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of the data set's own: speedrun, the least training that reaches 98 % on "
            "mnist; or accurate, a long one that ends with fewer errors.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="N", help="For the initial weights and the order of the samples.")
    ] = 0,
    threads: Annotated[
        int | None,
        typer.Option(metavar="N", help="By default one per core; results do not depend on it."),
    ] = None,
    dtype: DType = "float32",
    compute_dtype: ComputeDType = None,
    data_dir: DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the results, which replace those of an earlier run. By default a new "
            "one: runs/DATASET, or runs/DATASET-2 and so on.",
        ),
    ] = None,
    checkpoint: Annotated[
        float,
        typer.Option(
            metavar="SECONDS",
            help="Save what there is into that folder every so many seconds, to go on from.",
        ),
    ] = 30.0,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Go on with the training whose results go to that folder, which was interrupted, "
            "to what it would have given. Other options must be those it began with.",
        ),
    ] = None,
    shards: Shards = None,
    mpi: Mpi = None,
) -> None:
    """Train a network on a data set, and test it.

    Writes model.safetensors, history.csv, curves.png and, if the data are pictures, mistakes.png.
    An .npz has pictures if x is (N, H, W), or uint8 with a square number of pixels, at least 8×8.

    What is not given comes from the data set's preset.
    """
    options, ranks = SimpleNamespace(**context.params), world(mpi)
    if shards is None and ranks.size > 1:
        options.shards = ranks.size
    with ranks.together():
        _positive("--checkpoint", checkpoint)
        network = go_on(options, context)
        given = _given(options)
    _train(options, given, Job({}, checkpoint, network, ranks))


def _given(o: SimpleNamespace) -> dict[str, Any]:
    """What takes the place of the preset's; all options are checked."""
    rate = o.lr
    if o.optimizer is not None:
        _check_optimizer(o.optimizer, o.momentum)
        rate = usual_rate(o.optimizer) if o.lr is None else o.lr
    given: dict[str, Any] = {
        "hidden": None if o.hidden is None else _sizes(o.hidden),
        "activation": None if o.activation is None else _activation(o.activation),
        "batchnorm": _batchnorm(o.batchnorm, o.layer_norm),
        "layernorm": o.layer_norm,
        "dropout": _fraction("--dropout", o.dropout),
        "epochs": _at_least("--epochs", o.epochs, 1),
        "batch_size": _at_least("--batch-size", o.batch_size, 1),
        "optimizer": o.optimizer,
        "lr": _positive("--lr", rate),
        "lr_schedule": _one_of("lr-schedule", o.lr_schedule, SCHEDULES),
        "momentum": _fraction("--momentum", o.momentum),
    }
    _at_least("--seed", o.seed, 0)
    _at_least("--shards", o.shards, 1)
    if o.threads is not None:
        _at_least("--threads", o.threads, 1)
        set_num_threads(o.threads)
    _check_dtype(o.dtype, o.compute_dtype)
    if o.preset is not None and o.preset not in PRESETS:
        raise _bad("--preset", f"one of {', '.join(PRESETS)}", o.preset)
    for package, extra in (("matplotlib", "plot"), ("safetensors", "io")):
        require(package, extra)
    _check_task(o.task, o.dataset)
    return {option: value for option, value in given.items() if value is not None}


def _data(o: SimpleNamespace) -> datasets.Dataset:
    if o.dataset is not None:
        return _named(o.dataset, o.data_dir, o.target, o.task)
    if o.target is None:
        return _mnist_or_digits(o.data_dir)
    raise typer.BadParameter("needs a DATASET, a table", param_hint="--target")


def _train(o: SimpleNamespace, given: dict[str, Any], job: Job) -> None:
    """Train by the options, from the beginning or on with an unfinished network."""
    data = first_before_others(job.ranks, lambda: _data(o))
    chosen = replace(PRESETS[o.preset] if o.preset else preset_for(data.name), **given)
    job = job._replace(options=options_to_keep(o, data.name))
    train_and_report(
        data, chosen, seed=o.seed, dtypes=DTypes(o.dtype, o.compute_dtype), out=o.out, job=job
    )


@app.command()
def predict(
    model: ModelFile,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGE",
            exists=True,
            dir_okay=False,
            help="PNG files, light on dark as in MNIST; or .npz archives with rows x.",
        ),
    ],
    invert: Annotated[
        bool, typer.Option("--invert", help="The PNG files are dark on light.")
    ] = False,
) -> None:
    """Classify images.

    Prints the class of each, and the probability that the network gives it.
    """
    mlp = load(model)
    try:
        for path in images:
            for line in lines(mlp, path, invert):
                print(line)
    except ValueError as error:
        raise CommandError(str(error)) from None


@app.command("warmup")
def warm_up(
    dtype: DType = "float32",
    compute_dtype: ComputeDType = None,
) -> None:
    """Compile the kernels ahead of the first training."""
    _check_dtype(dtype, compute_dtype)
    report.announce_compilation(dtype, compute_dtype)
    print(f"ready after {warmup(dtype, compute_dtype):.1f} s")


@app.command("datasets")
def list_datasets(data_dir: DataDir = None) -> None:
    """List the data sets known by name.

    Says where each was found, without reading or downloading it.
    """
    table(
        ("name", "what", "where"),
        [
            (entry.name, entry.description, entry.found or _absent(entry))
            for entry in datasets.available(data_dir)
        ],
    )


app.command()(inspect)
app.command(short_help="Run the experiments of course write-ups.")(reproduce)
app.command(short_help="Write a network as a file for other programs.")(export)


def _absent(entry: datasets.Availability) -> str:
    if entry.downloadable:
        return "not here; downloaded when needed"
    return f"not here; put it into {datasets.cache_dir() / entry.name}"


def _check_task(task: str, dataset: str | None) -> None:
    _one_of("task", task, datasets.TASKS)
    if task != datasets.CLASSIFICATION and (dataset is None or Path(dataset).suffix == ""):
        raise typer.BadParameter(
            f"{task} is for a file with targets, an .npz, .csv or .parquet", param_hint="--task"
        )


def _named(name: str, data_dir: Path | None, target: str | None, task: str) -> datasets.Dataset:
    progress = sys.stderr.isatty()
    try:
        return datasets.load(name, data_dir, target=target, task=task, progress=progress)
    except ValueError as error:
        about_target = target is not None or Path(name).suffix in datasets.TABLE_SUFFIXES
        hint = "--target" if about_target else "DATASET"
        raise typer.BadParameter(str(error), param_hint=hint) from None


def _mnist_or_digits(data_dir: Path | None) -> datasets.Dataset:
    """MNIST; if it is neither found nor downloaded, say why and load the package's digits."""
    try:
        return datasets.load("mnist", data_dir, progress=sys.stderr.isatty())
    except datasets.DatasetError as error:
        print(f"{error}\ntraining on the embedded digits instead", file=sys.stderr, flush=True)
        return datasets.load("digits")


def _check_dtype(dtype: str, compute_dtype: str | None) -> None:
    if dtype not in ("float32", "float64"):
        raise _bad("--dtype", "float32 or float64", dtype)
    try:
        check_compute_dtype(compute_dtype, np.dtype(dtype))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--compute-dtype") from None


def _bad(option: str, expected: str, got: object) -> typer.BadParameter:
    return typer.BadParameter(f"must be {expected}, got {got}", param_hint=option)


def _sizes(text: str) -> tuple[int, ...]:
    if text == "none":
        return ()
    if not re.fullmatch(r"[1-9][0-9]{0,5}(,[1-9][0-9]{0,5})*", text):
        raise _bad("--hidden", "widths from 1 to 999999 like 512,256, or none", repr(text))
    return tuple(map(int, text.split(",")))


def _activation(name: str) -> str:
    try:
        activation_named(name)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--activation") from None
    return name


def _batchnorm(wanted: bool | None, layer_norm: bool) -> bool | None:
    if wanted and layer_norm:
        raise typer.BadParameter("takes the place of batch norm", param_hint="--layer-norm")
    return False if layer_norm else wanted


def _check_optimizer(name: str, momentum: float | None) -> None:
    _one_of("optimizer", name, tuple(OPTIMIZERS))
    if momentum is not None and not has_momentum(name):
        raise typer.BadParameter(f"{name} has no momentum", param_hint="--momentum")


def _one_of(option: str, name: str | None, known: Sequence[str]) -> str | None:
    try:
        return None if name is None else check_choice(option, name, known)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=f"--{option}") from None


def _at_least(option: str, value: int | None, least: int) -> int | None:
    if value is not None and value < least:
        raise _bad(option, f"at least {least}", value)
    return value


def _positive(option: str, value: float | None) -> float | None:
    if value is not None and not 0 < value < LARGEST:
        raise _bad(option, f"above 0 and below {LARGEST:g}", value)
    return value


def _fraction(option: str, value: float | None) -> float | None:
    if value is not None and not 0 <= value < 1:
        raise _bad(option, "from 0 to less than 1", value)
    return value
