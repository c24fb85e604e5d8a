"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
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
