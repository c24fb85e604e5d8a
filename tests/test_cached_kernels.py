"""Machine code kept on disk: written by one process, used by others and by later versions."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp.kernels import _cache
from tests import small_kernels
from tests.processes import ROOT

PROGRAM = """
import sys
import numpy as np
from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy

rng = np.random.default_rng(0)
x = rng.standard_normal((33, 49)).astype(np.float32)
mlp = MLP(49, 10, [97], [ReLU(), Identity()],
          lambda i, o: (rng.standard_normal((i, o)) / 7).astype(np.float32),
          lambda o: np.zeros((1, o)), SoftmaxCrossEntropy(), 0.0)

def forward():
    return mlp(x)

def predict():
    return np.log(mlp.predict_proba(x))

def activate():
    np.testing.assert_array_equal(ReLU()(x), np.maximum(x, 0))

def check():
    hidden, last = mlp.linear_layers
    logits = np.maximum(x @ hidden.W, 0) @ last.W
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(predict(), logs, atol=1e-4)
    np.testing.assert_allclose(forward(), logits, atol=1e-4)

globals()[sys.argv[1]]()
print("done")
"""


def run(action, cache, root=Path(fastmlp.__file__).parent.parent):
    """Run one function of PROGRAM in a process of its own, with machine code kept in cache."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, action], cwd=root, env=os.environ | {
            "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert result.stdout == "done\n", result.stderr


def test_code_from_several_processes_works_together(tmp_path):
    """Numba names helpers by the order in which a process compiles them.

    Two variants of a helper made by one factory can so get one name in two processes; whoever loads
    both entry points would run one variant in place of the other.
    """
    # An epoch takes as long as both; what one worker of a test run has compiled others load anyway.
    for action in ("predict", "forward", "check"):
        run(action, tmp_path)


def test_code_of_an_earlier_version_is_no_obstacle(tmp_path):
    """The cache describes argument types by their classes, which a new version may rename."""
    package = tmp_path / "fastmlp"
    shutil.copytree(Path(fastmlp.__file__).parent, package,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    run("activate", tmp_path / "cache", tmp_path)
    assert list((tmp_path / "cache").rglob("*.nbc"))
    for path in package.rglob("*.py"):
        path.write_text(re.sub(r"\bFormula\b", "Even", path.read_text()))
    assert "class Even(NamedTuple)" in "".join(p.read_text() for p in package.rglob("*.py"))
    run("activate", tmp_path / "cache", tmp_path)


WAIT = """
import fastmlp.kernels.loss
print("up", file=sys.stderr, flush=True)
sys.stdin.readline()
"""

HAMMER = """
import sys
from fastmlp.kernels._cache import _Files

files = _Files(sys.argv[1], "function", "stamp")
me = sys.argv[2]
print("up", file=sys.stderr, flush=True)
sys.stdin.readline()
for i in range(100):
    files.save(("ours",), [me] * 5000)
    found = files.load(("ours",))
    assert len(found) == 5000 and len(set(found)) == 1
    files.save((me, i), [me, i])
"""


def run_together(*commands, **environment):
    """Run Python programs that say that they are up and then wait for a line; their outputs."""
    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    running = [
        subprocess.Popen([sys.executable, *command], env=variables, text=True, **pipes)
        for command in commands
    ]
    try:
        for process in running:
            assert process.stderr.readline() == "up\n"
        for process in running:
            process.stdin.write("\n")
            process.stdin.flush()
        outputs = [process.communicate(timeout=300) for process in running]
    finally:
        for process in running:
            process.kill()
            process.wait()
    for process, (_, said) in zip(running, outputs, strict=True):
        assert (said, process.returncode) == ("", 0)
    return [printed for printed, _ in outputs]


@pytest.mark.parametrize("times", [1, pytest.param(5, marks=pytest.mark.long)])
def test_two_processes_compile_into_one_folder(tmp_path, times):
    for number in range(times):
        cache = tmp_path / str(number)
        command = ("-W", "error", "-c", small_kernels.PROGRAM, WAIT, "float64")
        printed = run_together(command, command, NUMBA_CACHE_DIR=str(cache))
        for found in map(json.loads, printed):
            np.testing.assert_allclose(found["results"], small_kernels.expected(), rtol=1e-12)
        assert len(small_kernels.files(cache)) == 4
        found, _ = small_kernels.run(cache, dtypes=["float64"])
        assert (found["loaded"], found["compiled"]) == (4, 0)
        np.testing.assert_allclose(found["results"], small_kernels.expected(), rtol=1e-12)


def test_files_of_two_processes_are_all_kept(tmp_path):
    """And each is one process's work, not a mix."""
    run_together(*(("-c", HAMMER, str(tmp_path), name) for name in "ab"))
    kept = _cache._Files(tmp_path, "function", "stamp")
    wanted = {(name, i) for name in "ab" for i in range(100)}
    assert set(kept.kept_keys()) == wanted | {("ours",)}
    assert all(kept.load(key) == list(key) for key in wanted)
    assert len(small_kernels.files(tmp_path)) == 201
