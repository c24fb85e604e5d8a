"""Hundreds of mutants of real files for each reader: nothing but the documented errors comes out.

Every error begins with the file's name and is one printable line; there is no warning, no crash,
and no memory taken that a file merely states.
"""

import json
import random
import re
import warnings

import pytest

from fastmlp.datasets import DatasetError
from tests import fuzzing
from tests.hostile import READERS
from tests.memory import forget_peak
from tests.mutation import mutated, mutated_json
from tests.processes import output_of

for package in ("safetensors", "PIL", "pandas", "pyarrow"):
    pytest.importorskip(package, reason="the readers need the extras cli and tables")

MOST_MEGABYTES = 128
"""What a hundred mutants of files of some kilobytes may take, beyond what the files before did."""

SHORT = 600
CHUNKS = 10
CHUNK = 20_000


def reports(count, seed, folder, *readers):
    """In a process of their own: some of what is tested would end it."""
    arguments = map(str, (count, seed, folder))
    lines = output_of("-m", "tests.fuzzing", *arguments, *readers, timeout=550).splitlines()
    return {report["reader"]: report for report in map(json.loads, lines)}


def check(report, inputs):
    assert report["faults"] == []
    assert sum(report["outcomes"].values()) == report["inputs"] == inputs
    assert report["megabytes"] < MOST_MEGABYTES
    # Neither is everything refused at the first byte, nor does nothing reach the checks.
    assert report["outcomes"]["read"] > inputs // 100
    refused = sum(n for name, n in report["outcomes"].items() if name != "read")
    assert refused > inputs // 4


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    return reports(SHORT, 0, tmp_path_factory.mktemp("mutants"), *READERS)


@pytest.mark.parametrize("reader", READERS)
def test_mutants_of_real_files(reader, short):
    check(short[reader], SHORT)


@pytest.mark.long
@pytest.mark.parametrize("chunk", range(1, CHUNKS + 1))
@pytest.mark.parametrize("reader", READERS)
def test_many_mutants_of_real_files(reader, chunk, tmp_path):
    report = reports(CHUNK, chunk, tmp_path, reader)[reader]
    print(json.dumps(report))
    check(report, CHUNK)


# The harness itself


def test_the_same_seed_gives_the_same_mutants():
    content, value = bytes(range(200)), {"a": [1, {"b": "c"}], "d": 0.5}
    for change in (lambda rng: mutated(rng, content), lambda rng: mutated_json(rng, value)):
        first = [repr(change(random.Random(k))) for k in range(300)]
        assert first == [repr(change(random.Random(k))) for k in range(300)]
        assert len(set(first)) > 100


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (KeyError("x"), "not documented: KeyError"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), "not documented: UnicodeDecodeError"),
        (DatasetError("no file"), "does not begin with the file"),
        (DatasetError("{path}: two\nlines"), "not printable"),
        (DatasetError("{path}: " + "x" * 2000), "2,?0.. signs"),
        (UserWarning("hm"), "a warning: UserWarning"),
        (MemoryError("9 GB"), "asked for too much memory: 9 GB"),
    ],
)
def test_what_is_a_fault(fault, found, tmp_path):
    def read(path):
        if isinstance(fault, Warning):
            return warnings.warn(fault, stacklevel=1)
        if isinstance(fault, MemoryError):
            raise DatasetError(f"{path}: too large") from fault
        if isinstance(fault, DatasetError):
            raise DatasetError(str(fault).replace("{path}", str(path)))
        raise fault

    kind = READERS["idx"]
    _, wrong = fuzzing.judge(kind, read, tmp_path / "input.gz", b"")
    assert re.search(found, wrong)
    assert fuzzing.judge(kind, lambda path: None, tmp_path / "input.gz", b"") == ("read", None)


def test_memory_that_is_given_back_is_noticed():
    """In a process of its own: what other tests have freed may go back to the system meanwhile."""
    if not forget_peak():
        pytest.skip("this system does not tell how much memory a process has")
    code = "from tests.memory import takes; print(takes(lambda: bytes(range(256)) * (1 << 18)))"
    assert 60 < float(output_of("-c", code)) < 80
