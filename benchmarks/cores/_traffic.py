"""The lines that every core must receive from the caches of others, phase by phase.

Every core has a cache of its own. A line that it reads or changes is in that cache until another
core changes it. A line that is not there comes from the core that wrote it; writing to a line, even
to all of it, begins with having it. Caches are as large as needed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._sharing import Share, Stage, Step

# The halves of the input buffer come in turns, so the second step after which a step is watched is
# of the same half; by then every line has been written where it will be.
_STEPS_BEFORE = 2


@dataclass(frozen=True)
class Phase:
    """What the cores do between two barriers.

    tiles, panels : by stage (parts,), of what one core alone does, see ``Share``
    received : (parts,) lines
    """

    stages: list[Stage]
    tiles: np.ndarray
    panels: np.ndarray
    received: np.ndarray


class Caches:
    """Which core has which line."""

    def __init__(self, parts: int, lines: int) -> None:
        self.held = np.zeros((parts, lines), bool)
        self._touched = np.zeros(lines, bool)

    def pass_phase(self, shares: list[list[Share]]) -> np.ndarray:
        """The lines that each core receives in a phase; ``shares`` are by core, then by stage."""
        received = np.empty(len(shares), np.int64)
        for part, own in enumerate(shares):
            self._touched[:] = False
            for share in own:
                self._touched[share.touched] = True
            received[part] = np.count_nonzero(self._touched & ~self.held[part])
            self.held[part] |= self._touched
        for part, own in enumerate(shares):
            for share in own:
                self.held[:, share.written] = False
                self.held[part, share.written] = True
        return received


def phases_on(step: Step, parts: int) -> list[Phase]:
    """A step in the midst of a training on so many cores."""
    caches = Caches(parts, step.starts["end"])
    found = []
    for number in range(_STEPS_BEFORE + 1):
        found = []
        for stages in step.phases:
            shares = [
                [step.share(stage, part, parts, number % 2) for stage in stages]
                for part in range(parts)
            ]
            by_stage = np.array([[(s.tiles, s.panels) for s in own] for own in shares])
            received = caches.pass_phase(shares)
            found.append(Phase(stages, by_stage[..., 0].T, by_stage[..., 1].T, received))
    return found
