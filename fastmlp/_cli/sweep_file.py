"""What a sweep's file says: what is tried, in which order, and how often."""

from __future__ import annotations

import itertools
import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import typer

from ..validation import nearest
from .choices import checked
from .errors import CommandError

# The options of `fastmlp train`, but for those that change no result.
KEYS: dict[str, dict[str, type]] = {
    "data": {"dataset": str, "target": str, "task": str},
    "network": {
        "hidden": str, "activation": str, "batchnorm": bool, "layer-norm": bool, "dropout": float,
        "dtype": str, "compute-dtype": str,
    },
    "fit": {
        "preset": str, "epochs": int, "batch-size": int, "lr": float, "lr-schedule": str,
        "optimizer": str, "momentum": float, "seed": int,
    },
}  # fmt: skip
OF_SWEEP: dict[str, type] = {"trials": int, "sampler": str, "seed": int, "workers": int}
SAMPLERS = ("random", "optuna")

_IN_WORDS = {str: "a text", bool: "true or false", int: "a whole number", float: "a number"}


class Range(NamedTuple):
    """Numbers from low to high, both of which may come; whole ones where these are."""

    low: float
    high: float
    log: bool

    def draw(self, generator: np.random.Generator) -> float:
        """One of them, uniformly; with ``log`` its logarithm is uniform."""
        if self.log:
            value = math.exp(generator.uniform(math.log(self.low), math.log(self.high)))
            value = min(max(value, self.low), self.high)
            return round(value) if self.whole else value
        if self.whole:
            return int(generator.integers(int(self.low), int(self.high), endpoint=True))
        return float(generator.uniform(self.low, self.high))

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int)


class Sweep(NamedTuple):
    """What a file asks for; keys are those of the options, like batch-size."""

    fixed: dict[str, Any]
    lists: dict[str, list[Any]]
    ranges: dict[str, Range]
    trials: int  # draws for every choice from the lists, or of all trials for Optuna
    sampler: str
    seed: int
    workers: int | None

    @property
    def total(self) -> int:
        """How many trials there are."""
        points = 1 if self.sampler == "optuna" else math.prod(map(len, self.lists.values()))
        return points * self.trials

    @property
    def varied(self) -> list[str]:
        return [*self.lists, *self.ranges]

    def values(self, number: int) -> dict[str, Any]:
        """What a trial of the grid has, by its number alone. Every choice has the same draws."""
        draw, point = divmod(number, math.prod(map(len, self.lists.values())))
        generator = np.random.default_rng([self.seed, draw])
        chosen = {}
        for key, values in reversed(self.lists.items()):
            point, place = divmod(point, len(values))
            chosen[key] = values[place]
        chosen |= {key: found.draw(generator) for key, found in self.ranges.items()}
        return {key: chosen[key] for key in self.varied}

    def corners(self) -> Iterator[dict[str, Any]]:
        """Every choice from the lists, with the ends of all ranges."""
        for choice in itertools.product(*self.lists.values()):
            for end in ("low", "high") if self.ranges else ("low",):
                ends = {key: getattr(found, end) for key, found in self.ranges.items()}
                yield dict(zip(self.lists, choice, strict=True)) | ends

    def to_dict(self) -> dict[str, Any]:
        """As JSON can hold it: all that decides on the results, the order of the keys too."""
        ranges = [(key, found._asdict()) for key, found in self.ranges.items()]
        plan = self._asdict() | {"lists": list(self.lists.items()), "ranges": ranges}
        if self.sampler != "optuna":
            # Only what Optuna asks for depends on how many are under way.
            del plan["workers"]
        return plan


