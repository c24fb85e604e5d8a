"""Dropout: the words and masks it is made of, and the networks that train with it."""

import itertools

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fastmlp
from fastmlp import GELU, Activation, Identity, ReLU, Sigmoid, Tanh
from fastmlp.kernels._memory import store
from fastmlp.kernels._philox import philox
from fastmlp.kernels._simd import vector_lanes
from fastmlp.kernels.dropout import dropout_factors
from fastmlp.kernels.epoch import train_steps
from tests import masks
from tests.networks import (
    assert_refused_in_a_file,
    assert_same_state,
    batch,
    build,
    duplicate,
    gradients,
    gradients_follow_the_loss,
    state,
)
from tests.numerics import compiled

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
SIZES, ACTIVATIONS = [7, 17, 33, 5, 3], [ReLU, Sigmoid, GELU, Identity]


# Words


@compiled
def _words(out, like, counter, key):
    lanes = vector_lanes(like)
    words = philox(like, counter[0], (counter[1], counter[2], counter[3]), key)
    for i in range(4):
        store(out, i * lanes, words[i])


def words(counter, key, dtype):
    """(4, lanes) words, lane j for the counter whose first number is j larger."""
    integer = np.uint32 if dtype == np.float32 else np.uint64
    out = np.zeros(256, integer)
    _words(out, np.empty(0, dtype), counter, key)
    return out[out.nonzero()].reshape(4, -1)


