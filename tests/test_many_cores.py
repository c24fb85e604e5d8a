"""Who computes, reads and writes what of a step on many cores: by hand, and by the kernels."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

pytest.importorskip("rich", reason="the benchmarks' extra is not installed")

from benchmarks import stages as repeated
from benchmarks.cores import _measure, _sharing
from benchmarks.cores._sharing import LINE, Stage, Step, panels_of, share_of, tiles_of
from benchmarks.cores._traffic import Caches, phases_on
from fastmlp.engine import Trainer
from fastmlp.threads import SLOT, Team
from tests.many_cores import TINY, Numbers, let_threads_help, lines_of, tiles_by_hand

# Partial vectors and tiles, and outputs in several panels.
SMALL = (21, 18, 70, 35, 5)


# The shares


@pytest.mark.parametrize("parts", [1, 2, 3, 8, 64])
@pytest.mark.parametrize("blocks", [1, 3, 4, 7, 33])
@pytest.mark.parametrize("tiles", [1, 2, 5, 16])
def test_tiles_are_those_of_the_kernels(parts, blocks, tiles):
    for part in range(parts):
        found = {
            (own.block, own.vectors, tile)
            for own in tiles_of(part, parts, blocks, tiles)
            for tile in range(own.first, own.last)
        }
        assert found == tiles_by_hand(part, parts, blocks, tiles)


def test_rows_are_shared_out_once():
    shares = [share_of(part, 7, 24) for part in range(7)]
    assert [row for own in shares for row in own] == list(range(24))
    assert {len(own) for own in shares} == {3, 4}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("parts", [1, 2, 5, 64])
def test_shares_of_every_stage_add_up(dtype, parts):
    for phase in phases_on(Step(SMALL, 40, dtype), parts):
        for stage, tiles in zip(phase.stages, phase.tiles, strict=True):
            if stage.kind == "sum of losses":
                assert not tiles.any()
            elif stage.kind == "loss":
                # Rows come in groups of as many as a vector has lanes: the last may be short.
                assert tiles.sum() >= 1
            else:
                assert_allclose(tiles.sum(), 1, rtol=1e-12)


def test_a_panel_is_prepared_by_all_who_have_tiles_of_it():
    """Four cores share the tiles of one panel."""
    step = Step((5, 5), 4 * Step((5, 5), 1, "float32").height, "float32")
    forward = phases_on(step, 4)[0]
    assert_array_equal(forward.tiles[0], [0.25] * 4)
    assert_array_equal(forward.panels[0], [1] * 4)


def test_a_batch_of_several_chunks_is_refused():
    with pytest.raises(ValueError, match=r"must lie in one chunk, got 1000 rows in \d+"):
        Step((5, 5), 1000, "float32")


# The lines


@pytest.mark.parametrize(
    ("sizes", "rows", "dtype", "parts"),
    [
        (SMALL, 19, "float32", 3), (SMALL, 19, "float64", 2), ((9, 100), 33, "float32", 2),
        ((40, 12, 3), 16, "float32", 5), ((30, 20, 10), 8, "float64", 1),
    ],
)  # fmt: skip
def test_received_lines_by_brute_force(sizes, rows, dtype, parts):
    """Against sets of numbers and of who holds which line, three steps from empty caches."""
    step = Step(sizes, rows, dtype)
    held, counted = [set() for _ in range(parts)], []
    for number in range(3):
        counted = []
        for stages in step.phases:
            did = []
            for part in range(parts):
                by_hand = Numbers(step, part, parts, number % 2)
                each = [getattr(by_hand, s.kind.replace(" ", "_"))(s.layer) for s in stages]
                read, written = (set().union(*sets) for sets in zip(*each, strict=True))
                did.append([lines_of(n, step.dtype.itemsize) for n in (read | written, written)])
            counted.append([len(touched - held[p]) for p, (touched, _) in enumerate(did)])
            for part, (touched, _) in enumerate(did):
                held[part] |= touched
            for part, (_, written) in enumerate(did):
                for other in range(parts):
                    held[other] = held[other] | written if other == part else held[other] - written
    assert_array_equal([phase.received for phase in phases_on(step, parts)], counted)


def test_received_lines_on_paper():
    """Two cores; 32 features in 2 blocks of lines, 64 outputs in 4, of which each has a panel of 2.

    Forward: each core has gathered 8 rows of x and reads all 16; it has updated its weights itself.
    Loss: the first 8 rows are the first core's, and half of their logits the other's. The weights
    of all rows are in one line, which the second core was the last to write.
    Last: of d every core needs its columns, of the other's 8 rows, and of the losses those of these
    rows, a line; the first core adds up the errors, too, which are another.
    """
    step = Step((32, 64), 16, "float32")
    if (step.lanes, step.height) != (16, 8):
        pytest.skip("counted for vectors as long as a line")
    forward, loss, last = phases_on(step, 2)
    assert_array_equal(forward.received, [8 * 2, 8 * 2])
    assert_array_equal(loss.received, [8 * 2 + 1, 8 * 2])
    assert_array_equal(last.received, [8 * 2 + 1 + 1, 8 * 2 + 1])


def test_one_core_receives_nothing():
    assert not any(phase.received.any() for phase in phases_on(Step(SMALL, 19, "float32"), 1))


def test_a_line_moves_once_and_again_after_it_was_changed():
    caches = Caches(3, 4)
    nothing = np.empty(0, np.int64)

    def share(read, written):
        return [_sharing.Share(0, 0, np.array([*read, *written], int), np.array(written, int))]

    idle = [_sharing.Share(0, 0, nothing, nothing)]
    assert caches.pass_phase([share([], [0, 1]), idle, idle]).tolist() == [2, 0, 0]
    assert caches.pass_phase([idle, share([0, 1, 1], []), share([1], [])]).tolist() == [0, 2, 1]
    assert caches.pass_phase([share([], [1]), share([0], []), idle]).tolist() == [0, 0, 0]
    assert caches.pass_phase([share([1], []), share([1], []), share([1], [])]).tolist() == [0, 1, 1]


# The kernels themselves


ARRAYS = ("inputs", "activations", "deltas", "labels", "row_weights", "parameters", "velocities",
    "gradients", "losses", "errors")  # fmt: skip


@pytest.fixture
def bench(monkeypatch):
    let_threads_help(monkeypatch)
    with _measure.at_most(3):
        return _measure.Bench(TINY, 19)


def arrays_of(bench):
    packed = bench._bench.trainer.packed
    learnt = packed.learnt
    found = (packed.inputs.values, packed.activations.values, packed.deltas.values, packed.labels,
        packed.row_weights, learnt.parameters, learnt.velocities, packed.gradients,
        packed.row_losses, packed.row_errors)  # fmt: skip
    return dict(zip(ARRAYS, found, strict=True))


def lines_where(step, array, numbers):
    """Lines of those numbers of an array for which ``numbers`` is true."""
    size = 8 if array in ("losses", "errors") else step.dtype.itemsize
    return set((np.flatnonzero(numbers) * size // LINE + step.starts[array]).tolist())


def poison(step, arrays, lines):
    """NaN in all numbers of these lines."""
    for name, array in arrays.items():
        size = 8 if name in ("losses", "errors") else step.dtype.itemsize
        array[np.isin(np.arange(len(array)) * size // LINE + step.starts[name], lines)] = np.nan


def run_part(bench, key, part, parts, monkeypatch):
    """One core's part of a stage, which waits for nobody: all others seem to have arrived."""
    sync = np.zeros(SLOT * (1 + parts), np.int64)
    sync[0] = 1 << 40

    def alone(function, wanted, arguments):
        function(Team(part, parts, sync), *arguments)

    monkeypatch.setattr(repeated.threads, "run", alone)
    bench._bench.run(bench.stages[key], 1)
    monkeypatch.undo()


