"""The flat buffers of a network, and the layers whose arrays are views of them."""

from __future__ import annotations

import operator
import os
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol, overload

import numpy as np

from ._fit_state import FitState
from ._layout import Layout
from .kernels._host import aligned_zeros
from .kernels.network import Flat
from .kernels.update import FlatUpdate, Learnt, update_parameters
from .layers import Activation
from .layers._state import ParameterLayer
from .optimizers import Optimizer
from .validation import check_instance, check_real, check_sequence, check_shape

# Where the layer table says that an array begins in its buffer.
_COLUMNS = {
    "W": "flat_w",
    "b": "flat_b",
    "gamma": "flat_gamma",
    "beta": "flat_beta",
    "numbers": "flat_embed",
    "scale": "flat_scale",
    "mix": "flat_mix",
    "running_mean": "flat_mean",
    "running_var": "flat_var",
}


class Session(Protocol):
    """A fit under way, which has the weights in panels of its own between two looks."""

    thread: int  # that it runs in

    def look(self) -> None:
        """Bring the buffers up to date if the fit rests, and take them over when it goes on."""

    @property
    def unfinished(self) -> Callable[[], FitState | None]:
        """Says where the fit stands, if it is one that can go on later."""


class Panels(Protocol):
    """Where a network is trained by hand, between its calls."""

    @property
    def are_newer(self) -> bool:
        """Whether the buffers are not up to date."""

    def look(self) -> None:
        """Bring them up to date, and take them over in the next call."""


