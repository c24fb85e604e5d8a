"""The faults that tools/mutate.py puts into the kernels, and those that it excuses."""

import ast
import tomllib

import pytest

from tests.processes import ROOT
from tools import mutate

SOURCE = b'''
@kernel(cost=lambda x: 2 * x)
def double(part: int | None, x, y):
    """Not 3 + 4."""
    if x.size > 1 and part == 0:
        store(y, x)
    y[0] = max(x[0], y[0])
    return part - 1
'''
EXPECTED = {
    "arguments": ["y, x -> x, y"],
    "clause": [
        "x.size > 1 and part == 0 -> (part == 0)", "x.size > 1 and part == 0 -> (x.size > 1)"
    ],
    "compare": ["x.size > 1 -> x.size >= 1", "part == 0 -> part != 0"],
    "condition": ["x.size > 1 and part == 0 -> not (x.size > 1 and part == 0)"],
    "constant": ["1 -> 2", "1 -> (0)"] + ["0 -> 1", "0 -> (-1)"] * 4 + ["1 -> 2", "1 -> (0)"],
    "extreme": ["max -> min"],
    "sign": ["part - 1 -> part + 1"],
    "statement": ["store(y, x) -> pass", "y[0] = max(x[0], y[0]) -> pass"],
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
def test_faults_of_every_kind(kind):
    """None in decorators, annotations and docstrings; each leaves valid Python."""
    faults = [f for f in mutate._Finder("a.py", SOURCE).faults if f.kind == kind]
    assert [fault.name.split(": ")[1] for fault in faults] == EXPECTED[kind]
    for fault in faults:
        edited = fault.put_into(SOURCE)
        assert ast.dump(ast.parse(edited)) != ast.dump(ast.parse(SOURCE))


def test_there_are_no_other_kinds():
    assert {fault.kind for fault in mutate._Finder("a.py", SOURCE).faults} == set(EXPECTED)


def test_a_larger_sample_begins_with_the_smaller():
    small, large = mutate.sample(20, 3, []), mutate.sample(60, 3, [])
    assert large[:20] == small
    assert len({fault.file for fault in large}) > 20
    assert len({fault.name for fault in large}) == 60
    assert mutate.sample(20, 4, []) != small


def test_every_excuse_names_a_line_that_is_there():
    entries = tomllib.loads((ROOT / "tools/equivalent.toml").read_text())["fault"]
    for entry in entries:
        lines = [line.strip() for line in (ROOT / entry["file"]).read_text().splitlines()]
        assert entry["line"] in lines
        assert entry["reason"]


def test_a_fault_of_an_excused_line_is_excused():
    faults = mutate.sample(10_000, 0, ["gather"])
    excused = [fault for fault in faults if mutate.excuse(fault)]
    assert excused
    assert {fault.old for fault in excused} < {fault.old for fault in faults}


def test_the_tests_of_a_file_exist():
    paths = sorted(path for pattern in mutate.TARGETS for path in ROOT.glob(pattern))
    for path in paths:
        for stage in mutate._stages(str(path)):
            files = [word for word in stage if word.startswith("tests/")]
            assert files
            assert all((ROOT / file).exists() for file in files)
    assert {path.stem for path in paths} >= set(mutate.FIRST)
