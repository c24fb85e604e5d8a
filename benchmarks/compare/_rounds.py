"""Interleaved rounds of all peers on a workload."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from statistics import median
from typing import Any

from ._peers import ORDINARY_TOLERANCE, PEERS, PROBE, Peer
from ._worker import PeerError, Process
from ._workloads import Workload

# Libraries' idle threads spin for a while before they sleep; the next peer waits until they do.
SETTLE_SECONDS = 0.1

# Of a loss, or of a share of samples: what is left of a figure near 0.
ABSOLUTE_TOLERANCE = 1e-3

# A measurement begins when all threads together reach this share of their peaks. Virtual cores that
# share one of metal reach half. A workload waits no longer than this for it, in all.
OWN_CORES = 0.9
PATIENCE_SECONDS = 60.0
_PAUSE_SECONDS = 0.5

# A workload whose rounds have taken this long gets no more of them, once it has a few.
LONG_SECONDS = 60.0
FEW_ROUNDS = 5


@dataclass
class Measured:
    """What a peer did: seconds per unit of every round, or ``note`` says why there are none."""

    peer: Peer
    seconds: list[float] = field(default_factory=list)
    extra: list[dict[str, float]] = field(default_factory=list)
    figure: float = math.nan
    note: str = ""

    def fail(self, note: str) -> None:
        self.seconds.clear()
        self.note = note


class Comparison:
    """The peers' processes, kept from workload to workload.

    peers : by their names, by default those that are compared with fastmlp
    """

    def __init__(
        self,
        threads: int,
        say: Callable[[str], None] = print,
        peers: Mapping[str, Peer] | None = None,
    ) -> None:
        self.threads, self.say = threads, say
        self._peers = PEERS if peers is None else peers
        self._processes: dict[str, Process] = {}
        self._patience = 0.0

    def __enter__(self) -> Comparison:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes.values():
            process.close()

    def start(self, names: Iterable[str]) -> None:
        """Start the processes of the peers that can run."""
        for peer in [PROBE, *(self._peers[name] for name in names)]:
            if peer.name not in self._processes and not peer.missing():
                self._processes[peer.name] = Process(peer, self.threads)

    def measure(self, workload: Workload, names: Iterable[str], rounds: int) -> list[Measured]:
        """All peers' rounds; the probe comes first. A peer that fails has a note and no seconds.

        rounds : at most; fewer if they take long, more if the workload asks for more
        """
        self.start(names)
        results = [Measured(PROBE), *(Measured(self._peers[name]) for name in names)]
        for result in results:
            result.note = result.peer.missing() or ""
        self._prepare(workload, results)
        self._rounds(workload, results, max(rounds, workload.rounds))
        for result in results:
            answer = self._ask(result, "figure")
            result.figure = math.nan if answer is None else float(answer)
        judge(results)
        return results

    def limits(self, workload: Workload) -> dict[str, float]:
        """What the probe finds out about the machine; ``workload`` names the weights to read."""
        self.start([])
        result = Measured(PROBE)
        process = self._processes[PROBE.name]
        process.send("prepare", replace(workload, kind="limits"))
        process.receive()
        figures: dict[str, float] = self._ask(result, "run", 0)[1]
        return figures

    def _prepare(self, workload: Workload, results: list[Measured]) -> None:
        """One after another: libraries' spinning threads slow each other down many times over.

        fastmlp's variants come after it and find its compiled kernels in the cache.
        """
        for result in results:
            self._ask(result, "prepare", workload)

    def _process(self, peer: Peer) -> Process:
        return self._processes[peer.name]

    def _lose(self, result: Measured, error: PeerError) -> None:
        result.fail(str(error))
        self.say(f"{result.peer.label}: {error}")
        # A fresh process for the next workload, whatever state this one is in.
        self._processes.pop(result.peer.name).close()

    def _ask(self, result: Measured, command: str, *arguments: Any) -> Any:
        """A command's answer; None if the peer is out or fails now."""
        if result.note:
            return None
        process = self._process(result.peer)
        try:
            process.send(command, *arguments)
            return process.receive()
        except PeerError as error:
            self._lose(result, error)
            return None

    def _rounds(self, workload: Workload, results: list[Measured], rounds: int) -> None:
        started = time.monotonic()
        few = max(FEW_ROUNDS, workload.rounds)
        self._patience = PATIENCE_SECONDS
        probe, *peers = results
        for seed in range(1, rounds + 1):
            for result in peers:
                self._await_cores(probe)
                self._round(workload, result, seed)
            spent = time.monotonic() - started
            if spent > LONG_SECONDS and few <= seed < rounds:
                self.say(f"  {seed} of {rounds} rounds must do, after {spent:.0f} s")
                break
            if seed == 1 < rounds:
                left = min((rounds - 1) * spent, max(LONG_SECONDS, few * spent) - spent)
                self.say(f"  a round takes {spent:.1f} s: about {left:.0f} s more")

    def _await_cores(self, probe: Measured) -> None:
        """Measure the peak, again and again while the threads have no core each."""
        while (answer := self._ask(probe, "run", 0)) is not None:
            seconds, extra = answer
            if extra["together"] >= OWN_CORES or self._patience <= 0:
                probe.seconds.append(seconds)
                probe.extra.append(extra)
                break
            time.sleep(_PAUSE_SECONDS)
            self._patience -= seconds + _PAUSE_SECONDS

    def _round(self, workload: Workload, result: Measured, seed: int) -> None:
        answer = self._ask(result, "run", seed)
        if answer is not None:
            seconds, extra = answer
            result.seconds.append(seconds / workload.repeats)
            result.extra.append(extra)
            time.sleep(SETTLE_SECONDS)


def judge(results: list[Measured]) -> None:
    """Void those whose figure is not what the others agree on.

    The median over the peers of ordinary precision is what they agree on; fastmlp's own
    variants have no say in it.
    """
    running = [r for r in results if r.seconds and r.peer is not PROBE]
    trusted = [
        result.figure for result in running
        if result.peer.tolerance <= ORDINARY_TOLERANCE
        and not result.peer.name.startswith("fastmlp-")
        and math.isfinite(result.figure)
    ]  # fmt: skip
    agreed = median(trusted) if trusted else math.nan
    for result in running:
        allowed = result.peer.tolerance * abs(agreed) + ABSOLUTE_TOLERANCE
        if not abs(result.figure - agreed) <= allowed:
            result.fail(f"void: reached {result.figure:.4f}, the others {agreed:.4f}")
