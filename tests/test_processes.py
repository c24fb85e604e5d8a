"""Children of a process that has trained: forked, of pools, of a server.

The parents are interpreters of their own, and all children have a time limit: a crash or a hang
must not take the tests down.
"""

import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import tempfile
import threading
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numba.core.compiler_lock import global_compiler_lock
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MLP
from tests.networks import assert_same_state, batch, build, state
from tests.processes import output_of, run_python

# Seconds that a child may take.
LIMIT = 120
# Newer interpreters warn of every fork of a process that has threads.
WARNINGS = "-W", "ignore::DeprecationWarning"

X, LABELS, _ = batch(600, 300, 10, dtype=np.float32)

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def network(seed=0):
    """Worth several threads, and trained in a moment."""
    return build([300, 200, 10], dtype=np.float32, momentum=0.9, num_bn_layers=1, seed=seed)


def trained(mlp, **options):
    """The network, after a fit, and what it predicts then: a job for a process."""
    mlp.fit(X, LABELS, **{"epochs": 2, "batch_size": 200, "seed": 1} | options)
    return mlp, mlp.predict_proba(X)


def assert_trained(result, seed=0, **options):
    """Of ``network(seed)``, by the bits that it has in this process."""
    mlp, probabilities = trained(network(seed), **options)
    assert_same_state(state(result[0]), state(mlp))
    assert_array_equal(result[1], probabilities)


EXPECTED = functools.cache(lambda: trained(network()))


def assert_trains():
    """A network of this process' own, to what the parent's became."""
    mlp, probabilities = trained(network())
    assert_same_state(state(mlp), state(EXPECTED()[0]))
    assert_array_equal(probabilities, EXPECTED()[1])


# What a process does when it forks: each of these, one after the other, in the same one


def forked(work):
    """Do something in a child, which must succeed, in time."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(LIMIT)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status == 0, f"the child ended with {status}"


class OnThird:
    """A callback that calls a function at the end of the third epoch."""

    def __init__(self, function):
        self.function, self.epochs = function, 0

    def on_epoch_end(self, mlp, history):
        self.epochs += 1
        if self.epochs == 3:
            self.function()


@contextlib.contextmanager
def training_elsewhere(mlp):
    """Another thread is in a fit of the network meanwhile."""
    begun, end = threading.Event(), threading.Event()

    class UntilTheEnd:
        def on_epoch_end(self, mlp, history):
            return end.is_set()

    callbacks = [OnThird(begun.set), UntilTheEnd()]
    options = {"epochs": 10**6, "callbacks": callbacks}
    thread = threading.Thread(target=trained, args=(mlp,), kwargs=options)
    thread.start()
    try:
        assert begun.wait(LIMIT)
        yield
    finally:
        end.set()
        thread.join()


def idle():
    fastmlp.set_num_threads(3)

    def work():
        assert fastmlp.get_num_threads() == 3
        assert_trains()

    forked(work)
    assert_trains()


def a_child_forks():
    forked(lambda: forked(assert_trains))


def by_hand():
    """The child has none of the threads that stay for the parent's next step."""
    fastmlp.set_num_threads(3)
    mlp, alone = (build([300, 200, 10], dtype=np.float32, momentum=0.9) for _ in range(2))
    rows, labels = X[:100], LABELS[:100]

    def step(mlp):
        mlp.zero_grads()
        mlp.forward(rows)
        mlp.backward(labels)
        mlp.step()

    for _ in range(3):
        step(alone)
    step(mlp)
    step(mlp)
    assert mlp.buffers.panels is not None

    def work():
        step(mlp)
        assert_same_state(state(mlp), state(alone))

    forked(work)
    work()


def a_thread_forks():
    failed = []

    def fork():
        try:
            forked(assert_trains)
        except AssertionError as error:
            failed.append(error)

    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
    assert not failed


def another_thread_trains():
    with training_elsewhere(network(1)):
        forked(assert_trains)
        assert_trains()


def another_thread_trains_the_childs_network():
    """Its weights are those that the fit began with, or that somebody looked at since."""
    mlp = network()
    with training_elsewhere(mlp):

        def work():
            assert_array_equal(mlp.parameters, network().parameters)
            assert np.isfinite(mlp.predict_proba(X)).all()
            trained(mlp)
            assert_trains()

        forked(work)


def another_thread_looks():
    """The lock that it holds is of no meaning in the child."""
    mlp = network()
    with mlp.buffers.lock:
        forked(lambda: assert_trained(trained(mlp)))


def another_thread_compiles():
    """The fork waits for it, and the child can compile."""
    begun, ended = threading.Event(), threading.Event()

    def compile_something():
        with global_compiler_lock:
            begun.set()
            time.sleep(0.3)
            ended.set()

    thread = threading.Thread(target=compile_something)
    thread.start()
    assert begun.wait(LIMIT)

    def work():
        assert ended.is_set()
        with global_compiler_lock:
            pass

    forked(work)
    thread.join()


