"""How threads share one kernel: equal parts of the work, and a barrier between phases.

All threads of a ``threads.Team`` call a kernel at once, as ``kernel(team, ...)``, and each does its
share. Phases that depend on each other are kept apart by ``barrier``. Shares are whole tiles, so
the number of threads never changes an order of summation. Where pieces are many and independent
each thread may ``take`` the next one instead, so that one without a core keeps none waiting.

Memory order. What any thread wrote before a barrier must be what every thread reads after it. In
the model of C++20 and LLVM that takes two orders:

- Each arrival adds 1 to a counter, with *release*. The counter is changed by such additions alone,
  which read and write in one step, so every addition belongs to the release sequences of all that
  came before it.
- A waiting thread looks at the counter, with *acquire*. The look that ends its wait reads what the
  last arrival, or a later one, wrote. That value belongs to the release sequence of every arrival,
  so each of them happens before the look, and with it all that its thread wrote before.

The addition need not acquire, since no thread passes the barrier without a look. A thread's slot is
read and written by that thread alone and needs no order. On x86-64 both orders come for free; on
aarch64 they choose the instructions.
"""

from __future__ import annotations

import sys

from llvmlite import ir
from numba.core import types
from numba.core.extending import intrinsic
from numba.core.typing.templates import signature

from ..threads import CALLS, GONE, SLOT
from ._jit import inline
from ._memory import address_ir

# After so many looks at the counter a waiting thread yields its core between looks: the others then
# probably have no core to run on (more threads than cores).
_LOOKS = 20_000
# After so many times it sleeps between looks, so that the system runs others in the meantime, one
# of them the thread that is waited for. Beside one busy process on two cores an epoch on two
# threads then takes 0.7 times as long as with yielding alone (784-512-512-10, batch 128), 0.6
# (784-128-10, batch 32; 784-300-10, batch 16) and 0.9 (784-64-64-32-10, batch 100); Zen 4. With 20
# in place of 500, epochs alone on the machine took a third longer.
_YIELDS = 500
_SLEEP_MICROSECONDS = 50

# A thread that stays for the next call looks for it so often, which takes 0.2 ms on Zen 4: between
# two of its parts a step by hand spends up to 0.1 ms in Python.
_PATIENCE = 500_000

_YIELD = ("SwitchToThread" if sys.platform == "win32" else "sched_yield",)
# On Windows the shortest sleep is of milliseconds.
_SLEEP = _YIELD if sys.platform == "win32" else ("usleep", _SLEEP_MICROSECONDS)


@intrinsic
def _add(typingctx, array, index, value):
    """array[index] += value, atomically; releases what this thread wrote before."""

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        builder.atomic_rmw("add", address, args[2], "release")
        return context.get_dummy_value()

    return signature(types.void, array, types.intp, types.int64), codegen


@intrinsic
def _read(typingctx, array, index):
    """array[index], atomically; acquires what the threads that changed it had written before."""

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        return builder.load_atomic(address, "acquire", 8)

    return signature(types.int64, array, types.intp), codegen


@intrinsic
def _replace(typingctx, array, index, present, new):
    """array[index] = new if it is ``present``, atomically; whether it was. Releases as ``_add``."""

    def codegen(context, builder, sig, args):
        address = address_ir(context, builder, array, args[0], args[1])
        found = builder.cmpxchg(address, args[2], args[3], "release", "monotonic")
        return builder.extract_value(found, 1)

    return signature(types.boolean, array, types.intp, types.int64, types.int64), codegen


def _call_system(builder, name, *numbers):
    """Call a function of the C library that takes 32-bit numbers."""
    values = [ir.IntType(32)(number) for number in numbers]
    fnty = ir.FunctionType(ir.IntType(32), [value.type for value in values])
    function = builder.module.globals.get(name) or ir.Function(builder.module, fnty, name)
    builder.call(function, values)


@intrinsic
def _yield_core(typingctx):
    """Let another thread of the system run here."""

    def codegen(context, builder, sig, args):
        _call_system(builder, *_YIELD)
        return context.get_dummy_value()

    return signature(types.void), codegen


@intrinsic
def _sleep(typingctx):
    """Leave the core for a moment."""

    def codegen(context, builder, sig, args):
        _call_system(builder, *_SLEEP)
        return context.get_dummy_value()

    return signature(types.void), codegen


@inline
def barrier(team):
    """Return once all threads of the team have called this as often as the caller.

    ``team.sync`` holds zeros before the first call. Its first slot counts arrivals, slot 1 + part
    the arrivals that this part must see before it goes on.
    """
    if team.parts == 1:
        return
    mine = SLOT * (1 + team.part)
    team.sync[mine] += team.parts
    _add(team.sync, 0, 1)
    looks = 0
    while _read(team.sync, 0) < team.sync[mine]:
        looks = _look_again(looks)


@inline
def _look_again(looks):
    """looks + 1, after a pause that is the longer the more there were."""
    if looks >= _LOOKS + _YIELDS:
        _sleep()
    elif looks >= _LOOKS:
        _yield_core()
    return looks + 1


@inline
def call_up(team):
    """Part 0: give those that stay their next call. False where they have gone, and nothing is to
    be done."""
    if team.parts == 1:
        return True
    calls = _read(team.sync, CALLS)
    return calls != GONE and _replace(team.sync, CALLS, calls, calls + 1)


@inline
def called_up(team, calls):
    """The others: return True once there has been a call after the first so many.

    False once none has come for a moment, and then for all of the team. The first surely comes.
    """
    looks = 0
    while True:
        found = _read(team.sync, CALLS)
        if found == GONE:
            return False
        if found > calls:
            return True
        if calls == 0:
            looks = _look_again(looks)
        else:
            looks += 1
            if looks > _PATIENCE:
                # In vain where a call has come meanwhile, which the next look finds.
                _replace(team.sync, CALLS, found, GONE)


@intrinsic
def take(typingctx, counter):
    """The next piece of work, from 0, that no thread of the team has taken.

    counter : (1,) int64, 0 before the first call. It orders nothing: what the pieces hold was
        there before the kernel began, and whoever reads what they make waits at a barrier.
    """

    def codegen(context, builder, sig, args):
        zero = context.get_constant(types.intp, 0)
        address = address_ir(context, builder, counter, args[0], zero)
        return builder.atomic_rmw("add", address, context.get_constant(types.int64, 1), "monotonic")

    return signature(types.int64, counter), codegen


@inline
def share(team, total):
    """(begin, end) of this thread's share of ``total`` equal pieces of work."""
    return team.part * total // team.parts, (team.part + 1) * total // team.parts
