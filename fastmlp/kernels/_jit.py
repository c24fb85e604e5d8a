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
from pathlib import Path

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

from .. import threads

_OPTIONS = {"nogil": True, "error_model": "numpy", "boundscheck": False}


@functools.cache
def source_digest(folder: Path = Path(__file__).parent) -> str:
    """SHA-256 over the names and contents of all Python files in ``folder``."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


class _KernelCache(FunctionCache):
    """Numba's on-disk cache of a function, fresh only while no kernel file has changed."""

    def __init__(self, py_func):
        super().__init__(py_func)
        folder = Path(py_func.__code__.co_filename).parent
        self._cache_file = IndexDataCacheFile(
            cache_path=self._cache_path,
            filename_base=self._impl.filename_base,
            source_stamp=source_digest(folder),
        )


def entry(function):
    """Compile an entry point, called from Python; its machine code is kept on disk."""
    compiled = numba.njit(**_OPTIONS)(function)
    # Without a folder to write to (a read-only home, say) code lives as long as the process.
    with contextlib.suppress(RuntimeError):
        compiled._cache = _KernelCache(function)
    return compiled


def kernel(cost):
    """An entry point that shares its work among threads.

    The function's first parameters are ``part, parts, sync``: which share of the work to do, of how
    many, and the threads' meeting place. The caller leaves them out: the kernel is run on as many
    threads as ``cost(*arguments)``, its number of multiply-adds, is worth.
    """

    def compile_entry(function):
        compiled = entry(function)

        @functools.wraps(function)
        def run(*arguments):
            return threads.run(compiled, threads.worth(cost(*arguments)), arguments)

        run.compiled = compiled
        return run

    return compile_entry


def inline(function):
    """Compile a helper into the kernels that call it; it has no life of its own."""
    return numba.njit(**_OPTIONS)(function)
