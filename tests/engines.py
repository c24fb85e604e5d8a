"""Fits in the workers of real executors: checks that a process of its own runs, one by one."""

import contextlib
import functools
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from fastmlp import train_many
from fastmlp._cores import usable_cores
from fastmlp.history import NotFiniteWarning
from fastmlp.sweeps import FitLostError, _engine, _travel
from tests.networks import assert_same_state, batch, build, state
from tests.resumes import KINDS, alone, arguments, assert_same, interrupted, network, outcome

# Large enough to be left behind: 200 and 80 kB, of which one has gaps.
ROWS = 10_000
X, LABELS, _ = batch(ROWS, 5, 3, dtype=np.float32)
WEIGHTS = np.random.default_rng(3).random(2 * ROWS)[::2]
FOREVER = 10**5


@contextlib.contextmanager
def processes():
    yield functools.partial(ProcessPoolExecutor, 2)


@contextlib.contextmanager
def loky():
    from loky import get_reusable_executor

    yield functools.partial(get_reusable_executor, 2)


@contextlib.contextmanager
def dask():
    import dask
    from distributed import Client, LocalCluster

    # A worker that dies is blamed on its fit at once.
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        yield client.get_executor


@contextlib.contextmanager
def mpi():
    from mpi4py.futures import MPIPoolExecutor

    yield MPIPoolExecutor


ENGINES = {"processes": processes, "loky": loky, "dask": dask, "mpi": mpi}


# What callbacks do in the workers


class In:
    """Does something once the fit has trained; ``folder`` has a file for each that has."""

    def __init__(self, folder, times=FOREVER):
        self.folder, self.times = folder, times

    def on_epoch_end(self, mlp, history):
        if len(os.listdir(self.folder)) < self.times:
            Path(self.folder, f"{os.getpid()}-{time.time_ns()}").write_text(self.say())
            self.act()

    def say(self):
        return ""

    def act(self):
        """Go on."""


class Die(In):
    def act(self):
        os.kill(os.getpid(), signal.SIGKILL)


class Rest(In):
    def act(self):
        time.sleep(0.02)


class Raise(In):
    def act(self):
        raise ZeroDivisionError("in the worker")


class RunOutOfMemory(In):
    def act(self):
        raise MemoryError("none left")


class CountThreads(In):
    def say(self):
        return f"{fastmlp.get_num_threads()}"


def net(seed):
    return build([5, 17, 3], dtype=np.float32, momentum=0.9, seed=seed)


def options(seed=7, **more):
    return {"x": X, "labels": LABELS, "epochs": 2, "sample_weight": WEIGHTS, "seed": seed, **more}


def fits(count, **of_entry):
    """Pairs; of_entry : "_2" has the arguments that fits[2] has besides."""
    return [(net(seed), options(**of_entry.get(f"_{seed}", {}))) for seed in range(count)]


def assert_trained(entries, besides=()):
    """Those that are not among besides are what a fit in this process makes of them."""
    for seed, (mlp, _) in enumerate(entries):
        if seed not in besides:
            reference = net(seed)
            reference.fit(**options())
            assert_same(outcome(mlp), outcome(reference))


@contextlib.contextmanager
def executor_of(make):
    executor = make()
    try:
        yield executor
    finally:
        executor.shutdown()


# Checks, each called with a function that makes an executor of two workers


def same_bits(make):
    """Of networks, histories and generators, for all kinds of fits; objects stay who they are."""
    generators = [np.random.default_rng(i) for i in range(len(KINDS))]
    expected = []
    for kind, generator in zip(KINDS, generators, strict=True):
        mlp = network(kind)
        mlp.fit(**arguments(kind, seed=generator))
        expected.append((outcome(mlp), mlp.dropout_seed, generator.bit_generator.state))
    again = [np.random.default_rng(i) for i in range(len(KINDS))]
    entries = [
        (network(kind), arguments(kind, seed=generator))
        for kind, generator in zip(KINDS, again, strict=True)
    ]
    views = [(mlp.parameters, mlp.linear_layers[0], mlp.optimizer) for mlp, _ in entries]
    histories = train_many(entries, executor=make)
    for i, (mlp, _) in enumerate(entries):
        assert_same(outcome(mlp), expected[i][0])
        if any(mlp.dropout):
            assert mlp.dropout_seed == expected[i][1]
        assert again[i].bit_generator.state == expected[i][2]
        assert mlp.history is histories[i]
        assert mlp.unfinished is None
        view, layer, optimizer = views[i]
        assert view.base is mlp.parameters.base
        assert layer is mlp.linear_layers[0]
        assert optimizer is mlp.optimizer


def counting(put, sizes):
    def counted(store, array):
        sizes.append(array.nbytes)
        return put(store, array)

    return counted


def unfinished_fits_go_on(make):
    kinds = ["float32, batch norm", "dropout", "early stopping"]
    entries = [(interrupted(kind, 8), arguments(kind, resume=True)) for kind in kinds]
    train_many(entries, executor=make)
    for kind, (mlp, _) in zip(kinds, entries, strict=True):
        assert_same(outcome(mlp), alone(kind))


