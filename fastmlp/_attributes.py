"""Attributes of a network: what may be set, and what lies in its buffers, layers or optimizer."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np

from ._buffers import Layers
from .history import History
from .validation import check_choice, check_count, check_flag, check_instance, check_word

_Value = TypeVar("_Value")


def _check_history(name: str, value: Any) -> History | None:
    if value is not None:
        check_instance(name, value, History)
    history: History | None = value
    return history


CHECKED: dict[str, Callable[[str, Any], Any]] = {
    "batchnorm_reduction": functools.partial(check_choice, allowed=("sum", "mean")),
    "dropout_steps": check_word,
    "history": _check_history,
    "train_mode": check_flag,
    "updates": functools.partial(check_count, least=0),
}
"""How attributes of a network that are plain values are checked when they are set."""


class NetworkAttribute(ABC, Generic[_Value]):
    """An attribute of a network, of the name that it is assigned to in the class."""

    def __init__(self, doc: str) -> None:
        self.__doc__ = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, network: None, owner: type) -> Self: ...
    @overload
    def __get__(self, network: object, owner: type) -> _Value: ...
    def __get__(self, network: Any, owner: type) -> Any:
        return self if network is None else self._read(network)

    @abstractmethod
    def _read(self, network: Any) -> _Value:
        """The attribute of that network."""

    @abstractmethod
    def __set__(self, network: Any, value: Any) -> None:
        """Change it in its part of the network."""


class BufferView(NetworkAttribute[np.ndarray]):
    """A view of one of a network's buffers, which assigning copies into."""

    def _read(self, network: Any) -> np.ndarray:
        view: np.ndarray = network.buffers.read(self._name)
        return view

    def __set__(self, network: Any, value: Any) -> None:
        network.buffers.write(self._name, value)


class LayerPlaces(NetworkAttribute[Layers]):
    """A network's ``Layers`` of one kind, which assigning replaces."""

    def _read(self, network: Any) -> Layers:
        layers: Layers = network.__dict__[f"_{self._name}"]
        return layers

    def __set__(self, network: Any, value: Any) -> None:
        self._read(network).assign(value)


class OptimizerAttribute(NetworkAttribute[float]):
    """What a network's optimizer has under this name."""

    def _read(self, network: Any) -> float:
        value: float = getattr(network.optimizer, self._name)
        return value

    def __set__(self, network: Any, value: float) -> None:
        setattr(network.optimizer, self._name, value)
