"""What a training step costs on several machines, as a formula of four measured numbers.

    step(R, B) = a * F * B / R + m * W + o + exchange(R)                        for R machines
    exchange(R) = 2 * (R - 1) * (latency + G / (R * bandwidth)) + m * 3 * G     0 for one machine

B : rows of the batch    F : floating-point operations of a row
G : bytes of the gradients, as many as of the parameters    W = 6 * G : bytes that a step moves,
forward 1, backward 1 and update 4 times the parameters
a, m, o : seconds per operation, per byte and per step, fitted to measured steps of one machine

Each rank sends R - 1 messages of a share of the gradients, adds what it receives, and sends R - 1
messages of the sum: that is how MPICH's all-to-all and all-gather go through long messages.
Reference: Thakur, Rabenseifner and Gropp, "Optimization of collective communication operations in
MPICH", 2005.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from ..networks import NETWORKS, Network

MACHINES = tuple(2**k for k in range(1, 11))

_MOVED, _ADDED = 6, 3


@dataclass(frozen=True)
class Link:
    """A network: seconds of a short message, and bytes a second of a long one."""

    latency: float
    bandwidth: float


# Of data sheets, not measured: what a message takes from program to program.
LINKS = {
    "10 Gbit/s Ethernet": Link(30e-6, 1.1e9),
    "100 Gbit/s InfiniBand": Link(2e-6, 11e9),
}


@dataclass(frozen=True)
class Step:
    """A measured step of one machine."""

    name: str
    batch: int
    seconds: float


@dataclass(frozen=True)
class Model:
    """Seconds per operation, per byte that is moved, and per step."""

    operation: float
    byte: float
    step: float

    def seconds(
        self, network: Network, batch: float, machines: int = 1, link: Link | None = None
    ) -> float:
        """Of a step."""
        alone = self._shared(network, batch / machines)
        return alone if link is None else alone + self.exchange(network, machines, link)

    def _shared(self, network: Network, rows: float) -> float:
        moved = _MOVED * bytes_of(network)
        return self.operation * network.flops_per_sample * rows + self.byte * moved + self.step

    def exchange(self, network: Network, machines: int, link: Link) -> float:
        """Seconds that the gradients take to be added up on all machines."""
        if machines == 1:
            return 0.0
        size = bytes_of(network)
        messages = 2 * (machines - 1) * (link.latency + size / (machines * link.bandwidth))
        return messages + self.byte * _ADDED * size

    def batch_for(
        self, network: Network, machines: int, link: Link, efficiency: float = 0.0
    ) -> float:
        """The batch from which a step takes no longer than on one machine, or at least that share
        of the machines' speed is reached: one machine's time over machines times theirs."""
        row = self.operation * network.flops_per_sample
        fixed, exchange = self._shared(network, 0), self.exchange(network, machines, link)
        if efficiency == 0:
            return exchange / (row * (1 - 1 / machines))
        wanted = efficiency * machines
        return (wanted * (fixed + exchange) - fixed) / (row * (1 - efficiency))


def bytes_of(network: Network) -> int:
    """Of its parameters in float32."""
    return 4 * sum(a * b + b for a, b in pairwise(network.sizes))


def fitted(steps: Sequence[Step]) -> Model:
    """The model whose steps differ least from the measured ones, by their shares of them.

    No number is negative: one that would be is 0, and the others are fitted without it.
    """
    rows = np.array(
        [
            [NETWORKS[s.name].flops_per_sample * s.batch, _MOVED * bytes_of(NETWORKS[s.name]), 1]
            for s in steps
        ]
    )
    seconds = np.array([step.seconds for step in steps])
    shares, used = rows / seconds[:, None], np.ones(3, bool)
    while True:
        found = np.zeros(3)
        found[used] = np.linalg.lstsq(shares[:, used], np.ones(len(steps)), rcond=None)[0]
        if (found >= 0).all():
            return Model(*map(float, found))
        used &= found >= 0
