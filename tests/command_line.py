"""The `fastmlp` command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import fastmlp

RESULTS = {"model.safetensors", "history.csv", "curves.png", "mistakes.png"}
MODEL = "runs/digits/model.safetensors"

# Processes start in a folder of the test's, where the checkout is not found.
ROOT = str(Path(fastmlp.__file__).parents[1])


def start(line, stdout=subprocess.PIPE, **environment):
    """The command line in a process of its own, with pipes."""
    program = "import sys; from fastmlp.cli import main; sys.exit(main())"
    return subprocess.Popen(
        [sys.executable, "-c", program, *line.split()],
        env=os.environ | {"PYTHONPATH": ROOT} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def files(folder):
    """The names in a folder."""
    return {path.name for path in Path(folder).iterdir()}
