"""Options that several commands have."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from .._files import nearest_file

_Paths = TypeVar("_Paths", Path, list[Path], Path | None)


def there(paths: _Paths) -> _Paths:
    """The callback of what names files that are read. Raises typer.BadParameter."""
    for path in paths if isinstance(paths, list) else [paths]:
        if path is not None and not os.path.exists(path):
            raise typer.BadParameter(f"{str(path)!r} does not exist{nearest_file(path)}")
    return paths


DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        callback=there,
        file_okay=False,
        help="Folder of data files, looked in before FASTMLP_DATA.",
    ),
]

Shards = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        help="Parts of a batch whose gradients are added in an order of their own: with as many, "
        "1, 2, 4 and 8 processes give the same. By default one per process.",
    ),
]

Mpi = Annotated[
    bool | None,
    typer.Option(
        "--mpi/--no-mpi",
        help="Train together with the other processes that mpiexec has started. By default if "
        "there are several.",
    ),
]
