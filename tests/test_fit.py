"""MLP.fit, predict, predict_proba and evaluate."""

import os
import time
import tracemalloc

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import MLP, Identity, ReLU, Sigmoid, SoftmaxCrossEntropy, Tanh, datasets
from fastmlp.kernels.epoch import train_steps
from tests.networks import TOLERANCE, assert_close, assert_same_state, batch, build, state
from tests.reference import (
    ReferenceMLP,
    one_hot,
    softmax,
    softmax_cross_entropy,
    train_epoch,
)

# How far fit may end from the hand-written loop: None means equal bits, since both run the same
# arithmetic in the same order.
FIT_AGAINST_LOOP = None

NETWORKS = {
    "linear classifier": ([17, 3], [Identity], 0),
    "single units": ([1, 1, 2], [Tanh, Identity], 0),
    "rectified": ([15, 97, 10], [ReLU, Identity], 0),
    "sigmoid, batch norm": ([16, 47, 48, 10], [Sigmoid, Sigmoid, Identity], 1),
    "mixed, batch norm": ([49, 48, 17, 7, 5], [ReLU, Tanh, Sigmoid, Identity], 3),
    # Outputs that are no bare logits, in one panel and in several.
    "sigmoid outputs": ([15, 9, 5], [Tanh, Sigmoid], 0),
    "rectified outputs": ([7, 16, 97], [Tanh, ReLU], 0),
    "tanh outputs, batch norm": ([16, 17, 49], [ReLU, Tanh], 2),
}

both_dtypes = pytest.mark.parametrize("dtype", [np.float64, np.float32])
every_network = pytest.mark.parametrize(
    ("sizes", "activations", "num_bn_layers"), NETWORKS.values(), ids=NETWORKS
)


def small(cls=MLP, **options):
    options = {"num_bn_layers": 1, "momentum": 0.9, "batchnorm_reduction": "mean"} | options
    return build([5, 17, 16, 3], cls=cls, **options)


# Against the hand-written loop


@every_network
@pytest.mark.parametrize("dtype", [np.float64, np.float32, "bfloat16"])
@pytest.mark.parametrize(
    ("samples", "batch_size"), [(33, 1), (33, 7), (33, 8), (33, 33), (33, 50), (700, 300)]
)
def test_fit_in_order_is_the_hand_written_loop(
    sizes, activations, num_bn_layers, dtype, samples, batch_size
):
    """The last batch may be short, and a batch_size above the samples means one batch."""
    fitted, looped = (
        build(sizes, activations, dtype=dtype, momentum=0.9, num_bn_layers=num_bn_layers)
        for _ in range(2)
    )
    x, labels, y = batch(samples, sizes[0], sizes[-1], dtype=dtype)
    history = fitted.fit(x, labels, epochs=2, batch_size=batch_size, shuffle=False)
    figures = [train_epoch(looped, x, y, batch_size) for _ in range(2)]
    assert_same_state(state(fitted), state(looped), FIT_AGAINST_LOOP)
    losses, errors = np.transpose(figures) / samples
    assert_close(history.train_loss, losses, 1e-12 if dtype == np.float64 else 1e-6)
    assert_array_equal(history.train_error, errors)


@every_network
def test_twenty_steps_against_numpy(sizes, activations, num_bn_layers):
    options = {"momentum": 0.9, "num_bn_layers": num_bn_layers}
    mlp, expected = (build(sizes, activations, cls, **options) for cls in (MLP, ReferenceMLP))
    x, labels, y = batch(33, sizes[0], sizes[-1])
    mlp.fit(x, labels, epochs=4, batch_size=7, shuffle=False)
    for _ in range(4):
        train_epoch(expected, x, y, 7)
    assert_same_state(state(mlp), state(expected), 1e-10)


def test_fit_continues_from_weights_and_momentum():
    once, twice, by_hand = small(), small(), small()
    x, labels, y = batch(33, 5, 3)
    once.fit(x, labels, epochs=2, batch_size=8, shuffle=False)
    for _ in range(2):
        twice.fit(x, labels, epochs=1, batch_size=8, shuffle=False)
    assert_same_state(state(twice), state(once))
    train_epoch(by_hand, x, y, 8)
    by_hand.fit(x, labels, epochs=1, batch_size=8, shuffle=False)
    assert_same_state(state(by_hand), state(once), FIT_AGAINST_LOOP)


# History


