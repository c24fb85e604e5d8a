"""Update rules: how gradients become steps. ``MLP(..., optimizer=Adam(lr=1e-3))``.

Names, definitions and defaults are those of torch.optim, except that weight decay acts on weights
alone, not on biases and batch norm, unless ``decay_all`` is set. ``Momentum`` is the rule of CMU
11-785 HW1P1, which ``MLP(..., lr=, momentum=)`` stands for.

An optimizer says what is done, and keeps nothing: moments and the number of updates belong to the
network, which has a copy of it, ``mlp.optimizer``. Its attributes may be changed at any time.

A new rule is a function in ``kernels.rules`` and a class here, which computes its factors.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import KW_ONLY, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, overload

import numpy as np

from .kernels.rules import BIASES, CODES, FACTORS, GROUPS, NORMS, RULES, WEIGHTS
from .kernels.update import UpdateOptions
from .validation import check_instance, check_number

__all__ = [
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adamax",
    "Lion",
    "Momentum",
    "NAdam",
    "Optimizer",
    "RAdam",
    "RMSprop",
]

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


def _powers(base: float, t: np.ndarray) -> np.ndarray:
    """base ** t, one by one: NumPy's own depend in the last bit on how many there are at a time."""
    return np.array([base ** int(exponent) for exponent in t[:, 0]])[:, None]


@dataclass(repr=False)
class Optimizer:
    """Base of the update rules, with what all of them take.

    decay_all : bool
        ``weight_decay`` acts on biases, gammas and betas too, as in torch.optim.
    clip_value : float, optional
        Every gradient is clipped to -clip_value ... clip_value.
    clip_norm : float, optional
        The gradients are scaled down where their common norm is larger (Pascanu et al., 2013).
        After ``clip_value``, where both are given.
    average : float, optional
        ``mlp.averages`` holds running means of all parameters: average * mean + (1 - average) * new
        after each update, from the parameters before the first on.

    Raises ValueError or TypeError where a number is not what the rule needs, also when an attribute
    is set.
    """

    _: KW_ONLY
    decay_all: bool = False
    clip_value: float | None = None
    clip_norm: float | None = None
    average: float | None = None

    rule: ClassVar[str]
    decoupled: ClassVar[bool] = False

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
        if name not in self.__dataclass_fields__:
            raise AttributeError(f"{type(self).__name__} has no {name}")
        optional = name in ("clip_value", "clip_norm", "average")
        if name == "betas":
            value = self._check_betas(value)
        elif name in _LIMITS and not (optional and value is None):
            value = check_number(name, value, *_LIMITS[name])
        object.__setattr__(self, name, value)

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
    def states(self) -> int:
        """How many numbers the rule keeps per parameter, 1 or 2."""
        return RULES[self.code].states

    @property
    def first_state(self) -> float:
        """What the first of them starts from."""
        return 0.0

    @property
    def options(self) -> UpdateOptions:
        """What of an update stays the same from step to step."""
        limit, norm = (
            np.inf if clip is None else clip for clip in (self.clip_value, self.clip_norm)
        )
        return UpdateOptions(self.code, limit, norm, 1 - (self.average or 0.0))

    @property
    def apart(self) -> bool:
        """Whether the update must wait until all gradients are known."""
        options = self.clip_value, self.clip_norm, self.average
        return any(option is not None for option in options)

    def schedule(self, rates: np.ndarray, done: int, dtype: Any) -> np.ndarray:
        """The rule's factors for consecutive updates, (steps, GROUPS * FACTORS) of ``dtype``.

        rates : (steps,) learning rates    done : updates of the network before the first of them
        """
        rates = np.asarray(rates, np.float64)
        factors = np.zeros((len(rates), GROUPS, FACTORS))
        factors[:, :, 2] = 1
        # Numbered from 1, as in the papers.
        self._fill(factors, rates[:, None], np.arange(done + 1, done + 1 + len(rates))[:, None])
        groups = [WEIGHTS, BIASES, NORMS] if self.decay_all else [WEIGHTS]
        if self.decoupled:
            factors[:, groups, 2] = 1 - rates[:, None] * self.weight_decay
        else:
            factors[:, groups, 1] = self.weight_decay
        return factors.reshape(len(rates), -1).astype(dtype)

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        """Write the step sizes and the rule's own factors, for all groups.

        factors : (steps, GROUPS, FACTORS), of which decay is not this method's
        rates, t : (steps, 1) learning rates, and the numbers of the updates from 1
        """
        raise NotImplementedError


