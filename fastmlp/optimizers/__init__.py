"""Update rules: how gradients become steps. ``MLP(..., optimizer=Adam(lr=1e-3))``.

Names, definitions and defaults are those of torch.optim, except that weight decay acts on weights
alone, not on biases and batch norm, unless ``decay_all`` is set. ``Momentum`` is the rule of CMU
11-785 HW1P1, which ``MLP(..., lr=, momentum=)`` stands for.

An optimizer says what is done, and keeps nothing: moments and the number of updates belong to the
network, which has a copy of it, ``mlp.optimizer``. Its attributes may be changed at any time.

``rule`` makes an optimizer of a function of one's own. A new rule of fastmlp's is a function in
``kernels.rules`` and a class here, which computes its factors.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np

from ..kernels.rules import CODES, NORMS, WEIGHTS, Group
from ._base import Optimizer
from ._own import rule

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
    "rule",
]


def _powers(base: float, t: np.ndarray) -> np.ndarray:
    """base ** t, one by one: NumPy's own depend in the last bit on how many there are at a time."""
    return np.array([base ** int(exponent) for exponent in t[:, 0]])[:, None]


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

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, :, 3] = self.momentum

    def _adjust(self, factors: np.ndarray, groups: Sequence[Group]) -> None:
        factors[:, :, 1] *= 2
        factors[:, [group.kind == NORMS for group in groups], 3] = 0


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

    def _check_together(self, values: Mapping[str, Any]) -> None:
        momentum, dampening = values.get("momentum"), values.get("dampening")
        if values.get("nesterov") and (momentum == 0 or dampening != 0):
            raise ValueError(
                "nesterov needs a momentum above 0 and no dampening, "
                f"got momentum={momentum} and dampening={dampening}"
            )

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        factors[:, :, 0] = rates
        factors[:, :, 3] = self.momentum
        # Without momentum the velocity is the gradient, which torch does not dampen.
        dampened = self.momentum > 0
        factors[:, :, 4] = np.where(t == 1, 1, 1 - self.dampening * dampened)
        # Of Nesterov's rule alone.
        factors[:, :, 5] = rates * self.momentum


@dataclass(repr=False)
class _Moments(Optimizer):
    """What rules with running means of the gradient and of its size take, and Adam's factors.

    ntk : the weights of a layer of d inputs learn as if they were the V of x @ V / sqrt(d) + b,
        the neural tangent parametrisation (Jacot, Gabriel and Hongler, 2018): W = V / sqrt(d) is
        what the network has, and what ``clip_value``, ``clip_norm`` and ``average`` are about
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0
    ntk: bool = field(default=False, kw_only=True)

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        first, second = self.betas
        factors[:, :, 0] = rates / (1 - _powers(first, t))
        factors[:, :, 3:6] = 1 - first, 1 - second, self.eps
        factors[:, :, 6] = 1 / np.sqrt(1 - _powers(second, t))

    def _adjust(self, factors: np.ndarray, groups: Sequence[Group]) -> None:
        """With c = sqrt(d), V = c * W has the gradient g / c, where g is that of W.

        The means of g / c and of its square are those of g, divided by c and by d. So a step of V,
        which is c of W, is step * m / c / (sqrt(v) / c + eps): that of W is
        step / c * m / (sqrt(v) + c * eps). The decay that is added to g / c is c * decay * W, to g
        therefore d * decay * W; one that multiplies V multiplies W.
        """
        for i, group in enumerate(groups):
            if self.ntk and group.kind == WEIGHTS:
                root = np.sqrt(group.inputs)
                factors[:, i, [0, 7]] /= root
                factors[:, i, 1] *= group.inputs
                factors[:, i, 5] *= root


@dataclass(repr=False)
class Adam(_Moments):
    """Adam with coupled decay, as torch.optim.Adam.

    Reference: Kingma and Ba, "Adam: a method for stochastic optimization", 2015, algorithm 1.
    """

    rule: ClassVar[str] = "adam"


@dataclass(repr=False)
class AdamW(Adam):
    """Adam with decoupled decay, as torch.optim.AdamW: w = (1 - lr * weight_decay) * w first.

    Reference: Loshchilov and Hutter, "Decoupled weight decay regularization", 2019.
    """

    weight_decay: float = 1e-2
    decoupled: ClassVar[bool] = True


@dataclass(repr=False)
class NAdam(_Moments):
    """Adam with Nesterov momentum, as torch.optim.NAdam with its ``decoupled_weight_decay=False``.

    The momentum of update t is betas[0] * (1 - 0.96 ** (t * momentum_decay) / 2).
    Reference: Dozat, "Incorporating Nesterov momentum into Adam", 2016.
    """

    lr: float = 2e-3
    momentum_decay: float = 4e-3
    rule: ClassVar[str] = "nadam"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        super()._fill(factors, rates, t)
        first = self.betas[0]
        # For twice as many updates each time, so that all of them together take no longer.
        count = 1 << int(t.max(initial=0) + 1).bit_length()
        momenta, products = _nadam_momenta(first, self.momentum_decay, count)
        present, following = (momenta[t[:, 0] + k] for k in (0, 1))
        so_far, then = (products[t[:, 0] + k] for k in (0, 1))
        factors[:, :, 0] = rates * (following / (1 - then))[:, None]
        factors[:, :, 7] = rates * ((1 - present) / (1 - so_far))[:, None]


@lru_cache
def _nadam_momenta(beta: float, decay: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """NAdam's momentum of each update from 0 on, and their products so far, (count,) each.

    All threads share them: nobody may change them.
    """
    momenta = [1.0, *(beta * (1 - 0.5 * 0.96 ** (i * decay)) for i in range(1, count))]
    return np.array(momenta), np.array(list(itertools.accumulate(momenta, operator.mul)))


@dataclass(repr=False)
class RAdam(_Moments):
    """Adam whose rate is rectified while its second moment is uncertain, as torch.optim.RAdam.

    Reference: Liu et al., "On the variance of the adaptive learning rate and beyond", 2020,
    algorithm 2.
    """

    rule: ClassVar[str] = "radam"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        super()._fill(factors, rates, t)
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

    def _adjust(self, factors: np.ndarray, groups: Sequence[Group]) -> None:
        super()._adjust(factors, groups)
        # A step that is not divided by the gradient's size is that of g / c, divided by c again.
        for i, group in enumerate(groups):
            if self.ntk and group.kind == WEIGHTS:
                factors[:, i, 0] /= np.sqrt(group.inputs)


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
class Adamax(_Moments):
    """Adam by the largest gradient of late, as torch.optim.Adamax.

    Reference: Kingma and Ba, 2015, algorithm 2.
    """

    lr: float = 2e-3
    rule: ClassVar[str] = "adamax"

    def _fill(self, factors: np.ndarray, rates: np.ndarray, t: np.ndarray) -> None:
        super()._fill(factors, rates, t)
        factors[:, :, 4] = self.betas[1]


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


BY_NAME: dict[str, type[Optimizer]] = {
    name: globals()[name] for name in __all__ if name not in ("Optimizer", "rule")
}
"""What a file or the command line can name."""
