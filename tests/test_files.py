"""write_whole: on the disk, whole or not at all, and what dead writers have left is removed.

And in_one_line.
"""

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastmlp import _files
from fastmlp._files import in_one_line, write_whole
from tests.command_line import files, posix
from tests.processes import ROOT

pytestmark = posix


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


def test_the_folder_is_flushed_after_the_file_has_its_name(path, monkeypatch):
    """Else the entry may be lost with the power, though the file is on the disk."""
    fsync, flushed = os.fsync, []

    def note(descriptor):
        flushed.append((Path(os.readlink(f"/proc/self/fd/{descriptor}")), path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    write_whole(path, b"one")
    (file, _), (folder, there) = flushed
    assert file.suffix == ".partial"
    assert (folder, there) == (path.parent, True)
    assert path.read_bytes() == b"one"


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_folder_that_cannot_be_flushed(number, path, monkeypatch):
    """Some file systems do not know how; what is really wrong is an error."""
    fsync = os.fsync

    def refuse(descriptor, number):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", lambda descriptor: refuse(descriptor, number))
    write_whole(path, b"one")
    monkeypatch.setattr(os, "fsync", lambda descriptor: refuse(descriptor, errno.EIO))
    with pytest.raises(OSError, match=f"'{path}'") as error:
        write_whole(path, b"two")
    assert error.value.errno == errno.EIO
    assert files(path.parent) == {"model"}


def test_a_folder_that_cannot_be_listed(path, monkeypatch):
    """It can be written into all the same."""
    real = os.open

    def refuse(name, *arguments, **options):
        if Path(name) == path.parent:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return real(name, *arguments, **options)

    monkeypatch.setattr(os, "open", refuse)
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"


# A process that waits in the middle of a write.
WRITER = """
import os, sys, time
from pathlib import Path
from fastmlp._files import write_whole

def wait(descriptor):
    print("writing", flush=True)
    time.sleep(60)

os.fsync = wait
write_whole(Path(sys.argv[1]), b"x" * 1000)
"""


@pytest.fixture
def writer(path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "writing\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def partial(folder):
    return {name for name in files(folder) if name.endswith(".partial")}


def test_what_a_dead_writer_has_left_is_removed(writer, path):
    """And what a living one is at stays, as do the partial files of others."""
    (theirs,) = partial(path.parent)
    other = path.with_name(".other.12345678.partial")
    other.touch()
    write_whole(path, b"one")
    assert partial(path.parent) == {theirs, other.name}
    writer.kill()
    writer.wait()
    assert partial(path.parent) == {theirs, other.name}
    write_whole(path, b"two")
    assert files(path.parent) == {"model", other.name}
    assert path.read_bytes() == b"two"


def test_a_file_system_without_locks(writer, path, monkeypatch):
    """There nobody knows who lives: all stays."""

    def refuse(*arguments):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    before = partial(path.parent)
    writer.kill()
    writer.wait()
    monkeypatch.setattr(_files.fcntl, "flock", refuse)
    write_whole(path, b"one")
    assert files(path.parent) == before | {"model"}


def test_a_system_without_such_locks(path, monkeypatch):
    monkeypatch.setattr(_files, "fcntl", None)
    write_whole(path, b"one")
    assert path.read_bytes() == b"one"
    assert files(path.parent) == {"model"}


def test_a_partial_file_that_is_taken_for_a_dead_one(path, monkeypatch):
    """Removed between its opening and its lock: another one takes its place."""
    lock, removed = _files._lock, []

    def remove_first(descriptor):
        if not removed:
            removed.extend(path.parent.glob(".*.partial"))
            removed[0].unlink()
        return lock(descriptor)

    monkeypatch.setattr(_files, "_lock", remove_first)
    write_whole(path, b"one")
    assert len(removed) == 1
    assert path.read_bytes() == b"one"


def test_names_with_signs_of_patterns(tmp_path):
    path = tmp_path / "model[1]*"
    left = path.with_name(f".{path.name}.12345678.partial")
    left.touch()
    other = path.with_name(".model1.12345678.partial")
    other.touch()
    write_whole(path, b"one")
    assert files(tmp_path) == {path.name, other.name}


def test_locks_are_of_files_not_of_processes(path):
    """Two threads of one process may write the same file: neither takes the other's away."""
    with _files._new_partial(path) as file:
        write_whole(path, b"one")
        assert Path(file.name).exists()
    assert time.time() - path.stat().st_mtime < 60


def test_an_error_without_words_is_told_by_its_type():
    assert in_one_line(AssertionError()) == "AssertionError"
