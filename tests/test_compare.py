"""benchmarks.compare: the peers and the rounds."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from benchmarks import networks
from benchmarks.compare import _fastmlp, _machine, _rounds, _worker
from benchmarks.compare._data import generated, orders
from benchmarks.compare._peers import PEERS, PROBE, Peer
from benchmarks.compare._workloads import WORKLOADS, Workload
from fastmlp import _speed, threads
from fastmlp.kernels import _rates
from tests.networks import build

# The peers of the comparison

TINY = Workload(
    "tiny",
    "tiny",
    "train",
    networks.Network((784, 16, 10), "relu", 32, 0.05, samples=200),
    repeats=2,
)
TINY_BATCHNORM = replace(TINY, network=replace(TINY.network, batchnorm=True, samples=224))
TINY_INFERENCE = replace(TINY, kind="inference", rows=50)
TINY_COURSE = replace(
    WORKLOADS["course"], network=replace(WORKLOADS["course"].network, samples=300), repeats=1
)


FATAL = replace(TINY, name="fatal")


class Crash(_fastmlp.Training):
    """A peer's job that ends its process in one of the workloads."""

    def run(self, seed):
        if self.workload.name == FATAL.name:
            os._exit(3)
        super().run(seed)


class Environment:
    """A job whose figure is a variable of its process."""

    def __init__(self, workload):
        pass

    def run(self, seed):
        pass

    def figure(self):
        return os.environ[VARIABLE]


JOBS = {"train": Crash, "environment": Environment}
VARIABLE = "FASTMLP_TEST_VARIABLE"


@pytest.fixture(autouse=True)
def _other_tests_are_not_waited_for(monkeypatch):
    monkeypatch.setattr(_rounds, "PATIENCE_SECONDS", 0.0)


@pytest.fixture(scope="module")
def processes():
    """Started when first asked for, kept for the module."""
    started = {}

    def process(name):
        peer = PEERS[name]
        if peer.missing():
            pytest.skip(f"{peer.missing()}; the extra 'compare' brings it")
        if name not in started:
            started[name] = _worker.Process(peer, threads=2)
        return started[name]

    yield process
    for process in started.values():
        process.close()


def figure(process, workload):
    """A peer's figure after the uncounted run and one that is counted."""
    process.send("prepare", workload)
    process.receive()
    process.send("run", 1)
    seconds, _ = process.receive()
    assert seconds > 0
    process.send("figure")
    return process.receive()


# Compiling C++ takes half a minute; the comparison itself shows whether that peer works. Parameters
# of bfloat16 are another training.
EAGER = [n for n in PEERS if n not in ("fastmlp", "torch-compile", "torch-pure-bf16")]


@pytest.mark.parametrize("name", EAGER)
def test_peers_reach_the_same_loss(processes, name):
    expected = figure(processes("fastmlp"), TINY)
    # bfloat16 has 8 bits; the others differ by rounding alone, over 28 steps.
    tolerance = 0.05 if name.endswith("-bf16") else 1e-3
    assert figure(processes(name), TINY) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", ["fastmlp-float32", "torch-bf16", "torch-pure-bf16", "jax-bf16"])
def test_peers_train_beside_bfloat16(processes, name):
    """fastmlp's own loss differs from float32's, by what the rounding of operands costs."""
    rounding = replace(TINY, compute_dtype="bfloat16")
    expected = figure(processes("fastmlp"), rounding)
    tolerance = 0.3 if name == "torch-pure-bf16" else 0.05
    reached = figure(processes(name), rounding)
    assert reached == pytest.approx(expected, rel=tolerance)
    assert reached != expected


@pytest.mark.parametrize("name", ["torch", "jax", "numpy-f64"])
def test_peers_agree_on_batch_norm(processes, name):
    expected = figure(processes("fastmlp"), TINY_BATCHNORM)
    # PyTorch keeps the unbiased variance, 32/31 of the others', which evaluation mode shows.
    tolerance = 0.02 if name == "torch" else 1e-3
    assert figure(processes(name), TINY_BATCHNORM) == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize("name", ["torch", "jax", "numpy-f32", "sklearn"])