def data_once(make):
    """Two arrays are put, whatever the number of fits; the rest of a task is small."""
    sizes, put = [], []
    with pytest.MonkeyPatch.context() as patch:
        packed = _engine.packed

        def counted(*parts):
            content, handles = packed(*parts)
            sizes.append(len(content))
            return content, handles

        patch.setattr(_engine, "packed", counted)
        stores = [_travel.Folder]
        if "distributed" in sys.modules:
            from fastmlp.sweeps import _dask

            stores.append(_dask._Scattered)
        for store in stores:
            patch.setattr(store, "put", counting(store.put, put))
        entries = fits(6)
        # The same numbers, by another object.
        entries[3][1]["x"] = X[:]
        # Their labels are small, and go along.
        few = LABELS.astype(np.uint8)
        for _, given in entries:
            given["labels"] = few
        train_many(entries, executor=make)
    assert_trained(entries)
    assert sorted(put) == sorted([X.nbytes, WEIGHTS.nbytes])
    assert len(sizes) == 6
    assert max(sizes) < 20_000


def their_share_of_the_cores(make):
    with tempfile.TemporaryDirectory() as folder:
        train_many(
            fits(4, **{f"_{i}": {"callbacks": [CountThreads(folder)]} for i in range(4)}),
            executor=make,
        )
        counts = {path.read_text() for path in Path(folder).iterdir()}
        workers = {path.name.partition("-")[0] for path in Path(folder).iterdir()}
    assert counts == {f"{max(1, min(fastmlp.get_num_threads(), usable_cores() // 2))}"}
    assert str(os.getpid()) not in workers


def an_error_ends_the_others(make):
    with tempfile.TemporaryDirectory() as folder:
        entries = fits(
            3,
            _0={"epochs": FOREVER},
            _1={"callbacks": [Raise(folder)]},
            _2={"epochs": FOREVER},
        )
        with pytest.raises(ZeroDivisionError, match="in the worker") as error:
            train_many(entries, executor=make)
    where, entry = error.value.__notes__
    assert "in a worker:\nTraceback" in where
    assert "tests/engines.py" in where
    assert entry == "raised by fits[1] of train_many"
    # The others are not at their end, if they have begun.
    for other, _ in (entries[0], entries[2]):
        assert other.history is None or other.unfinished is not None
    # What the worker had done is here, and can go on.
    failed = entries[1][0]
    assert len(failed.history.train_loss) == 1
    failed.fit(**options(), resume=True)
    assert_trained([(net(0), {}), entries[1], (net(2), {})], besides=(0, 2))


def errors_in_place_of_histories(make):
    with tempfile.TemporaryDirectory() as folder:
        entries = fits(4, _2={"callbacks": [Raise(folder)]}, _3={"x": X[:, :4]})
        results = train_many(entries, executor=make, on_error="return")
    assert [type(result).__name__ for result in results] == [
        "History", "History", "ZeroDivisionError", "ValueError"
    ]  # fmt: skip
    assert_trained(entries, besides=(2, 3))
    assert_same_state(state(entries[3][0]), state(net(3)))


def an_interrupt_ends_all(make):
    entries = fits(3, **{f"_{i}": {"epochs": FOREVER} for i in range(3)})
    main = threading.main_thread().ident
    with tempfile.TemporaryDirectory() as folder:
        for _, given in entries:
            given["callbacks"] = [In(folder)]

        def interrupt():
            # Once both workers train.
            while len({name.partition("-")[0] for name in os.listdir(folder)}) < 2:
                time.sleep(0.01)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            train_many(entries, executor=make)
    trained = [mlp for mlp, _ in entries if mlp.history is not None]
    assert len(trained) == 2
    for mlp in trained:
        assert mlp.unfinished.epoch + mlp.unfinished.step > 0
        assert mlp.updates > 0


def warnings_come_back(make):
    entries = fits(3)
    entries[1][0].lr = 1e30
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train_many(entries, executor=make)
    assert [w.category for w in caught] == [NotFiniteWarning]
    assert_trained(entries, besides=(1,))


def without_memory(make):
    """A fit that had none comes again alone, and then is as others; or is reported."""
    with tempfile.TemporaryDirectory() as folder:
        entries = fits(3, _1={"callbacks": [RunOutOfMemory(folder, times=1)]})
        train_many(entries, executor=make)
        assert_trained(entries)
        assert len(os.listdir(folder)) == 1
        entries = fits(3, _1={"callbacks": [RunOutOfMemory(folder)]})
        results = train_many(entries, executor=make, on_error="return", retries=2)
        assert isinstance(results[1], MemoryError)
        assert_trained(entries, besides=(1,))
        assert len(os.listdir(folder)) == 4


