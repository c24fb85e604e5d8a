"""The ten programs train as plain NumPy does, and their page shows what stands in the record."""

import importlib
import platform
import re
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

import fastmlp
from benchmarks.compare import _rounds
from benchmarks.compare._readme import latest
from benchmarks.tabular import load
from benchmarks.ten_steps import __main__ as command
from benchmarks.ten_steps import _page, _steps
from benchmarks.ten_steps._steps import STEPS
from examples.ten_steps import arrays, blocks, setting, step07_blocks
from tests.processes import output_of
from tests.reference import ReferenceMLP, one_hot

# The hidden layer is of two blocks on AVX-512, of four on AVX2; the last block of x is not full.
SIZES = 112, 64, 5
BATCHES, EPOCHS = 3, 2
ROWS = BATCHES * setting.BATCH
RNG = np.random.default_rng(0)
X, LABELS = RNG.random((ROWS, SIZES[0])), RNG.integers(0, SIZES[2], ROWS)

MOST_LINES = 80
FILES = sorted(_steps.FOLDER.glob("*.py"))


def program(step):
    return importlib.import_module(f"examples.ten_steps.{step.module}")


def trained(step):
    module = program(step)
    return module.train(setting.initial(SIZES), X.astype(module.DTYPE), LABELS, EPOCHS, 7)


def expected():
    """(parameters, losses) by the reference in float64, batch by batch."""
    w1, b1, w2, b2 = setting.initial(SIZES)
    weights, biases = iter([w1, w2]), iter([b1, b2])
    mlp = ReferenceMLP(
        SIZES[0], SIZES[2], [SIZES[1]], ["relu", "identity"],
        lambda inputs, outputs: next(weights), lambda outputs: next(biases),
        lr=float(setting.RATE), momentum=float(setting.MOMENTUM),
    )  # fmt: skip
    losses, rng, order = [], np.random.default_rng(7), np.arange(ROWS)
    for _ in range(EPOCHS):
        rng.shuffle(order)
        loss = 0.0
        for rows in order.reshape(BATCHES, -1):
            logits = mlp.forward(X[rows])
            mlp.backward(one_hot(LABELS[rows], SIZES[2]))
            mlp.step()
            shifted = logits - logits.max(axis=1, keepdims=True)
            probability = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
            loss -= np.log(probability[np.arange(len(rows)), LABELS[rows]]).sum()
        losses.append(loss / ROWS)
    return [p for layer in mlp.linear_layers for p in (layer.W, layer.b)], losses


EXPECTED = expected()


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.module)
def test_a_program_trains_as_the_reference_does(step):
    """Each of the three products of a step sums up to n products: n roundings, of numbers near 1.

    Of a parameter's own there is a rounding a step. What is wrong with a gradient enters it by
    RATE / (1 - MOMENTUM) at most.
    """
    parameters, losses = trained(step)
    eps, of_products = float(np.finfo(program(step).DTYPE).eps), 3 * SIZES[0]
    rate = float(setting.RATE / (1 - setting.MOMENTUM))
    tolerance = EPOCHS * BATCHES * eps * (1 + rate * of_products)
    for found, wanted in zip(parameters, EXPECTED[0], strict=True):
        np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=0, atol=tolerance)
    np.testing.assert_allclose(losses, EXPECTED[1], rtol=0, atol=of_products * eps)
    # The training has changed weights by far more than that.
    assert np.abs(EXPECTED[0][0] - setting.initial(SIZES)[0]).max() > 100 * tolerance


def test_a_step_changes_what_it_says_and_nothing_else():
    """Step 2 the dtype, step 7 the arrays."""
    numpy, float32, tile, layout = (program(STEPS[number - 1]) for number in (1, 2, 6, 7))
    assert float32.train is numpy.train
    assert [trained(step)[0][0].dtype for step in STEPS[:2]] == [np.float64, np.float32]
    assert layout.epoch is tile.epoch
    assert layout.in_blocks is not tile.in_blocks


