"""Hostile files by the thousand: what a reader makes of mutants of real ones.

``python -m tests.fuzzing COUNT SEED FOLDER READER...`` tries so many with each reader, and prints a
report as JSON. The same numbers give the same files. Where a reader ends the process, the file it
was given lies in the folder.
"""

import collections
import contextlib
import gc
import io
import json
import random
import sys
import time
import warnings
from pathlib import Path

from tests.hostile import READERS
from tests.memory import forget_peak, memory

BATCH = 100
"""Files between two measurements of memory."""

LONGEST_MESSAGE = 1000


def fuzz(reader, count, seed, folder):
    """Try so many mutants; returns the report, with the faults that were found and their files."""
    kind = READERS[reader]
    rng = random.Random(f"{reader} {seed}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        files, read = kind.prepare(folder)
    path = folder / f"input{kind.suffix}"
    for content in files:
        assert judge(kind, read, path, content)[1] is None, "a seed must be readable"
    _limit_memory()
    outcomes, faults, peak, slowest = collections.Counter(), [], 0, 0.0
    for first in range(0, count, BATCH):
        before = forget_peak()
        for number in range(first, min(first + BATCH, count)):
            content = kind.mutant(rng, files)
            start = time.perf_counter()
            outcome, fault = judge(kind, read, path, content)
            slowest = max(slowest, time.perf_counter() - start)
            outcomes[outcome] += 1
            if fault is not None:
                faults.append(f"{number}: {fault}")
                (folder / f"fault-{reader}-{seed}-{number}{kind.suffix}").write_bytes(content)
        if before:
            peak = max(peak, memory("VmHWM") - before)
    return {
        "reader": reader, "inputs": count, "outcomes": dict(outcomes.most_common()),
        "faults": faults, "megabytes": peak >> 10, "slowest": round(slowest, 3),
    }  # fmt: skip


def judge(kind, read, path, content):
    """(the outcome's name, what is wrong with it or None) of reading that content."""
    path.write_bytes(content)
    with (
        warnings.catch_warnings(record=True) as said,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("always")
        try:
            read(path)
        except Exception as error:
            return type(error).__name__, wrong_with(error, kind.errors, path)
    return "read", f"a warning: {said[0].message!r}" if said else None


def wrong_with(error, documented, path):
    """What is wrong with an exception: its class, its message, or that memory ran out."""
    if type(error) not in documented:
        return f"not documented: {error!r:.300}"
    message = str(error)
    if not message.startswith(f"{path}: "):
        return f"does not begin with the file: {message:.300}"
    if len(message) > LONGEST_MESSAGE or not message.isprintable():
        return f"{len(message)} signs, some not printable: {message[:300]!r}"
    cause = error
    while (cause := cause.__cause__ or cause.__context__) is not None:
        if isinstance(cause, MemoryError):
            return f"asked for too much memory: {cause}"
    return None


def _limit_memory():
    """From here on a file that asks for a gigabyte gets a MemoryError."""
    with contextlib.suppress(ImportError):
        import resource

        limit = (memory("VmSize") << 10) + (1 << 30)
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    gc.freeze()


if __name__ == "__main__":
    inputs, start, where, *names = sys.argv[1:]
    for each in names:
        print(json.dumps(fuzz(each, int(inputs), int(start), Path(where))), flush=True)
