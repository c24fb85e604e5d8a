"""What `fastmlp doctor` sees without measuring: lines of a report, and what is wrong.

A check is a function that yields Lines and Findings. A path below the user's folder is told by ~:
reports are sent to others.
"""

from __future__ import annotations

import os
import pkgutil
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import NamedTuple

from .. import _machine, datasets, kernels
from .._cores import cores_to_run_on, usable_cores
from .._version import __version__
from ..kernels import _compiled, _host, _jit
from ..kernels._cache import KernelCache
from ..kernels._units import FloatUnit
from ..kernels._vocabulary import Apart, ApartZeros, Plain, PlainZeros, Rare, RareApart, Whole
from ..threads import get_num_threads
from .units import in_bytes


class Line(NamedTuple):
    """A line of the report."""

    name: str
    value: str


class Finding(NamedTuple):
    """Something that is not as it could be."""

    what: str
    do: str
    problem: bool = True  # which makes training slow, or fail


Found = Iterator[Line | Finding]

# Code of one dtype takes some 5 MB; the arrays of MNIST in float32, 200 MB.
_LEAST_DISK, _LEAST_MEMORY = 100_000_000, 500_000_000


def machine() -> Found:
    """Processor, vectors, cores, threads, memory."""
    yield Line("processor", _machine.cpu_model())
    yield Line("system", _machine.system())
    yield from _vectors()
    yield from _threads()
    memory = _machine.memory()
    if memory is None:
        yield Line("memory", "not known")
        return
    yield Line("memory", f"{in_bytes(memory.total)}, {in_bytes(memory.available)} free")
    if memory.available < _LEAST_MEMORY:
        yield Finding(
            f"only {in_bytes(memory.available)} of memory are free",
            "end other programs, or train on less data at a time",
        )


