"""Named tuples passed by their address.

A compiled function takes a named tuple apart: a network's is more than 300 arguments of every
helper that it is handed on to, and most of what the compiler then does is hand them on. A
``Reference`` to one is a single pointer, with the tuple's fields as attributes: those that are
named tuples themselves are References again, the others are read. So compiling the epoch takes a
quarter less time. It costs the kernels nothing, since the optimiser sees through it once helpers
are part of them.
"""

from __future__ import annotations

import hashlib

import numba
import numpy as np
from numba.core import cgutils, types
from numba.core.datamodel.models import PrimitiveModel
from numba.core.extending import (
    NativeValue,
    infer_getattr,
    intrinsic,
    lower_getattr_generic,
    register_model,
    unbox,
)
from numba.core.typing.templates import AttributeTemplate, signature
from numba.np.numpy_support import as_dtype


class Reference(types.Type):
    """A pointer to a named tuple, which lives as long as the kernel that made it."""

    def __init__(self, target):
        self.target = target
        # The name is a part of those of all functions that take one: the tuple's own has kilobytes.
        digest = hashlib.sha256(str(target).encode()).hexdigest()[:16]
        super().__init__(name=f"Reference({target.instance_class.__name__}, {digest})")

    def field(self, name):
        """The type of an attribute."""
        found = self.target.types[self.target.fields.index(name)]
        return Reference(found) if _is_referred(found) else found


def _is_referred(target):
    """A named tuple of a single field is told by its type alone, as units are."""
    return isinstance(target, (types.NamedTuple, types.NamedUniTuple)) and len(target.fields) > 1


@register_model(Reference)
class _ReferenceModel(PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, dmm.lookup(fe_type.target).get_value_type().as_pointer())


@intrinsic
def refer(typingctx, value):
    """A Reference to a named tuple, in the memory of the function that calls it.

    It must not be returned: a helper's memory is gone then.
    """

    def codegen(context, builder, sig, args):
        return cgutils.alloca_once_value(builder, args[0])

    return signature(Reference(value), value), codegen


@infer_getattr
class _Fields(AttributeTemplate):
    key = Reference

    def generic_resolve(self, reference, name):
        return reference.field(name) if name in reference.target.fields else None


@lower_getattr_generic(Reference)
def _field(context, builder, reference, value, name):
    target = reference.target
    index = target.fields.index(name)
    pointer = cgutils.gep_inbounds(builder, value, 0, index)
    return pointer if _is_referred(target.types[index]) else builder.load(pointer)


def _form(kind):
    """The dtype of a value of a Numba type in memory: its model's fields, aligned as in C."""
    if isinstance(kind, types.Array):
        # Its owners, of which kernels know none, and what ``_fields`` says.
        numbers = ["owner", "parent", "size", "itemsize", "address"]
        extents = [(name, np.intp, (kind.ndim,)) for name in ("shape", "strides")]
        return np.dtype([(name, np.intp) for name in numbers] + extents, align=True)
    if isinstance(kind, types.BaseTuple):
        fields = [(str(i), _form(each)) for i, each in enumerate(kind.types)]
        return np.dtype(fields, align=True)
    return as_dtype(kind)


def _fields(value):
    """A value for its form."""
    if isinstance(value, np.ndarray):
        return 0, 0, value.size, value.itemsize, value.ctypes.data, value.shape, value.strides
    return tuple(map(_fields, value)) if isinstance(value, tuple) else value


def _description(value):
    """What decides on a value's type."""
    if isinstance(value, np.ndarray):
        return value.dtype, value.ndim, value.flags.num
    if isinstance(value, tuple):
        return type(value), *map(_description, value)
    return type(value)


_known = {}


def _reference_to(value):
    """(Reference to a type, its form in memory). Numba takes 60 µs to tell that of a ``Data``."""
    described = _description(value)
    if described not in _known:
        kind = numba.typeof(value)
        _known[described] = Reference(kind), _form(kind)
    return _known[described]


class Pinned:
    """A named tuple in memory of its own: a kernel that is given one takes a ``Reference``.

    A kernel takes a tuple apart at every call, and every array in it: a call with a network's took
    45 µs, and most of it under the interpreter's lock.
    """

    def __init__(self, value):
        self.value = value
        self._numba_type_, form = _reference_to(value)
        self._memory = np.array(_fields(value), form)
        self.address = self._memory.ctypes.data

    def change(self, **fields):
        """Give fields other values, of the types that they had, for the next call."""
        for name, value in fields.items():
            if value is not getattr(self.value, name):
                self.field(name)[...] = _fields(value)
        self.value = self.value._replace(**fields)

    def field(self, name):
        """A field in memory, 0-dimensional; ``value`` does not follow what is written there."""
        return self._memory[str(self.value._fields.index(name))]


def again(pinned, value):
    """A tuple of the same types in the memory of one before it, or, if that is None, in its own."""
    if pinned is None:
        return Pinned(value)
    pinned.change(**value._asdict())
    return pinned


@unbox(Reference)
def _unbox(reference, pinned, c):
    address = c.pyapi.object_getattr_string(pinned, "address")
    number = c.pyapi.long_as_longlong(address)
    c.pyapi.decref(address)
    pointer = c.builder.inttoptr(number, c.context.get_value_type(reference))
    return NativeValue(pointer, is_error=cgutils.is_not_null(c.builder, c.pyapi.err_occurred()))
