"""benchmarks: the table of cases, start-up, the cost of a sample, the asv suites."""

import contextlib
import functools
import importlib.util
import itertools
import math
import pkgutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fastmlp
from benchmarks import accuracy, cases, coldstart, flat, networks, suites
from fastmlp.kernels import loss
from fastmlp.kernels.epoch import train_steps

# The table of cases


def test_a_kernel_without_a_case_makes_the_import_fail(monkeypatch):
    def new_kernel(y, x):
        """Stands for a kernel that somebody has added."""

    new_kernel.__module__ = loss.__name__
    monkeypatch.setattr(loss, "new_kernel", new_kernel, raising=False)
    spec = importlib.util.spec_from_file_location("cases_again", cases.__file__)
    again = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cases_again", again)
    with pytest.raises(LookupError, match="new_kernel"):
        spec.loader.exec_module(again)


def test_helpers_compiled_into_kernels_need_no_case():
    assert "linear_forward" in cases.PUBLIC_KERNELS
    assert not {"relu", "column_sums", "_linear_forward"} & set(cases.PUBLIC_KERNELS)


def test_a_layer_without_a_case_is_refused():
    with pytest.raises(LookupError, match="Dropout"):
        cases._require("layers", {"Linear", "Dropout"}, cases.LAYERS)


def test_flops_leave_out_the_gradient_of_the_input():
    network = networks.Network((3, 4, 2), "relu", 8, 0.1)
    assert network.inference_flops_per_sample == 2 * (12 + 8)
    assert network.flops_per_sample == 2 * (12 + 8) + 2 * (12 + 8) + 2 * 8


# Accuracy


def test_a_row_of_accuracies():
    """Percentages; the difference is of pairs, with the standard error of its mean."""
    cells = accuracy.row("name", [0.01, 0.02, 0.03], [0.01, 0.03, 0.05]).split(" | ")
    assert cells == ["| name", "2.00 ± 1.00", "3.00 ± 2.00", "+1.00 ± 0.58 |"]


def test_a_task_is_learnt_in_both():
    x = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    rows = x, (x[:, 0] > 0).astype(int)
    preset = replace(accuracy._TABLE_PRESET, hidden=(8,), batch_size=10)
    task = accuracy.Task("signs", rows, rows, preset)
    for compute_dtype in ("float32", "bfloat16"):
        assert accuracy.error(task, compute_dtype, 0) < 0.1


# Start-up


started = functools.cache(coldstart.start)


def test_a_fresh_process_reports_its_first_uses():
    found = started(None)
    assert 0 < found["first_step"] <= found["uses"]["fit"]
    assert "predict one row" in found["uses"]


def test_cache_size_counts_files_in_subfolders(tmp_path):
    (tmp_path / "inner").mkdir()
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "inner" / "b").write_bytes(b"345")
    assert coldstart.cache_size(tmp_path) == (2, 5)


def test_a_sample_of_a_mapped_set_has_a_cost(tmp_path):
    network = networks.Network((784, 8, 10), "relu", 16, 0.01)
    sets = {rows: (flat.mapped(tmp_path, rows), np.arange(rows) % 10) for rows in (20, 50)}
    assert sets[50][0].shape == (50, 784)
    costs = flat.measure(network, sets, samples=64, turns=2)
    assert [len(found) for found in costs.values()] == [2, 2]
    assert all(0 < each.training <= each.whole for found in costs.values() for each in found)


# The asv suites


def benchmarks_of(module):
    """(name, function, setup, parameters) of every benchmark with every set of parameters."""
    for name, suite in vars(module).items():
        if getattr(suite, "__module__", None) != module.__name__:
            continue
        if name.startswith("track_"):
            yield name, suite, lambda: None, ()
        if not isinstance(suite, type):
            continue
        for parameters in itertools.product(*getattr(suite, "params", ())):
            instance = suite()
            for attribute in dir(instance):
                if attribute.startswith(("time_", "track_", "peakmem_")):
                    label = f"{name}.{attribute}{parameters}"
                    yield label, getattr(instance, attribute), instance.setup, parameters


@pytest.fixture
def compiled_already(monkeypatch):
    """Start-up is measured once, with the usual cache: compiling everything takes half a minute."""
    folder = Path(train_steps._cache.cache_path).parent
    monkeypatch.setattr(coldstart, "empty_cache", lambda: contextlib.nullcontext(None))
    monkeypatch.setattr(coldstart, "start", started)
    monkeypatch.setattr(coldstart, "cache_size", lambda cache: (1, folder.stat().st_size))


SHORTENED = {"_TURNS": 1, "_SEEDS": range(1), "_EPOCHS": 1, "_ROWS": 640}


@pytest.mark.parametrize("name", [info.name for info in pkgutil.iter_modules(suites.__path__)])
def test_suites_run(name, monkeypatch, compiled_already):
    """Every benchmark once, with each of its parameters, on few rows."""
    module = importlib.import_module(f"{suites.__name__}.{name}")
    for shortened, value in SHORTENED.items():
        monkeypatch.setattr(module, shortened, value, raising=False)
    threads = fastmlp.get_num_threads()
    found = list(benchmarks_of(module))
    assert found
    try:
        for _, function, setup, parameters in found:
            setup(*parameters)
            result = function(*parameters)
            assert result is None or math.isfinite(result)
    finally:
        fastmlp.set_num_threads(threads)
