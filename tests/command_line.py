"""The `fastmlp` command in a process of its own."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fastmlp

RESULTS = {"model.safetensors", "history.csv", "curves.png", "mistakes.png", "report.html"}
MODEL = "runs/digits/model.safetensors"

# Processes start in a folder of the test's, where the checkout is not found.
ROOT = str(Path(fastmlp.__file__).parents[1])

ENTRY = ("-c", "import sys; from fastmlp.cli import main; sys.exit(main())")

posix = pytest.mark.skipif(os.name != "posix", reason="signals and terminals are POSIX's")


def start(line, stdout=subprocess.PIPE, entry=ENTRY, **environment):
    """The command line in a process of its own, with pipes; entry : how Python is started."""
    return subprocess.Popen(
        [sys.executable, *entry, *line.split()],
        env=os.environ | {"PYTHONPATH": ROOT} | environment,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def files(folder):
    """The names in a folder."""
    return {path.name for path in Path(folder).iterdir()}


def history(folder):
    """The rows of the history.csv in a folder."""
    with Path(folder, "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def clusters(samples, features, classes=3):
    """Rows sorted by class, around far-apart centres."""
    y = np.sort(np.arange(samples) % classes)
    noise = np.random.default_rng(0).standard_normal((samples, features))
    return 5 * y[:, None] + noise, y


def trees():
    """A table of three clusters, of which the last column tells two apart, with named classes."""
    import pandas as pd

    x, y = clusters(300, 2)
    names = np.array(["oak", "beech", "ash"])
    leaf = np.where(y == 2, "round", "long")
    return pd.DataFrame({"tree": names[y], "height": x[:, 0], "width": x[:, 1], "leaf": leaf})


def written_to_a_terminal(line, **environment):
    """What the command line writes to a terminal, control codes included."""
    import pty

    reader, writer = pty.openpty()
    with start(line, stdout=writer, **environment) as process:
        os.close(writer)
        shown = b""
        while part := _read(reader):
            shown += part
        assert process.wait(60) == 0
    os.close(reader)
    return shown.decode()


def shown_on_a_terminal(line, **environment):
    """The same without control codes."""
    return without_codes(written_to_a_terminal(line, TERM="xterm", **environment))


def without_codes(text):
    """What is written to a terminal, without control codes; "\\r" begins a line anew."""
    return re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", text).replace("\r\n", "\n")


def _read(descriptor):
    try:
        return os.read(descriptor, 4096)
    except OSError:  # How Linux says that the other side of a terminal is closed.
        return b""
