"""Machine code on disk: kept by one process, found by the next.

Fresh code. Numba stamps a cached function with the source of its own file, so an edit to a helper
in another file would go unseen. Here every file carries a digest of the whole package's kernels: an
edit to any of them, or an upgrade, recompiles all.

Whole code. Machine code that is not what was written is executed all the same, so a checksum comes
before it. Numba's index, a file that processes read, change and write at the same time, is done
without: the name of a file says what it is for. Whatever is wrong with one, it is made anew.

No place for code. A full disk or a folder that cannot be written costs time only: the code lives as
long as the process, which says so once.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import pickle
import sys
import threading
import warnings
from pathlib import Path

import numba
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.serialize import dumps

from .._files import write_whole


def _digest_of_sources() -> str:
    """SHA-256 over the names and contents of the kernels' files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Taken when the package is first imported, before any kernel: should a file change meanwhile, new
# code is kept under an old digest, which nobody asks for again, never old code under a new one.
DIGEST = _digest_of_sources()

_CHECKSUM = hashlib.sha256
_CHECKSUM_BYTES = _CHECKSUM().digest_size


class NotKeptWarning(RuntimeWarning):
    """Compiled kernels could not be written to disk."""


def _short_digest(value):
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


class _Files:
    """The files of one function, one for each of its argument types.

    Each is written whole and has a name of its own, so processes that compile at the same time do
    not disturb each other: the last to write the same code wins.
    """

    def __init__(self, folder, function, stamp):
        self._folder = Path(folder)
        self._name = f"{function}.{_short_digest(stamp)}"

    def _path(self, key):
        return self._folder / f"{self._name}.{_short_digest(key)}.nbc"

    def _paths(self):
        return self._folder.glob(f"{glob.escape(self._name)}.*.nbc")

    @staticmethod
    def _read(path):
        """(key, pickled code) of a file as it was written, else (None, None)."""
        # Not there, not readable, or not to be unpickled by this version of whatever is in it.
        with contextlib.suppress(Exception):
            content = path.read_bytes()
            checksum, rest = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
            if _CHECKSUM(rest).digest() == checksum:
                return pickle.loads(rest)
        return None, None

    def load(self, key):
        """The code kept for a key, None where there is none."""
        kept, code = self._read(self._path(key))
        return pickle.loads(code) if kept == key else None

    def save(self, key, data):
        """Keep code for a key; raises OSError where that cannot be."""
        content = dumps((key, dumps(data)))
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(self._path(key), _CHECKSUM(content).digest() + content)

    def kept_keys(self):
        """The keys of all code that is here."""
        keys = [self._read(path)[0] for path in self._paths()]
        return [key for key in keys if key is not None]

    def flush(self):
        """Remove all code; Numba's ``recompile`` asks for it."""
        for path in self._paths():
            path.unlink()


def _as_it_is(locator):
    """A class of Numba's that finds a folder for code, but does not try whether it can be written.

    Code may be there even so; and what stands in the way is known when code is written.
    """
    return type(locator.__name__, (locator,), {"ensure_cache_path": lambda self: None})


class _Place(CompileResultCacheImpl):
    """Which folder a function's code is kept in.

    The one in ``NUMBA_CACHE_DIR``, which Numba would silently do without where it cannot be
    written; by default the first of Numba's that can be, or else the one beside the source.
    """

    _named, _beside, *_others = CompileResultCacheImpl._locator_classes
    _locator_classes = (_as_it_is(_named), _beside, *_others, _as_it_is(_beside))


class KernelCache(FunctionCache):
    """Numba's on-disk cache of a function, in files of our own.

    Numba compiles, loads and saves under one lock, so none of this runs twice at a time.
    """

    _impl_class = _Place

    def __init__(self, py_func):
        super().__init__(py_func)
        stamp = numba.__version__, DIGEST, self._impl.locator.get_source_stamp()
        self._cache_file = _Files(self._cache_path, self._impl.filename_base, stamp)

    def load_overload(self, sig, target_context):
        found = super().load_overload(sig, target_context)
        if found is None:
            _announce_compilation()
        return found

    def _load_overload(self, sig, target_context):
        # Code that was kept whole should link; should it not, it can be compiled all the same.
        try:
            return super()._load_overload(sig, target_context)
        except Exception:
            return None

    def _save_overload(self, sig, data):
        try:
            super()._save_overload(sig, data)
        except OSError as error:
            # On Windows a file that another process has open cannot be replaced, and need not be.
            if sig not in self.signatures():
                _warn(self._complaint(error))

    def _complaint(self, error):
        return (
            f"compiled kernels cannot be kept in {self.cache_path}, so that each process compiles "
            "them anew: let the environment variable NUMBA_CACHE_DIR name a folder that can be "
            f"written and has room ({error})"
        )

    def signatures(self):
        """The argument types that machine code of this version is on disk for."""
        return [key[0] for key in self._cache_file.kept_keys()]

    def keep(self, overloads):
        """See to it that the code of this process is on disk.

        overloads : compiled code by argument types
        Raises OSError where some of it is not and cannot be written.
        """
        kept = set(self.signatures())
        # Of those that are there: another thread may compile meanwhile.
        for sig in list(overloads):
            if sig in kept:
                continue
            # A RuntimeError where the code was loaded from a file that has gone since: Numba no
            # longer has it in a form that can be written.
            try:
                super()._save_overload(sig, overloads[sig])
            except (OSError, RuntimeError) as error:
                raise OSError(self._complaint(error)) from error


@functools.cache
def _announce_compilation():
    """Say once per process why the first call takes a while, to who watches it."""
    if sys.stderr is not None and sys.stderr.isatty():
        print(
            "fastmlp: compiling kernels for networks of this kind; they are kept ...",
            file=sys.stderr,
            flush=True,
        )


_warned = threading.Event()


@contextlib.contextmanager
def told_otherwise():
    """Inside there is no NotKeptWarning: whoever compiles says it himself.

    Python's filters of warnings are those of all threads, whose own changes would be lost.
    """
    before = _warned.is_set()
    _warned.set()
    try:
        yield
    finally:
        if not before:
            _warned.clear()


def _warn(complaint):
    """Warn once per process."""
    if _warned.is_set():
        return
    _warned.set()
    try:
        warnings.warn(complaint, NotKeptWarning, stacklevel=2)
    except NotKeptWarning:
        # Where warnings are errors: a worker that ends its part with one would leave its caller
        # waiting for it.
        if threading.current_thread() is threading.main_thread():
            raise
