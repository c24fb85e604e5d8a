"""Files of machine code: damaged ones are made anew, and kernels run where none can be kept.

Damaged machine code may take its process down, so what loads it runs in processes of its own.
"""

import errno
import hashlib
import os
import pickle
import shutil
import threading
import warnings

import numba
import numpy as np
import pytest

from fastmlp.kernels import _cache, _jit
from tests.small_kernels import FULL_DISK, expected, files, needs_limits, run


@pytest.fixture(scope="module")
def warm(tmp_path_factory):
    """A folder with PROGRAM's machine code; to be copied."""
    folder = tmp_path_factory.mktemp("kernels")
    found, _ = run(folder)
    assert (found["loaded"], found["compiled"]) == (0, 8)
    return folder


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """A function that is compiled at once, and the files of its machine code."""
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(_cache, "_warned", threading.Event())
    monkeypatch.setattr(_jit, "_entries", [])

    @_jit.entry
    def increased(x):
        return x + 1

    return increased, lambda: files(tmp_path)


# Damaged files


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 16] = (byte ^ 0xFF for byte in content[middle : middle + 16])
    path.write_bytes(content)


def make_unreadable(path):
    """A link to itself cannot be read even by a superuser."""
    path.unlink()
    path.symlink_to(path.name)


def remove(path):
    path.unlink()


def seal(path, content):
    """Write a file that was not damaged later: its checksum is right."""
    path.write_bytes(hashlib.sha256(content).digest() + content)


def not_a_pickle(path):
    seal(path, b"not a pickle")


def not_code(path):
    """What does not link, under the right key."""
    key, _ = pickle.loads(path.read_bytes()[hashlib.sha256().digest_size :])
    seal(path, pickle.dumps((key, pickle.dumps("not machine code"))))


def of_other_types(path):
    """Good machine code of the same function."""
    others = set(path.parent.glob(path.name.split(".py")[0] + "*")) - {path}
    shutil.copy(others.pop(), path)


DAMAGES = [of_other_types, cut, empty, flip, make_unreadable, remove, not_a_pickle, not_code]


def test_damaged_files_are_made_anew(warm, tmp_path):
    """Quietly: with warnings as errors, and nothing said."""
    cache = tmp_path / "cache"
    shutil.copytree(warm, cache)
    for path, damage in zip(files(cache), DAMAGES, strict=True):
        damage(path)
    found, said = run(cache, options=("-W", "error"))
    np.testing.assert_allclose(found["results"], expected() * 2, rtol=1e-6)
    assert (found["loaded"], found["compiled"], said) == (0, 8, "")
    again, said = run(cache, options=("-W", "error"))
    assert (again["loaded"], again["compiled"], said) == (8, 0, "")
    assert again["results"] == found["results"]
    assert [path.name for path in files(cache)] == [path.name for path in files(warm)]


def test_any_damaged_byte_is_noticed(tmp_path):
    """Machine code with a byte of another value mostly loads, and does something else."""
    kept = _cache._Files(tmp_path, "function", "stamp")
    kept.save("key", b"code")
    path = files(tmp_path)[0]
    content = path.read_bytes()
    assert kept.load("key") == b"code"
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        path.write_bytes(damaged)
        assert kept.load("key") is None


@pytest.mark.parametrize("damage", [cut, empty, flip, make_unreadable, remove, not_a_pickle])
def test_damaged_files_do_not_count(tiny, damage):
    """Where it is asked what code there is."""
    function, kept = tiny
    function(1)
    assert len(function._cache.signatures()) == 1
    damage(kept()[0])
    assert function._cache.signatures() == []


def test_code_is_removed_on_demand(tiny):
    """Numba's ``recompile`` does not find what it is to replace."""
    function, kept = tiny
    function(1)
    function.recompile()
    assert sum(function.stats.cache_hits.values()) == 0
    assert len(kept()) == 1


# No place for files


def fail(*arguments):
    raise OSError(errno.ENOSPC, "no room")


@pytest.mark.parametrize("step", ["fsync", "replace"])
@pytest.mark.parametrize("code", ["ENOSPC", "EDQUOT", "EROFS", "EACCES"])
def test_any_failure_to_write_costs_the_file_alone(tiny, monkeypatch, code, step):
    function, kept = tiny

    def refuse(*arguments):
        raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    with monkeypatch.context() as patch:
        patch.setattr(os, step, refuse)
        with pytest.warns(_cache.NotKeptWarning, match=os.strerror(getattr(errno, code))) as said:
            assert (function(1), function(1.5)) == (2, 2.5)
        assert len(said) == 1
        assert kept() == []
        with pytest.raises(OSError, match="NUMBA_CACHE_DIR"):
            _jit.keep_code()
    # With room again, what was compiled before is kept after all.
    _jit.keep_code()
    assert len(kept()) == 2


def test_a_file_that_another_process_keeps_open(tiny, monkeypatch):
    """Windows does not let it be replaced; but then its code is there."""
    function, kept = tiny
    write = _cache.write_whole

    def busy(path, content):
        write(path, content)
        raise PermissionError(errno.EACCES, "in use")

    monkeypatch.setattr(_cache, "write_whole", busy)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert function(1) == 2
    assert len(kept()) == 1


def test_code_that_went_after_it_was_loaded(tiny):
    function, kept = tiny
    function(1)
    loaded = _jit.entry(function.py_func)
    assert (loaded(1), sum(loaded.stats.cache_hits.values())) == (2, 1)
    _jit.keep_code()
    kept()[0].unlink()
    _jit._entries.remove(function)
    with pytest.raises(OSError, match="cannot be kept"):
        _jit.keep_code()


@needs_limits
def test_on_a_full_disk_kernels_run(tmp_path):
    found, said = run(tmp_path, FULL_DISK, ["float64"])
    np.testing.assert_allclose(found["results"], expected(), rtol=1e-12)
    assert found["compiled"] == 4
    assert said.count("NotKeptWarning") == 1
    assert "NUMBA_CACHE_DIR" in said
    assert files(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    """A file stands in its place, which stops even a superuser."""
    taken = tmp_path / "taken"
    taken.write_text("")
    found, said = run(taken, "", ["float64"])
    np.testing.assert_allclose(found["results"], expected(), rtol=1e-12)
    assert said.count("NotKeptWarning") == 1
    assert f"cannot be kept in {taken}" in said


def test_warnings_as_errors(tiny, monkeypatch):
    """One in a worker would leave the kernel's caller waiting for that worker's part."""
    function, _ = tiny
    monkeypatch.setattr(_cache, "write_whole", fail)
    results = []
    thread = threading.Thread(target=lambda: results.append(function(1)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        thread.start()
        thread.join()
        assert results == [2]
        monkeypatch.setattr(_cache, "_warned", threading.Event())
        with pytest.raises(_cache.NotKeptWarning, match="no room"):
            function(1.5)
        assert function(1.5) == 2.5


READ_ONLY = """
import tempfile
def fail(**options):
    raise PermissionError(13, "read-only")
tempfile.TemporaryFile = fail
"""


def test_a_folder_that_can_only_be_read(warm):
    """Its code is loaded: Numba would try to write there first, and then pass it over."""
    found, said = run(warm, READ_ONLY)
    assert (found["loaded"], found["compiled"], said) == (8, 0, "")
