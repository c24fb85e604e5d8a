"""Files that are there whole or not at all, and errors that say which file they are about."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write beside path and rename: a crash at any moment leaves the old file or the new one.

    A symbolic link stays one, and a file that was there before hands on its permissions. Raises
    OSError, which names the file, and leaves nothing behind, where that fails.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {target.parent} does not exist")
    # A name of our own rather than tempfile's, whose files only their owner may read.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # There is no such file yet, or a link that leads nowhere is in its place.
        with contextlib.suppress(OSError):
            partial.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(partial, target)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The system names the file beside it, or none where the disk is full.
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
        raise


@contextlib.contextmanager
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
