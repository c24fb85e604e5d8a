"""State is never half changed, by calls in any order: see ``state_machine.py``."""

import contextlib

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test as run

from tests import network_states as states
from tests.bad_calls import BAD_CALLS
from tests.network_calls import LASTING, assert_refused, change_between
from tests.network_states import DATA, X, assert_same, facts, fit
from tests.state_machine import Machine

KINDS = {
    "batch norm": ("batch norm", np.float32, "nesterov", "leaky", "smoothed", 0.3),
    "embedded": ("embedded", np.float64, "adamw, average", "tanh", "values", 0.0),
}


@pytest.fixture
def machine(monkeypatch, forced_threads, tmp_path):
    """Small work has several threads, too."""
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    with contextlib.suppress(ImportError):
        import safetensors  # noqa: F401

        monkeypatch.setattr(Machine, "folder", tmp_path)
    return Machine


def options(examples, steps):
    return settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), derandomize=True, print_blob=False,
    )  # fmt: skip


def test_the_machine(machine):
    run(machine, settings=options(30, 30))


@pytest.mark.long
def test_the_machine_for_long(machine):
    run(machine, settings=options(2000, 20))


@pytest.mark.parametrize("call", BAD_CALLS, ids=[name for name, _ in BAD_CALLS])
def test_every_bad_call_changes_nothing(call):
    """After a fit and half a step by hand, so that nothing of the network is zero."""
    for kind in KINDS.values():
        mlp = states.network(*kind)
        fit(mlp, epochs=2, seed=0)
        mlp.forward(X)
        mlp.backward(DATA.targets(mlp))
        assert_refused(mlp, *call)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", LASTING)
def test_every_change_counts_from_there_on(name, kind):
    """Made by a callback as if made between two fits."""
    for k in range(4):
        first, second = (states.network(*kind) for _ in range(2))
        change_between(first, second, LASTING[name], k, epochs=3, batch_size=8)
        assert_same(facts(first), facts(second))
