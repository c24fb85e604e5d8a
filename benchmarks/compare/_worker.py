"""A peer in a process of its own, and the handle that the comparison holds it by."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import os
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any

from ._peers import Peer
from ._workloads import Workload

# A peer that takes longer than this for one command is given up.
TIMEOUT_SECONDS = 600.0
EXIT_SECONDS = 3.0


def environment(threads: int) -> dict[str, str]:
    """What makes every library use that many threads, read when it is imported."""
    count = str(threads)
    eigen = str(threads > 1).lower()
    return {
        "FASTMLP_NUM_THREADS": count,
        "OMP_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "VECLIB_MAXIMUM_THREADS": count,
        "NPROC": count,  # the size of XLA's thread pools
        "XLA_FLAGS": f"--xla_cpu_multi_thread_eigen={eigen}",
        "JAX_PLATFORMS": "cpu",
    }


class PeerError(Exception):
    """A peer cannot do what was asked; the message says why."""


class Process:
    """Runs one peer's jobs, one at a time; it sleeps on a pipe between commands."""

    def __init__(self, peer: Peer, threads: int) -> None:
        self.peer = peer
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(peer, theirs), daemon=True)
        with _environment({**environment(peer.threads or threads), **peer.variables}):
            self._process.start()
        theirs.close()

    def send(self, command: str, *arguments: Any) -> None:
        """Ask for something; ``receive`` gives the answer."""
        with contextlib.suppress(OSError):
            self._pipe.send((command, arguments))

    def receive(self, timeout: float = TIMEOUT_SECONDS) -> Any:
        """The answer to the last command. Raises PeerError, also when the process has died."""
        try:
            if not self._pipe.poll(timeout):
                self.close()
                raise PeerError(f"gave no answer within {timeout:.0f} s")
            failed, answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join()
            raise PeerError(f"crashed, exit code {self._process.exitcode}") from None
        if failed:
            raise PeerError(answer)
        return answer

    def close(self) -> None:
        """End the process, by force if it is busy."""
        self._pipe.close()
        self._process.join(EXIT_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """os.environ with other values, for a child to inherit."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(peer: Peer, pipe: Connection) -> None:
    """Answer commands until the parent is gone."""
    job: Any = None
    while True:
        try:
            command, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if command == "prepare":
                job = None
                gc.collect()
                job = _prepare(peer, *arguments)
                answer: Any = None
            elif command == "run":
                answer = _timed(job, *arguments)
            else:
                answer = job.figure()
        except Exception as error:
            pipe.send((True, f"{type(error).__name__}: {error}".splitlines()[0][:200]))
        else:
            pipe.send((False, answer))


def _prepare(peer: Peer, workload: Workload) -> Any:
    """A job that has compiled what it needs; its first run is not counted."""
    job = peer.job(workload)
    job.run(0)
    return job


def _timed(job: Any, seed: int) -> tuple[float, dict[str, float]]:
    """(seconds, figures of the job's own)."""
    gc.collect()
    started = time.perf_counter()
    figures = job.run(seed)
    return time.perf_counter() - started, figures or {}
