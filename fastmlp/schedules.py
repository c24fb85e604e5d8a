"""Learning-rate schedules, for ``fit(lr_schedule=...)``.

A ``Schedule`` multiplies the network's own learning rate: ``mlp.lr`` stays what it is, and a
callback that changes it changes the steps that follow. ``fit`` also takes a plain function of the
progress in [0, 1), and a list or array of one number per step: these are the rates themselves, and
``mlp.lr`` has no part in them.

>>> mlp.fit(x, labels, epochs=20, lr_schedule=Cosine(warmup=0.05))

Names and parameters are those of ``torch.optim.lr_scheduler``, as far as it has them, and so are
the rates. What changes per epoch there, does here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .history import FitPlan, History, check_monitor
from .validation import (
    NearestNames,
    check_choice,
    check_count,
    check_number,
    check_positive,
    nearest,
)


class Schedule(NearestNames):
    """What a learning rate is multiplied by.

    For one of your own, define ``factors``; or ``rates``, which then makes ``factors`` needless,
    where the numbers of the steps do not tell them.
    """

    def check(self, plan: FitPlan) -> None:
        """Raise ValueError where the training that is about to begin does not suit."""

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        """What ``mlp.lr`` is multiplied by at each of the steps.

        steps : (n,) their numbers, counted from 0 over the whole training
        plan : ``plan.steps`` of them are an epoch, ``plan.total_steps`` the training
        Returns (n,) floats, finite and not negative.
        """
        raise NotImplementedError(f"{type(self).__name__} must define factors")

    def rates(self, lr: float, steps: np.ndarray, plan: FitPlan, history: History) -> np.ndarray:
        """The learning rates of the steps, (n,): ``factors`` times lr.

        lr : ``mlp.lr`` as it is then     history : that of the epochs before
        """
        return lr * self.factors(steps, plan)


# What fit takes for lr_schedule.
ScheduleLike = Schedule | Callable[[float], float] | Sequence[float] | np.ndarray | None


@dataclass(frozen=True)
class Constant(Schedule):
    """``mlp.lr`` itself, which is what ``fit`` does without a schedule."""

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        return np.ones(len(steps))


CONSTANT = Constant()


@dataclass(frozen=True)
class Step(Schedule):
    """gamma times as much after every ``step_size`` epochs; as StepLR."""

    step_size: int
    gamma: float = 0.1

    def __post_init__(self) -> None:
        check_count("step_size", self.step_size)
        check_positive("gamma", self.gamma)

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        return float(self.gamma) ** (steps // plan.steps // self.step_size)


@dataclass(frozen=True)
class Exponential(Schedule):
    """gamma times as much after every epoch; as ExponentialLR."""

    gamma: float

    def __post_init__(self) -> None:
        check_positive("gamma", self.gamma)

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        return float(self.gamma) ** (steps // plan.steps)


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """1 / (step + 1)**power, step by step, counted from 0.

    scikit-learn's learning_rate="invscaling" is the same formula, but counts samples instead of
    steps and changes the rate after every epoch.
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        check_number("power", self.power, 0, reason="below 0 the rate would grow without end")

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        return (steps + 1.0) ** -float(self.power)


