"""The page on data larger than the memory: its programs run, and what it says of them is so."""

import re

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp._windows import STOP_SECONDS
from tests.networks import build
from tests.processes import ROOT

PAGE = (ROOT / "docs" / "large-data.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)

for package in ("pandas", "pyarrow", "sklearn"):
    pytest.importorskip(package, reason="the page uses the extras tables and sklearn")


def test_the_programs_run_one_after_the_other(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    digits = datasets.load("digits")
    np.save("x.npy", digits.train_x[:1000])
    np.save("labels.npy", digits.train_y[:1000])
    names = {"mlp": build([64, 16, 10], dtype=np.float32)}
    names["mlp"].fit(digits.train_x, digits.train_y)
    before = names["mlp"].evaluate(digits.test_x, digits.test_y)[0]
    for program in PROGRAMS:
        exec(compile(program, "docs/large-data.md", "exec"), names)
    assert names["mlp"].evaluate(digits.test_x, digits.test_y)[0] < before
    said = re.findall(r"print\(.*?\)  # (.*)", PAGE)
    assert capsys.readouterr().out.splitlines() == said
    x, labels = names["x"], names["labels"]
    assert names["classifier"].score(x / 255, labels) > 0.5


def test_every_kind_of_file_is_named():
    from fastmlp.datasets import _blocks

    for suffix in _blocks.SUFFIXES:
        assert f"`{suffix}`" in PAGE


def test_its_numbers_are_those_of_the_code():
    from fastmlp._blocks import WINDOW_BYTES
    from fastmlp.datasets._block_files import BLOCK_BYTES

    assert f"{WINDOW_BYTES >> 20} MB of x" in PAGE
    text = " ".join(PAGE.split())
    assert f"default has {WINDOW_BYTES // BLOCK_BYTES} blocks of a megabyte" in text
    assert BLOCK_BYTES == 1 << 20
    assert "have a megabyte of x" in PAGE
    assert STOP_SECONDS == 0.5
    assert "half a second" in PAGE