def a_callback_forks():
    """The child has the network of that epoch, and may train it."""
    mlp = network()

    def work():
        assert_trained((mlp, mlp.predict_proba(X)), epochs=3)
        trained(mlp)

    trained(mlp, epochs=6, callbacks=[OnThird(lambda: forked(work))])
    assert_trained((mlp, mlp.predict_proba(X)), epochs=6)


def both_go_on_with_the_fit():
    mlp, children = network(), []

    def fork():
        children.append(os.fork())
        if children == [0]:
            signal.alarm(LIMIT)

    status = 1
    try:
        assert_trained(trained(mlp, epochs=6, callbacks=[OnThird(fork)]), epochs=6)
        status = 0
    finally:
        if children == [0]:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]) == 0


def a_server_forks_workers():
    """Once it has loaded a model and predicted; they share a socket, and each answers."""
    with tempfile.TemporaryDirectory() as folder:
        EXPECTED()[0].save(Path(folder, "model"))
        model = MLP.load(Path(folder, "model"))
    assert_array_equal(model.predict_proba(X), EXPECTED()[1])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        workers = [_worker(listener, model) for _ in range(3)]
        try:
            # A worker serves one connection at a time: three at once are served by all three.
            clients = [socket.create_connection(listener.getsockname(), LIMIT) for _ in workers]
            found = set()
            for first in range(0, 300, 50):
                for client in clients:
                    client.sendall(first.to_bytes(4, "big"))
                for file in [client.makefile("rb") for client in clients]:
                    found.add(int.from_bytes(file.read(4), "big"))
                    rows = np.frombuffer(file.read(50 * 10 * 4), np.float32).reshape(50, 10)
                    assert_array_equal(rows, EXPECTED()[1][first : first + 50])
            assert found == set(workers)
        finally:
            for worker in workers:
                os.kill(worker, signal.SIGKILL)
                os.waitpid(worker, 0)


def _worker(listener, model):
    """A child that answers the number of a row with its own and the next 50 rows' predictions."""
    child = os.fork()
    if child != 0:
        return child
    try:
        signal.alarm(LIMIT)
        while True:
            connection = listener.accept()[0]
            while first := connection.recv(4):
                place = int.from_bytes(first, "big")
                rows = model.predict_proba(X)[place : place + 50]
                connection.sendall(os.getpid().to_bytes(4, "big") + rows.tobytes())
    finally:
        os._exit(1)


FORKS = [
    idle, by_hand, a_child_forks, a_thread_forks, another_thread_trains,
    another_thread_trains_the_childs_network, another_thread_looks, another_thread_compiles,
    a_callback_forks,
    both_go_on_with_the_fit, a_server_forks_workers,
]  # fmt: skip


def run_forks():
    """Say of each whether it went right."""
    EXPECTED()
    for case in FORKS:
        try:
            case()
        except Exception:
            traceback.print_exc()
        else:
            print(case.__name__, flush=True)


@pytest.fixture(scope="module")
def after_forks():
    """The process that forked, once it has ended."""
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    program = "from tests.test_processes import run_forks; run_forks()"
    # The first of them may have to compile.
    return run_python(*WARNINGS, "-c", program, timeout=500)


@needs_fork
@pytest.mark.parametrize("case", [case.__name__ for case in FORKS])
def test_a_fork(case, after_forks):
    assert case in after_forks.stdout.splitlines(), after_forks.stderr


# Pools of processes, to which networks go, and come back trained


def by_pool(method, networks):
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map_async(trained, networks, chunksize=1).get(LIMIT)


def by_executor(method, networks):
    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        return list(pool.map(trained, networks, timeout=LIMIT))


def by_joblib(method, networks):
    joblib = pytest.importorskip("joblib")
    parallel = joblib.Parallel(2, backend=method, timeout=LIMIT)
    return parallel(joblib.delayed(trained)(mlp) for mlp in networks)


def run_pool(run, method):
    """Of a process that has trained already."""
    EXPECTED()
    for seed, result in enumerate(run(method, [network(seed) for seed in range(4)])):
        assert_trained(result, seed)
    print("equal")


@pytest.mark.parametrize(
    ("run", "method"),
    [
        pytest.param(by_pool, "fork", marks=needs_fork),
        pytest.param(by_executor, "fork", marks=needs_fork),
        (by_pool, "forkserver"),
        (by_executor, "spawn"),
        (by_joblib, "loky"),
    ],
)
def test_a_pool(run, method):
    name = run.__name__
    if run is by_joblib:
        pytest.importorskip("joblib", reason="joblib comes with the extra sklearn")
    program = f"from tests.test_processes import *; run_pool({name}, {method!r})"
    assert output_of(*WARNINGS, "-c", program) == "equal\n"