def test_history():
    mlp, expected = small(), small(ReferenceMLP)
    x, labels, y = batch(33, 5, 3)
    val_x, val_labels, val_y = batch(20, 5, 3, seed=2)
    started = time.perf_counter()
    history = mlp.fit(x, labels, epochs=3, batch_size=8, shuffle=False,
                      validation_data=(val_x, val_labels))  # fmt: skip
    elapsed = time.perf_counter() - started
    for epoch in range(3):
        loss, wrong = train_epoch(expected, x, y, 8)
        expected.eval()
        expected(val_x)
        assert_close(history.train_loss[epoch], loss / 33, 1e-12)
        assert history.train_error[epoch] == wrong / 33
        assert_close(history.val_loss[epoch], expected.total_loss(val_y) / 20, 1e-12)
        assert history.val_error[epoch] == expected.error(val_y) / 20
    steps = np.reshape(history.step_loss, (3, 5))
    assert_close(steps @ [8, 8, 8, 8, 1] / 33, history.train_loss, 1e-12)
    lengths = [len(getattr(history, name)) for name in (
        "train_loss", "train_error", "val_loss", "val_error", "epoch_seconds")]  # fmt: skip
    assert lengths == [3] * 5
    assert min(history.epoch_seconds) > 0
    assert sum(history.epoch_seconds) < elapsed


def test_history_without_validation_data():
    x, labels, _ = batch(33, 5, 3)
    history = small().fit(x, labels, epochs=2)
    assert len(history.train_loss) == 2
    assert history.val_loss == history.val_error == []


def test_validation_does_not_change_training():
    plain, validated = small(), small()
    x, labels, _ = batch(33, 5, 3)
    plain.fit(x, labels, epochs=3, batch_size=8, seed=1)
    validated.fit(
        x, labels, epochs=3, batch_size=8, seed=1, validation_data=(x[:7] + 5, labels[:7])
    )
    assert_same_state(state(validated), state(plain))


# Shuffling


def test_seed_makes_a_run_repeatable():
    def fitted(seed, numpy_seed, epochs=3):
        np.random.seed(numpy_seed)
        mlp = small()
        x, labels, _ = batch(33, 5, 3)
        history = mlp.fit(x, labels, epochs=epochs, batch_size=8, seed=seed)
        return state(mlp) | {"losses": np.array(history.train_loss)}

    assert_same_state(fitted(seed=0, numpy_seed=1), fitted(seed=0, numpy_seed=2))
    assert not np.array_equal(fitted(0, 1)["W0"], fitted(1, 1)["W0"])


def test_every_epoch_has_its_own_order():
    repeated, continued = small(), small()
    x, labels, _ = batch(33, 5, 3)
    continued.fit(x, labels, epochs=2, batch_size=8, seed=0)
    for _ in range(2):
        repeated.fit(x, labels, epochs=1, batch_size=8, seed=0)
    assert not np.array_equal(state(repeated)["W0"], state(continued)["W0"])


@pytest.mark.parametrize("batch_size", [1, 8, 33])
def test_a_shuffled_epoch_takes_every_sample_once(batch_size):
    """With lr 0 the running loss is the mean over exactly the samples that were seen.

    Sample k has loss of its own size, about 2**k, so that a sample left out or taken twice shows.
    """
    mlp = build([1, 2], [Identity], lr=0.0)
    mlp.linear_layers[0].W = np.array([[1.0, -1.0]])
    mlp.linear_layers[0].b = np.zeros((1, 2))
    x, labels = 2.0 ** np.arange(33)[:, np.newaxis], np.ones(33, int)
    history = mlp.fit(x, labels, epochs=2, batch_size=batch_size, shuffle=True, seed=0)
    expected = softmax_cross_entropy(np.hstack([x, -x]), one_hot(labels, 2))[0].mean()
    assert_close(history.train_loss, [expected] * 2, 1e-14)


# Labels and x of every kind


@pytest.mark.parametrize("convert", [
    lambda labels: labels.astype(np.uint8),
    lambda labels: labels.astype(np.int32),
    lambda labels: labels[::-1].copy()[::-1],
    lambda labels: labels.tolist(),
    lambda labels: one_hot(labels, 3),
    lambda labels: one_hot(labels, 3, np.float32),
    lambda labels: np.asfortranarray(one_hot(labels, 3)),
], ids=["uint8", "int32", "reversed", "list", "rows", "float32 rows", "Fortran rows"])  # fmt: skip
@both_dtypes
def test_labels_in_any_form_give_the_same_bits(convert, dtype):
    by_class, by_other = small(dtype=dtype), small(dtype=dtype)
    x, labels, _ = batch(33, 5, 3, dtype=dtype)
    histories = [
        mlp.fit(x, y, epochs=2, batch_size=8, seed=5, validation_data=(x, y))
        for mlp, y in ((by_class, labels), (by_other, convert(labels)))
    ]
    assert_same_state(state(by_other), state(by_class))
    for name in ("train_loss", "train_error", "val_loss", "val_error"):
        assert_array_equal(getattr(histories[1], name), getattr(histories[0], name))
    assert by_other.evaluate(x, convert(labels)) == by_class.evaluate(x, labels)


