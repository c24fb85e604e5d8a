"""Attributes of a network that lie in one of its parts: its buffers, its layers, its optimizer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Generic, Self, TypeVar, overload

import numpy as np

from ._buffers import Layers

_Value = TypeVar("_Value")


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
