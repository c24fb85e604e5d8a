"""Files that are there whole or not at all, and errors that say which file they are about."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

try:
    import fcntl
except ImportError:  # Windows has other locks, which let nobody remove an open file.
    fcntl = None  # type: ignore[assignment]

MOST_WORDS = 500
"""Characters of a message about a file's content."""


def write_whole(path: Path, content: bytes) -> None:
    """Write beside path and rename: a crash at any moment leaves the old file or the new one.

    A symbolic link stays one, and a file that was there before hands on its permissions. Once this
    returns the new file is on the disk, and what earlier writers left of theirs when they were
    killed is gone. Raises OSError, which names the file, and leaves nothing behind, where that
    fails.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {target.parent} does not exist")
    partial = None
    try:
        remove_left_by_the_dead(target.parent, glob.escape(target.name))
        with _new_partial(target) as file:
            partial = Path(file.name)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            # There is no such file yet, or a link that leads nowhere is in its place.
            with contextlib.suppress(OSError):
                partial.chmod(stat.S_IMODE(target.stat().st_mode))
            if fcntl is not None:
                os.replace(partial, target)
        if fcntl is None:
            # Windows renames no open file.
            os.replace(partial, target)
        _flush_folder(target.parent)
    except BaseException as error:
        if partial is not None:
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError):
            # The system names the file beside it, or none where the disk is full.
            raise type(error)(error.errno, error.strerror, os.fspath(path)) from error
        raise


def _new_partial(target: Path) -> BinaryIO:
    """A new file beside target, locked for as long as it is open: its writer is alive."""
    while True:
        # A name of our own rather than tempfile's, whose files only their owner may read.
        partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
        file = partial.open("xb")
        if _lock(file.fileno()) is not False and os.fstat(file.fileno()).st_nlink > 0:
            return file
        # Taken for that of a dead writer before it was locked.
        file.close()


def remove_left_by_the_dead(folder: Path, pattern: str) -> None:
    """Remove the partial files in a folder that nobody writes any more.

    pattern : of the names that the files were to have, as ``Path.glob`` takes it
    """
    for left in folder.glob(f".{pattern}.*.partial"):
        # Gone, somebody else's, or on a file system without locks: then it stays.
        with contextlib.suppress(OSError), left.open("rb") as file:
            if _lock(file.fileno()):
                left.unlink()


@contextlib.contextmanager
def to_oneself(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it out of a folder, until the end or this one's death.

    Raises BlockingIOError where another has it. Does nothing on systems without locks.
    """
    descriptor = None
    if fcntl is not None:
        # Files can be written into a folder that nobody may list.
        with contextlib.suppress(PermissionError):
            descriptor = os.open(folder, os.O_RDONLY)
    try:
        if descriptor is not None and _lock(descriptor) is False:
            raise BlockingIOError(errno.EWOULDBLOCK, "another process has it", os.fspath(folder))
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Whether the lock of a file, which a dead process has lost, is ours; None without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _flush_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, on systems that let one ask for it."""
    if os.name != "posix":
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        # Files can be written into it, but nobody may list it.
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(descriptor)


def check_there(path: Path) -> None:
    """Raise OSError where the file cannot be read; where there is none, with the nearest name."""
    try:
        path.open("rb").close()
    except FileNotFoundError:
        text = f"no such file in {path.parent.resolve()}{nearest_file(path)}"
        raise FileNotFoundError(errno.ENOENT, text, os.fspath(path)) from None


def nearest_file(path: Path) -> str:
    """As ``validation.nearest``, of the names in the folder that a file is not in."""
    # Not above: it imports NumPy, and the command must answer Ctrl-C before that is there.
    from .validation import nearest

    names = list[str]()
    with contextlib.suppress(OSError):
        names = sorted(os.listdir(path.parent))
    return nearest(path.name, names)


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


def in_one_line(message: object) -> str:
    """What is printable of a message, cut where it is long: a file may put anything into it."""
    text = str(message) or type(message).__name__
    text = text if len(text) <= MOST_WORDS else text[:MOST_WORDS] + " ..."
    return "".join(sign if sign.isprintable() else " " for sign in text).strip()
