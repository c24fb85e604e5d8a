"""Functions of a user's own in compiled code: compiled apart, and called by their address.

The epoch is compiled once for all networks, so no user's function is in it. It gets an address, a
number like others, of code that runs over a stretch of numbers: a call takes about 3 ns. That code
takes about half a second to compile, for each dtype once in a process.
"""

from __future__ import annotations

import types as python_types
from collections.abc import Callable, Hashable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ._jit import OPTIONS, interrupts_held
from ._memory import address_ir

# The compiled code is never let go: its address may be in any table.
_compiled: dict[Hashable, Any] = {}


def address_of(
    loop_over: Callable[..., Any], functions: tuple[Any, ...], dtype: Any, pointers: int,
    numbers: int,
) -> int:  # fmt: skip
    """The address of compiled code for ``call_address``, the same one for the same arguments.

    loop_over : called with the functions, as compiled code may call them, it returns the loop: a
        function of so many pointers to numbers of dtype and then of so many whole numbers
    functions : a user's, of numbers

    Raises TypeError where Numba cannot compile them.
    """
    key = loop_over, functions, np.dtype(dtype)
    # A fork waits for this lock, and the handler of a signal may come in between.
    if key not in _compiled:
        with global_compiler_lock:
            if key not in _compiled:
                made = _compile(loop_over, functions, dtype, pointers, numbers)
                _compiled.setdefault(key, made)
    return int(_compiled[key].address)


def _compile(loop_over, functions, dtype, pointers, numbers):
    number = numba.from_dtype(np.dtype(dtype))
    arguments = [types.CPointer(number)] * pointers + [types.int64] * numbers
    options = {name: OPTIONS[name] for name in ("error_model", "boundscheck", "pipeline_class")}
    loop = loop_over(*map(_callable, functions))
    try:
        with interrupts_held():
            return numba.cfunc(types.void(*arguments), **options)(loop)
    except Exception as error:  # Numba hands on errors of any kind.
        names = ", ".join(getattr(function, "__name__", repr(function)) for function in functions)
        what = "a function" if len(functions) == 1 else "functions"
        raise TypeError(
            f"{names} must be {what} of numbers that Numba can compile, of Python's arithmetic "
            f"and the functions of math: {error}"
        ) from error


def _callable(function):
    """A function as compiled code may call it; those of ``math`` may be called as they are."""
    if isinstance(function, python_types.BuiltinFunctionType):
        return function
    return numba.njit(**OPTIONS)(getattr(function, "py_func", function))


@intrinsic
def call_address(typingctx, address, pointers, numbers):
    """Call the code at an address: pointers is a tuple of ``Place``, numbers one of int64."""

    def codegen(context, builder, sig, args):
        address, places, counts = args
        values = []
        for i, place in enumerate(pointers.types):
            array, at = (builder.extract_value(places, [i, part]) for part in range(2))
            values.append(address_ir(context, builder, place.types[0], array, at))
        for i, count in enumerate(numbers.types):
            value = builder.extract_value(counts, i)
            values.append(context.cast(builder, value, count, types.int64))
        function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.inttoptr(address, function.as_pointer()), values)
        return context.get_dummy_value()

    return signature(types.void, types.int64, pointers, numbers), codegen