class Buffers:
    """The memory of a network: what it learns, the gradients, and running statistics.

    Before anybody gets at a layer's array, or at a whole buffer, ``look`` is called. Inside a
    callback it makes the fit under way bring the buffers up to date, and read them again before its
    next step. So every part of a network shows the same step, and nothing is copied for a callback
    that does not look.
    """

    def __init__(self, layout: Layout) -> None:
        dtype = layout.dtype
        self._parameters, self._gradients, self._velocities = (
            aligned_zeros(layout.parameters, dtype) for _ in range(3)
        )
        # Empty until an optimizer keeps such numbers.
        self._squares, self._averages = aligned_zeros(0, dtype), aligned_zeros(0, dtype)
        self._statistics = aligned_zeros(layout.statistics, dtype)
        self.session: Session | None = None
        # Where the network is trained by hand, a ``Panels``.
        self.panels: Any = None
        # Held by who looks at the network of a fit that rests, and by the fit to go on. A thread
        # that has it may be interrupted by a signal whose handler looks.
        self.lock = threading.RLock()
        _of_networks.add(self)
        # Whether all parameters are finite, once somebody has asked. Every change puts a new list
        # in its place: what another thread then finds out about the numbers before is not kept.
        self._finite: list[bool] = []
        # The memory of all arrays, and how many references to each are the network's own.
        self._own_references: tuple[list[Any], list[int]] = [], []

    def begin(self, session: Session) -> None:
        """Let a fit have the network; RuntimeError where another thread is training it."""
        with self.lock:
            present = self.session
            if present is not None and present.thread != session.thread:
                raise RuntimeError(
                    "a network is trained by one thread at a time, and another is training this "
                    "one: wait for its end"
                )
            self.session = session

    def after_fork(self) -> None:
        """In a child, which has one thread: the fits of others do not go on, and hold no lock."""
        self.lock = threading.RLock()
        if self.session is not None and self.session.thread != threading.get_ident():
            self.session = None

    def read(self, name: str) -> np.ndarray:
        """ "parameters", "gradients", "velocities", "squares", "averages" or "statistics"."""
        self.look()
        array: np.ndarray = getattr(self, f"_{name}")
        return array.view()

    def write(self, name: str, value: Any) -> None:
        """Copy into one of them. Raises ValueError or TypeError where it does not fit."""
        value = check_real(name, value)
        array = getattr(self, f"_{name}")
        check_shape(name, value, array.shape)
        # Here, where an overflow may still raise.
        value = value.astype(array.dtype, copy=False)
        self.look()
        array[...] = value
        self._finite = []

    def look(self) -> None:
        """To be called before the buffers are read or written."""
        if self.panels is not None:
            self.panels.look()
        # It may end meanwhile, in its own thread.
        session = self.session
        if session is not None:
            session.look()
        self._finite = []

    def for_reading(self) -> Flat:
        """What ``predict`` reads; the caller keeps none of it."""
        if self.session is not None or (self.panels is not None and self.panels.are_newer):
            self.look()
        return Flat(self._parameters, self._statistics)

    @property
    def own_gradients(self) -> np.ndarray:
        """For the panels alone, which know whether they are up to date."""
        return self._gradients

    def for_writing(self) -> tuple[Learnt, np.ndarray]:
        """What ``fit`` changes, (learnt, statistics); whoever keeps it is the session."""
        self.look()
        return self._learnt(), self._statistics

    def _learnt(self) -> Learnt:
        return Learnt(self._parameters, self._velocities, self._squares, self._averages)

    def serve(self, optimizer: Optimizer) -> None:
        """Have the arrays that an optimizer keeps numbers in, and no others.

        Raises TypeError, and changes nothing, where it is a function that cannot be compiled.
        """
        optimizer.prepare(self._parameters.dtype)
        self.look()
        size, dtype = self._parameters.size, self._parameters.dtype
        if self._squares.size != size * (optimizer.states == 2):
            self._squares = aligned_zeros(size * (optimizer.states == 2), dtype)
        if self._averages.size != size * (optimizer.average is not None):
            self._averages = aligned_zeros(size - self._averages.size, dtype)
            self._averages[...] = self._parameters[: self._averages.size]
        optimizer.join(self)
        self._count_references()

    def forget(self, optimizer: Optimizer) -> None:
        """Start an optimizer's states anew."""
        self.look()
        self._velocities[...] = optimizer.first_state
        self._squares[...] = 0

    def update(self, layout: Layout, optimizer: Optimizer, done: int, norm_scale: float) -> None:
        """A step from the gradients; those of batch norm are multiplied by ``norm_scale``.

        done : how many updates the network has had
        """
        self.look()
        factors = optimizer.schedule(np.array([optimizer.lr]), done, layout.groups, layout.dtype)[0]
        update = FlatUpdate(optimizer.options, factors, norm_scale)
        update_parameters(*self._learnt(), self._gradients, layout.table, update)
        self._finite = []

    def adopt(self, layer: ParameterLayer, row: Any) -> None:
        """Move the arrays of a layer into the buffers, where its row of the layer table says."""
        buffers = self._parameters, self._gradients, self._velocities
        places = {name: (self._statistics, row[_COLUMNS[name]]) for name in layer.statistics}
        for names in layer.parameters:
            start = row[_COLUMNS[names[0]]]
            places |= {name: (b, start) for name, b in zip(names, buffers, strict=True)}
        layer.join(self, places)

    def _count_references(self) -> None:
        """Remember how many are the network's own, of arrays that nobody else has seen yet."""
        bases, counts = self._own_references
        known = dict(zip(map(id, bases), counts, strict=True))
        arrays = *self._learnt(), self._gradients, self._statistics
        bases = [array.base for array in arrays]
        counts = list(map(sys.getrefcount, bases))
        # Somebody may have a view of the others by now, which is not to be counted.
        counts = [known.get(id(base), n) for base, n in zip(bases, counts, strict=True)]
        self._own_references = bases, counts

    def held_elsewhere(self) -> bool:
        """Whether somebody else has a view of a buffer, and may read or write it unasked."""
        bases, counts = self._own_references
        return list(map(sys.getrefcount, bases)) != counts

    def known_finite(self) -> bool:
        """Whether all parameters are finite; False also where that may change without a look."""
        if self.held_elsewhere():
            return False
        if self.panels is not None and self.panels.are_newer:
            self.look()
        known = self._finite
        if not known:
            # A sum sees every NaN and infinity. Where it overflows, the answer errs on the safe
            # side.
            with np.errstate(all="ignore"):
                known.append(bool(np.isfinite(self._parameters.sum())))
        return known[0]

    def all_finite(self) -> bool:
        """Whether all parameters are finite."""
        return bool(np.isfinite(self._parameters).all())


