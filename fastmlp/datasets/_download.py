"""Downloading a set's files: several mirrors, checksums, and a short limit on silence.

A mirror can fail in ways that no time limit of a socket ends: a name server that does not answer,
an address list tried one by one, a body that drips. So each transfer runs in a thread of its own,
and what counts is whether data arrive.
"""

import errno
import logging
import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeGuard

from .._extras import how_to_get
from ._errors import DatasetError, DatasetNotFoundError
from ._known import IdxFile, IdxSet

SILENCE = 8.0
"""Seconds without data after which the download is given up; the mirrors share them."""

CHUNK = 1 << 14
"""Bytes that count as a sign of life: a transfer must bring as many in every SILENCE."""

LARGEST = 64 << 20
"""Bytes after which a transfer is given up: no file of a known set has as many."""


def mirrors(name: str, known: IdxSet) -> list[str]:
    """The base addresses to try: in FASTMLP_MIRRORS, each with a folder per set, or the known."""
    own = os.environ.get("FASTMLP_MIRRORS", "").split()
    return [f"{base.rstrip('/')}/{name}/" for base in own] or list(known.mirrors)


def download(name: str, known: IdxSet, folder: Path, *, progress: bool) -> None:
    """Put the files of the set that are missing there into the folder.

    A file appears there whole, with its MD5 checked and its content read once, or not at all.
    Raises DatasetNotFoundError with what was tried, and why each mirror failed.
    """
    _require_packages(progress)
    bases = mirrors(name, known)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            _quiet_pooch(),
            tempfile.TemporaryDirectory(
                prefix=".incomplete-", dir=folder, ignore_cleanup_errors=True
            ) as staging,
        ):
            for file in known.files:
                if file.locate(folder) is None:
                    served = _from_any(bases, file, Path(staging), progress)
                    os.replace(Path(staging, file.name), folder / file.name)
                    # The mirror that works comes first for the other files: dead ones cost time.
                    bases = [served, *(base for base in bases if base != served)]
    except OSError as error:
        raise DatasetError(f"{folder}: cannot be written: {error}") from error


def _require_packages(progress: bool) -> None:
    try:
        import pooch  # noqa: F401

        if progress:
            import tqdm  # noqa: F401
    except ImportError as error:
        raise DatasetNotFoundError(
            f"downloading needs the package {error.name}: {how_to_get('data')}"
        ) from error


@contextmanager
def _quiet_pooch() -> Iterator[None]:
    """Inside, pooch does not log every transfer to standard error.

    A filter of its own, not the logger's level: several threads may download at a time.
    """
    import pooch

    def of_errors(record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR

    logger = pooch.get_logger()
    logger.addFilter(of_errors)
    try:
        yield
    finally:
        logger.removeFilter(of_errors)


def _from_any(bases: list[str], file: IdxFile, staging: Path, progress: bool) -> str:
    """Fetch the file from the first mirror that has it; return that mirror's address."""
    failures = []
    for base in bases:
        with _Transfer(file.name, progress) as transfer:
            failure = transfer.run(base + file.name, file, staging, SILENCE / len(bases))
            failure = failure or _unreadable(file, staging)
        if failure is None:
            return base
        failures.append(f"  {base}{file.name}: {failure}")
    raise DatasetNotFoundError("could not be downloaded; tried\n" + "\n".join(failures))


class _Transfer:
    """The transfer of one file from one mirror; to pooch it looks like a progress bar."""

    def __init__(self, label: str, visible: bool) -> None:
        self.total = 0
        self._arrived = threading.Event()
        self._abandoned = False
        self._received = 0
        self._bar: Any = None
        if visible:
            from tqdm import tqdm

            # disable=None: no bar, and so no control codes, where the output is no terminal.
            self._bar = tqdm(desc=label, unit="B", unit_scale=True, leave=False, disable=None)

    def __enter__(self) -> "_Transfer":
        return self

    def __exit__(self, *exception: object) -> None:
        self._abandoned = True
        if self._bar is not None:
            self._bar.close()

    def run(self, url: str, file: IdxFile, staging: Path, silence: float) -> str | None:
        """Fetch url into the staging folder; None, or why the mirror failed, in brief.

        Raises OSError when it is the disk that failed: other mirrors would not help.
        """
        import pooch

        fetch = pooch.HTTPDownloader(
            progressbar=self,
            chunk_size=CHUNK,
            timeout=silence,
            # A server that offers its own compression would have the .gz unpacked on arrival.
            headers={"Accept-Encoding": "identity"},
        )
        outcome: list[str | OSError | None] = []

        def work() -> None:
            try:
                pooch.retrieve(url, f"md5:{file.md5}", file.name, staging, downloader=fetch)
                outcome.append(None)
            except Exception as error:
                outcome.append(error if _of_the_disk(error) else _brief(error))
            self._arrived.set()

        threading.Thread(target=work, name="fastmlp-download", daemon=True).start()
        while not outcome:
            if not self._arrived.wait(silence):
                return f"no data for {silence:.1f} s"
            self._arrived.clear()
        if isinstance(outcome[0], OSError):
            raise outcome[0]
        return outcome[0]

    def update(self, received: int) -> None:
        self._arrived.set()
        self._received += received
        if self._abandoned or self._received > LARGEST:
            raise DatasetError(f"given up after {self._received} bytes")
        if self._bar is not None:
            self._bar.total = self.total
            self._bar.update(received)

    def reset(self) -> None:
        self._received = 0
        if self._bar is not None:
            self._bar.reset(self.total)

    def close(self) -> None:
        """The bar outlives the transfer: whoever opened it closes it."""


def _of_the_disk(error: Exception) -> TypeGuard[OSError]:
    """Whether the disk takes no more; errors of the network are OSErrors too."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def _brief(error: Exception) -> str:
    """The last cause of what requests and urllib3 wrap several times, without object names."""
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None:
        return f"HTTP status {status}"
    if "does not match the known hash" in str(error):
        return "wrong MD5 checksum"
    cause = error
    while isinstance(inner := _wrapped(cause), Exception):
        cause = inner
    return re.sub(r"^.*[)>]: ", "", inner if isinstance(inner, str) else str(cause))


def _unreadable(file: IdxFile, staging: Path) -> str | None:
    try:
        file.read(staging)
    except DatasetError as error:
        # Without the path: the staging folder is gone when the user reads this.
        return str(error).split(": ", 1)[1]
    return None


def _wrapped(error: Exception) -> object:
    reason = getattr(error, "reason", None)
    if isinstance(reason, Exception):
        return reason
    return error.args[0] if error.args else None