def read(path: Path, defaults: Mapping[str, Any]) -> Sweep:
    """What the file says, every choice checked as `train` does.

    defaults : of the options of `train`
    Raises CommandError, which names the file and the key, where it is not what it must be.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise CommandError(f"{path}: cannot be read as TOML: {error}", 2) from None
    try:
        plan = _plan(content)
    except ValueError as error:
        raise CommandError(f"{path}: {error}", 2) from None
    for values in plan.corners():
        try:
            checked(options_of(plan, values, defaults))
        except typer.BadParameter as error:
            key = str(error.param_hint).removeprefix("--").lower()
            # Some messages name it, too.
            message = error.message.removeprefix(f"{key} ")
            raise CommandError(f"{path}: {_named(key)} {message}", 2) from None
    return plan


def options_of(
    plan: Sweep, values: Mapping[str, Any], defaults: Mapping[str, Any]
) -> SimpleNamespace:
    """The options of `train` that a trial has."""
    given = {key.replace("-", "_"): value for key, value in (plan.fixed | dict(values)).items()}
    return SimpleNamespace(**{**defaults, **given})


def _plan(content: dict[str, Any]) -> Sweep:
    known = (*KEYS, "sweep")
    for part, keys in content.items():
        if part not in known or not isinstance(keys, dict):
            raise ValueError(
                f"must have the parts {', '.join(f'[{name}]' for name in known)}, got {part!r}"
                f"{nearest(part, known)}"
            )
    fixed: dict[str, Any] = {}
    lists: dict[str, list[Any]] = {}
    ranges: dict[str, Range] = {}
    for part, kinds in KEYS.items():
        for key, value in content.get(part, {}).items():
            _check_key(part, key, kinds)
            name, kind = f"[{part}] {key}", kinds[key]
            if isinstance(value, list) and part != "data":
                lists[key] = _list(name, value, kind)
            elif isinstance(value, dict) and kind in (int, float):
                ranges[key] = _range(name, value, kind)
            else:
                fixed[key] = _one(name, value, kind, varies=part != "data")
    return _with_counts(Sweep(fixed, lists, ranges, 1, "random", 0, None), content.get("sweep", {}))


def _with_counts(plan: Sweep, given: dict[str, Any]) -> Sweep:
    for key, value in given.items():
        _check_key("sweep", key, OF_SWEEP)
        _one(f"[sweep] {key}", value, OF_SWEEP[key])
        least = 0 if key == "seed" else 1
        if OF_SWEEP[key] is int and value < least:
            raise ValueError(f"[sweep] {key} must be at least {least}, got {value}")
    plan = plan._replace(**given)
    if plan.sampler not in SAMPLERS:
        raise ValueError(
            f"[sweep] sampler must be one of {', '.join(SAMPLERS)}, got {plan.sampler!r}"
            f"{nearest(plan.sampler, SAMPLERS)}"
        )
    asks = plan.sampler == "optuna"
    if asks and not plan.varied:
        raise ValueError("[sweep] sampler 'optuna' needs lists or ranges to choose from, got none")
    if (asks or plan.ranges) and "trials" not in given:
        raise ValueError("[sweep] trials must be given: how often ranges are drawn, got none")
    if not asks and not plan.ranges and "trials" in given:
        raise ValueError("[sweep] trials is how often ranges are drawn, and there are none")
    return plan


def _check_key(part: str, key: str, known: Mapping[str, type]) -> None:
    if key not in known:
        raise ValueError(
            f"[{part}] must have some of {', '.join(known)}, got {key!r}"
            f"{nearest(key, tuple(known))}"
        )


def _one(name: str, value: Any, kind: type, varies: bool = False) -> Any:
    """A single value of that kind."""
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        expected = _IN_WORDS[kind]
        if varies:
            expected += ", or a list of such"
            expected += ", or {low = ..., high = ...}" if kind in (int, float) else ""
        raise ValueError(f"{name} must be {expected}, got {value!r:.60}")
    return value


def _list(name: str, values: Sequence[Any], kind: type) -> list[Any]:
    if not values:
        raise ValueError(f"{name} must have at least one value to choose from, got []")
    return [_one(f"{name}[{i}]", value, kind) for i, value in enumerate(values)]


def _range(name: str, given: dict[str, Any], kind: type) -> Range:
    if not {"low", "high"} <= given.keys() <= {"low", "high", "log"}:
        raise ValueError(f"{name} must be {{low = ..., high = ..., log = true}}, got {given!r:.80}")
    low, high = (_one(f"{name}.{end}", given[end], kind) for end in ("low", "high"))
    log = _one(f"{name}.log", given.get("log", False), bool)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"{name} must have a low below its high, got {low} and {high}")
    if log and low <= 0:
        raise ValueError(f"{name} must have a low above 0 for log = true, got {low}")
    return Range(low, high, log)


def _named(key: str) -> str:
    """A key with the part that it belongs to."""
    return next((f"[{part}] {key}" for part, keys in KEYS.items() if key in keys), key)