def _vectors() -> Found:
    registers = _host.vector_registers()
    named = [name for name in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES") if os.environ.get(name)]
    why = f"by {' and '.join(named)}" if named else "the widest that LLVM takes here"
    yield Line("vectors", f"{registers.bits} bits, {registers.count} registers, {why}")
    if named:
        yield Finding(
            f"kernels are compiled for another processor, {why}",
            f"unset {' '.join(named)} to compile for this one",
        )
    unit = "AMX" if _host.has_amx() else "AVX-512-BF16" if _host.has_bfloat16() else None
    yield Line("bfloat16", unit or "multiplied in float32, and no faster")


def _threads() -> Found:
    cores, count = usable_cores(), get_num_threads()
    own, all_cores = len(cores_to_run_on()), os.cpu_count() or 1
    limits = [f"{own} by affinity"] * (own < all_cores) + [f"{cores} by quota"] * (cores < own)
    yield Line("cores", ", ".join([str(all_cores), *limits]))
    variable = next(
        (name for name in ("FASTMLP_NUM_THREADS", "NUMBA_NUM_THREADS") if os.environ.get(name)),
        None,
    )
    yield Line("threads", f"{count}, {f'by {variable}' if variable else 'one per core'}")
    if count > cores:
        yield Finding(
            f"{count} threads on {cores} core{'s' * (cores > 1)} wait for each other",
            f"unset {variable}, or set it to {cores}",
        )
    elif count < cores:
        yield Finding(
            f"{count} of {cores} cores compute, as {variable} says",
            f"unset {variable}, unless the others have work to do",
            problem=False,
        )


def code() -> Found:
    """Where machine code is kept, what there is, and whether more can be."""
    cache = _compiled.train_steps._cache
    if not hasattr(cache, "signatures"):
        yield Finding(
            "machine code is not kept, since fastmlp's source files are missing",
            "install fastmlp with its .py files",
        )
        return
    folder = Path(cache.cache_path)
    yield Line("folder", brief(folder))
    kept, old = _files_of_code(folder)
    yield Line("size", f"{in_bytes(_size(kept))} in {len(kept)} files")
    compiled = sorted(map(_what_for, _compiled.epochs_on_disk()))
    yield Line("training", "; ".join(compiled) or "not compiled yet")
    if not compiled:
        yield Finding(
            "the kernels are not compiled yet: the first training does it",
            "fastmlp warmup does it ahead of time",
            problem=False,
        )
    if old:
        found = f"{in_bytes(_size(old))} in {len(old)} files, which nobody reads: delete them"
        yield Line("old code", found)
    yield from _room(folder)


def _files_of_code(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of the kernels as they are, and those that nobody asks for any more."""
    for module in pkgutil.iter_modules(kernels.__path__):
        import_module(f"{kernels.__name__}.{module.name}")
    names = {
        entry._cache._cache_file._name
        for entry in _jit._entries
        if isinstance(entry._cache, KernelCache)
    }
    found: tuple[list[Path], list[Path]] = [], []
    for path in sorted(folder.glob("*.nbc")):
        # The last part of a name stands for the types of the arguments.
        found[path.stem.rpartition(".")[0] not in names].append(path)
    return found


# What compiled epochs are for.
_KNOWN = {
    Plain: "plain layers, momentum",
    PlainZeros: "plain layers, momentum, columns of zeros",
    Apart: "plain layers, SGD and Adam",
    ApartZeros: "plain layers, SGD and Adam, columns of zeros",
    Rare: "plain layers, every loss, momentum",
    RareApart: "plain layers, every loss, every optimizer",
    Whole: "everything",
}


def _what_for(epoch: _compiled.Epoch) -> str:
    name = epoch.dtype if issubclass(epoch.unit, FloatUnit) else "bfloat16"
    return f"{name}: {_KNOWN[epoch.vocabulary]}"


def _size(paths: list[Path]) -> int:
    return sum(path.stat().st_size for path in paths)


def _room(folder: Path) -> Found:
    """Whether more can be written to a folder, or to the one that it would be made in."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    do = "let NUMBA_CACHE_DIR name a folder that can be written and has room"
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free
    except OSError as error:
        yield Line("writable", "no")
        yield Finding(f"machine code cannot be kept: {error.strerror}: {brief(folder)}", do)
        return
    yield Line("writable", f"yes, {in_bytes(free)} free")
    if free < _LEAST_DISK:
        yield Finding(f"only {in_bytes(free)} are free for machine code", do)


def versions() -> Found:
    """Python, fastmlp and what it needs; which extras are here, and what is too old."""
    yield Line("python", f"{platform.python_version()} {platform.python_implementation()}")
    yield Line("fastmlp", f"{__version__} in {brief(Path(__file__).parents[1])}")
    for name in ("numpy", "numba", "llvmlite"):
        yield Line(name, _machine.installed_version(name) or "not installed")
    extras: dict[str, list[str]] = {}
    for wanted in _requirements():
        found = _machine.installed_version(wanted.name)
        missing = extras.setdefault(wanted.extra, [])
        if found is None:
            missing.append(wanted.name)
        elif _machine.release(found) < _machine.release(wanted.least):
            yield Finding(
                f"{wanted.name} {found} is older than {wanted.least}",
                f'python -m pip install "{wanted.name}>={wanted.least}"',
            )
    extras.pop("", None)
    here = sorted(name for name, missing in extras.items() if not missing)
    yield Line("extras", " ".join(here) or "none found")
    for name in sorted(extras.keys() - set(here)):
        yield Line(f"  {name}", f"lacks {' '.join(sorted(extras[name]))}")


class _Requirement(NamedTuple):
    name: str
    least: str  # version
    extra: str  # that asks for it, or ""


# For those who work on the package.
_NOT_FOR_USERS = "test", "bench", "compare", "dev"


def _requirements() -> Iterator[_Requirement]:
    """Of the installed package; none where it runs from a clone that is not installed."""
    try:
        lines = metadata.requires("fastmlp") or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        wanted, _, marker = line.partition(";")
        name = re.split(r"[\s\[<>=!~(]", wanted, maxsplit=1)[0]
        least = re.search(r">=\s*([\w.]+)", wanted)
        extra = re.search(r"extra == ['\"](\w+)['\"]", marker)
        asking = extra[1] if extra else ""
        if name != "fastmlp" and asking not in _NOT_FOR_USERS:
            yield _Requirement(name, least[1] if least else "0", asking)


# What each does to kernels where it has another value than this.
_SLOW = {
    "NUMBA_OPT": ("3", "optimises kernels less"),
    "NUMBA_BOUNDSCHECK": ("0", "checks every index"),
    "NUMBA_DEBUGINFO": ("0", "adds what debuggers need to kernels"),
    "NUMBA_ENABLE_AVX": ("1", "leaves out AVX"),
}


def settings() -> Found:
    """The environment's variables for Numba and fastmlp, and those that slow kernels down."""
    for name, value in sorted(os.environ.items()):
        if name.startswith(("NUMBA_", "FASTMLP_")):
            yield Line(name, brief(Path(value)) if os.sep in value else value)
    for name, (usual, what) in _SLOW.items():
        value = os.environ.get(name, usual)
        if value != usual:
            yield Finding(f"{name}={value} {what}", f"unset {name}")


def data() -> Found:
    """Which data sets are here."""
    named = os.environ.get("FASTMLP_DATA")
    if named is not None and not Path(named).is_dir():
        yield Finding(
            f"there is no folder {brief(Path(named))}, which FASTMLP_DATA names",
            "make it, or unset FASTMLP_DATA",
        )
    yield Line("downloads", brief(datasets.cache_dir()))
    known = datasets.available()
    yield Line("here", " ".join(entry.name for entry in known if entry.found))
    if missing := [entry.name for entry in known if not entry.found]:
        yield Line("not here", " ".join(missing))


CHECKS = {
    "Machine": machine, "Machine code": code, "Versions": versions, "Variables": settings,
    "Data": data,
}  # fmt: skip


def brief(path: Path) -> str:
    """A path, from the user's folder on if it is in there."""
    try:
        return str(Path("~", path.relative_to(Path.home())))
    except (ValueError, RuntimeError):
        return str(path)
