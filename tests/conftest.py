"""Fixtures of several test modules, and how tests are shared among processes."""

import io
import os
import sys
import threading
import time
from pathlib import Path

import pytest

import fastmlp

TESTS = Path(__file__).parent

# Compiles everything for other processors, whose code no other file uses: the longest by far.
LONGEST = "test_platforms.py"


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    """A file is one process' work: its tests mostly share what has to be compiled.

    A process that ended is not replaced: its successors would begin with the test that ended it.
    """
    if getattr(config.option, "numprocesses", None):
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False
        config.option.maxworkerrestart = "0"


def pytest_collection_modifyitems(items):
    """Among several processes the longest file comes first, or one is left with it at the end."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(key=lambda item: item.path.name != LONGEST)


@pytest.fixture(autouse=True, scope="module")
def no_thread_left():
    """A thread that stays in a module's own code after its tests would disturb those of others."""
    yield
    deadline = time.monotonic() + 10
    while left := threads_in_tests():
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.01)


def threads_in_tests():
    """Other threads that are in a function of the tests now, each with what it does there."""
    found = {}
    for number, frame in sys._current_frames().items():
        while frame is not None and not Path(frame.f_code.co_filename).is_relative_to(TESTS):
            frame = frame.f_back
        if frame is not None and number != threading.get_ident():
            found[number] = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
    return found


class Terminal(io.StringIO):
    """Says that it is a terminal, and keeps what would be shown."""

    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    return Terminal()


@pytest.fixture
def short_calls(monkeypatch):
    """A pause after every step."""
    monkeypatch.setattr("fastmlp._pace.SECONDS_PER_CALL", 0)


@pytest.fixture
def forced_threads(monkeypatch):
    """As many threads as ``set_num_threads`` says, however small the work; back afterwards."""
    before = fastmlp.get_num_threads()
    monkeypatch.setattr("fastmlp.threads.WORK_PER_THREAD", 1)
    yield
    fastmlp.set_num_threads(before)


@pytest.fixture(params=[1, 2, 3], ids="{} threads".format)
def on_threads(request, forced_threads):
    """That many threads, however small the work."""
    fastmlp.set_num_threads(request.param)


@pytest.fixture
def alone(monkeypatch, tmp_path):
    """In a folder of its own, without data sets and without mirrors that answer."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("FASTMLP_MIRRORS", "http://127.0.0.1:9/")
    threads = fastmlp.get_num_threads()
    yield
    fastmlp.set_num_threads(threads)


@pytest.fixture
def command(alone, capsys):
    """Run the command line given as one string, return (status, standard output, errors)."""
    for package in ("typer", "rich", "matplotlib", "safetensors", "PIL"):
        pytest.importorskip(package, reason="the command line needs the extra cli")
    from fastmlp.cli import main

    def run(line):
        status = main(line.split())
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def interrupt(monkeypatch):
    """Have the next fit of a command interrupted at a step."""
    from tests.resumes import Interrupt

    fit = fastmlp.MLP.fit

    def at(step):
        def interrupted(mlp, *arguments, callbacks=(), **options):
            if not callbacks:
                # What compiles the kernels.
                return fit(mlp, *arguments, **options)
            monkeypatch.setattr(fastmlp.MLP, "fit", fit)
            return fit(mlp, *arguments, callbacks=[*callbacks, Interrupt(step)], **options)

        monkeypatch.setattr(fastmlp.MLP, "fit", interrupted)

    return at
