"""The arrays of a layer: its own, or views of a network's buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ..validation import check_real, check_shape


class Owner(Protocol):
    """The buffers of the network that a layer belongs to."""

    def look(self) -> None:
        """Called before one of the layer's arrays is read or written."""


class _Fixed:
    """An attribute that is set once; it is read from the object itself, which takes no time."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __set__(self, owner: Any, value: Any) -> None:
        if self.name in owner.__dict__:
            raise AttributeError(
                f"{self.name} cannot be changed, arrays were made for it: make another "
                f"{type(owner).__name__}"
            )
        owner.__dict__[self.name] = value


def fixed() -> Any:
    """What to assign to an annotated attribute in a class for it to be set once."""
    return _Fixed()


class Later:
    """A value that is fetched when it is asked for; pickled and copied, it is the value."""

    def __init__(self, fetch: Callable[[], Any]) -> None:
        self.fetch = fetch

    def __reduce__(self) -> tuple[Any, ...]:
        return _as_it_is, (self.fetch(),)


def _as_it_is(value: Any) -> Any:
    return value


class Kept:
    """An attribute for what a layer keeps of its last forward, which may be known ``Later``."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        value = layer.__dict__.get(self.name)
        if isinstance(value, Later):
            value = layer.__dict__[self.name] = value.fetch()
        return value

    def __set__(self, layer: Any, value: Any) -> None:
        layer.__dict__[self.name] = value


class FixedArray:
    """An attribute that is always the same memory: assigning copies into it.

    Reading gives a view made for the reader. The owner can so tell, by counting the references to
    its buffer, whether somebody keeps one.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        array = layer.__dict__.get(self.name)
        if array is None:
            return None
        _tell_owner(layer)
        return array.view()

    def __set__(self, layer: Any, value: Any) -> None:
        array = layer.__dict__.get(self.name)
        if array is None:
            raise AttributeError(f"this layer has no {self.name}")
        value = check_real(self.name, value)
        check_shape(self.name, value, array.shape)
        # Here, where an overflow may still raise.
        value = value.astype(array.dtype, copy=False)
        _tell_owner(layer)
        array[...] = value


def _tell_owner(layer: Any) -> None:
    owner = layer.__dict__.get("_owner")
    if owner is not None:
        owner.look()


class ParameterLayer:
    """Base of the layers with parameters.

    ``parameters`` names them: (parameter, gradient, velocity) for each. A copy of a layer, or a
    pickled one, has arrays of its own and belongs to no network.
    """

    parameters: tuple[tuple[str, str, str], ...] = ()
    statistics: tuple[str, ...] = ()

    _owner: Owner | None = None

    def __getstate__(self) -> dict[str, Any]:
        _tell_owner(self)
        return {name: value for name, value in self.__dict__.items() if name != "_owner"}

    def __copy__(self) -> Any:
        duplicate = type(self).__new__(type(self))
        duplicate.__dict__.update(self.__getstate__())
        duplicate.leave()
        return duplicate

    def _own(self, *names: str) -> list[Any]:
        """The arrays of those names themselves, for a method that keeps none of them.

        With views for the layers too, a step by hand of 784-32-32-32-10 took 1.08 of the time.
        """
        _tell_owner(self)
        return [self.__dict__[name] for name in names]

    def _set_array(self, name: str, array: np.ndarray | None) -> None:
        """Make ``array`` the memory behind an attribute, in place of the present one."""
        self.__dict__[name] = array

    def _arrays(self) -> list[str]:
        """The names of all arrays that a network keeps in its buffers, and that this layer has."""
        names = [name for triple in self.parameters for name in triple] + [*self.statistics]
        return [name for name in names if self.__dict__[name] is not None]

    def join(self, owner: Owner, places: dict[str, tuple[np.ndarray, int]]) -> None:
        """Move the arrays into an owner's flat buffers: (buffer, start) for each by name."""
        for name in self._arrays():
            array = self.__dict__[name]
            buffer, start = places[name]
            view = buffer[start : start + array.size].reshape(array.shape)
            view[...] = array
            self._set_array(name, view)
        self._owner = owner

    def leave(self) -> None:
        """Go on with copies of the arrays, as a layer of no network."""
        for name in self._arrays():
            self._set_array(name, self.__dict__[name].copy())
        self._owner = None
