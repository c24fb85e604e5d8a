"""A fit from blocks: the bits of one from arrays, in an order that a seed decides on."""

import copy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import MeanSquaredError, SoftmaxCrossEntropy, datasets, train_many
from fastmlp.callbacks import EarlyStopping
from tests.blocks import THREAD, Watched, cut, order_of, readers_alive
from tests.interrupts import Act
from tests.memory import peak_memory
from tests.networks import batch, build
from tests.resumes import BATCH, KINDS, SAMPLES, arguments, assert_same, network, outcome

X, LABELS, ROWS = batch(500, 5, 3)
WEIGHTS = np.random.default_rng(2).random(500)
CUTS = (0, 7, 7, 130, 131, 290, 480)
BLOCKS = cut((X, LABELS), CUTS)
COUNTS = [len(x) for x, _ in BLOCKS]


def small(**options):
    return build([5, 8, 3], momentum=0.9, **options)


# In their order


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "blocks" not in kind])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    places=st.lists(st.integers(0, SAMPLES), max_size=6).map(sorted),
    window=st.one_of(st.none(), st.integers(1, 2 * SAMPLES)),
)
def test_in_order_the_bits_are_those_of_the_arrays(kind, places, window):
    """Whatever the blocks are, and the windows: batches lie across the ends of both."""
    options = arguments(kind) | {"shuffle": False}
    in_memory = network(kind)
    in_memory.fit(**options)
    options = arguments(kind) | {"shuffle": False}
    arrays = [options.pop("x"), options.pop("labels")]
    weights = options.pop("sample_weight", None)
    blocks = cut([*arrays, *([weights] if weights is not None else [])], places)
    streamed = network(kind)
    streamed.fit(blocks, window=window, **options)
    assert_same(outcome(streamed), outcome(in_memory))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64", "int16", "bool", ">f4"])
@pytest.mark.parametrize("targets", ["classes", "rows", "whole rows", "floats that are classes"])
def test_dtypes_are_taken_as_those_of_arrays(dtype, targets):
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (70, 5)).astype(dtype)
    labels = {
        "classes": LABELS.astype(np.uint8), "rows": ROWS.astype(np.float32),
        "whole rows": ROWS.astype(int), "floats that are classes": LABELS.astype(np.float32),
    }[targets][:70]  # fmt: skip
    in_memory, streamed = small(), small()
    in_memory.fit(x, labels, batch_size=8, shuffle=False)
    streamed.fit(cut((x, labels), [33]), batch_size=8, shuffle=False, window=16)
    assert_same(outcome(streamed), outcome(in_memory))


def test_blocks_may_be_lists_of_numbers():
    blocks = [([[0.5, 1.0], [2.0, 3.0]], [0, 1]), ([[4.0, 5.0]], [1])]
    mlp, other = build([2, 3, 2]), build([2, 3, 2])
    mlp.fit(blocks, shuffle=False, batch_size=2)
    other.fit([[0.5, 1], [2, 3], [4, 5]], [0, 1, 1], shuffle=False, batch_size=2)
    assert_array_equal(mlp.parameters, other.parameters)


def test_a_regression_of_several_values():
    y = np.random.default_rng(3).standard_normal((500, 3))
    networks = [small(), small()]
    for mlp in networks:
        mlp.criterion = MeanSquaredError()
    networks[0].fit(X, y, shuffle=False, batch_size=16)
    networks[1].fit(cut((X, y), CUTS), shuffle=False, batch_size=16, window=100)
    assert_same(outcome(networks[1]), outcome(networks[0]))


@pytest.mark.parametrize("blocks", [BLOCKS, Watched(BLOCKS, counted=False)])
def test_blocks_that_do_not_say_their_rows_are_counted(blocks):
    mlp, other = small(), small()
    mlp.fit(blocks, seed=1, window=100)
    other.fit(Watched(BLOCKS), seed=1, window=100)
    assert_same(outcome(mlp), outcome(other))


# Shuffled