LAYOUTS = {
    "step03_loop": (4, np.asarray),
    "step05_vector": (blocks.LANES, np.asarray),
    "step06_tile": (blocks.WIDTH, blocks.in_blocks),
    "step07_blocks": (blocks.WIDTH, step07_blocks.in_blocks),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_arrays_begin_on_a_cache_line_and_have_zeros_behind_the_classes(name):
    width, layout = LAYOUTS[name]
    seen = []

    def epoch(first, second, work, x, labels, order):
        seen.append((first, second, work))
        return program(STEPS[int(name[4:6]) - 1]).epoch(first, second, work, x, labels, order)

    arrays.trainer(epoch, width, layout)(
        setting.initial(SIZES), X.astype(np.float32), LABELS, EPOCHS, 7
    )
    first, second, (a, h, z, dh, logits) = seen[-1]
    assert len(seen) == EPOCHS
    for array in (*first, *second, a, h, z, dh):
        assert array.dtype == np.float32
        assert array.ctypes.data % 64 == 0
    assert np.shares_memory(logits, z)
    for array in (second.w, second.b, second.vw, second.vb, z):
        rest = arrays.matrix(array)[:, SIZES[2] :]
        assert rest.shape[1] == -SIZES[2] % width
        np.testing.assert_array_equal(rest, 0)


def test_a_block_is_a_view_in_step_6_and_one_piece_of_memory_in_step_7():
    """Of both, element (i, j) of the matrix is [j // WIDTH, i, j % WIDTH]."""
    matrix = np.arange(6 * 3 * blocks.WIDTH, dtype=np.float32).reshape(6, -1)
    view, copy = blocks.in_blocks(matrix), step07_blocks.in_blocks(matrix)
    assert np.shares_memory(view, matrix)
    assert not view[0].flags.c_contiguous
    assert not np.shares_memory(copy, matrix)
    assert copy.flags.c_contiguous
    for (i, j), number in np.ndenumerate(matrix):
        assert view[j // blocks.WIDTH, i, j % blocks.WIDTH] == number
    np.testing.assert_array_equal(copy, view)
    np.testing.assert_array_equal(arrays.matrix(copy), matrix)


@pytest.mark.usefixtures("forced_threads")
def test_threads_change_no_bit():
    found = []
    for count in (1, 2, 3):
        fastmlp.set_num_threads(count)
        found.append(trained(STEPS[8])[0])
    for parameters in found[1:]:
        for p, q in zip(parameters, found[0], strict=True):
            np.testing.assert_array_equal(p, q)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_fits_a_page(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.module)
def test_a_program_says_its_idea(step):
    source = (_steps.FOLDER / f"{step.module}.py").read_text(encoding="utf-8")
    assert re.match(rf'"""Step {step.number}, [^\n]*\.("""|\n)', source)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.module)
def test_an_excerpt_is_what_stands_in_the_files(step):
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    parts = _steps.excerpt(step).split("\n\n\n")
    assert len(parts) == len(step.shown)
    for part, shown in zip(parts, step.shown, strict=True):
        assert any(part in text for text in texts)
        assert re.search(rf"^(def )?{shown.rpartition('.')[2]}\b", part, re.MULTILINE)


def test_all_programs_are_on_the_page_in_their_order():
    assert [step.number for step in STEPS] == list(range(1, 11))
    files = sorted(path.stem for path in _steps.FOLDER.glob("step*.py"))
    assert files == [step.module for step in STEPS]


@pytest.mark.parametrize("found", [True, False], ids=["MNIST", "digits"])
def test_a_program_that_is_run_says_how_it_went(found, monkeypatch, capsys):
    """On the digits of the package where there is no MNIST; a rest of rows is left out."""
    digits, asked = setting.datasets.load("digits"), []

    def load(name):
        asked.append(name)
        if name == "mnist" and not found:
            raise setting.datasets.DatasetError("not here")
        return digits

    monkeypatch.setattr(setting.datasets, "load", load)
    module = program(STEPS[1])
    setting.run(module.train, module.DTYPE)
    assert asked == (["mnist"] if found else ["mnist", "digits"])
    said = re.fullmatch(
        r"digits, 1,432 rows, 64-256-10: \d\.\d{3} s an epoch, "
        r"losses \[(\S+) +\S+ +(\S+)\], test error (\d+\.\d{2})%\n",
        capsys.readouterr().out,
    )
    first, last, wrong = map(float, said.groups())
    assert last < first
    assert wrong < 20


def record(**changes):
    """What ten programs would leave of which each takes 0.8 of the time of the one before."""
    names = [*(step.module for step in STEPS), *list(_steps.PEERS)[len(STEPS) :]]
    peers = {}
    for number, name in enumerate(names):
        seconds = changes.get(name, 2 * 0.8**number)
        peers[name] = {
            "note": "", "median": seconds, "quartiles": [0.99 * seconds, 1.01 * seconds]
        }  # fmt: skip
    workload = {
        "label": "a network", "batch_size": 16, "flops": 2e10, "peak_gflops": 100.0,
        "samples": 60_000,
        "together": 0.98, "peers": peers,
    }  # fmt: skip
    machine = {"cpu": "a processor"}
    return {
        "machine": machine, "threads": 2, "date": "2026-01-01", "warnings": [], "data": "MNIST",
        "workload": workload,
    }  # fmt: skip


def test_shares_are_of_the_peak_of_all_threads():
    assert _page.share(record(), "step01_numpy") == pytest.approx(2e10 / 2 / 2e11)


def test_a_step_is_compared_with_the_one_before():
    assert _page.gain(record(), STEPS[4]).startswith("1.25 × as fast as step 4")
    slower = record(step05_vector=2.0)
    assert _page.gain(slower, STEPS[4]).startswith("0.51 × as fast as step 4")
    equal = record(step05_vector=2 * 0.8**3 * 1.01)
    assert "within the noise" in _page.gain(equal, STEPS[4])


def test_a_program_without_figures_is_named():
    broken = record()
    broken["workload"]["peers"]["step06_tile"] = {"note": "crashed"}
    with pytest.raises(ValueError, match=r"^step06_tile has no seconds: crashed$"):
        _page.sections(broken)


def test_step_1_with_its_memory_kept_is_told_where_it_was_measured():
    measured = record(**{_steps.MEMORY_KEPT: 1.25})
    said = "Step 1 takes 1.250 s where the C library keeps its memory. Step 2 with BLAS on"
    assert said in _page.sections(measured)["ten-steps"]
    del measured["workload"]["peers"][_steps.MEMORY_KEPT]
    assert "C library" not in _page.sections(measured)["ten-steps"]


def test_memory_is_kept_by_the_variables():
    """Three arrays of the size of the weights, made and dropped: are their pages new each time?"""
    if platform.libc_ver()[0] != "glibc":
        pytest.skip("the variables are glibc's")
    count = """
import resource
import numpy as np

def make():
    return [np.ones((784, 256)) for _ in range(3)]

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

make()
before = faults()
for _ in range(20):
    make()
print((faults() - before) / 20)
"""
    kept = _steps.PEERS[_steps.MEMORY_KEPT]
    assert (kept.options, kept.threads) == ({"module": "step01_numpy"}, 1)
    usual = output_of("-c", count, **dict.fromkeys(kept.variables))
    told = output_of("-c", count, **kept.variables)
    assert float(told) < 10 < 300 < float(usual)


def test_what_a_program_imports_is_read_with_it():
    """Those of the folder alone, each once, in the order of the imports."""
    assert _steps.imported(STEPS[6]) == ["blocks", "setting", "arrays", "step06_tile"]
    assert _steps.imported(STEPS[9]) == ["setting"]
    links = [
        f"[{name}](../examples/ten_steps/{name})" for name in ("setting.py", "step01_numpy.py")
    ]
    line = f"\n\nReads with: {', '.join(links)}."
    assert _page.sections(record())["step-2"].endswith(line)


def test_what_makes_a_run_doubtful_is_said():
    assert "Beware" not in _page.sections(record())["ten-steps"]
    doubtful = record()
    doubtful["warnings"] = ["load average 3.0 before the start"]
    doubtful["workload"]["together"] = 0.5
    text = _page.sections(doubtful)["ten-steps"]
    assert "Beware: load average 3.0 before the start." in text
    assert "reached 50% of their peaks" in text


def test_page_and_picture_follow_from_the_record(tmp_path, monkeypatch):
    page, picture = tmp_path / "page.md", tmp_path / "ten-steps.svg"
    names = ["ten-steps", *(f"step-{step.number}" for step in STEPS)]
    page.write_text("".join(f"<!-- {n}:begin -->\nold\n<!-- {n}:end -->\n" for n in names))
    monkeypatch.setattr(command, "PAGE", page)
    monkeypatch.setattr(command, "PICTURE", picture)
    command.render(record())
    text, drawn = page.read_text(), picture.read_bytes()
    assert "old" not in text
    assert all(f"| {step.number}. {step.title} |" in text for step in STEPS)
    assert b"<svg" in drawn
    command.render(record())
    assert picture.read_bytes() == drawn


def test_the_committed_page_shows_the_committed_record_and_the_programs():
    page = command.PAGE.read_text(encoding="utf-8")
    assert all(f"\n## {step.number}. {step.title}\n" in page for step in STEPS)
    for name, text in _page.sections(load(latest(command.NAME))).items():
        assert f"<!-- {name}:begin -->\n{text}\n<!-- {name}:end -->" in page


def test_programs_are_measured_in_processes_of_their_own(monkeypatch):
    """On next to no rows; all agree on the loss, and the steps before 9 have one thread."""
    monkeypatch.setattr(_rounds, "PATIENCE_SECONDS", 0.0)
    few = replace(_steps.WORKLOAD.network, samples=10 * setting.BATCH + 1)
    names = ["step02_float32", "step10_epoch"]
    found = command.measure(replace(_steps.WORKLOAD, network=few), 1, names)
    peers = found["workload"]["peers"]
    assert list(peers) == names
    assert all(peer["median"] > 0 and not peer["note"] for peer in peers.values())
    assert found["workload"]["samples"] == 10 * setting.BATCH + 1
    assert {peer.threads for peer in _steps.PEERS.values()} == {1, None}
    assert _steps.PEERS["step08_update"].threads == 1
    assert _steps.PEERS["step09_threads"].threads is None
