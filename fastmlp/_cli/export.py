"""`fastmlp export`: a network as a file for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from .._files import naming
from ..mlp import MLP
from .errors import CommandError

Write = Callable[..., None]

FORMATS: dict[str, Write] = {".onnx": MLP.to_onnx}
"""Which method writes the file, by its suffix; it takes the options of the command by name."""


def export(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", exists=True, dir_okay=False, help="A model.safetensors of `train`."
        ),
    ],
    out: Annotated[
        Path,
        typer.Argument(metavar="OUT", help=f"The file; its suffix, {', '.join(FORMATS)}, decides."),
    ],
    outputs: Annotated[
        str | None,
        typer.Option(
            metavar="NAMES",
            help="What the file gives of a row, of scores, probabilities and prediction, like "
            "probabilities,prediction; by default all that there is.",
        ),
    ] = None,
    fold_batchnorm: Annotated[
        bool,
        typer.Option("--fold-batchnorm", help="Make batch norms part of the layers before them."),
    ] = False,
    input_dtype: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="uint8 for pixels, 0 to 255; by default the network's dtype, and 0 to 1.",
        ),
    ] = None,
) -> None:
    """Write a trained network as a file that other programs run.

    ONNX is for onnxruntime and others; it has what predicts, for any number of rows.
    """
    write = FORMATS.get(out.suffix.lower())
    if write is None:
        raise typer.BadParameter(f"must end in {' or '.join(FORMATS)}, got {out}", param_hint="OUT")
    given: dict[str, Any] = {
        "outputs": None if outputs is None else outputs.split(","),
        "fold_batchnorm": fold_batchnorm or None,
        "input_dtype": input_dtype,
    }
    try:
        with naming(model):
            mlp = MLP.load(model)
        with naming(out):
            write(mlp, out, **{name: value for name, value in given.items() if value is not None})
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from None
    print(f"{out}: {out.stat().st_size:,} bytes")
