"""Arrays that a layer owns until a network takes them over into its flat buffers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..validation import check_real, check_shape


class Held:
    """An attribute that is always the same array: assigning copies into it."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, layer: Any, owner: type | None = None) -> Any:
        if layer is None:
            return self
        return layer.__dict__.get(self.name)

    def __set__(self, layer: Any, value: Any) -> None:
        held = self.__get__(layer)
        if held is None:
            raise AttributeError(f"this layer has no {self.name}")
        value = check_real(self.name, value)
        check_shape(self.name, value, held.shape)
        held[...] = value


def hold(layer: Any, name: str, array: np.ndarray | None) -> None:
    """Make ``array`` the one behind the attribute, in place of the present one."""
    layer.__dict__[name] = array


def bind(layer: Any, name: str, buffer: np.ndarray, offset: int) -> None:
    """Make the layer's array, if it has it, a view of the buffer at offset, keeping its values."""
    array = getattr(layer, name)
    if array is None:
        return
    view = buffer[offset : offset + array.size].reshape(array.shape)
    view[...] = array
    hold(layer, name, view)
