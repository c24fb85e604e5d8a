"""Fixtures of several test modules."""

import pytest

import fastmlp


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