@dataclass(frozen=True)
class Cosine(Schedule):
    """Down to ``minimum`` along half a cosine, from the top again after every restart.

    warmup : share of the steps, below 1, in which the rate first rises from near 0 in a line
    restarts : how often it starts again from the top; the periods fill the training
    minimum : what a period falls to, as a share of the rate
    t_mult : how many times as long as the last a period is, a whole number

    Loshchilov and Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm Restarts", eq. 5, step
    by step, as CosineAnnealingWarmRestarts; before it, w steps at 1/(w+1), 2/(w+1), ... w/(w+1).
    """

    warmup: float = 0.0
    restarts: int = 0
    minimum: float = 0.0
    t_mult: int = 1

    def __post_init__(self) -> None:
        check_number("warmup", self.warmup, 0, 1)
        check_count("restarts", self.restarts, least=0)
        check_number("minimum", self.minimum, 0, 1)
        check_count("t_mult", self.t_mult)

    def check(self, plan: FitPlan) -> None:
        most = max(0, plan.total_steps - 1)
        if self.restarts > most:
            raise ValueError(
                f"restarts must be at most {most} in a training of {plan.total_steps} steps, "
                f"got {self.restarts}"
            )

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        rising = int(self.warmup * plan.total_steps)
        starts, lengths = self._periods(plan.total_steps - rising)
        after = np.maximum(steps - rising, 0)
        period = np.searchsorted(starts, after, side="right") - 1
        share = (after - starts[period]) / lengths[period]
        falling = self.minimum + (1 - self.minimum) * (1 + np.cos(np.pi * share)) / 2
        return np.where(steps < rising, (steps + 1) / (rising + 1), falling)

    def _periods(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """(starts, lengths) of the periods, in steps; quotients of whole numbers are exact."""
        parts = [self.t_mult**i for i in range(self.restarts + 1)]
        *before, whole = itertools.accumulate(parts, initial=0)
        starts = np.array([steps * part / whole for part in before])
        return starts, np.array([steps * part / whole for part in parts])


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to ``mlp.lr``, the max_lr of OneCycleLR, then down to nearly nothing, step by step.

    pct_start : share of the steps, below 1, in which the rate rises
    anneal_strategy : "cos" or "linear"
    div_factor : the first rate is that part of ``mlp.lr``
    final_div_factor : the last rate is that part of the first
    three_phase : fall to the first rate in as many steps as it rose, and only then to the last

    The momentum stays as it is (in PyTorch, cycle_momentum=False). Smith and Topin 2019,
    "Super-convergence: very fast training of neural networks using large learning rates".
    """

    pct_start: float = 0.3
    anneal_strategy: str = "cos"
    div_factor: float = 25.0
    final_div_factor: float = 1e4
    three_phase: bool = False

    def __post_init__(self) -> None:
        check_number("pct_start", self.pct_start, 0, 1)
        check_choice("anneal_strategy", self.anneal_strategy, ("cos", "linear"))
        check_positive("div_factor", self.div_factor)
        check_positive("final_div_factor", self.final_div_factor)
        if self.three_phase and self.pct_start > 0.5:
            raise ValueError(
                "pct_start must be at most 0.5 with three_phase, since the rate falls for as long "
                f"as it rises, got {self.pct_start}"
            )

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        first = 1 / self.div_factor
        rise, last = self.pct_start * plan.total_steps, plan.total_steps - 1
        # A phase ends between two steps: the rate is at its end only where that is a whole number.
        if self.three_phase:
            ends, values = [rise - 1, 2 * rise - 2, last], [first, 1.0, first]
        else:
            ends, values = [rise - 1, last], [first, 1.0]
        starts, values = [0.0, *ends[:-1]], [*values, first / self.final_div_factor]
        phase = np.searchsorted(ends[:-1], steps)
        begin, length = np.take(starts, phase), np.take(np.subtract(ends, starts), phase)
        # One step alone, where PyTorch divides by zero, is at the end of its phase.
        share = np.divide(steps - begin, length, out=np.ones(len(steps)), where=length > 0)
        if self.anneal_strategy == "cos":
            share = (1 - np.cos(np.pi * share)) / 2
        top, bottom = np.take(values, phase), np.take(values, phase + 1)
        return top + (bottom - top) * share


@dataclass(frozen=True)
class Lambda(Schedule):
    """Any function of the progress in [0, 1) that gives the factor; as LambdaLR.

    function : called with the share of the steps that are done
    """

    function: Callable[[float], float]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise TypeError(f"function must be a function of the progress, got {self.function!r}")

    def factors(self, steps: np.ndarray, plan: FitPlan) -> np.ndarray:
        return np.array([self.function(step / plan.total_steps) for step in steps.tolist()], float)


@dataclass(frozen=True)
class ReduceOnPlateau(Schedule):
    """``factor`` times as much whenever a figure has not gone down; as ReduceLROnPlateau.

    factor : above 0 and below 1
    patience : so many epochs in a row that are no better are let pass, the next one counts
    threshold : better is below (1 - threshold) times the best so far; NaN is never better
    min_lr : a rate, which it does not go below
    monitor : the list of the history to watch

    With PyTorch's threshold_mode="rel", cooldown=0 and eps=0.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    min_lr: float = 0.0
    monitor: str = "val_loss"

    def __post_init__(self) -> None:
        check_positive("factor", self.factor, below=1)
        check_count("patience", self.patience, least=0)
        check_number("threshold", self.threshold, 0, 1)
        check_number("min_lr", self.min_lr, 0)
        check_monitor(self.monitor)

    def check(self, plan: FitPlan) -> None:
        check_monitor(self.monitor, plan)

    def rates(self, lr: float, steps: np.ndarray, plan: FitPlan, history: History) -> np.ndarray:
        reduced = lr * float(self.factor) ** self._reductions(getattr(history, self.monitor))
        # A network's own rate may be lower still.
        return np.full(len(steps), min(lr, max(reduced, self.min_lr)), float)

    def _reductions(self, values: list[float]) -> int:
        """How often the rate has been reduced after epochs with these figures."""
        best, waited, reductions = math.inf, 0, 0
        for value in values:
            if value < best * (1 - self.threshold):
                best, waited = value, 0
            else:
                waited += 1
            if waited > self.patience:
                reductions, waited = reductions + 1, 0
        return reductions


# So many rates of a schedule are looked at together: a training may have more than memory holds.
_AT_A_TIME = 1 << 20


@dataclass(frozen=True, eq=False)
class _Given(Schedule):
    """Rates, one per step of the training."""

    values: np.ndarray

    def rates(self, lr: float, steps: np.ndarray, plan: FitPlan, history: History) -> np.ndarray:
        return self.values[steps]


def as_schedule(given: Any, plan: FitPlan, lr: float, dtype: Any) -> Schedule:
    """What ``fit`` is given for lr_schedule as a Schedule, checked for the whole training.

    lr, dtype : of the network. Raises ValueError or TypeError.
    """
    if isinstance(given, type):
        raise TypeError(f"lr_schedule must be an object, got the class {given.__name__}")
    if given is None:
        return CONSTANT
    total = plan.total_steps
    if not isinstance(given, Schedule):
        if callable(given):
            given = [given(step / total) for step in range(total)]
        rates = _as_rates(given)
        _check_rates(rates, total, dtype)
        return _Given(rates)
    given.check(plan)
    for first in range(0, total, _AT_A_TIME):
        steps = np.arange(first, min(first + _AT_A_TIME, total))
        with np.errstate(over="ignore"):
            # What depends on the history cannot be known yet: an empty one has the first epoch's.
            _check_rates(given.rates(lr, steps, plan, History()), len(steps), dtype)
    return given


def _as_rates(given: Any) -> np.ndarray:
    try:
        return np.array(given, float)
    except (TypeError, ValueError):
        known = [cls.__name__ for cls in Schedule.__subclasses__() if cls.__module__ == __name__]
        raise TypeError(
            "lr_schedule must be an object of a class in fastmlp.schedules, a function of the "
            f"progress, or one rate per step, got {given!r:.60}{nearest(given, known)}"
        ) from None


class StepFactors(NamedTuple):
    """What is multiplied from step to step besides the rate: (total_steps,) each, None by 1."""

    decay: np.ndarray | None = None
    dropout: np.ndarray | None = None


NO_FACTORS = StepFactors()


def step_factors(decay: Any, dropout: Any, plan: FitPlan) -> StepFactors:
    """What ``fit`` is given for decay_schedule and dropout_schedule, for the whole training.

    Raises ValueError or TypeError.
    """
    return StepFactors(
        _factors_of("decay_schedule", decay, plan),
        _factors_of("dropout_schedule", dropout, plan, most=1),
    )


def _factors_of(name: str, given: Any, plan: FitPlan, most: float = math.inf) -> np.ndarray | None:
    if given is not None and (isinstance(given, type) or not callable(given)):
        raise TypeError(f"{name} must be a function of the progress, got {given!r}")
    if given is None or plan.total_steps == 0:
        return None
    values = np.array([given(step / plan.total_steps) for step in range(plan.total_steps)], float)
    wrong = ~(np.isfinite(values) & (values >= 0) & (values <= most))
    if wrong.any():
        bounds = "finite numbers of at least 0" if most == math.inf else f"from 0 to {most}"
        step = int(np.argmax(wrong))
        raise ValueError(
            f"{name} must give {bounds}, got {values[step]} at {step / plan.total_steps:g}"
        )
    return values


def _check_rates(rates: Any, total: int, dtype: Any) -> None:
    rates = np.asarray(rates)
    if rates.shape != (total,):
        raise ValueError(f"lr_schedule must have one rate per step, ({total},), got {rates.shape}")
    with np.errstate(over="ignore"):
        finite = np.isfinite(rates.astype(dtype)).all()
    if not finite:
        raise ValueError("lr_schedule must be finite, got NaN or infinity")
    if (rates < 0).any():
        raise ValueError(
            f"lr_schedule must not be negative, got {rates.min()}: such a step climbs the loss"
        )
