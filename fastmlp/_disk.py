"""Errors of the disk, which do not always say which file they are about."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Let an OSError inside name the file: that of a write to a full disk, for one, does not."""
    try:
        yield
    except OSError as error:
        if os.fspath(path) in str(error) or error.filename is not None:
            raise
        if error.errno is None:
            raise OSError(f"{os.fspath(path)}: {error}") from error
        error.filename = os.fspath(path)
        raise


def in_words(error: OSError) -> str:
    """The file and what is wrong, without the number of the error, where both are known."""
    name = error.filename2 or error.filename
    return f"{name}: {error.strerror}" if name and error.strerror else str(error)