@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"accumulate": 3}])
@pytest.mark.parametrize("window", [20, 100, 240, 5000])
def test_the_order_is_a_function_of_the_seed(window, options):
    """Blocks in random order, and the rows of each window: other ones in every epoch."""
    mlp, by_hand = small(), small()
    mlp.fit(BLOCKS, epochs=3, seed=9, batch_size=16, window=window, **options)
    of_update = 16 * options.get("accumulate", 1)
    updates = -(-500 // of_update)
    windows = -(-updates // max(1, window // of_update))
    in_window = -(-updates // windows) * of_update
    samples = 496 if "drop_last" in options else 500
    rng = np.random.default_rng(9)
    for _ in range(3):
        order = order_of(rng, COUNTS, in_window, samples)
        assert len(set(order)) == samples
        by_hand.fit(X[order], LABELS[order], shuffle=False, batch_size=16, **options)
    assert_array_equal(mlp.parameters, by_hand.parameters)


def test_true_and_blocks_are_the_same_of_blocks_and_a_generator_goes_on():
    fits = []
    for shuffle in (True, "blocks"):
        rng = np.random.default_rng(5)
        mlp = small()
        mlp.fit(BLOCKS, shuffle=shuffle, seed=rng, window=50)
        mlp.fit(BLOCKS, shuffle=shuffle, seed=rng, window=50)
        fits.append((mlp.parameters.copy(), rng.integers(1 << 60)))
    assert_array_equal(fits[0][0], fits[1][0])
    assert fits[0][1] == fits[1][1]
    once = small()
    once.fit(BLOCKS, epochs=2, seed=5, window=50)
    assert_array_equal(once.parameters, fits[0][0])


@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_an_array_is_cut_into_blocks_of_a_megabyte(weights, tmp_path, monkeypatch):
    """A memory map, too."""
    monkeypatch.setattr("fastmlp._blocks.BLOCK_BYTES", 60 * 5 * 8)
    np.save(tmp_path / "x.npy", X)
    arrays = [X, LABELS] if weights is None else [X, LABELS, weights]
    networks = [small(), small(), small()]
    options = {"shuffle": "blocks", "window": 130, "seed": 3, "batch_size": 16}
    networks[0].fit(X, LABELS, sample_weight=weights, **options)
    networks[1].fit(
        np.load(tmp_path / "x.npy", mmap_mode="r"), LABELS, sample_weight=weights, **options
    )
    networks[2].fit(cut(arrays, range(60, 500, 60)), **options)
    for mlp in networks[1:]:
        assert_array_equal(mlp.parameters, networks[0].parameters)
        assert mlp.history.step_loss == networks[0].history.step_loss


@pytest.mark.usefixtures("forced_threads")
def test_the_bits_do_not_depend_on_threads(monkeypatch):
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    blocks, found = cut((X.astype(np.float32), LABELS), CUTS), []
    for threads in (1, 2, 3):
        fastmlp.set_num_threads(threads)
        mlp = small(dtype=np.float32)
        mlp.fit(blocks, seed=0, window=64, batch_size=16, epochs=2)
        found.append(mlp.parameters)
    assert_array_equal(found[1], found[0])
    assert_array_equal(found[2], found[0])


# What is read, and when


@pytest.mark.parametrize("window", [16, 96, 160, 5000])
def test_every_block_is_read_once_an_epoch_in_the_order_of_the_epoch(window):
    """By a thread, but for the first look at one; empty ones are not read."""
    blocks = Watched(BLOCKS)
    small().fit(blocks, epochs=2, seed=4, batch_size=16, window=window)
    assert [name for _, name in blocks.reads].count(THREAD) == len(blocks.reads) - 1
    rng = np.random.default_rng(4)
    for epoch in range(2):
        order = [b for b in rng.permutation(len(BLOCKS)) if COUNTS[b]]
        rng.integers(1 << 63)
        assert blocks.numbers[epoch * len(order) :][: len(order)] == order
    assert readers_alive() == []


def test_a_window_is_read_while_the_one_before_is_trained_on():
    """The fit rests after a step of each window until a block of the next has been read."""
    blocks = Watched(cut((X, LABELS), range(50, 500, 50)))

    class Wait:
        def on_progress(self, progress):
            trained = min(progress.step * 10, 500)
            while len(blocks.numbers) < min(10, trained // 100 * 2 + 2):
                pass

    small().fit(blocks, batch_size=10, window=100, shuffle=False, callbacks=[Wait()])
    assert blocks.numbers == list(range(10))


class LetRead:
    """Rests until the present thread has read all that it is to read; how much that was."""

    def __init__(self, blocks):
        self._blocks, self.found = blocks, []

    def on_progress(self, progress):
        for thread in readers_alive():
            thread.join(60)
        self.found.append(len(self._blocks.numbers))


@pytest.mark.usefixtures("short_calls")
def test_no_more_than_the_next_window_is_read():
    blocks = Watched(cut((X, LABELS), range(50, 500, 50)))
    read = LetRead(blocks)
    small().fit(blocks, batch_size=10, window=100, shuffle=False, callbacks=[read])
    assert read.found == [min(10, 2 * (step // 10 + 2)) for step in range(50)]


def test_a_fit_of_some_steps_reads_their_windows():
    blocks = Watched(cut((X, LABELS), range(50, 500, 50)))
    mlp = small()

    options = {"max_steps": 13, "callbacks": [LetRead(blocks)]}
    mlp.fit(blocks, batch_size=10, window=100, shuffle=False, **options)
    assert blocks.numbers == [0, 1, 2, 3]
    other = small()
    other.fit(X, LABELS, batch_size=10, shuffle=False, max_steps=13)
    assert_same(outcome(mlp), outcome(other))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.usefixtures("short_calls")
def test_a_fit_that_goes_on_reads_no_blocks_before_its_window(weighted):
    """But where rows have weights: the mean loss of the epoch needs them."""
    arrays = (X, LABELS, WEIGHTS) if weighted else (X, LABELS)
    blocks = Watched(cut(arrays, range(50, 500, 50)))

    class Stop:
        def on_progress(self, progress):
            if progress.step >= 35:
                raise KeyboardInterrupt

    options = {"batch_size": 10, "window": 100, "shuffle": False}
    mlp = small()
    with pytest.raises(KeyboardInterrupt):
        mlp.fit(blocks, callbacks=[Stop()], **options)
    blocks.reads.clear()
    mlp.fit(blocks, resume=True, **options)
    assert blocks.numbers == list(range(0 if weighted else 6, 10))
    other = small()
    other.fit(Watched(cut(arrays, range(50, 500, 50))), **options)
    assert_same(outcome(mlp), outcome(other))


def test_memory_is_two_windows_and_a_block():
    rows, columns, window, of_block = 40_000, 100, 2_000, 1_000

    class Made:
        row_counts = [of_block] * (rows // of_block)

        def __len__(self):
            return len(self.row_counts)

        def __getitem__(self, number):
            return np.full((of_block, columns), number % 7, np.float32), np.zeros(of_block, int)

    mlp = build([columns, 4, 3], dtype=np.float32)
    mlp.fit(Made(), window=window, max_steps=1)
    taken = peak_memory(lambda: mlp.fit(Made(), window=window, seed=0))
    row = columns * 4 + 8
    assert taken < (2 * window + 2 * of_block) * row + 3 * window * 8 + 10**6
    assert taken < rows * row / 5


# Beside other things


@pytest.mark.usefixtures("short_calls")
def test_callbacks_may_look_copy_and_change():
    """What they do has its effect as in a fit from arrays."""

    def smooth(mlp):
        mlp.criterion = SoftmaxCrossEntropy(label_smoothing=0.2)
        copy.deepcopy(mlp)

    in_memory, streamed = small(), small()
    options = {"shuffle": False, "batch_size": 16, "epochs": 2}
    in_memory.fit(X, LABELS, callbacks=[Act("on_progress", smooth)], **options)
    streamed.fit(BLOCKS, callbacks=[Act("on_progress", smooth)], window=96, **options)
    assert_array_equal(streamed.parameters, in_memory.parameters)


def test_validation_and_early_stopping():
    networks = [small(lr=0.5), small(lr=0.5)]
    for mlp, data in zip(networks, ((X, LABELS), (BLOCKS,)), strict=True):
        mlp.fit(*data, shuffle=False, epochs=40, validation_data=(X[:50], LABELS[:50]),
                callbacks=[EarlyStopping(2)])  # fmt: skip
    assert len(networks[0].history.val_loss) < 40
    assert_same(outcome(networks[1]), outcome(networks[0]))


def test_several_fits_share_blocks():
    blocks = Watched(BLOCKS)
    together = [small(seed=i) for i in range(3)]
    train_many([(mlp, {"x": blocks, "seed": 0, "window": 64}) for mlp in together], max_workers=3)
    for i, mlp in enumerate(together):
        one = small(seed=i)
        one.fit(blocks, seed=0, window=64)
        assert_array_equal(mlp.parameters, one.parameters)


def test_the_estimators_learn_block_by_block(tmp_path):
    """From the same readers."""
    estimators = pytest.importorskip("fastmlp.estimators", reason="needs the extra sklearn")
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "y.npy", LABELS)
    blocks = datasets.open_blocks([(tmp_path / "x.npy", tmp_path / "y.npy")], block_rows=130)
    streamed, by_hand = (estimators.MLPClassifier((8,), random_state=0) for _ in range(2))
    for x, labels in blocks:
        streamed.partial_fit(x, labels, classes=[0, 1, 2])
    for first in range(0, 500, 130):
        rows = slice(first, first + 130)
        by_hand.partial_fit(X[rows], LABELS[rows], classes=[0, 1, 2])
    assert streamed.t_ == 500
    assert_array_equal(streamed.network_.parameters, by_hand.network_.parameters)


def test_batches_of_the_tests_lie_across_blocks():
    """What the first test promises."""
    assert any(place % BATCH for place in CUTS)