def test_peers_predict_alike(processes, name):
    assert figure(processes(name), TINY_INFERENCE) == figure(processes("fastmlp"), TINY_INFERENCE)


def test_the_course_workload_is_the_same_in_numpy(processes):
    expected = figure(processes("numpy-f64"), TINY_COURSE)
    assert figure(processes("fastmlp"), TINY_COURSE) == pytest.approx(expected, rel=1e-9)


def test_what_a_peer_cannot_do_is_said(processes):
    process = processes("sklearn")
    process.send("prepare", TINY_BATCHNORM)
    with pytest.raises(_worker.PeerError, match="no batch norm"):
        process.receive()


def test_a_crash_is_an_error_of_the_peer_alone():
    process = _worker.Process(Peer("crash", "crash", __name__), threads=1)
    process.send("prepare", FATAL)
    with pytest.raises(_worker.PeerError, match="exit code 3"):
        process.receive()


@pytest.fixture(scope="module")
def comparison():
    """(of fastmlp, a peer that crashes and one that is missing, started once; what it has said)."""
    others = [Peer("crash", "crash", __name__), Peer("absent", "absent", "m", {"no-such": "1"})]
    said = []
    peers = PEERS | {peer.name: peer for peer in others}
    with _rounds.Comparison(threads=1, say=said.append, peers=peers) as running:
        yield running, said


def test_a_comparison_goes_on_without_those_that_fail(comparison):
    comparison, said = comparison
    names = ["fastmlp", "crash", "absent"]
    _, own, crashed, absent = comparison.measure(FATAL, names, rounds=2)
    _, again, revived, _ = comparison.measure(TINY, names, rounds=2)
    assert [len(own.seconds), own.note] == [2, ""]
    assert (crashed.note, crashed.seconds) == ("crashed, exit code 3", [])
    assert (absent.note, absent.seconds) == ("no-such is not installed", [])
    assert "crash: crashed, exit code 3" in said
    assert (len(revived.seconds), revived.figure) == (2, again.figure)


def test_long_workloads_get_fewer_rounds(monkeypatch, comparison):
    monkeypatch.setattr(_rounds, "LONG_SECONDS", 0.0)
    demanding = replace(TINY, rounds=_rounds.FEW_ROUNDS + 1)
    _, own = comparison[0].measure(TINY, ["fastmlp"], rounds=9)
    _, enough = comparison[0].measure(demanding, ["fastmlp"], rounds=9)
    assert len(own.seconds) == _rounds.FEW_ROUNDS
    assert len(enough.seconds) == demanding.rounds


def test_a_measurement_waits_for_cores_of_its_own_but_not_for_ever(monkeypatch):
    shares = iter([0.5, 0.6, 0.95, 0.5, 0.4])
    monkeypatch.setattr(_rounds, "_PAUSE_SECONDS", 0.0)
    comparison, probe = _rounds.Comparison(threads=2), _rounds.Measured(PROBE)
    monkeypatch.setattr(comparison, "_ask", lambda *_: (1.0, {"together": next(shares)}))
    comparison._patience = 2.5
    comparison._await_cores(probe)
    assert [extra["together"] for extra in probe.extra] == [0.95]
    comparison._await_cores(probe)
    assert [extra["together"] for extra in probe.extra] == [0.95, 0.4]


def test_a_network_beside_libxsmm_has_its_own_widths(comparison):
    workload = WORKLOADS["libxsmm-768-128-64"]
    workload = replace(workload, network=replace(workload.network, samples=300))
    _, own = comparison[0].measure(workload, ["fastmlp"], rounds=1)
    assert own.seconds
    assert 0 < own.figure < math.log(64)


def test_the_probe_measures_the_peak():
    process = _worker.Process(PROBE, threads=1)
    try:
        process.send("prepare", TINY)
        process.receive()
        process.send("run", 0)
        figures = process.receive()[1]
        assert figures["gflops"] > 0.1
        assert figures["together"] > 0
    finally:
        process.close()


