"""Pieces of work are taken once; the barrier's memory orders, which x86-64 would forgive, are read
off its code for aarch64."""

import functools
import re

import numba
import numpy as np
import pytest
from numba.core import types

from fastmlp import threads
from fastmlp.kernels._jit import entry
from fastmlp.kernels._sync import barrier, call_up, called_up, take
from fastmlp.threads import SLOT, Team
from tests.arm64 import assembly
from tests.numerics import compiled


@entry
def _take_all(team, taken, by):
    """by[i] += 1 for every piece i that a thread takes; they begin together."""
    barrier(team)
    i = take(taken)
    while i < by.size:
        by[i] += 1
        i = take(taken)
    barrier(team)


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_every_piece_is_taken_once(parts):
    taken, by = np.zeros(1, np.int64), np.zeros(1_000_000, np.int64)
    before = threads.get_num_threads()
    threads.set_num_threads(parts)
    try:
        threads.run(_take_all, parts, (taken, by))
    finally:
        threads.set_num_threads(before)
    assert (by == 1).all()
    assert len(by) < taken[0] <= len(by) + parts


@functools.cache
def instructions(helper, *others):
    """The names of the instructions of a helper on an aarch64 that adds by one instruction.

    others : types of what it takes besides the team
    """
    alone = compiled(helper.py_func)
    alone.compile((numba.typeof(Team(0, 1, np.zeros(2 * SLOT, np.int64))), *others))
    (code,) = alone.inspect_llvm().values()
    # The function alone, without what Numba puts around it.
    name = helper.py_func.__name__
    function = re.search(rf"^define [^\n]*{name}.*?^}}", code, re.MULTILINE | re.DOTALL)[0]
    function = re.sub(r", !noalias !\d+", "", function)
    declared = re.findall(r"^declare .*", code, re.MULTILINE)
    needed = [line for line in declared if re.search(r"@\w+", line)[0] in function]
    text = assembly("\n".join([function, *needed]), features="+lse")
    return set(re.findall(r"^\t([a-z]\w*)", text, re.MULTILINE))


def test_an_arrival_releases():
    """In one instruction, or in a pair where this process runs on an aarch64 without that one.

    A relaxed addition would be ldadd, or end in stxr; one that acquires ldadda, or begin in ldaxr.
    """
    additions = {name for name in instructions(barrier) if re.match(r"(ld|st)(add|a?xr|lxr)", name)}
    assert additions in ({"ldaddl"}, {"staddl"}, {"ldxr", "stlxr"})


def test_so_does_a_call():
    """A relaxed replacement would be cas, or end in stxr."""
    replacements = {
        name for name in instructions(call_up) if re.match(r"cas|(ld|st)(a?xr|lxr)", name)
    }
    assert replacements in ({"casl"}, {"ldxr", "stlxr"})


def test_a_look_acquires():
    """A relaxed load would be ldr, as those of a thread's own slot are."""
    assert "ldar" in instructions(barrier)
    assert "ldar" in instructions(called_up, types.intp)