def a_worker_that_dies_once(make):
    with tempfile.TemporaryDirectory() as folder:
        entries = fits(5, _1={"callbacks": [Die(folder, times=1)]})
        train_many(entries, executor=make)
        assert len(os.listdir(folder)) == 1
    assert_trained(entries)


def a_fit_that_kills_loses_itself_alone(make):
    with tempfile.TemporaryDirectory() as folder:
        entries = fits(5, _1={"callbacks": [Die(folder)]})
        with pytest.raises(FitLostError, match=r"fits\[1\] was lost: nothing came back") as error:
            train_many(entries, executor=make)
        assert len(os.listdir(folder)) == 2
    assert error.value.entries == (1,)
    assert "2 times" in str(error.value)
    assert_trained(entries, besides=(1,))
    assert_same_state(state(entries[1][0]), state(net(1)))


def a_broken_executor_of_the_callers(make):
    """It takes no more: what has come back stays, the rest is named."""
    with tempfile.TemporaryDirectory() as folder, executor_of(make) as executor:
        entries = fits(30, **{f"_{i}": {"callbacks": [Rest(folder)]} for i in range(30)})
        entries[2][1]["callbacks"] = [Die(folder)]
        results = train_many(entries, executor=executor, on_error="return")
        lost = [i for i, result in enumerate(results) if isinstance(result, FitLostError)]
        # The one that killed, perhaps another that ran then, and those that had not begun.
        begun = [i for i in lost if "nothing came back" in str(results[i])]
        assert 2 in begun
        assert len(begun) <= 2
        assert sorted({*lost} - {*begun}) == list(range(max(begun) + 1, 30))
        assert "takes no more fits" in str(results[29])
        assert_trained(entries, besides=lost)
        for i in lost:
            assert_same_state(state(entries[i][0]), state(net(i)))
        with pytest.raises(FitLostError, match=r"fits\[0\], fits\[1\] were lost: the executor"):
            train_many(fits(2), executor=executor)


def one_that_is_shut_down(make):
    executor = make()
    executor.shutdown()
    entries = fits(3)
    with pytest.raises(
        FitLostError, match=r"fits\[0\], .* takes no more fits: .*shutdown"
    ) as error:
        train_many(entries, executor=executor)
    assert error.value.entries == (0, 1, 2)
    # One that is made so each time is not asked for ever.
    with pytest.raises(FitLostError):
        train_many(entries, executor=lambda: executor)
    for i, (mlp, _) in enumerate(entries):
        assert_same_state(state(mlp), state(net(i)))


def what_cannot_be_pickled(make):
    lock = threading.Lock()

    class Locked(In):
        def __init__(self):
            self.lock = lock

    entries = fits(3, _1={"callbacks": [Locked()]})
    results = train_many(entries, executor=make, on_error="return")
    assert isinstance(results[1], Exception)
    assert not isinstance(results[1], FitLostError)
    assert "lock" in str(results[1]) or "pickle" in str(results[1])
    assert_trained(entries, besides=(1,))


def the_callers_own_executor(make):
    """It is used twice, and is not shut down."""
    with executor_of(make) as executor:
        for _ in range(2):
            entries = fits(3)
            train_many(entries, executor=executor)
            assert_trained(entries)
        assert executor.submit(os.getpid).result() != os.getpid()


ANYWHERE = [
    same_bits, unfinished_fits_go_on, data_once, their_share_of_the_cores, an_error_ends_the_others,
    errors_in_place_of_histories, an_interrupt_ends_all, warnings_come_back, without_memory,
    what_cannot_be_pickled,
]  # fmt: skip
OF_AN_EXECUTOR = [one_that_is_shut_down, the_callers_own_executor]
DEATHS = [a_worker_that_dies_once, a_fit_that_kills_loses_itself_alone]
CHECKS = {
    "processes": [*ANYWHERE, *OF_AN_EXECUTOR, *DEATHS, a_broken_executor_of_the_callers],
    "loky": ANYWHERE,
    "dask": [*ANYWHERE, *OF_AN_EXECUTOR, a_fit_that_kills_loses_itself_alone],
    # mpiexec ends all processes when one of them dies.
    "mpi": [*ANYWHERE, *OF_AN_EXECUTOR],
}
# New processes of loky's and Dask's take seconds to start.
LONG = {
    "loky": [*OF_AN_EXECUTOR, *DEATHS, a_broken_executor_of_the_callers],
    "dask": [a_worker_that_dies_once],
}


def run_checks(name, checks=CHECKS):
    """Say of each whether it went right."""
    with ENGINES[name]() as make:
        # That of loky is the same one until it is shut down.
        executor = make() if name == "loky" else make
        for check in checks[name]:
            try:
                check(executor if check in ANYWHERE else make)
            except Exception:
                traceback.print_exc()
            else:
                print(check.__name__, flush=True)


def die_in_a_worker():
    """What becomes of the others is MPI's business."""
    with mpi() as make, tempfile.TemporaryDirectory() as folder:
        train_many(fits(3, _1={"callbacks": [Die(folder)]}), executor=make)
