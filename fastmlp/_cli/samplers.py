"""Who says what the next trial is: the grid, by its number; or Optuna, by what came of others."""

from __future__ import annotations

import sys
from typing import Any, Protocol

from .._extras import require
from .sweep_file import Range, Sweep


class Sampler(Protocol):
    """ahead : how many trials may be under way that it has not heard the end of."""

    ahead: int

    def ask(self, number: int) -> dict[str, Any]:
        """The values of the next trial; they are asked for in order."""

    def tell(self, number: int, error: float | None) -> None:
        """What came of a trial, None for nothing; told in order, too."""


class Grid:
    """All choices, with the draws of the ranges."""

    ahead = sys.maxsize

    def __init__(self, plan: Sweep) -> None:
        self._plan = plan

    def ask(self, number: int) -> dict[str, Any]:
        return self._plan.values(number)

    def tell(self, number: int, error: float | None) -> None:
        """Nothing depends on it."""


class Optuna:
    """A study of Optuna's in memory, with its default sampler.

    It is told of trial n before it is asked for trial n + ``ahead``, and of none later: what it
    says follows from its seed and the results, not from when they came. Told what an earlier run
    has found, it goes on as if there had been no other.
    Reference: Optuna's ask-and-tell interface.
    """

    def __init__(self, plan: Sweep) -> None:
        require("optuna", "optuna")
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        distributions = optuna.distributions
        self.ahead = plan.workers or 1
        self._space: dict[str, Any] = {
            key: distributions.CategoricalDistribution(values) for key, values in plan.lists.items()
        }
        for key, found in plan.ranges.items():
            self._space[key] = _distribution(distributions, found)
        self._study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=plan.seed))
        self._trials: dict[int, Any] = {}
        self._failed = optuna.trial.TrialState.FAIL

    def ask(self, number: int) -> dict[str, Any]:
        trial = self._trials[number] = self._study.ask(self._space)
        return {key: trial.params[key] for key in self._space}

    def tell(self, number: int, error: float | None) -> None:
        trial = self._trials.pop(number)
        if error is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, error)


def _distribution(distributions: Any, found: Range) -> Any:
    if found.whole:
        return distributions.IntDistribution(found.low, found.high, log=found.log)
    return distributions.FloatDistribution(found.low, found.high, log=found.log)


def sampler_of(plan: Sweep) -> Sampler:
    """Raises ImportError, which names the extra, where Optuna is wanted and is not there."""
    return Optuna(plan) if plan.sampler == "optuna" else Grid(plan)
