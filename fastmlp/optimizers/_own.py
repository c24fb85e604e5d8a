"""Update rules of a user's own: Python functions of numbers, compiled apart."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from ..kernels.rules import FACTORS, FIRST_OWN, OWN, OwnRule
from ..kernels.update import UpdateOptions
from ..validation import check_count, check_number, nearest
from ._base import Optimizer

MOST_NUMBERS = FACTORS - FIRST_OWN
"""Besides the rate."""

_OPTIONS = (
    "weight_decay", "decoupled", "decay_all", "clip_value", "clip_norm", "average", "rate_factors",
)  # fmt: skip


def rule(
    function: Callable[..., tuple[float, ...]], states: int = 1, *, lr: float, **numbers: Any
) -> Optimizer:
    """An update rule from a function of numbers, as fast as compiled code.

    function : maps (gradient, parameter, its states, lr, numbers) to the tuple (new parameter, its
        new states), of arithmetic, conditions and the functions of ``math``, which Numba compiles,
        half a second for each dtype. What it calls lr and its numbers must have the names under
        which they are given here. Where it raises an exception, the parameter is NaN.
    states : how many numbers are kept per parameter, 1 or 2, all 0 before the first update
    lr : the learning rate; what a schedule says takes its place
    numbers : what else the function takes, at most 5 numbers, attributes of the optimizer then;
        and, as of every optimizer, decay_all, clip_value, clip_norm, average and rate_factors
    weight_decay : among them; that part of a weight is added to the gradient that the function gets
    decoupled : among them; instead the weight that it gets is (1 - lr * weight_decay) times as
        large, as with ``AdamW``

    >>> def signum(gradient, parameter, mean, lr, beta):
    ...     mean = beta * mean + (1 - beta) * gradient
    ...     return parameter - lr * math.copysign(1.0, mean), mean
    >>> MLP(..., optimizer=rule(signum, lr=0.01, beta=0.9))

    It works wherever the others do, but no file can keep its function: ``save`` refuses it. It can
    be pickled if its function is found by name in a module, as pickle wants it.

    Raises TypeError or ValueError where function or numbers are not as said. What Numba cannot
    compile is a TypeError once a network gets it, which is left as it was.
    """
    options = {name: numbers.pop(name) for name in _OPTIONS if name in numbers}
    return _Own(function, lr, states, numbers, **options)


@dataclass(repr=False)
class _Own(Optimizer):
    """A user's rule; ``numbers`` are in the order of the function's parameters."""

    function: Callable[..., tuple[float, ...]]
    lr: float
    states: int = 1
    numbers: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    decoupled: bool = False
    _dtype: np.dtype[Any] | None = field(default=None, init=False, compare=False)
    rule: ClassVar[str] = "own"

    def __post_init__(self) -> None:
        if check_count("states", self.states) > 2:
            raise ValueError(f"states must be 1 or 2, got {self.states}")
        names = _names_of_numbers(self.function, self.states, list(self.numbers))
        for name in names:
            if hasattr(_Own, name) or name in self.__dataclass_fields__:
                raise ValueError(f"a number must not be named {name}, which every optimizer has")
        values = {name: check_number(name, self.numbers[name]) for name in names}
        object.__setattr__(self, "numbers", values)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("function", "states", "numbers") and name in self.__dict__:
            raise AttributeError(f"{name} cannot be changed: make another rule")
        if name in self.__dict__.get("numbers", ()):
            # Copies share the mapping: it is never changed.
            changed = {**self.numbers, name: check_number(name, value)}
            object.__setattr__(self, "numbers", changed)
        else:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> float:
        numbers: Mapping[str, float] = self.__dict__.get("numbers", {})
        if name not in numbers:
            raise AttributeError(f"this rule has no {name}")
        return numbers[name]

    def __repr__(self) -> str:
        defaults = {f.name: f.default for f in fields(self)}
        options = {name: getattr(self, name) for name in _OPTIONS}
        changed = {name: value for name, value in options.items() if value != defaults[name]}
        given = {"states": self.states, "lr": self.lr, **self.numbers, **changed}
        arguments = ", ".join(f"{name}={value!r}" for name, value in given.items())
        return f"rule({_name_of(self.function)}, {arguments})"

    @property
    def code(self) -> int:
        return OWN

    @property
    def kind(self) -> Hashable:
        return self.function

    def prepare(self, dtype: Any) -> None:
        """Raises TypeError where the function cannot be compiled."""
        self._rule.address(dtype)
        self._dtype = np.dtype(dtype)

    @property
    def options(self) -> UpdateOptions:
        """As of every optimizer. Raises RuntimeError before ``prepare``."""
        if self._dtype is None:
            raise RuntimeError(f"{self!r}: prepare must be told the dtype of the parameters first")
        return super().options._replace(address=self._rule.address(self._dtype))

    @property
    def _rule(self) -> OwnRule:
        return OwnRule(self.function, self.states, len(self.numbers))

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, :, FIRST_OWN : FIRST_OWN + len(self.numbers)] = list(self.numbers.values())


def _name_of(function: Any) -> str:
    return getattr(function, "__name__", repr(function))


def _names_of_numbers(function: Any, states: int, given: list[str]) -> list[str]:
    """The names of the numbers, in the order in which the function takes them.

    Raises TypeError where it does not take those that are given, ValueError for too many.
    """
    kept = "1 state" if states == 1 else f"{states} states"
    wanted = ", ".join(["gradient", "parameter", kept, "lr", *given])
    wanted = f"{_name_of(function)} must be a function of ({wanted})"
    try:
        # Of compiled functions those that they were made of.
        signature = inspect.signature(getattr(function, "py_func", function))
    except (TypeError, ValueError):
        raise TypeError(f"{wanted}, got {function!r}") from None
    names, parameters = list(signature.parameters), signature.parameters.values()
    plain = all(p.kind <= p.POSITIONAL_OR_KEYWORD for p in parameters)
    rate = 2 + states
    if not plain or names[rate : rate + 1] != ["lr"] or set(names[rate + 1 :]) != set(given):
        hints = (nearest(name, [*names, *_OPTIONS]) for name in given if name not in names)
        raise TypeError(f"{wanted}, got {signature}{''.join(hints)}")
    if len(given) > MOST_NUMBERS:
        raise ValueError(
            f"a rule must have at most {MOST_NUMBERS} numbers besides lr, got {len(given)}: "
            f"{', '.join(given)}"
        )
    return names[rate + 1 :]