def test_a_burst_is_over_when_its_last_thread_has_multiplied(monkeypatch):
    """Ones: every sum of every thread's tile counts the steps of all turns."""
    arrays, zeros, turns = [], _rates.aligned_zeros, 20_000

    def ones(size, dtype):
        arrays.append(zeros(size, dtype))
        arrays[-1] += 1
        return arrays[-1]

    before = threads.get_num_threads()
    monkeypatch.setattr(_rates, "aligned_zeros", ones)
    threads.set_num_threads(3)
    try:
        assert _rates.seconds_of_burst(_rates.unit_for("float32"), np.float32, 3, turns, 1) > 0
    finally:
        threads.set_num_threads(before)
    assert (arrays[-1] == turns * _rates._STEPS).all()


def test_threads_together_are_compared_with_as_many_alone(monkeypatch):
    """A turn of 2 GFLOP in half a second on each of four threads: a fifth of 20 GFLOP/s."""
    monkeypatch.setattr(_rates, "flops_of_burst", lambda unit, sums: 2e9)
    monkeypatch.setattr(_rates, "seconds_of_burst", lambda *arguments: 0.5)
    assert _speed.share_together("float32", 4, 20.0) == pytest.approx(0.2)


def test_missing_and_old_packages_are_named():
    assert Peer("p", "p", "m", {"no-such-package": "1.0"}).missing() == (
        "no-such-package is not installed"
    )
    assert "is older than 999.0" in Peer("p", "p", "m", {"numpy": "999.0"}).missing()
    assert Peer("p", "p", "m", {"numpy": "1.26"}).missing() is None


def test_a_doubtful_machine_is_named(monkeypatch, tmp_path):
    supply = tmp_path / "BAT0"
    supply.mkdir()
    (supply / "status").write_text("Discharging\n")
    monkeypatch.setattr(_machine, "_SUPPLIES", tmp_path)
    monkeypatch.setattr(_machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 0.0, 0.0), raising=False)
    assert _machine.warnings(threads=4) == [
        "4 threads on 2 cores", "load average 3.0 before the start", "running on battery",
    ]  # fmt: skip
    (supply / "status").write_text("Charging\n")
    monkeypatch.setattr(os, "getloadavg", lambda: (0.1, 9.0, 9.0))
    assert _machine.warnings(threads=2) == []


def test_threads_are_set_for_every_library():
    one, four = _worker.environment(1), _worker.environment(4)
    assert {name for name in one if one[name] == "1" and four[name] == "4"} == {
        "FASTMLP_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS", "NPROC",
    }  # fmt: skip
    assert one["XLA_FLAGS"].endswith("false")
    assert four["XLA_FLAGS"].endswith("true")


def test_a_process_has_the_variables_of_its_peer():
    peer = Peer("one", "one", __name__, variables={VARIABLE: "value"})
    process = _worker.Process(peer, threads=1)
    assert VARIABLE not in os.environ
    process.send("prepare", replace(TINY, kind="environment"))
    process.receive()
    process.send("figure")
    assert process.receive() == "value"
    process.close()


def test_orders_are_those_of_fit():
    """A network that has seen the rows in ``orders`` is the one that fit has trained."""
    fitted, looped = build([5, 4, 3]), build([5, 4, 3])
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((20, 5)), rng.integers(0, 3, 20)
    fitted.fit(x, y, epochs=2, batch_size=6, seed=7)
    for order in orders(20, 7, 2):
        looped.fit(x[order], y[order], batch_size=6, shuffle=False)
    np.testing.assert_array_equal(fitted.parameters, looped.parameters)


def test_generated_images_have_mnists_shape_and_can_be_learnt():
    data = generated(train=1000, test=100)
    assert data.train_x.shape == (1000, 784)
    assert data.train_x.dtype == data.test_x.dtype == np.uint8
    assert set(data.train_y) == set(range(10))
    centres = [data.train_x[data.train_y == k].mean(axis=0) for k in range(10)]
    distances = [((data.test_x - centre) ** 2).sum(axis=1) for centre in centres]
    assert (np.argmin(distances, axis=0) == data.test_y).mean() > 0.9
