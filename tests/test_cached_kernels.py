"""Machine code kept on disk: written by one process, used by others and by later versions."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import fastmlp

PROGRAM = """
import sys
import numpy as np
from fastmlp import MLP, Identity, ReLU, SoftmaxCrossEntropy

rng = np.random.default_rng(0)
x, labels = rng.standard_normal((33, 49)).astype(np.float32), np.arange(33) % 10
mlp = MLP(49, 10, [97], [ReLU(), Identity()],
          lambda i, o: (rng.standard_normal((i, o)) / 7).astype(np.float32),
          lambda o: np.zeros((1, o)), SoftmaxCrossEntropy(), 0.0)

def forward():
    return mlp(x)

def predict():
    return np.log(mlp.predict_proba(x))

def predict_one():
    return np.log(mlp.predict_proba(x[:1]))

def fit():
    return mlp.fit(x, labels).train_loss

def check():
    hidden, last = mlp.linear_layers
    logits = np.maximum(x @ hidden.W, 0) @ last.W
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(fit(), -logs[np.arange(33), labels].mean(), rtol=1e-4)
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
    for action in ("fit", "predict", "forward", "check"):
        run(action, tmp_path)


def test_code_of_an_earlier_version_is_no_obstacle(tmp_path):
    """The cache describes argument types by their classes, which a new version may rename."""
    package = tmp_path / "fastmlp"
    shutil.copytree(Path(fastmlp.__file__).parent, package,
                    ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
    run("predict_one", tmp_path / "cache", tmp_path)
    assert list((tmp_path / "cache").rglob("*.nbi"))
    for path in package.rglob("*.py"):
        path.write_text(re.sub(r"\bFlat\b", "Even", path.read_text()))
    assert "class Even(NamedTuple)" in "".join(p.read_text() for p in package.rglob("*.py"))
    run("predict_one", tmp_path / "cache", tmp_path)
