"""What the ranks of a test do: ``mpiexec -n 2 python -m tests.rank_programs NAME:ARGUMENT...``.

Every program returns something on each rank; the first rank prints a list of these, for each of
the programs, as JSON.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys
import warnings

import numpy as np

from fastmlp import MLP, _ranks, get_num_threads
from fastmlp.callbacks import Checkpoint
from tests.held import forms_read
from tests.networks import batch, build, state
from tests.resumes import BATCH, LABELS, OF_ARRAYS, SAMPLES, X, arguments, network, outcome

SIZES = 5, 17, 3


def world():
    from mpi4py import MPI

    return MPI.COMM_WORLD


def digests(mlp):
    """Of all that must be the same, by name."""
    return {k: hashlib.sha256(v.tobytes()).hexdigest()[:12] for k, v in outcome(mlp).items()}


@contextlib.contextmanager
def way(name):
    """By "memory", or by "messages", as between machines."""
    share = _ranks.Ranks.share_cores

    def apart(ranks):
        share(ranks)
        ranks.one_machine = name == "memory"

    _ranks.Ranks.share_cores = apart
    try:
        yield
    finally:
        _ranks.Ranks.share_cores = share


def kinds(shards, name):
    """Every kind of fit."""
    found = {}
    with way(name):
        for kind in OF_ARRAYS:
            mlp = network(kind)
            mlp.fit(**arguments(kind), comm=world(), shards=int(shards))
            found[kind] = digests(mlp) | {"seconds": list(mlp.history.epoch_seconds)}
    return found


def small(**options):
    return build(SIZES, momentum=0.9, **options)


def fit(mlp, **options):
    options = {"epochs": 3, "batch_size": BATCH, "seed": 1, "comm": world()} | options
    x, labels = options.pop("x", X), options.pop("labels", LABELS)
    return mlp.fit(x, labels, **options)


def forms():
    """In which x is read that one process would hold as bytes."""
    with forms_read() as found:
        fit(small(), x=np.rint(np.clip(X, 0, 1) * 255) / 255)
    return sorted(found)


def without_a_seed():
    """Networks whose dropout seeds differ, and an order that nobody has said."""
    found = []
    for _ in range(2):
        mlp = small(dropout=0.5)
        fit(mlp, seed=None)
        found.append([digests(mlp), mlp.dropout_seed])
    return found


def every_row():
    """The loss of an epoch in which next to nothing is learnt, and that of all rows."""
    mlp = small(lr=1e-30)
    history = fit(mlp, epochs=1, seed=None)
    return [history.train_loss[0], mlp.evaluate(X, LABELS)[0]]


def own_rows():
    """A rank has numbers in no other rows than it trains on."""
    rank, size = world().Get_rank(), world().Get_size()
    x = np.full_like(X, np.nan)
    for first in range(0, SAMPLES, BATCH):
        rows = min(BATCH, SAMPLES - first)
        own = slice(first + rank * rows // size, first + (rank + 1) * rows // size)
        x[own] = X[own]
    mlp = small()
    fit(mlp, x=x, shuffle=False, check_finite=False)
    return digests(mlp)


def figures():
    """Those of validation data, of which every rank predicts a share."""
    x, labels, _ = batch(101, SIZES[0], SIZES[-1], seed=3)
    mlp = small()
    validation = x, labels, np.linspace(0, 1, 101)
    history = fit(mlp, validation_data=validation)
    return [history.val_loss[-1], history.val_error[-1], *mlp.evaluate(*validation)]


class Ear:
    """Counts its calls, and answers True on one rank alone."""

    def __init__(self, writes, rank=None):
        self.writes, self.rank, self.heard = writes, rank, 0

    def on_epoch_end(self, mlp, history):
        self.heard += 1
        return self.rank == world().Get_rank()


def listeners():
    """[calls of one that writes, of another, epochs after a True of the second rank]"""
    writer, other, stopper = Ear(True), Ear(False), Ear(False, rank=1)
    fit(small(), callbacks=[writer, other])
    fit(small(), callbacks=[Ear(True)] if world().Get_rank() == 0 else [])
    history = fit(small(), callbacks=[stopper])
    return [writer.heard, other.heard, len(history.train_loss)]


def refused():
    """The messages of fits on which the second rank disagrees, and what became of its network."""
    first, found = world().Get_rank() == 0, {}
    weights = np.ones(SAMPLES)
    ways = {
        "parameters": (small(seed=0 if first else 1), {}),
        "hiddens": (build((5, 17, 3) if first else (5, 16, 3)), {}),
        "optimizer": (small(lr=0.1 if first else 0.2), {}),
        "seed": (small(), {"seed": 1 if first else 2}),
        "epochs": (small(), {"epochs": 3 if first else 4}),
        "shards": (small(), {"shards": 4 if first else 8}),
        "shape of x": (small(), {} if first else {"x": X[1:], "labels": LABELS[1:]}),
        "shape of sample_weight": (small(), {"sample_weight": None if first else weights}),
        "lr_schedule": (small(), {"lr_schedule": None if first else lambda t: 0.1}),
        "callbacks": (small(), {"callbacks": [] if first else [Ear(False)]}),
    }
    for name, (mlp, options) in ways.items():
        found[name] = message_of(mlp, options)
    module = sys.modules["fastmlp._agreement"]
    version, module.__version__ = module.__version__, "1.0" if first else "2.0"
    found["version of fastmlp"] = message_of(small(), {})
    module.__version__ = version
    return found


def message_of(mlp, options):
    """What a fit that must not begin says; the network stays as it was."""
    before = state(mlp)
    try:
        fit(mlp, **options)
    except (ValueError, TypeError, RuntimeError) as error:
        same = all(np.array_equal(state(mlp)[name], value) for name, value in before.items())
        return [type(error).__name__, str(error), same and mlp.history is None]
    return None


def on_one_rank():
    """Errors of the second rank alone, before the fit and in a callback; then it goes on."""
    second, found = world().Get_rank() == 1, {}
    x = X.copy()
    x[-1, 2] = np.nan if second else 0.0
    found["x"] = message_of(small(), {"x": x})
    found["shards"] = message_of(small(), {"shards": 3})
    mlp = small(dropout=0.2)
    try:
        fit(mlp, callbacks=[Fail(second, ZeroDivisionError("no callback"))])
    except Exception as error:
        found["callback"] = [type(error).__name__, str(error), mlp.unfinished.step]
    fit(mlp, resume=True)
    return found | {"resumed": digests(mlp)}


class Fail:
    """Does something on some rank once the second epoch has begun."""

    def __init__(self, here, error):
        self.here, self.error = here, error

    def on_progress(self, progress):
        if self.here and progress.epoch == 1:
            if isinstance(self.error, Exception):
                raise self.error
            self.error()


def interrupted(path):
    """SIGINT at the second rank alone: all leave at the same step, and go on from a file."""
    second, mlp = world().Get_rank() == 1, small(dropout=0.2)
    press = Fail(second, lambda: os.kill(os.getpid(), signal.SIGINT))
    try:
        fit(mlp, callbacks=[press], shards=4)
    except KeyboardInterrupt:
        left = [mlp.unfinished.epoch, mlp.unfinished.step, *digests(mlp).values()]
    if not second:
        mlp.save(path)
    return left


def checkpoint(path):
    """Killed by an error behind the second checkpoint, of which there is one file."""
    mlp = small(dropout=0.2)
    try:
        fit(mlp, callbacks=[Checkpoint(path, epochs=1), Fail(True, ValueError("killed"))], shards=4)
    except ValueError:
        return os.listdir(os.path.dirname(path))


def goes_on(path):
    """To the end, from a file."""
    mlp = MLP.load(path)
    fit(mlp, callbacks=[Checkpoint(path, epochs=9)], shards=4, resume=True)
    return digests(mlp)


def not_finite():
    """A loss of the second rank that becomes infinite."""
    x = X.astype(np.float32)
    if world().Get_rank() == 1:
        x[SAMPLES - 1] = 3e38
    mlp = build(SIZES, dtype=np.float32)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        history = fit(mlp, x=x, shuffle=False)
    return [str(caught[0].message), history.step_loss[:-1], digests(mlp)["parameters"]]


def threads():
    """How many threads a rank takes, at first by itself."""
    fit(small())
    return get_num_threads()


def killed():
    """The second rank is killed in its second epoch."""
    here = world().Get_rank() == 1
    if here:
        print(os.getpid(), flush=True)
    fit(small(), callbacks=[Fail(here, lambda: os.kill(os.getpid(), signal.SIGKILL))])


def fails_between():
    """An error where the others do not ask for one."""
    if world().Get_rank() == 1:

        def full(*arguments):
            raise MemoryError("no room")

        sys.modules["fastmlp._session"].Session._train = full
    fit(small())


def main():
    found = []
    for line in sys.argv[1:]:
        name, *given = line.split(":")
        found.append(world().gather(globals()[name](*given)))
    if world().Get_rank() == 0:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
