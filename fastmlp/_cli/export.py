"""`fastmlp export`: a network as a file for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from .._files import naming
from ..mlp import MLP
from .classes import schema_remarks
from .errors import CommandError
from .lines import say
from .models import ModelFile, load


class _Format(NamedTuple):
    """Which method writes a file, and which options of the command it takes by name."""

    write: Callable[..., None]
    where: str  # it says which number is which column or category, of a network of a table
    options: tuple[str, ...] = ()


FORMATS = {
    ".onnx": _Format(
        MLP.to_onnx,
        "its property fastmlp.schema",
        ("outputs", "fold_batchnorm", "input_dtype"),
    ),
    ".c": _Format(MLP.to_c, "the comment at its top"),
}
"""By the suffix of the file."""


def export(
    model: ModelFile,
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

    ONNX is for onnxruntime and others; it has what predicts, for any number of rows. A .c file is
    for devices without Python; its functions take one row. The options are ONNX's.
    """
    form = FORMATS.get(out.suffix.lower())
    if form is None:
        raise typer.BadParameter(f"must end in {' or '.join(FORMATS)}, got {out}", param_hint="OUT")
    given: dict[str, Any] = {
        "outputs": None if outputs is None else outputs.split(","),
        "fold_batchnorm": fold_batchnorm or None,
        "input_dtype": input_dtype,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if others := [name for name in given if name not in form.options]:
        option = f"--{others[0].replace('_', '-')}"
        raise typer.BadParameter(f"a {out.suffix} file has no such choice", param_hint=option)
    mlp = load(model)
    try:
        with naming(out):
            form.write(mlp, out, **given)
    except (ValueError, TypeError) as error:
        raise CommandError(str(error)) from None
    print(f"{out}: {out.stat().st_size:,} bytes")
    if mlp.schema is not None:
        order = f"{form.where} says which of the {mlp.input_size:,} numbers of a row is which"
        say("\n".join([*schema_remarks(mlp.schema), order]))
