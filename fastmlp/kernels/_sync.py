"""How threads share one kernel: equal parts of the work, and a barrier between phases.

Every parallel kernel is called by all its threads at once, as ``kernel(part, parts, ...)``, and
does its share. Phases that depend on each other are kept apart by ``barrier``. Shares are whole
tiles, so the number of threads never changes an order of summation.
"""

from __future__ import annotations

import sys

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ..threads import SLOT
from ._jit import inline
from ._memory import address_ir

# A wait shorter than this many looks stays on the core; a longer one means that the others have no
# core to run on (more threads than cores), and lets them have this one.
_LOOKS = 20_000

_YIELD = "SwitchToThread" if sys.platform == "win32" else "sched_yield"


@intrinsic
def _add(typingctx, array, index, value):
    """array[index] += value, atomically and in order with all other accesses."""

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        builder.atomic_rmw("add", address, args[2], "seq_cst")
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, types.int64), codegen


@intrinsic
def _read(typingctx, array, index):
    """array[index] as the other threads have left it."""

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        return builder.load_atomic(address, "acquire", 8)

    return signature(types.int64, array, types.intp), codegen


@intrinsic
def _yield_core(typingctx):
    """Let another thread of the system run here."""

    def codegen(context, builder, sig, args):
        fnty = ir.FunctionType(ir.IntType(32), [])
        function = builder.module.globals.get(_YIELD) or ir.Function(builder.module, fnty, _YIELD)
        builder.call(function, [])
        return context.get_dummy_value()

    return signature(types.void), codegen


@inline
def barrier(sync, part, parts):
    """Return once all ``parts`` threads have called this as often as the caller.

    sync : (SLOT * (1 + parts),) int64, zeros before the first call. The first slot counts arrivals,
    slot 1 + part how many arrivals that part must see.
    """
    if parts == 1:
        return
    mine = SLOT * (1 + part)
    sync[mine] += parts
    _add(sync, 0, 1)
    looks = 0
    while _read(sync, 0) < sync[mine]:
        looks += 1
        if looks > _LOOKS:
            _yield_core()


@inline
def share(part, parts, total):
    """(begin, end) of this part's share of ``total`` equal pieces of work."""
    return part * total // parts, (part + 1) * total // parts
