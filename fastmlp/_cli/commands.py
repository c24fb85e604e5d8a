"""The commands of `fastmlp`: their options, and the checks of what the user gave."""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any

import typer

from .. import __version__, datasets
from .._extras import require
from .._ranks import RankError
from ..threads import set_num_threads
from ..warmup import is_cold, warmup
from . import completion, predictions, report
from .choices import at_least, check_dtypes, checked, data_of, positive, preset_of
from .doctor import doctor
from .errors import INTERRUPTED, CommandError
from .export import export
from .inspect import inspect
from .models import ModelFile, load
from .mpi import first_before_others, world
from .options import DataDir, Mpi, Shards, there
from .parts import DTypes
from .predict import lines
from .report import table
from .reproduce import reproduce
from .resume import Job, go_on, options_to_keep
from .sweep import run_sweep
from .train import train_and_report

# Typer exports only this subclass of click's UsageError, and newer versions bring their own click.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    context_settings={"help_option_names": ["-h", "--help"]},
    # Rich's help takes a third of 80 columns for frames and breaks lines where this file does.
    rich_markup_mode=None,
)

DType = Annotated[
    str,
    typer.Option(metavar="NAME", help="float32 or float64.", autocompletion=completion.dtype),
]

ComputeDType = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.compute_dtype,
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
            autocompletion=completion.dataset,
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
        str,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.task,
            help="classification, or regression of a file's targets.",
        ),
    ] = datasets.CLASSIFICATION,
    hidden: Annotated[
        str | None,
        typer.Option(metavar="WIDTHS", help="Widths of the hidden layers, like 512,512; or none."),
    ] = None,
    activation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.activation,
            help="Of the hidden layers: relu, gelu, tanh and so on.",
        ),
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
            autocompletion=completion.schedule,
            help="one-cycle: the rate rises, then falls to zero; or constant, step, exponential, "
            "cosine, inverse-scaling, plateau.",
        ),
    ] = None,
    optimizer: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            autocompletion=completion.optimizer,
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
            autocompletion=completion.preset,
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

    Writes model.safetensors, history.csv, curves.png, report.html, a page with all there is to see
    of it, and, if the data are pictures, mistakes.png.
    An .npz has pictures if x is (N, H, W), or uint8 with a square number of pixels, at least 8×8.

    What is not given comes from the data set's preset.
    """
    # Not context.params, where versions of Typer have paths as text.
    options = SimpleNamespace(**locals())
    del options.context
    ranks = world(mpi)
    if shards is None and ranks.size > 1:
        options.shards = ranks.size
    with ranks.together():
        positive("--checkpoint", checkpoint)
        at_least("--shards", options.shards, 1)
        network = go_on(options, context)
        given = checked(options)
        at_least("--threads", threads, 1)
        if threads is not None:
            set_num_threads(threads)
        for package, extra in (("matplotlib", "plot"), ("safetensors", "io")):
            require(package, extra)
    _train(options, given, Job({}, checkpoint, network, ranks, data_dir))


def _train(o: SimpleNamespace, given: dict[str, Any], job: Job) -> None:
    """Train by the options, from the beginning or on with an unfinished network."""
    data = first_before_others(job.ranks, lambda: data_of(o))
    job = job._replace(options=options_to_keep(o, data.name))
    train_and_report(
        data, preset_of(o, data.name, given), seed=o.seed,
        dtypes=DTypes(o.dtype, o.compute_dtype), out=o.out, job=job,
    )  # fmt: skip


@app.command(short_help="Train with many settings, and compare them.")
def sweep(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG", callback=there, dir_okay=False, help="A TOML file, as said above."
        ),
    ],
    data_dir: DataDir = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the results. By default runs/NAME, by the name of the file.",
        ),
    ] = None,
) -> None:
    """Train with many settings, and compare them by the validation error.

    The file has the options of `fastmlp train` by their names: dataset, target and task in the part
    [data]; hidden, activation, batchnorm, layer-norm, dropout, dtype and compute-dtype in
    [network]; preset, epochs, batch-size, lr, lr-schedule, optimizer, momentum and seed in [fit]. A
    list is tried value by value, all lists with each other. {low = 1e-4, high = 0.1, log = true} is
    drawn from, as often as trials in the part [sweep] says. That has sampler = "optuna", too, which
    chooses by what came of earlier trials, seed, and workers, how many run at a time.

    Writes results.jsonl, a line for every trial, and the best network with its history. The same
    command goes on where an earlier one was interrupted or killed, to the same results.
    """
    options = signature(train).parameters.values()
    run_sweep(config, data_dir, out, {o.name: o.default for o in options if o.name != "context"})


@app.command()
def predict(
    model: ModelFile,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE",
            callback=there,
            dir_okay=False,
            help="PNG images, light on dark as in MNIST; .npz archives with rows x; or, for a "
            "network that has learnt from a table, .csv or .parquet tables with the same columns.",
        ),
    ],
    invert: Annotated[
        bool, typer.Option("--invert", help="The PNG files are dark on light.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="A .csv for the predictions instead, with the probability of every class; what "
            "was there is replaced.",
        ),
    ] = None,
) -> None:
    """Classify images and rows of tables, or predict their values.

    Prints the class of each, and the probability that the network gives it; the probability of
    every label where a sample may have several; or the values of a regression.

    The columns of a table are found by their names, in any order; others may be there, too.
    """
    if out is not None:
        predictions.check_out(out, files)
    mlp = load(model)
    try:
        if out is not None:
            rows = predictions.write(mlp, files, invert, out)
            print(f"{out}: {rows:,} row{'s' * (rows != 1)}")
            return
        for path in files:
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
    check_dtypes(dtype, compute_dtype)
    with report.compiling(is_cold(dtype, compute_dtype)):
        seconds = warmup(dtype, compute_dtype)
    print(f"ready after {seconds:.1f} s")


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
app.command()(doctor)
app.command(short_help="Run the experiments of course write-ups.")(reproduce)
app.command(short_help="Write a network as a file for other programs.")(export)


def _absent(entry: datasets.Availability) -> str:
    if entry.downloadable:
        return "not here; downloaded when needed"
    return f"not here; put it into {datasets.cache_dir() / entry.name}"
