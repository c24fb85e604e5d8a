"""A network's optimizer: how it comes to it, and how a file holds it."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any, overload

from ..validation import check_instance
from . import Adam, Momentum, Optimizer


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
