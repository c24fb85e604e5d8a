"""A network's optimizer: how it comes to it, and how a file holds it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from ..validation import check_instance
from . import BY_NAME, Momentum, Optimizer
from ._scikit_learn import UncorrectedAdam, VelocitySGD

# What a file may name: an estimator's network has a rule that nobody chooses by name.
_IN_FILES = BY_NAME | {rule.__name__: rule for rule in (UncorrectedAdam, VelocitySGD)}

# What optimizers once had not, and what stands for it not being there.
_LATER = {"rate_factors": None, "ntk": False}


def to_dict(optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer as JSON can hold it: its class by name, and its attributes.

    Raises ValueError for one that is none of fastmlp's own.
    """
    if type(optimizer) not in _IN_FILES.values():
        raise ValueError(
            "only networks with fastmlp's own optimizers can be saved, since a file keeps no "
            f"functions, got {optimizer!r}"
        )
    description = {"name": type(optimizer).__name__, **dataclasses.asdict(optimizer)}
    # Files of networks without them stay as they were.
    unused = [name for name, usual in _LATER.items() if description.get(name) == usual]
    return {name: value for name, value in description.items() if name not in unused}


def from_dict(description: dict[str, Any]) -> Optimizer:
    """What ``to_dict`` described. Raises ValueError or TypeError for anything else."""
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name not in _IN_FILES:
        names = ", ".join(sorted(_IN_FILES))
        raise ValueError(f"its optimizer must be one of {names}, got {name!r}")
    return _IN_FILES[name](**arguments)


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