@both_dtypes
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ((0,) * 4, (0,) * 2, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_known_answers(counter, key, expected, dtype):
    """Those of Random123's kat_vectors; the other lanes by the reference, which gives them too."""
    found = words(counter, key, dtype)
    assert found[:, 0].tolist() == list(expected)
    firsts = (counter[0] + np.arange(found.shape[1])) % 2**32
    assert_array_equal(found, masks.philox((firsts, *counter[1:]), key))


# Masks


@both_dtypes
@pytest.mark.parametrize(
    ("rate", "layer", "step", "seed"),
    [(0.5, 1, 0, 0), (0.25, 3, 2**32 + 7, 5), (0.9, 65535, 2**47 + 1, 2**64 - 1)],
)
def test_masks_follow_from_step_layer_row_and_column(rate, layer, step, seed, dtype):
    factors = np.empty((37, 41), dtype)
    dropout_factors(factors, rate, layer, step, seed)
    expected = masks.dropout_factors((37, 41), rate, layer, step, seed)
    assert_array_equal(factors, expected.astype(dtype))


@pytest.mark.parametrize("rate", [0.0, 2.0**-33, 0.01, 0.5, 0.8, np.nextafter(1, 0)])
def test_the_share_that_is_dropped(rate):
    """Within five standard deviations of a binomial distribution; the rest grows."""
    factors = np.empty((512, 256))
    dropout_factors(factors, rate, 1, 3, 11)
    assert set(np.unique(factors)) <= {0, 1 / (1 - rate)}
    deviation = np.sqrt(rate * (1 - rate) / factors.size)
    assert abs(np.mean(factors == 0) - rate) <= 5 * deviation + 2.0**-32


def test_masks_are_independent():
    """Pairs of entries agree as often as coins do: over rows, columns, steps, layers and seeds."""
    shape = 512, 256
    first = np.empty(shape)
    dropout_factors(first, 0.5, 1, 3, 11)
    others = [(2, 3, 11), (1, 4, 11), (1, 3, 12), (1, 3 + 2**32, 11), (1, 3, 11 + 2**32)]
    pairs = [(first[k:], first[:-k]) for k in (1, 2, 3, 4, 5)]
    pairs += [(first[:, k:], first[:, :-k]) for k in (1, 2, 8, 16)]
    for place in others:
        other = np.empty(shape)
        dropout_factors(other, 0.5, *place)
        pairs.append((first, other))
    for one, other in pairs:
        assert abs(np.mean(one == other) - 0.5) < 5 * 0.5 / np.sqrt(one.size)


# The two paths


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize(
    "options",
    [
        {"dropout": 0.5},
        {"dropout": [0.2, 0.5, 0, 0.1], "momentum": 0.9},
        {"dropout": [0, 0.3, 0.3, 0], "num_bn_layers": 2, "batchnorm_reduction": "mean"},
    ],
    ids=str,
)
@pytest.mark.parametrize("batch_size", [9, 550])
@pytest.mark.usefixtures("forced_threads")
def test_fit_is_the_loop_for_any_number_of_threads(batch_size, options, dtype, monkeypatch):
    """Above 256 rows, or 512, a batch is cut into chunks."""
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    looped = build(SIZES, ACTIVATIONS, dtype=dtype, dropout_seed=5, **options)
    x, labels, _ = batch(2 * batch_size + 5, 7, 3, dtype=dtype)
    for _, first in itertools.product(range(2), range(0, len(x), batch_size)):
        looped.forward(x[first : first + batch_size])
        looped.backward(labels[first : first + batch_size])
        looped.step()
    for count in (1, 2, 3):
        fastmlp.set_num_threads(count)
        fitted = build(SIZES, ACTIVATIONS, dtype=dtype, dropout_seed=5, **options)
        fitted.fit(x, labels, epochs=2, batch_size=batch_size, shuffle=False)
        assert_same_state(state(fitted), state(looped))
        assert fitted.dropout_steps == looped.dropout_steps == 6


def test_one_compilation_serves_dropout():
    x, labels, _ = batch(9, 7, 3)
    build([7, 5, 3], num_bn_layers=1).fit(x, labels)
    compiled_for = set(train_steps.signatures)
    for dropout in (0.5, [0.1, 0.2]):
        build([7, 5, 3], dropout=dropout, num_bn_layers=1).fit(x, labels)
    assert set(train_steps.signatures) == compiled_for


def expected_output(mlp, x, factors):
    first, last = mlp.linear_layers
    hidden = np.tanh((x * factors[0]) @ first.W + first.b)
    return (hidden * factors[1]) @ last.W + last.b


def test_forward_by_numpy():
    mlp = build([7, 17, 3], [Tanh, Identity], dropout=[0.25, 0.5], dropout_seed=2**63 + 3)
    x, _, _ = batch(9, 7, 3)
    for step in range(3):
        factors = [
            masks.dropout_factors((9, width), share, layer, step, 2**63 + 3)
            for layer, (width, share) in enumerate([(7, 0.25), (17, 0.5)])
        ]
        assert_allclose(mlp.forward(x), expected_output(mlp, x, factors), rtol=0, atol=1e-13)


@pytest.mark.parametrize("num_bn_layers", [0, 2])
def test_gradients_follow_the_loss_under_the_same_masks(num_bn_layers):
    """Finite differences of the mean loss; a seed that is set again draws the same masks."""
    mlp = build(
        [5, 7, 6, 3], [Tanh, GELU, Identity], dropout=[0.2, 0.3, 0.4], num_bn_layers=num_bn_layers,
        batchnorm_reduction="sum",
    )  # fmt: skip
    gradients_follow_the_loss(mlp, *batch(9, 5, 3))


class Doubled(Activation):
    """An activation that no kernel knows, with a backward method alone."""

    def forward(self, x):
        return 2 * x

    def backward(self, delta):
        return 2 * delta


def test_activations_of_the_callers_own():
    """The same as an identity with weights twice as large."""
    own = build([5, 7, 3], [Doubled, Identity], dropout=0.4, dropout_seed=1)
    known = build([5, 7, 3], [Identity, Identity], dropout=0.4, dropout_seed=1)
    known.linear_layers[0].W *= 2
    known.linear_layers[0].b *= 2
    x, labels, _ = batch(9, 5, 3)
    for mlp in (own, known):
        mlp.forward(x)
        mlp.backward(labels)
    assert_array_equal(own.output, known.output)
    assert_array_equal(own.linear_layers[0].dW, 2 * known.linear_layers[0].dW)


@both_dtypes
def test_pixels_are_dropped_too(dtype):
    """uint8 inputs, scaled and then dropped, are the same in either path."""
    x = np.random.default_rng(0).integers(0, 256, (30, 7), np.uint8)
    labels = batch(30, 7, 3)[1]
    fitted, looped = (
        build([7, 5, 3], dtype=dtype, dropout=[0.5, 0], dropout_seed=1) for _ in range(2)
    )
    fitted.fit(x, labels, batch_size=30, shuffle=False)
    looped.forward(x)
    first = looped.linear_layers[0].x
    kept = first != 0
    assert_allclose(first[kept], 2 * (x / 255)[kept], rtol=1e-6)
    assert not kept[x > 0].all()
    looped.backward(labels)
    looped.step()
    assert_same_state(state(fitted), state(looped))


# Where nothing is dropped


def test_nothing_is_dropped_in_eval_mode():
    x, labels, _ = batch(9, 7, 3)
    dropping, plain = build(SIZES, dropout=0.5), build(SIZES)
    dropping.fit(x, labels)
    plain.parameters = dropping.parameters
    done = dropping.dropout_steps
    for rows in (x[:2], x):
        assert_array_equal(dropping.predict_proba(rows), plain.predict_proba(rows))
    assert dropping.evaluate(x, labels) == plain.evaluate(x, labels)
    dropping.eval()
    assert_array_equal(dropping.forward(x), plain.forward(x))
    for mlp in (dropping, plain):
        mlp.backward(labels)
    assert_same_state(gradients(dropping), gradients(plain))
    assert dropping.dropout_steps == done == 1


def test_without_dropout_no_steps_are_counted():
    mlp = build([5, 7, 3])
    assert mlp.dropout == (0, 0)
    x, labels, _ = batch(9, 5, 3)
    mlp.fit(x, labels)
    mlp.forward(x)
    assert mlp.dropout_steps == 0


# Seeds


def test_a_seed_of_fit_makes_masks_repeatable():
    x, labels, _ = batch(30, 7, 3)

    def trained(seed, **options):
        mlp = build(SIZES, dropout=0.5, **options)
        mlp.forward(x)
        mlp.fit(x, labels, batch_size=8, seed=seed)
        return state(mlp)

    assert_same_state(trained(3), trained(3))
    assert (trained(3)["W0"] != trained(4)["W0"]).any()
    generators = [np.random.default_rng(5) for _ in range(2)]
    assert_same_state(trained(generators[0]), trained(generators[1]))


def test_seeds_are_drawn_where_none_is_given():
    first, second = (build([5, 7, 3], dropout=0.5) for _ in range(2))
    assert first.dropout_seed != second.dropout_seed


def test_fit_goes_on_where_the_last_one_ended(short_calls):
    """Also one that paused after every step."""
    x, labels, _ = batch(30, 7, 3)
    whole, parts, other = (build(SIZES, dropout=0.5, dropout_seed=9) for _ in range(3))
    whole.fit(x, labels, epochs=2, batch_size=8, shuffle=False)
    for _ in range(2):
        parts.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(parts), state(whole))
    assert whole.dropout_steps == 8
    other.dropout_seed = 10
    other.fit(x, labels, epochs=2, batch_size=8, shuffle=False)
    assert (other.parameters != whole.parameters).any()


