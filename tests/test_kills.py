"""A training that is killed at random moments, again and again, ends in the same bits.

Each life is a process that the test forks from itself: nothing is compiled or imported anew, so
that many are killed in little time. It knows nothing of its end: SIGKILL comes from outside.
"""

import multiprocessing
import os
import random
import signal
import time

import pytest

from fastmlp import MLP, set_num_threads
from fastmlp.callbacks import Checkpoint
from tests.command_line import files, posix
from tests.resumes import arguments, assert_same, network, outcome

pytestmark = posix
pytest.importorskip("safetensors", reason="files of networks need the extra io")

KINDS = (
    "float32, batch norm",
    "bfloat16",
    "Adam with averages",
    "dropout",
    "accumulate, weights",
    "early stopping",
    "blocks",
    "weighted blocks",
)
# So many that a life of half a second does not see the end.
EPOCHS = 400


def script(kind, path, callbacks=()):
    """What a job runs each time it is started."""
    checkpoint = Checkpoint(path, seconds=0.002, keep=2)
    mlp = MLP.load(checkpoint.latest()) if checkpoint.latest() else network(kind)
    given = arguments(kind, [checkpoint, *callbacks], epochs=EPOCHS)
    for callback in given["callbacks"]:
        if hasattr(callback, "patience"):
            callback.patience = EPOCHS
    mlp.fit(**given, resume="auto")
    return mlp


def live(kind, path):
    """One life, with a step at a time, so that most moments are within an epoch."""
    from fastmlp import _pace

    _pace.SECONDS_PER_CALL = 0
    set_num_threads(1)
    script(kind, path)
    os._exit(0)


def kills(kind, folder, wanted, seed):
    """(kills, those that came while a file was written) until the training came to its end."""
    path, rng = folder / "model", random.Random(seed)
    count = writing = 0
    while count < wanted:
        left = partial(folder)
        process = multiprocessing.get_context("fork").Process(target=live, args=(kind, path))
        process.start()
        time.sleep(0.02 + 0.3 * rng.random())
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        count += 1
        writing += bool(partial(folder) - left)
    return count, writing


def partial(folder):
    return {name for name in files(folder) if name.endswith(".partial")}


def same_in_the_end(kind, folder, wanted, seed):
    """Kill it so often, let it come to its end, and compare; returns as ``kills``."""
    (folder / "killed").mkdir()
    (folder / "alone").mkdir()
    counts = kills(kind, folder / "killed", wanted, seed)
    killed = script(kind, folder / "killed" / "model")
    # What the dead had left is gone with the last write.
    assert partial(folder / "killed") == set()
    assert len(files(folder / "killed")) <= 2
    assert_same(outcome(killed), outcome(script(kind, folder / "alone" / "model")))
    return counts


@pytest.mark.parametrize("kind", ["Adam with averages", "early stopping", "blocks"])
def test_the_same_bits_after_some_kills(kind, tmp_path):
    count, _ = same_in_the_end(kind, tmp_path, wanted=4, seed=1)
    assert count == 4


@pytest.mark.long
@pytest.mark.timeout(3000)
def test_the_same_bits_after_two_hundred_kills(tmp_path):
    """Many of them while a file was written: a partial one was left."""
    total = total_writing = 0
    for seed in range(100):
        for kind in KINDS:
            folder = tmp_path / f"{kind} {seed}"
            folder.mkdir()
            count, writing = same_in_the_end(kind, folder, wanted=10, seed=seed)
            total, total_writing = total + count, total_writing + writing
        if total >= 200 and total_writing >= 40:
            break
    print(f"{total} kills, of which {total_writing} while a file was written")
    assert total >= 200
    assert total_writing >= 40
