"""How kernels are compiled and cached: the one place that decides on Numba's flags.

Flags. ``nogil`` lets models train side by side and Python threads share one kernel.
``_nrt=False`` leaves out the counting of references to arrays, which nobody here needs: the caller
has them all, and kernels make none. With the counting, compiling a first fit took 57 s instead of
42. A function so compiled must not be called by one that counts: arrays it returns would be let go
once too often.
``error_model="numpy"`` gives IEEE division, without a branch per quotient. ``fastmath`` stays
off, since it would let LLVM assume that no NaN or infinity occurs, and a NaN loss must be seen;
products and sums are fused where the code says ``fma``, so the bits do not depend on how a
loop was vectorised.

Entry points are kept on disk; ``_cache`` says how.

A fork waits until no other thread compiles: the child would wait for ever for the lock that one
holds. What is changed for all threads meanwhile is changed under that lock.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import os
import signal
import sys
import threading

import numba
from numba.core import sigutils, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.extending import intrinsic
from numba.core.registry import CPUDispatcher
from numba.core.typing.templates import signature

from .. import threads
from .._signals import puts_off
from ._cache import KernelCache
from ._helper_code import EntryCompiler, HelperCompiler

OPTIONS = {
    "nogil": True,
    "error_model": "numpy",
    "boundscheck": False,
    "_nrt": False,
    "pipeline_class": EntryCompiler,
}
# Of a helper, and of an ``overload`` that is one.
HELPER_OPTIONS = OPTIONS | {
    "no_cpython_wrapper": True,
    "no_cfunc_wrapper": True,
    "pipeline_class": HelperCompiler,
}

_entries = []

if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


@contextlib.contextmanager
def interrupts_held():
    """Answer Ctrl-C at the end: raised while LLVM calls back into Python, it would be lost.

    A second one ends the process.
    """
    held = []

    def note_interrupt(number, frame):
        if held:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.raise_signal(signal.SIGINT)
        held.append(number)
        print("fastmlp: stopping once the kernels are compiled ...", file=sys.stderr, flush=True)

    in_charge = threading.current_thread() is threading.main_thread()
    usual = signal.getsignal(signal.SIGINT)
    if not in_charge or not (usual is signal.default_int_handler or puts_off(usual)):
        yield
        return
    signal.signal(signal.SIGINT, note_interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if held:
        usual(signal.SIGINT, None)


@contextlib.contextmanager
def _garbage_kept():
    """Look for no garbage: the compiler makes millions of objects, and next to none in cycles.

    Of two threads at a time, one would leave it as the other has it.
    """
    usual = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if usual:
            gc.enable()


def entry(function):
    """Compile an entry point, called from Python; its machine code is kept on disk."""
    compiled = numba.njit(**OPTIONS)(function)
    compile_alone = interrupts_held()(_garbage_kept()(compiled.compile))
    compiled.compile = global_compiler_lock(compile_alone)
    # An installation without sources has nothing to tell fresh code by: none is kept.
    with contextlib.suppress(RuntimeError):
        compiled._cache = KernelCache(function)
    _entries.append(compiled)
    return compiled


def keep_code():
    """See to it that all machine code of this process is on disk.

    Raises OSError where some of it is not and cannot be written.
    """
    for compiled in _entries:
        if not isinstance(compiled._cache, KernelCache):
            raise OSError("compiled kernels are not kept, since fastmlp's source files are missing")
        compiled._cache.keep(compiled.overloads)


def kernel(cost):
    """An entry point that shares its work among threads.

    The function's first parameter is a ``threads.Team``, which says what this thread's share is.
    The caller leaves it out: the kernel runs on as many threads as ``threads.count_for`` gives for
    ``cost(*arguments)``, its number of multiply-adds.
    """

    def compile_entry(function):
        compiled = entry(function)

        @functools.wraps(function)
        def run(*arguments):
            return threads.run(compiled, threads.count_for(cost(*arguments)), arguments)

        run.compiled = compiled
        return run

    return compile_entry


class Helper:
    """A function that is compiled into the kernels which call it.

    Numba's part of it is made when a kernel with it is compiled: of some 340 helpers, that took a
    quarter of the time of importing them.
    """

    def __init__(self, function, condition=None, stand_in=None):
        """condition, stand_in : as in ``inline_where``"""
        functools.update_wrapper(self, function)
        self.py_func, self._condition, self._stand_in = function, condition, stand_in

    def __call__(self, *arguments):
        raise TypeError(f"{self.__name__} is compiled into kernels: only they can call it")

    def stands_back(self, arguments):
        """Whether the stand-in is called in its place, for arguments of these types."""
        return self._condition is not None and not self._condition(arguments)

    @functools.cached_property
    def stand_in(self):
        """What Numba knows of the helper that stands in."""
        other = self._stand_in or inline(_nothing_like(self.py_func))
        return other._numba_type_.dispatcher

    @functools.cached_property
    def _numba_type_(self):
        compiled = numba.njit(**HELPER_OPTIONS)(self.py_func)
        compiled.__class__ = _HelperDispatcher
        compiled.helper = self
        # A type does not keep what it is of.
        self._compiled = compiled
        return types.Dispatcher(compiled)


def inline(function):
    """Compile a helper into the kernels that call it; it has no entry in the cache of its own.

    Only compiled code can call it: wrappers for Python took a third of the time of compiling the
    epoch. It is optimised in the kernels alone, see ``_helper_code``.

    A function made by a factory is named after what it closes over. Numba tells functions apart by
    name and a count of its own, so code cached by different processes could otherwise hold two
    different helpers under one symbol, and the linker would take either.
    """
    return Helper(_named_after_cells(function))


def inline_where(condition, otherwise=None):
    """``inline`` for a helper that is compiled only where it may be wanted.

    condition : the types of the arguments -> whether it is. Elsewhere whatever it calls is not
        compiled, and it must never be reached with work to do.
    otherwise : a helper with the same parameters and type of result that stands in for it there; by
        default it does nothing, for a helper without a result
    """
    return lambda function: Helper(_named_after_cells(function), condition, otherwise)


def _named_after_cells(function):
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    if cells:
        names = [getattr(getattr(c, "py_func", c), "__qualname__", str(c)) for c in cells]
        function.__qualname__ += f"[{','.join(names)}]"
    return function


def _nothing_like(function):
    """A function with the same parameters that does nothing."""
    names = ", ".join(inspect.signature(function).parameters)
    nothing = eval(f"lambda {names}: None")
    nothing.__qualname__ = f"{function.__qualname__}_not_wanted"
    nothing.__module__ = function.__module__
    return nothing


class _HelperDispatcher(CPUDispatcher):
    """What Numba knows of a helper."""

    def get_call_template(self, args, kws):
        # Numba would compile it for every constant it is given, where the optimiser sees them all.
        args = tuple(map(types.unliteral, args))
        kws = {name: types.unliteral(kind) for name, kind in kws.items()}
        if self.helper.stands_back(args):
            return self.helper.stand_in.get_call_template(args, kws)
        return super().get_call_template(args, kws)

    def get_overload(self, sig):
        if self.helper.stands_back(sigutils.normalize_signature(sig)[0]):
            return self.helper.stand_in.get_overload(sig)
        return super().get_overload(sig)


@intrinsic
def stay_apart(typingctx):
    """Called in a helper, it leaves that helper a function of its own in the machine code.

    For long code that is called from many places and seldom runs, or does so much that the call
    costs little beside it: a copy in each of them would take time to compile.
    """

    def codegen(context, builder, sig, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return signature(types.void), codegen