def without_effect(step, key, part):
    """Lines of the panels that one core of three transposes without a tile of them."""
    if key.kind != "input gradient":
        return []
    inputs, outputs = map(step.blocks, step.sizes[key.layer : key.layer + 2])
    tall = -(-step.rows // step.height)
    features = {
        block * step.lanes + k
        for own in panels_of(part, 3, inputs, tall)
        if own.first == own.last
        for block in range(own.block, own.block + own.vectors)
        for k in range(step.lanes)
    }
    by_hand = Numbers(step, part, 3, 0)
    numbers = {
        by_hand.weight("parameters", key.layer, feature, column)[1]
        for feature in features
        for column in range(outputs * step.lanes)
    }
    return [at * step.dtype.itemsize // LINE + step.starts["parameters"] for at in numbers]


@pytest.mark.parametrize("part", [0, 1, 2])
@pytest.mark.parametrize("key", [
    Stage("forward", 0), Stage("forward", 2), Stage("loss", 2), Stage("input gradient", 1),
    Stage("update", 1), Stage("update", 0), Stage("gather", 0),
], ids=lambda key: f"{key.kind} {key.layer}" if isinstance(key, Stage) else None)  # fmt: skip
def test_kernels_touch_what_the_model_says(bench, key, part, monkeypatch):
    """They write the lines that they are said to write, though all that they do not touch is NaN.

    And every line that they are said to read makes a difference.
    """
    step = Step(TINY.network.sizes, 19, "float32")
    # The bench reads from the first half, and gathers into it.
    share = step.share(key, part, 3, 1 if key.kind == "gather" else 0)
    arrays, rng = arrays_of(bench), np.random.default_rng(0)
    for array in arrays.values():
        array[:] = rng.uniform(0.1, 0.9, len(array))
    start = {name: array.copy() for name, array in arrays.items()}

    def run(poisoned):
        for name, array in arrays.items():
            array[:] = start[name]
        poison(step, arrays, poisoned)
        before = {name: array.copy() for name, array in arrays.items()}
        run_part(bench, key, part, 3, monkeypatch)
        return {n: ~((a == before[n]) | (np.isnan(a) & np.isnan(before[n])))
            for n, a in arrays.items()}  # fmt: skip

    changed = run(np.setdiff1d(np.arange(step.starts["end"]), share.touched))
    found = set().union(*(lines_where(step, name, changed[name]) for name in arrays))
    assert found == set(share.written.tolist())
    assert not any(np.isnan(array[changed[name]]).any() for name, array in arrays.items())
    read = np.setdiff1d(share.touched, [*share.written, *without_effect(step, key, part)])
    if key.kind != "gather":
        assert len(read) > 0
        for line in rng.choice(read, min(12, len(read)), replace=False):
            changed = run(line)
            results = [array[changed[name]] for name, array in arrays.items()]
            assert any(np.isnan(result).any() for result in results), line


@pytest.mark.parametrize("sizes", [(37, 10), (37, 18, 10), (37, 70, 18, 10), (37, 70)])
def test_a_step_of_the_kernels_has_as_many_barriers_as_phases(sizes, monkeypatch):
    """Counted in the slot of a core that meets an absent one."""
    let_threads_help(monkeypatch)
    workload = replace(TINY, network=replace(TINY.network, sizes=sizes))
    sync = np.zeros(3 * SLOT, np.int64)
    sync[0] = 1 << 40
    met = []

    def alone(trainer, function, *arguments):
        met.append(-sync[SLOT] // 2)
        function(Team(0, 2, sync), *arguments)
        met[-1] += sync[SLOT] // 2

    with _measure.at_most(2):
        bench = _measure.Bench(workload, 19)
    monkeypatch.setattr(Trainer, "run", alone)
    monkeypatch.setattr(_measure, "least", lambda burst, *_: [burst(1), burst(3)])
    bench.step_seconds(2, 0.0)
    assert met[1] - met[0] == 2 * len(Step(sizes, 19, "float32").phases)