def test_no_form_of_labels_or_x_compiles_the_epoch_anew():
    """Compiling takes many seconds; strides, byte sizes and writability must not cause it."""
    mlp = small()
    x, labels, y = batch(33, 5, 3)
    frozen_labels, frozen_y = labels.copy(), y.copy()
    for array in (frozen_labels, frozen_y):
        array.flags.writeable = False
    mlp.fit(x, labels)
    mlp.fit(x, y)
    compiled = len(train_steps.signatures)
    assert compiled > 0
    for form in (labels[::-1], labels.astype(np.uint8), frozen_labels, y[::-1], y > 0, frozen_y):
        mlp.fit(x, form)
    for form in (x[::-1], np.asfortranarray(x), x.astype(np.float32), x.astype(np.uint8)):
        mlp.fit(form, labels)
    mlp.lr = np.float32(0.125)
    mlp.momentum = 0
    mlp.fit(x, labels)
    assert len(train_steps.signatures) == compiled


def test_soft_labels():
    """Rows need not be one-hot: the loss uses them whole, the error their largest entry."""
    mlp, expected = small(), small(ReferenceMLP)
    x, _, _ = batch(33, 5, 3)
    rows = 9 * softmax(np.random.default_rng(3).standard_normal((33, 3)))
    history = mlp.fit(x, rows, batch_size=8, shuffle=False, epochs=1)
    loss, wrong = train_epoch(expected, x, rows, 8)
    assert_same_state(state(mlp), state(expected), 1e-12)
    assert_close(history.train_loss[0], loss / 33, 1e-12)
    assert history.train_error[0] == wrong / 33


@both_dtypes
def test_uint8_pixels_are_scaled_to_one(dtype):
    """To the same bits as from floats, also where those were divided in float64."""
    bytes_in, floats_in = small(dtype=dtype), small(dtype=dtype)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 5), dtype=np.uint8)
    pixels[0] = 0, 1, 128, 254, 255
    _, labels, _ = batch(33, 5, 3)
    floats = pixels / 255
    assert_array_equal(bytes_in.predict_proba(pixels), floats_in.predict_proba(floats))
    for mlp, x in ((bytes_in, pixels), (floats_in, floats)):
        mlp.fit(x, labels, epochs=2, batch_size=8, seed=0, validation_data=(x, labels))
    assert_same_state(state(bytes_in), state(floats_in))
    assert bytes_in.evaluate(pixels, labels) == floats_in.evaluate(floats, labels)


@both_dtypes
def test_x_of_the_other_precision_is_converted_as_numpy_converts(dtype):
    converted, direct = small(dtype=dtype), small(dtype=dtype)
    other = np.float32 if dtype == np.float64 else np.float64
    x, labels, _ = batch(33, 5, 3, dtype=other)
    direct.fit(x.astype(dtype), labels, epochs=2, batch_size=8, seed=0)
    converted.fit(x, labels, epochs=2, batch_size=8, seed=0)
    assert_same_state(state(converted), state(direct))
    assert converted.predict_proba(x).dtype == dtype
    assert_array_equal(converted.predict_proba(x), direct.predict_proba(x.astype(dtype)))
    assert converted.forward(x).dtype == dtype
    assert_array_equal(converted.forward(x), direct.forward(x.astype(dtype)))


