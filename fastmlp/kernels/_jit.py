"""How kernels are compiled and cached: the one place that decides on Numba's flags.

Flags. ``nogil`` lets models train side by side and Python threads share one kernel.
``error_model="numpy"`` gives IEEE division, without a branch per quotient. ``fastmath`` stays
off, since it would let LLVM assume that no NaN or infinity occurs, and a NaN loss must be seen;
products and sums are fused where the code says ``fma``, so the bits do not depend on how a
loop was vectorised.

Cache. Numba stamps a cached function with the source of its own file, so an edit to a helper in
another file would go unseen. Here every entry point carries a digest of the whole package's
kernels: an edit to any of them, or an upgrade, recompiles all.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import signal
import sys
import threading
from pathlib import Path

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from .. import threads

OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def _digest_of_sources() -> str:
    """SHA-256 over the names and contents of the kernels' files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


# Taken when the package is first imported, before any kernel: should a file change meanwhile, new
# code is kept under an old digest, which nobody asks for again, never old code under a new one.
_DIGEST = _digest_of_sources()


class _Index(IndexDataCacheFile):
    """The files of one function's cache, safe to share among versions and processes."""

    def _load_index(self):
        # An index of another version may name types that are gone: to this one it is empty.
        try:
            return super()._load_index()
        except Exception:
            return {}

    def save(self, key, data):
        """Keep ``data`` under a name of its own.

        Numba counts its names up, so that two processes may write different code to one name.
        """
        overloads = self._load_index()
        digest = hashlib.sha256(repr((self._source_stamp, key)).encode()).hexdigest()
        overloads[key] = self._data_name_pattern.replace("{number:d}", digest[:16])
        self._save_data(overloads[key], data)
        self._save_index(overloads)


class _KernelCache(FunctionCache):
    """Numba's on-disk cache of a function, fresh only while no kernel file has changed."""

    def __init__(self, py_func):
        super().__init__(py_func)
        self._cache_file = _Index(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=(_DIGEST, self._impl.locator.get_source_stamp()),
        )

    def load_overload(self, sig, target_context):
        found = super().load_overload(sig, target_context)
        if found is None:
            _announce_compilation()
        return found

    def signatures(self):
        """The argument types that machine code of this version is on disk for."""
        return [key[0] for key in self._cache_file._load_index()]


@functools.cache
def _announce_compilation():
    """Say once per process why the first call takes a while, to who watches it."""
    if sys.stderr is not None and sys.stderr.isatty():
        print("fastmlp: compiling kernels, once per installation ...", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _interrupts_held():
    """Answer Ctrl-C at the end: raised while LLVM calls back into Python, it would be lost.

    A second one ends the process.
    """
    held = []

    def note_interrupt(number, frame):
        if held:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        held.append(number)
        print("fastmlp: stopping once the kernels are compiled ...", file=sys.stderr, flush=True)

    in_charge = threading.current_thread() is threading.main_thread()
    if not in_charge or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, note_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if held:
        raise KeyboardInterrupt


def entry(function):
    """Compile an entry point, called from Python; its machine code is kept on disk."""
    compiled = numba.njit(**OPTIONS)(function)
    compiled.compile = _interrupts_held()(compiled.compile)
    # Without a folder to write to (a read-only home, say) code lives as long as the process.
    with contextlib.suppress(RuntimeError):
        compiled._cache = _KernelCache(function)
    return compiled


def kernel(cost):
    """An entry point that shares its work among threads.

    The function's first parameter is a ``threads.Team``, which says what this thread's share is.
    The caller leaves it out: the kernel runs on as many threads as ``threads.count_for`` gives for
    ``cost(*arguments)``, its number of multiply-adds.
    """

    def compile_entry(function):
        compiled = entry(function)

        @functools.wraps(function)
        def run(*arguments):
            return threads.run(compiled, threads.count_for(cost(*arguments)), arguments)

        run.compiled = compiled
        return run

    return compile_entry


def inline(function):
    """Compile a helper into the kernels that call it; it has no entry in the cache of its own.

    A function made by a factory is named after what it closes over. Numba tells functions apart by
    name and a count of its own, so code cached by different processes could otherwise hold two
    different helpers under one symbol, and the linker would take either.
    """
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    if cells:
        names = [getattr(getattr(c, "py_func", c), "__qualname__", str(c)) for c in cells]
        function.__qualname__ += f"[{','.join(names)}]"
    return numba.njit(**OPTIONS)(function)