class Setter:
    """A callback that changes the share after the first epoch."""

    def on_epoch_end(self, mlp, history):
        mlp.dropout = 0.25


def test_the_share_can_be_changed_while_a_fit_rests():
    x, labels, _ = batch(16, 7, 3)
    changed, parts = (build(SIZES, dropout=0.5, dropout_seed=9) for _ in range(2))
    changed.fit(x, labels, epochs=2, batch_size=8, shuffle=False, callbacks=[Setter()])
    parts.fit(x, labels, batch_size=8, shuffle=False)
    parts.dropout = [0, 0.25, 0.25, 0.25]
    parts.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(changed), state(parts))


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    mlp = build(SIZES, dropout=[0.1, 0.2, 0, 0.4], dropout_seed=2**64 - 1)
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    names = "dropout", "dropout_seed", "dropout_steps"
    assert [getattr(other, name) for name in names] == [mlp.dropout, 2**64 - 1, 4]
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dropout": 1}, r"dropout must be at least 0 and below 1, got 1$"),
        ({"dropout": -0.1}, r"dropout must be at least 0 and below 1, got -0\.1"),
        ({"dropout": np.nan}, "dropout must be finite, got nan"),
        ({"dropout": "0.5"}, "dropout must be a number, got '0.5'"),
        ({"dropout": None}, "dropout must be a number, got None"),
        ({"dropout": True}, "dropout must be a number, got True"),
        ({"dropout": [0.5]}, "dropout must be a number, or a list of 2, .*got 1 shares"),
        ({"dropout": [0, 1.5]}, r"dropout\[1\] must be at least 0 and below 1, got 1\.5"),
        ({"dropout_seed": -1}, "dropout_seed must be at least 0, got -1"),
        ({"dropout_seed": 2**64}, r"dropout_seed must be below 2\*\*64, got 18446744073709551616"),
        ({"dropout_seed": 0.5}, "dropout_seed must be a whole number, got 0.5"),
        ({"droput": 0.5}, "MLP has no argument 'droput'; did you mean 'dropout'"),
    ],
)
def test_what_is_no_share_or_seed(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build([5, 7, 3], **options)


def test_what_is_refused_changes_nothing():
    mlp = build([5, 7, 3], dropout=0.25, dropout_seed=1)
    mlp.forward(batch(9, 5, 3)[0])
    for name, value in (("dropout", [0.5, 1]), ("dropout_seed", -1)):
        with pytest.raises(ValueError, match=name):
            setattr(mlp, name, value)
    assert (mlp.dropout, mlp.dropout_seed, mlp.dropout_steps) == ((0, 0.25), 1, 1)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"dropout": 0.5}, r"the field dropout .* is 0\.5"),
        ({"dropout": ["0.5", 0]}, r"the field dropout .*'0\.5'"),
        ({"dropout": [0, 1.0]}, r"dropout\[1\] must be at least 0 and below 1, got 1\.0"),
        ({"dropout": [0]}, "dropout must have 2 entries, got 1"),
        ({"dropout_seed": 2**64}, "dropout_seed must be below"),
        ({"dropout_steps": -1}, "dropout_steps must be at least 0, got -1"),
        ({"dropout_steps": 1.5}, r"the field dropout_steps .* is 1\.5"),
    ],
)
def test_files_that_describe_no_dropout(metadata, message, tmp_path):
    assert_refused_in_a_file(build([5, 7, 3], dropout=0.5), metadata, message, tmp_path / "m")