_of_networks: weakref.WeakSet[Buffers] = weakref.WeakSet()


def _forget_other_threads() -> None:
    for buffers in list(_of_networks):
        buffers.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_other_threads)


class Layers(Sequence[Any]):
    """Some layers of a network: one can take another's place, none can be added or removed.

    check : (name, present layer, new layer) -> None, raises where it cannot take the place
    replace : (index, present layer, new layer) -> None, called once all have been checked
    """

    def __init__(
        self,
        name: str,
        layers: Iterable[Any],
        check: Callable[[str, Any, Any], None],
        replace: Callable[[int, Any, Any], None] | None = None,
    ) -> None:
        self._name, self._layers = name, list(layers)
        self._check, self._replace = check, replace

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> list[Any]: ...
    def __getitem__(self, index: Any) -> Any:
        return self._layers[index]

    def __setitem__(self, index: int, layer: Any) -> None:
        place = range(len(self._layers))[operator.index(index)]
        self._put({place: layer})

    def assign(self, layers: Any) -> None:
        """Replace all of them, or none where one does not fit."""
        layers = check_sequence(self._name, layers)
        if len(layers) != len(self._layers):
            raise ValueError(
                f"{self._name} must have {len(self._layers)} entries, one per layer, "
                f"got {len(layers)}"
            )
        self._put(dict(enumerate(layers)))

    def _put(self, layers: dict[int, Any]) -> None:
        for place, layer in layers.items():
            self._check(f"{self._name}[{place}]", self._layers[place], layer)
        if self._replace is not None and len({id(layer) for layer in layers.values()}) < len(
            layers
        ):
            raise ValueError(f"{self._name} must be different objects, got one of them twice")
        for place, layer in layers.items():
            present, self._layers[place] = self._layers[place], layer
            if self._replace is not None and layer is not present:
                self._replace(place, present, layer)

    def __len__(self) -> int:
        return len(self._layers)

    def __iter__(self) -> Iterator[Any]:
        # Sequence's own asks for one index after the other: 2 of the 20 µs of predicting a row.
        return iter(self._layers)

    def __repr__(self) -> str:
        return repr(self._layers)


def check_replacement(name: str, present: ParameterLayer, new: Any) -> None:
    """A layer that can take the place of another: of its class and widths, and of no network."""
    cls = type(present)
    if type(new) is not cls:
        raise TypeError(f"{name} must be an object of class {cls.__name__}, got {new!r}")
    for parameter, *_ in cls.parameters:
        old, value = present.__dict__[parameter], new.__dict__[parameter]
        expected, got = (None if a is None else a.shape for a in (old, value))
        if expected != got:
            raise ValueError(f"{name} must have {parameter} of shape {expected}, got {got}")
    if new is not present and new._owner is not None:
        raise ValueError(
            f"{name} must be a layer of its own, got one that belongs to a network: copy it first"
        )


def replaceable_activations(activations: Any, count: int) -> Layers:
    """So many activations; the same object may have several places."""
    activations = check_sequence("activations", activations)
    if len(activations) != count:
        raise ValueError(
            f"activations must have {count} entries, one per layer, got {len(activations)}"
        )
    for i, activation in enumerate(activations):
        _check_activation(f"activations[{i}]", None, activation)
    return Layers("activations", activations, _check_activation)


def _check_activation(name: str, present: Any, new: Any) -> None:
    check_instance(name, new, Activation)
