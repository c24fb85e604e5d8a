"""What all update rules take, and how a rule's factors reach the engine."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from ..kernels.rules import CODES, EMBEDDINGS, FACTORS, KINDS, MOMENTUM, RULES, WEIGHTS, Group
from ..kernels.update import UpdateOptions
from ..validation import NearestNames, check_choice, check_flag, check_number, nearest

# What each number may be: least, below, and why, for the message. Above 0 is written as the least
# positive number that float32 tells from 0.
_TINY = 2.0**-126
_LIMITS: dict[str, tuple[float, float, str]] = {
    "lr": (0, np.inf, "a negative step climbs the loss"),
    "momentum": (0, 1, "from 1 on velocities would grow without end"),
    "dampening": (0, 1, "it is the share of the gradient that is left out"),
    "weight_decay": (0, np.inf, "a negative one makes weights grow without end"),
    "eps": (_TINY, np.inf, "it keeps divisors from being 0, in float32 too"),
    "alpha": (0, 1, "it is the share of the old mean"),
    "momentum_decay": (0, np.inf, "momentum grows from step to step"),
    "lr_decay": (0, np.inf, "the rate falls from step to step"),
    "initial_accumulator_value": (0, np.inf, "it is a sum of squares"),
    "clip_value": (_TINY, np.inf, "gradients would all be 0"),
    "clip_norm": (_TINY, np.inf, "gradients would all be 0"),
    "average": (0, 1, "it is the share of the old mean"),
}
_BETA = (0, 1, "it is the share of the old mean")
_FLAGS = "decay_all", "nesterov", "decoupled", "ntk"


class Owner(Protocol):
    """The buffers of the network whose optimizer it is."""

    def serve(self, optimizer: Any) -> None:
        """Called when it needs other buffers than before."""


@dataclass(repr=False)
class Optimizer(NearestNames, ABC):
    """Base of the update rules, with what all of them take.

    decay_all : bool
        ``weight_decay`` acts on all parameters, as in torch.optim, not only on weights and
        embeddings.
    clip_value : float, optional
        Every gradient is clipped to -clip_value ... clip_value.
    clip_norm : float, optional
        The gradients are scaled down where their common norm is larger (Pascanu et al., 2013).
        After ``clip_value``, where both are given.
    average : float, optional
        ``mlp.averages`` holds running means of all parameters: average * mean + (1 - average) * new
        after each update, from the parameters before the first on.
    rate_factors : dict, optional
        What the learning rate is multiplied by for some of the parameters: "weights", "biases",
        "norms" (gammas and betas), "scales" (of the inputs), "activations" (weights of
        parametric ones) and "embeddings", 1 where nothing is said. A decay that is decoupled goes
        by the same rate. Assign another one to change it.

    Raises ValueError or TypeError where a number is not what the rule needs, also when an attribute
    is set.
    """

    _: KW_ONLY
    decay_all: bool = False
    clip_value: float | None = None
    clip_norm: float | None = None
    average: float | None = None
    rate_factors: Mapping[str, float] | None = None

    rule: ClassVar[str]
    _owner: ClassVar[Owner | None] = None

    if TYPE_CHECKING:  # As fields they would stand before those of a class's own.

        @property
        def lr(self) -> float: ...
        @property
        def weight_decay(self) -> float: ...

    def __repr__(self) -> str:
        fields = sorted(dataclasses.fields(self), key=lambda field: bool(field.kw_only))
        changed = [f for f in fields if not f.kw_only or getattr(self, f.name) != f.default]
        arguments = ", ".join(f"{field.name}={getattr(self, field.name)!r}" for field in changed)
        return f"{type(self).__name__}({arguments})"

    def __setattr__(self, name: str, value: Any) -> None:
        known = _names_of_fields(type(self))
        if name not in known:
            raise AttributeError(f"{type(self).__name__} has no {name}{nearest(name, known)}")
        optional = name in ("clip_value", "clip_norm", "average")
        if name == "betas":
            value = self._check_betas(value)
        elif name in _FLAGS:
            value = check_flag(name, value)
        elif name == "rate_factors":
            value = _check_rate_factors(value)
        elif name in _LIMITS and not (optional and value is None):
            value = check_number(name, value, *_LIMITS[name])
        self._check_together({**self.__dict__, name: value})
        object.__setattr__(self, name, value)
        if name == "average" and self._owner is not None:
            self._owner.serve(self)

    def _check_together(self, values: Mapping[str, Any]) -> None:
        """Raise ValueError where attributes do not suit each other; some may not be there yet."""

    def join(self, owner: Owner) -> None:
        """Be the optimizer of a network, whose buffers are the owner; a copy is of none."""
        self.__dict__["_owner"] = owner

    def leave(self) -> None:
        """Be of no network any more."""
        self.__dict__.pop("_owner", None)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_owner"}

    @staticmethod
    def _check_betas(betas: Any) -> tuple[float, float]:
        if not isinstance(betas, (tuple, list)) or len(betas) != 2:
            raise ValueError(f"betas must be a pair of numbers, got {betas!r}")
        first, second = (check_number(f"betas[{i}]", beta, *_BETA) for i, beta in enumerate(betas))
        return first, second

    @property
    def code(self) -> int:
        """Of the rule in ``kernels.rules``."""
        return CODES[self.rule]

    @property
    def kind(self) -> Hashable:
        """Equal where states mean the same: they stay when one takes the place of the other."""
        return self.rule

    @property
    def decoupled(self) -> bool:
        """Whether weights decay by a factor of their own, not through the gradient."""
        return False

    @property
    def states(self) -> int:
        """How many numbers the rule keeps per parameter, 1 or 2."""
        return RULES[self.code].states

    @property
    def first_state(self) -> float:
        """What the first of them starts from."""
        return 0.0

    def prepare(self, dtype: Any) -> None:
        """Called by a network for its own copy, before it becomes its optimizer.

        dtype : of the parameters
        """

    @property
    def options(self) -> UpdateOptions:
        """What of an update stays the same from step to step."""
        limit, norm = (
            np.inf if clip is None else clip for clip in (self.clip_value, self.clip_norm)
        )
        return UpdateOptions(self.code, limit, norm, 1 - (self.average or 0.0))

    @property
    def apart(self) -> bool:
        """Whether the update waits until all gradients are known; momentum alone need not."""
        options = self.clip_value, self.clip_norm, self.average
        return self.code != MOMENTUM or any(option is not None for option in options)

    def schedule(
        self,
        rates: np.ndarray,
        done: int,
        groups: Sequence[Group],
        dtype: Any,
        decays: np.ndarray | float = 1.0,
    ) -> np.ndarray:
        """The rule's factors for consecutive updates, (steps, groups * FACTORS) of ``dtype``.

        rates : (steps,) learning rates    done : updates of the network before the first of them
        decays : (steps,) what ``weight_decay`` is multiplied by, or a number for all
        """
        given = self.rate_factors or {}
        rates = np.asarray(rates, np.float64)[:, None] * [
            given.get(KINDS[group.kind], 1.0) for group in groups
        ]
        factors = np.zeros((*rates.shape, FACTORS))
        factors[:, :, 2] = 1
        # Numbered from 1, as in the papers.
        self._fill(factors, rates, np.arange(done + 1, done + 1 + len(rates))[:, None])
        decaying = [self.decay_all or group.kind in (WEIGHTS, EMBEDDINGS) for group in groups]
        decay = self.weight_decay * np.reshape(decays, (-1, 1))
        if self.decoupled:
            factors[:, decaying, 2] = 1 - rates[:, decaying] * decay
        else:
            factors[:, decaying, 1] = decay
        self._adjust(factors, groups)
        return factors.reshape(len(rates), -1).astype(dtype)

    @abstractmethod
    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        """Write the step sizes and the rule's own factors, for all groups.

        factors : (steps, groups, FACTORS), of which decay is not this method's
        rates : (steps, groups) learning rates    t : (steps, 1) the updates' numbers from 1
        """

    def _adjust(self, factors: np.ndarray, groups: Sequence[Group]) -> None:
        """Change, in place, what is different for some of the groups, decay included."""

    def __copy__(self) -> Self:
        duplicate = object.__new__(type(self))
        duplicate.__dict__.update(self.__getstate__())
        # Else whoever changes the mapping of one would change the other's.
        object.__setattr__(duplicate, "rate_factors", _check_rate_factors(self.rate_factors))
        return duplicate


@functools.cache
def _names_of_fields(cls: type[Optimizer]) -> tuple[str, ...]:
    return tuple(field.name for field in dataclasses.fields(cls))


def _check_rate_factors(value: Any) -> dict[str, float] | None:
    """A mapping from kinds of parameters to numbers of at least 0, as a dictionary."""
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise TypeError(f"rate_factors must be a dict, got {value!r}")
    for name in value:
        check_choice("a name in rate_factors", name, KINDS)
    reason = "a negative step climbs the loss"
    return {
        name: check_number(f"rate_factors[{name!r}]", factor, 0, reason=reason)
        for name, factor in value.items()
    }