@dataclass(repr=False)
class Momentum(Optimizer):
    """HW1P1's momentum: v = momentum * v - lr * (g + 2 * weight_decay * w); w = w + v.

    Batch norm learns without momentum. Reference: CMU 11-785 HW1P1, section 3.5.3; the decay is
    the gradient of a term weight_decay * sum(W**2) in the loss.
    """

    lr: float
    momentum: float = 0.0
    weight_decay: float = 0.0
    rule: ClassVar[str] = "momentum"

    def schedule(self, rates: np.ndarray, done: int, dtype: Any) -> np.ndarray:
        factors = super().schedule(rates, done, dtype)
        factors.reshape(-1, GROUPS, FACTORS)[:, :, 1] *= 2
        return factors

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, (WEIGHTS, BIASES), 3] = self.momentum


@dataclass(repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent as torch.optim.SGD: v = momentum * v + (1 - dampening) * g.

    w = w - lr * v, or with ``nesterov`` w - lr * (g + momentum * v). The first velocity is g.
    Reference: Sutskever et al., "On the importance of initialization and momentum", 2013.
    """

    lr: float = 1e-3
    momentum: float = 0.0
    dampening: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    rule: ClassVar[str] = "sgd"

    @property
    def code(self) -> int:
        return CODES["nesterov" if self.nesterov else "sgd"]

    def __post_init__(self) -> None:
        if self.nesterov and (self.momentum == 0 or self.dampening != 0):
            raise ValueError(
                "nesterov needs a momentum above 0 and no dampening, "
                f"got momentum={self.momentum} and dampening={self.dampening}"
            )

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, :, 3] = self.momentum
        # Without momentum the velocity is the gradient, which torch does not dampen.
        dampened = self.momentum > 0
        factors[:, :, 4] = np.where(t == 1, 1, 1 - self.dampening * dampened)


@dataclass(repr=False)
class Adam(Optimizer):
    """Adam with coupled decay, as torch.optim.Adam.

    Reference: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    rule: ClassVar[str] = "adam"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        first, second = self.betas
        factors[:, :, 0] = rates / (1 - _powers(first, t))
        factors[:, :, 3:6] = 1 - first, 1 - second, self.eps
        factors[:, :, 6] = 1 / np.sqrt(1 - _powers(second, t))


@dataclass(repr=False)
class AdamW(Adam):
    """Adam with decoupled decay, as torch.optim.AdamW: w = (1 - lr * weight_decay) * w first.

    Reference: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    weight_decay: float = 1e-2
    decoupled: ClassVar[bool] = True


@dataclass(repr=False)
class NAdam(Optimizer):
    """Adam with Nesterov momentum, as torch.optim.NAdam with its ``decoupled_weight_decay=False``.

    The momentum of update t is betas[0] * (1 - 0.96 ** (t * momentum_decay) / 2).
    Reference: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum_decay: float = 4e-3
    rule: ClassVar[str] = "nadam"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        first, second = self.betas
        momenta, products = _nadam_momenta(first, self.momentum_decay)
        for i in range(len(momenta), int(t.max(initial=0)) + 2):
            momenta.append(first * (1 - 0.5 * 0.96 ** (i * self.momentum_decay)))
            products.append(products[-1] * momenta[-1])
        present, following = (np.array([momenta[i + k] for i in t[:, 0]]) for k in (0, 1))
        so_far, then = (np.array([products[i + k] for i in t[:, 0]]) for k in (0, 1))
        factors[:, :, 0] = rates * (following / (1 - then))[:, None]
        factors[:, :, 7] = rates * ((1 - present) / (1 - so_far))[:, None]
        factors[:, :, 3:6] = 1 - first, 1 - second, self.eps
        factors[:, :, 6] = 1 / np.sqrt(1 - _powers(second, t))


@lru_cache
def _nadam_momenta(beta: float, decay: float) -> tuple[list[float], list[float]]:
    """NAdam's momentum of each update from 0 on, and their products so far, as far as known."""
    return [1.0], [1.0]


@dataclass(repr=False)
class RAdam(Optimizer):
    """Adam whose rate is rectified while its second moment is uncertain, as torch.optim.RAdam.

    Reference: Liu et al., "On the variance of the adaptive learning rate and beyond", 2020,
    algorithm 2.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    rule: ClassVar[str] = "radam"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        first, second = self.betas
        limit = 2 / (1 - second) - 1
        faded = _powers(second, t)
        length = limit - 2 * t * faded / (1 - faded)
        certain = length > 5
        known = np.where(certain, length, limit)
        rectified = np.sqrt((known - 4) * (known - 2) * limit / ((limit - 4) * (limit - 2) * known))
        step = rates / (1 - _powers(first, t))
        factors[:, :, 0] = np.where(certain, 0, step)
        factors[:, :, 7] = np.where(certain, step * rectified * np.sqrt(1 - faded), 0)
        factors[:, :, 3:6] = 1 - first, 1 - second, self.eps


@dataclass(repr=False)
class RMSprop(Optimizer):
    """RMSprop as torch.optim.RMSprop, without its ``centered``, which would keep a third number.

    Reference: Tieleman and Hinton, "Lecture 6.5 - rmsprop", 2012.
    """

    lr: float = 1e-2
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    rule: ClassVar[str] = "rmsprop"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, :, 3:6] = self.momentum, 1 - self.alpha, self.eps


@dataclass(repr=False)
class Adagrad(Optimizer):
    """Adagrad as torch.optim.Adagrad: the rate of update t is lr / (1 + (t - 1) * lr_decay).

    Reference: Duchi, Hazan and Singer, "Adaptive subgradient methods", 2011.
    """

    lr: float = 1e-2
    lr_decay: float = 0.0
    weight_decay: float = 0.0
    initial_accumulator_value: float = 0.0
    eps: float = 1e-10
    rule: ClassVar[str] = "adagrad"

    @property
    def first_state(self) -> float:
        return self.initial_accumulator_value

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates / (1 + (t - 1) * self.lr_decay)
        factors[:, :, 5] = self.eps


@dataclass(repr=False)
class Adamax(Optimizer):
    """Adam by the largest gradient of late, as torch.optim.Adamax.

    Reference: Kingma and Ba, 2015, algorithm 2.
    """

    lr: float = 2e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    rule: ClassVar[str] = "adamax"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        first, second = self.betas
        factors[:, :, 0] = rates / (1 - _powers(first, t))
        factors[:, :, 3:6] = 1 - first, second, self.eps


@dataclass(repr=False)
class Lion(Optimizer):
    """Steps of one size, by the sign of a mean of gradients; decay is decoupled.

    Reference: Chen et al., "Symbolic discovery of optimization algorithms", 2023, algorithm 2.
    """

    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    rule: ClassVar[str] = "lion"
    decoupled: ClassVar[bool] = True

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        first, second = self.betas
        factors[:, :, 0] = rates
        factors[:, :, 3:5] = 1 - first, 1 - second


def to_dict(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer as JSON can hold it: its class by name, and its attributes."""
    return {"name": type(optimizer).__name__, **dataclasses.asdict(optimizer)}


def from_dict(description: dict[str, Any]) -> Optimizer:
    """What ``to_dict`` described. Raises ValueError or TypeError for anything else."""
    known = {cls.__name__: cls for cls in Optimizer.__subclasses__() + Adam.__subclasses__()}
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in known:
        raise ValueError(f"its optimizer must be one of {', '.join(sorted(known))}, got {name!r}")
    return known[name](**arguments)


class OptimizerAttribute:
    """An attribute of a network: the one of its optimizer that has this name."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, network: None, owner: type) -> OptimizerAttribute: ...
    @overload
    def __get__(self, network: object, owner: type) -> float: ...
    def __get__(self, network: Any, owner: type) -> Any:
        return self if network is None else getattr(network.optimizer, self._name)

    def __set__(self, network: Any, value: float) -> None:
        setattr(network.optimizer, self._name, value)


def optimizer_of(
    optimizer: Any, lr: float | None, momentum: float, weight_decay: float
) -> Optimizer:
    """A network's own copy of its optimizer, or HW1P1's rule with these numbers.

    Raises TypeError or ValueError where neither is given, or both.
    """
    if optimizer is None:
        if lr is None:
            raise TypeError("MLP needs lr, the learning rate, or an optimizer, got neither")
        return Momentum(lr, momentum, weight_decay)
    check_instance("optimizer", optimizer, Optimizer)
    for name, value in (("lr", lr), ("momentum", momentum), ("weight_decay", weight_decay)):
        if value:
            raise ValueError(
                f"{name} must be given to the optimizer where there is one, "
                f"got {name}={value!r} beside {optimizer!r}"
            )
    return copy.copy(optimizer)
