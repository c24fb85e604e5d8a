"""A sweep that is killed at random moments, again and again, ends in the results of one left alone.

Each life is a process that the test forks from itself, as in ``test_kills``.
"""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import pytest

from fastmlp import set_num_threads
from fastmlp.cli import main
from tests.command_line import posix
from tests.test_cli_sweep import ASKED, DRAWN, FILES, files, model, results, table

pytestmark = [posix, pytest.mark.usefixtures("command")]

KINDS = {"drawn": DRAWN, "asked": ASKED}
# So many that a life does not see the end.
EPOCHS = 400


def live(folder):
    """One life."""
    set_num_threads(1)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os._exit(main(["sweep", "it.toml", "--out", folder]))


def lines(folder):
    """How many results there are."""
    path = Path(folder, "results.jsonl")
    return path.read_text().count("\n") if path.exists() else 0


def kills(folder, wanted, generator):
    """How many came before the sweep was at its end: every other one after a trial has ended."""
    for count in range(wanted):
        before = lines(folder)
        process = multiprocessing.get_context("fork").Process(target=live, args=(folder,))
        process.start()
        while count % 2 and lines(folder) == before and process.is_alive():
            time.sleep(0.002)
        # Once a trial has ended, the others must not have, too.
        time.sleep((0.02 if count % 2 else 0.2) * generator.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == 0:
            return count
        assert process.exitcode == -signal.SIGKILL
    return wanted


def same_in_the_end(kind, wanted, seed, command):
    """Returns how often it was killed, and after how many trials for the last time."""
    if kind == "asked":
        pytest.importorskip("optuna", reason="comes with the extra optuna")
    folder = f"killed-{seed}"
    Path("it.toml").write_text(KINDS[kind].replace("epochs = 1", f"epochs = {EPOCHS}"))
    count = kills(folder, wanted, random.Random(seed))
    there = lines(folder)
    status, output, errors = command(f"sweep it.toml --out {folder}")
    assert (status, errors) == (0, "")
    if not Path("alone").exists():
        command("sweep it.toml --out alone")
    assert results(folder) == results("alone")
    assert model(folder) == model("alone")
    assert files(folder) == FILES
    assert table(output) == table(command("sweep it.toml --out alone")[1])
    return count, there


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_table_after_some_kills(kind, command):
    count, there = same_in_the_end(kind, 3, 2, command)
    assert count == 3
    assert there > 0


@pytest.mark.long
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_table_after_a_hundred_kills(kind, command):
    total = partly = 0
    for seed in range(100):
        count, there = same_in_the_end(kind, 6, seed, command)
        total, partly = total + count, partly + (there > 0)
        if total >= 100:
            break
    print(f"{total} kills, {partly} sweeps of which some trials were there")
    assert total >= 100
    assert partly >= 5
