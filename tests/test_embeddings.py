"""Periodic embeddings of the input's first columns: how they learn, and where they are kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import (
    GELU,
    MLP,
    Identity,
    PeriodicEmbeddings,
    ReLU,
    Sigmoid,
    Tanh,
    optimizers,
)
from fastmlp.kernels.epoch import train_steps
from tests.networks import (
    assert_refused_in_a_file,
    assert_same_state,
    batch,
    build,
    duplicate,
    fit_is_the_loop_on_any_threads,
    state,
    train_by_hand,
)
from tests.reference import UPDATES, embed, embed_gradient, finite_difference, softmax

SIZES, ACTIVATIONS = [7, 17, 33, 5, 3], [ReLU, Sigmoid, GELU, Identity]
KIND = PeriodicEmbeddings(5, sigma=0.3, seed=2)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])


def embedded(sizes=SIZES, activations=None, kind=KIND, **options):
    return build(sizes, activations, embeddings=kind, **options)


def test_numbers_are_part_of_the_parameters():
    plain, mlp = build(SIZES), embedded()
    numbers = 5 * (2 * 16 + 3 * 17)
    assert mlp.parameters.size == plain.parameters.size + 15 * 17 + numbers
    assert mlp.linear_layers[0].W.shape == (7 + 15, 17)
    assert mlp._embedding.numbers.shape == (numbers,)
    mlp._embedding.numbers[3] = 2.5
    assert np.count_nonzero(mlp.parameters == 2.5) == 1


def test_draws():
    """By the seed; w is normal, b covers a turn, v and c lie within 1 / sqrt(16)."""
    kind = PeriodicEmbeddings(200, sigma=0.1, seed=3)
    numbers = kind.draw(np.float64)
    assert_array_equal(numbers, kind.draw(np.float64))
    assert (numbers != PeriodicEmbeddings(200, sigma=0.1, seed=4).draw(np.float64)).any()
    w, b, rest = np.split(numbers, [3200, 6400])
    assert abs(w.std() / 0.1 - 1) < 5 / np.sqrt(2 * 3200)
    for part, most in ((b, np.pi), (rest, 0.25)):
        assert 0.99 * most < np.abs(part).max() <= most
        assert abs(part.mean()) < 5 * most / np.sqrt(3 * part.size)


@every_dtype
@pytest.mark.parametrize("rows", [1, 4, 5, 150])
@pytest.mark.parametrize("pixels", [False, True])
def test_outputs_by_numpy(rows, dtype, pixels):
    """Those of a plain network of the same layers on the columns and their embeddings."""
    mlp = embedded(dtype=dtype)
    plain = build([22, *SIZES[1:]], dtype=dtype)
    x, _, _ = batch(rows, 7, 3, dtype=dtype)
    if pixels:
        x = np.random.default_rng(0).integers(0, 256, x.shape, np.uint8)
    given = x / 255 if pixels else x
    numbers = mlp._embedding.numbers.astype(np.float64)
    rows_of_22 = embed(given.astype(np.float64), numbers, KIND.sizes).astype(mlp.dtype)
    tolerance = {np.float64: 1e-12, np.float32: 1e-4}.get(dtype, 0.1)
    for found in (mlp._outputs(x), mlp.forward(x)):
        assert_allclose(found, plain._outputs(rows_of_22), rtol=0, atol=tolerance)


@pytest.mark.parametrize("scaled", [False, True])
@every_dtype
@pytest.mark.usefixtures("forced_threads")
def test_predictions_are_the_same_bits_for_any_number_of_rows(scaled, dtype):
    mlp = embedded(dtype=dtype, scale_inputs=scaled)
    x, labels, _ = batch(150, 7, 3, dtype=dtype)
    mlp.fit(x, labels)
    outputs = mlp.predict_proba(x)
    mlp.eval()
    assert_allclose(mlp.forward(x), mlp._outputs(x), rtol=0, atol=1e-4)
    for first in range(0, 150, 3):
        assert_array_equal(mlp.predict_proba(x[first : first + 3]), outputs[first : first + 3])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale_inputs": True},
        {"dropout": [0.3, 0.2, 0.1]},
        {"dropout": [0.3, 0, 0], "scale_inputs": True, "num_bn_layers": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [PeriodicEmbeddings(3, 5, 2, 1.0, 1), PeriodicEmbeddings(5, 1, 1)])
def test_gradients_by_finite_differences(options, kind):
    mlp = embedded([5, 7, 6, 3], [Tanh, GELU, Identity], kind, batchnorm_reduction="sum", **options)
    if mlp.input_scale is not None:
        mlp.input_scale = np.random.default_rng(3).uniform(0.5, 2, mlp.input_scale.size)
    x, labels, rows = batch(9, 5, 3)

    def loss(_):
        mlp.dropout_seed = 7
        mlp.forward(x)
        return mlp.total_loss(rows) / len(rows)

    loss(None)
    mlp.backward(labels)
    found, scales = mlp._embedding.dnumbers.copy(), None
    if mlp.input_scale is not None:
        scales = mlp._scale.dscale.copy()
    expected = finite_difference(loss, mlp._embedding.numbers)
    assert_allclose(found, expected, rtol=1e-5, atol=1e-8)
    if scales is not None:
        assert_allclose(scales, finite_difference(loss, mlp.input_scale), rtol=1e-5, atol=1e-8)


def test_twenty_steps_by_numpy():
    """AdamW, with a rate and a decay of their own: embeddings decay as weights do."""
    rule = optimizers.AdamW(0.02, weight_decay=0.5, rate_factors={"embeddings": 0.1})
    fitted, looped = (
        embedded([7, 9, 3], [Tanh, Identity], lr=None, optimizer=rule) for _ in range(2)
    )
    (w1, b1), (w2, b2) = [(m.W.copy(), m.b.copy()) for m in fitted.linear_layers]
    numbers = fitted._embedding.numbers.copy()
    x, labels, rows = batch(31, 7, 3)
    plain = optimizers.AdamW(0.02, weight_decay=0.5)
    rules = [plain, optimizers.AdamW(0.02, weight_decay=0.0)] * 2
    rules.append(optimizers.AdamW(0.002, weight_decay=0.5))
    learnt = [w1, b1, w2, b2, numbers]
    states = [[np.zeros_like(a), np.zeros_like(a)] for a in learnt]
    for t in range(1, 21):
        x1 = embed(x, numbers, KIND.sizes)
        h = np.tanh(x1 @ w1 + b1)
        delta = (softmax(h @ w2 + b2) - rows) / len(x)
        dz = delta @ w2.T * (1 - h * h)
        gradients = [x1.T @ dz, dz.sum(axis=0, keepdims=True), h.T @ delta]
        gradients.append(delta.sum(axis=0, keepdims=True))
        gradients.append(embed_gradient(dz @ w1.T, x, numbers, KIND.sizes, 1.0))
        for array, own, state_, gradient in zip(learnt, rules, states, gradients, strict=True):
            array[...], *state_[:] = UPDATES["AdamW"](own, t, array, state_, gradient)
    fitted.fit(x, labels, epochs=20, batch_size=31, shuffle=False)
    train_by_hand(looped, x, labels, 20)
    for mlp in (fitted, looped):
        assert_allclose(mlp._embedding.numbers, numbers, rtol=0, atol=1e-11)
        assert_allclose(mlp.linear_layers[0].W, w1, rtol=0, atol=1e-11)
        assert_allclose(mlp.linear_layers[1].b, b2, rtol=0, atol=1e-11)


# The two paths


@every_dtype
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.01},
        {"dropout": [0.2, 0.5, 0, 0.1], "dropout_seed": 5, "scale_inputs": True},
        {
            "scale_inputs": True, "parametric_activations": True, "lr": None,
            "optimizer": optimizers.AdamW(
                0.01, clip_norm=0.5, clip_value=0.1, average=0.9, ntk=True,
                rate_factors={"scales": 6, "embeddings": 0.1},
            ),
        },
    ],
    ids=["momentum", "dropout", "realmlp"],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [9, 550])
@pytest.mark.usefixtures("forced_threads")
def test_fit_is_the_loop_for_any_number_of_threads(batch_size, options, dtype, monkeypatch):
    """Above 256 rows, or 512, a batch is cut into chunks."""

    def make():
        return embedded(SIZES, ACTIVATIONS, dtype=dtype, **options)

    fit_is_the_loop_on_any_threads(make, batch_size, dtype, monkeypatch)


@settings(deadline=None, max_examples=20)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 5),
    st.integers(1, 30), st.booleans(),
)  # fmt: skip
def test_any_embedding_in_either_path(columns, most, frequencies, outputs, rows, pixels):
    kind = PeriodicEmbeddings(min(columns, most), frequencies, outputs, 0.5, seed=1)
    x, labels, _ = batch(rows, columns, 3)
    if pixels:
        x = np.random.default_rng(0).integers(0, 256, x.shape, np.uint8)
    fitted, looped = (embedded([columns, 5, 3], kind=kind, momentum=0.9) for _ in range(2))
    fitted.fit(x, labels, epochs=2, batch_size=rows, shuffle=False)
    train_by_hand(looped, x, labels, 2)
    assert_same_state(state(fitted), state(looped))


@pytest.mark.parametrize("every", [2, 7])
def test_accumulated_batches_are_one_larger_batch(every):
    x, labels, _ = batch(103, 7, 3)
    small, large = (embedded(lr=None, optimizer=optimizers.SGD(0.1)) for _ in range(2))
    small.fit(x, labels, batch_size=10, accumulate=every, epochs=3, shuffle=False)
    large.fit(x, labels, batch_size=10 * every, epochs=3, shuffle=False)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-12)


def test_shuffled_rows_are_those_that_are_read():
    """The backward pass reads x again, in the order of the epoch."""
    x, labels, _ = batch(31, 7, 3)
    fitted, looped = embedded(momentum=0.9), embedded(momentum=0.9)
    fitted.fit(np.asfortranarray(x), labels, batch_size=8, seed=5, drop_last=True)
    order = np.arange(31)
    np.random.default_rng(5).shuffle(order)
    for first in (0, 8, 16):
        rows = order[first : first + 8]
        train_by_hand(looped, x[rows], labels[rows])
    assert_same_state(state(fitted), state(looped))


def test_one_compilation_serves_embeddings():
    x, labels, _ = batch(9, 7, 3)
    build([7, 5, 3], num_bn_layers=1).fit(x, labels)
    compiled_for = set(train_steps.signatures)
    embedded([7, 5, 3]).fit(x, labels)
    assert set(train_steps.signatures) == compiled_for


# Copies, files, bad input


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    rule = optimizers.Adam(0.01, average=0.9)
    mlp = embedded(lr=None, optimizer=rule, scale_inputs=True)
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    assert other.embeddings.sizes == KIND.sizes
    assert_array_equal(other.parameters, mlp.parameters)
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))
    other._embedding.numbers[0] = 9
    assert mlp._embedding.numbers[0] != 9


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PeriodicEmbeddings(0), "columns must be at least 1, got 0"),
        (lambda: PeriodicEmbeddings(1.5), "columns must be a whole number, got 1.5"),
        (lambda: PeriodicEmbeddings(1, 1025), "frequencies must be at most 1024, got 1025"),
        (lambda: PeriodicEmbeddings(1, outputs=0), "outputs must be at least 1, got 0"),
        (lambda: PeriodicEmbeddings(1, sigma=0), "sigma must be above 0, got 0"),
        (lambda: PeriodicEmbeddings(1, seed=-1), "seed must be at least 0, got -1"),
        (lambda: PeriodicEmbeddings(1, sigmas=1), "no argument 'sigmas'; did you mean 'sigma'"),
        (lambda: embedded([4, 5, 3]), "of at most 4 columns, those of x, got 5"),
        (lambda: embedded(kind=5), "embeddings must be an object of class PeriodicEmbeddings"),
        (
            lambda: embedded([7, 22, 5, 5, 3], residual=True),
            "does not add its input .* widths 22-22$",
        ),
    ],
)
def test_what_is_refused(make, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make()


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"embeddings": 1}, "the field embeddings .* is 1"),
        ({"embeddings": {"columns": 4}}, "must be"),
        ({"embeddings": {"columns": 9}}, "must be"),
        ({"embeddings": {"rows": 4}}, "no argument 'rows'"),
    ],
)
def test_files_that_describe_none(metadata, message, tmp_path):
    assert_refused_in_a_file(embedded(), metadata, message, tmp_path / "m")


def test_files_without_embeddings_do_not_name_them(tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    build(SIZES).save(tmp_path / "m")
    assert b"embedding" not in (tmp_path / "m").read_bytes()
    assert MLP.load(tmp_path / "m").embeddings is None
