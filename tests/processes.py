"""Fresh interpreters for tests whose subject is a process: a crash must not take the tests down."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def run_python(*arguments, root=ROOT, timeout=300, **environment):
    """Run Python in root; returns the finished process, its output as text.

    environment : variables to set, or to remove where None
    """
    variables = {"PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    merged = os.environ | {name: value for name, value in variables.items() if value is not None}
    for name, value in variables.items():
        if value is None:
            merged.pop(name, None)
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, env=merged, capture_output=True, text=True,
        timeout=timeout, check=False,
    )  # fmt: skip


def output_of(*arguments, **options):
    """The standard output of ``run_python``, which must succeed."""
    process = run_python(*arguments, **options)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout
