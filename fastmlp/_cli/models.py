"""A model's file, as commands take it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .._files import naming
from .errors import CommandError
from .options import there

if TYPE_CHECKING:
    from ..mlp import MLP

ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", callback=there, dir_okay=False, help="A model.safetensors of `train`."
    ),
]


def load(path: Path) -> MLP:
    """The network in a file. Raises CommandError where there is none, OSError, which names it."""
    from ..mlp import MLP

    try:
        with naming(path):
            return MLP.load(path)
    except ValueError as error:
        raise CommandError(str(error)) from None