@pytest.mark.parametrize("x_dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("method", ["fit", "evaluate", "predict", "predict_proba"])
def test_x_is_used_in_place(tmp_path, method, x_dtype):
    """A read-only memory map serves, and memory grows with neither the rows nor their bytes."""
    file = np.lib.format.open_memmap(tmp_path / "x.npy", "w+", x_dtype, (6000, 1000))
    file[:] = np.arange(1000) % 2
    file.flush()
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    labels = np.arange(6000) % 3
    mlp = build([1000, 4, 3], dtype=np.float32)
    call = {
        "fit": lambda n: mlp.fit(x[:n], labels[:n], epochs=1, batch_size=32),
        "evaluate": lambda n: mlp.evaluate(x[:n], labels[:n]),
        "predict": lambda n: mlp.predict(x[:n]),
        "predict_proba": lambda n: mlp.predict_proba(x[:n]),
    }[method]

    def peak_memory(samples):
        call(samples)
        tracemalloc.start()
        try:
            call(samples)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak_memory(6000) - peak_memory(2000) < 4000 * 1000 * x.itemsize / 4


# Using the result


@pytest.mark.parametrize("samples", [1, 4, 5, 33, 1000, 40000])
@both_dtypes
def test_predictions(samples, dtype):
    """In eval mode whatever the mode of the network, which they leave as it was."""
    mlp, expected = small(dtype=dtype), small(ReferenceMLP, dtype=dtype)
    x, _, y = batch(33, 5, 3, dtype=dtype)
    for network in (mlp, expected):
        train_epoch(network, x, y, 8)
    before = state(mlp)
    x, labels, y = batch(samples, 5, 3, dtype=dtype, seed=7)
    expected.eval()
    logits = expected(x)
    tolerance = 1e-12 if dtype == np.float64 else 1e-5
    probabilities = mlp.predict_proba(x)
    assert (probabilities.shape, probabilities.dtype) == ((samples, 3), dtype)
    assert_close(probabilities, softmax(logits), tolerance)
    assert_close(
        probabilities.sum(axis=1), np.ones(samples), 1e-15 if dtype == np.float64 else 1e-6
    )
    classes = mlp.predict(x)
    assert classes.shape == (samples,)
    assert np.issubdtype(classes.dtype, np.integer)
    assert_array_equal(classes, logits.argmax(axis=1))
    for given in (labels, y):
        loss, error = mlp.evaluate(x, given)
        assert_close(loss, expected.total_loss(y) / samples, tolerance)
        assert error == expected.error(y) / samples
    assert mlp.train_mode
    assert_same_state(state(mlp), before)


def test_huge_logits_give_finite_probabilities():
    mlp = build([1, 2], [Identity], dtype=np.float32)
    mlp.linear_layers[0].W = np.array([[1e4, -1e4]])
    assert_array_equal(mlp.predict_proba(np.array([[1.0], [-1.0]])), [[1, 0], [0, 1]])
    loss, error = mlp.evaluate(np.array([[1.0], [-1.0]]), np.array([1, 1]))
    assert_close(loss, 1e4, 1e-4)
    assert error == 0.5


@pytest.mark.skipif("FASTMLP_DATA" not in os.environ, reason="FASTMLP_DATA names no data folder")
def test_mnist_in_three_epochs():
    """784-128-10 from bytes: at least 97 % of the test images."""
    mnist = datasets.load("mnist", os.environ["FASTMLP_DATA"])
    rng = np.random.default_rng(0)
    mlp = MLP(784, 10, [128], [ReLU(), Identity()],
              lambda i, o: (rng.standard_normal((i, o)) * np.sqrt(2 / i)).astype(np.float32),
              lambda o: np.zeros((1, o)), SoftmaxCrossEntropy(), lr=0.05, momentum=0.9)  # fmt: skip
    history = mlp.fit(mnist.train_x, mnist.train_y, epochs=3, batch_size=64, seed=0,
                      validation_data=(mnist.test_x, mnist.test_y))  # fmt: skip
    assert history.val_error[-1] <= 0.03
    assert np.mean(mlp.predict(mnist.test_x) != mnist.test_y) == history.val_error[-1]


@every_network
@both_dtypes
@pytest.mark.parametrize("bias", [True, False])
def test_a_row_is_predicted_alone_as_among_others(sizes, activations, num_bn_layers, dtype, bias):
    """Up to four rows skip what meets a zero; NaN and infinity are no zeros."""
    mlp = build(sizes, activations, dtype=dtype, num_bn_layers=num_bn_layers, bias=bias)
    x, _, _ = batch(9, sizes[0], sizes[-1], dtype=dtype)
    x[1] = 0
    x[2, ::2] = 0
    x[3, 1:] = 0
    x[4, :-1] = -0.0
    together = mlp.predict_proba(x)
    for first in range(5):
        alone = mlp.predict_proba(x[first : first + 4])
        assert_close(alone, together[first : first + 4], TOLERANCE[np.dtype(dtype)])
    for value in (np.nan, np.inf):
        x[2, -1] = value
        assert_array_equal(np.isnan(mlp.predict_proba(x[2:3])), np.isnan(mlp.predict_proba(x)[2:3]))
