"""Learnt scales of the input: how they learn, in fit and by hand, and where they are kept."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import GELU, MLP, Identity, ReLU, Sigmoid, Tanh, optimizers
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
from tests.reference import finite_difference

SIZES, ACTIVATIONS = [7, 17, 33, 5, 3], [ReLU, Sigmoid, GELU, Identity]
both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])


def scaled(sizes=SIZES, activations=None, **options):
    """A network whose scales are no longer 1; one of them is negative."""
    mlp = build(sizes, activations, scale_inputs=True, **options)
    draws = np.random.default_rng(5).uniform(0.5, 2, sizes[0])
    draws[sizes[0] // 2] *= -1
    mlp.input_scale = draws
    return mlp


def gradient_of(mlp):
    """Of the scales, out of the flat buffer."""
    start = int(mlp.layout.table[0]["flat_scale"])
    return mlp.gradients[start : start + mlp.input_size]


def test_scales_are_part_of_the_parameters():
    plain, mlp = build(SIZES), build(SIZES, scale_inputs=True)
    assert plain.input_scale is None
    assert_array_equal(mlp.input_scale, np.ones(7))
    assert mlp.parameters.size == plain.parameters.size + 7
    mlp.input_scale[3] = 2.5
    assert np.count_nonzero(mlp.parameters == 2.5) == 1
    mlp.parameters = np.zeros_like(mlp.parameters)
    assert_array_equal(mlp.input_scale, np.zeros(7))


@both_dtypes
@pytest.mark.parametrize("rows", [1, 4, 5, 150])
def test_outputs_are_those_of_scaled_rows(rows, dtype):
    """Few rows take another path than many; either way the bits are those of x * scale."""
    mlp, plain = scaled(dtype=dtype), build(SIZES, dtype=dtype)
    x, labels, _ = batch(rows, 7, 3, dtype=dtype)
    expected = plain.predict_proba(x * mlp.input_scale)
    assert_array_equal(mlp.predict_proba(x), expected)
    assert mlp.evaluate(x, labels) == plain.evaluate(x * mlp.input_scale, labels)
    assert_array_equal(mlp.forward(x), plain.forward(x * mlp.input_scale))


@pytest.mark.parametrize("pixels", [False, True])
@every_dtype
@pytest.mark.usefixtures("forced_threads")
def test_predictions_are_the_same_bits_for_any_number_of_rows(pixels, dtype):
    mlp = scaled(dtype=dtype)
    x, labels, _ = batch(150, 7, 3, dtype=dtype)
    if pixels:
        x = np.random.default_rng(0).integers(0, 256, x.shape, np.uint8)
    mlp.fit(x, labels)
    outputs = mlp.predict_proba(x)
    mlp.eval()
    assert_allclose(mlp.forward(x), mlp._outputs(x), rtol=0, atol=1e-5)
    for first in range(0, 150, 3):
        assert_array_equal(mlp.predict_proba(x[first : first + 3]), outputs[first : first + 3])


@pytest.mark.parametrize(
    "options",
    [{}, {"dropout": [0.3, 0.2, 0.1]}, {"num_bn_layers": 2}, {"num_ln_layers": 2}],
    ids=str,
)
def test_gradients_by_finite_differences(options):
    mlp = scaled([5, 7, 6, 3], [Tanh, GELU, Identity], batchnorm_reduction="sum", **options)
    x, labels, rows = batch(9, 5, 3)

    def loss(_):
        mlp.dropout_seed = 7
        mlp.forward(x)
        return mlp.total_loss(rows) / len(rows)

    loss(None)
    mlp.backward(labels)
    expected = finite_difference(loss, mlp.input_scale)
    assert_allclose(gradient_of(mlp), expected, rtol=1e-5, atol=1e-8)


def test_a_scale_of_zero_stays_until_momentum_moves_it():
    x, labels, _ = batch(9, 7, 3)
    mlp = scaled(lr=None, optimizer=optimizers.Adam(0.01))
    mlp.input_scale[2] = 0
    mlp.forward(x)
    mlp.backward(labels)
    assert gradient_of(mlp)[2] == 0
    assert np.count_nonzero(gradient_of(mlp)) == 6
    mlp.step()
    assert mlp.input_scale[2] == 0
    mlp._scale.momentum_scale[2] = 1
    mlp.fit(x, labels)
    assert mlp.input_scale[2] < 0


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 40), st.lists(st.integers(1, 70), min_size=1, max_size=2), st.integers(0, 9))
def test_any_network_learns_as_one_on_scaled_rows(inputs, widths, seed):
    """A gradient of the input, which the plain network can be asked for, gives that of scales."""
    mlp = scaled([inputs, *widths, 3], [Tanh] * len(widths) + [Identity], seed=seed)
    x, labels, _ = batch(11, inputs, 3)
    mlp.forward(x)
    mlp.backward(labels)
    delta = mlp.criterion.derivative()
    for i in reversed(range(mlp.nlayers)):
        mlp.activations[i].state = mlp._states[i]
        delta = mlp.linear_layers[i].backward(mlp.activations[i].backward(delta))
    expected = (delta * x).sum(axis=0) / len(x)
    assert_allclose(gradient_of(mlp), expected, rtol=0, atol=1e-12)


def reference_steps(mlp, x, rows, steps):
    """Plain gradient steps in float64, the scales as weights of a layer of its own."""
    scale, layers = mlp.input_scale.copy(), [(m.W.copy(), m.b.copy()) for m in mlp.linear_layers]
    for _ in range(steps):
        inputs = [x * scale]
        for w, b in layers[:-1]:
            inputs.append(np.tanh(inputs[-1] @ w + b))
        logits = inputs[-1] @ layers[-1][0] + layers[-1][1]
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta = (p / p.sum(axis=1, keepdims=True) - rows) / len(x)
        updates = []
        for (w, _), h in zip(reversed(layers), reversed(inputs), strict=True):
            updates.insert(0, (h.T @ delta, delta.sum(axis=0)))
            delta = delta @ w.T * (1 - h * h) if h is not inputs[0] else delta @ w.T
        scale = scale - 0.3 * 6 * (delta * x).sum(axis=0)
        layers = [
            (w - 0.3 * dw, b - 0.3 * db) for (w, b), (dw, db) in zip(layers, updates, strict=True)
        ]
    return scale, layers


def test_twenty_steps_with_a_rate_of_their_own():
    """RealMLP's scales learn six times as fast as weights."""
    rule = optimizers.SGD(0.3, rate_factors={"scales": 6})
    mlp, looped = (
        scaled([7, 17, 9, 3], [Tanh, Tanh, Identity], lr=None, optimizer=rule) for _ in range(2)
    )
    x, labels, rows = batch(31, 7, 3)
    scale, layers = reference_steps(mlp, x, rows, 20)
    mlp.fit(x, labels, epochs=20, batch_size=31, shuffle=False)
    train_by_hand(looped, x, labels, 20)
    for each in (mlp, looped):
        assert_allclose(each.input_scale, scale, rtol=0, atol=1e-12)
        for linear, (w, b) in zip(each.linear_layers, layers, strict=True):
            assert_allclose(linear.W, w, rtol=0, atol=1e-12)
            assert_allclose(linear.b[0], b.ravel(), rtol=0, atol=1e-12)
    assert np.abs(scale - scaled([7, 17, 9, 3]).input_scale).max() > 0.1


# The two paths


@every_dtype
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.01},
        {"dropout": [0.2, 0.5, 0, 0.1], "dropout_seed": 5, "num_bn_layers": 2},
        {
            "lr": None,
            "optimizer": optimizers.AdamW(
                0.01, clip_norm=0.5, clip_value=0.1, average=0.9, ntk=True, decay_all=True,
                rate_factors={"scales": 6},
            ),
        },
    ],
    ids=["momentum", "dropout", "adamw"],
)  # fmt: skip
@pytest.mark.parametrize("batch_size", [9, 550])
@pytest.mark.usefixtures("forced_threads")
def test_fit_is_the_loop_for_any_number_of_threads(batch_size, options, dtype, monkeypatch):
    """Above 256 rows, or 512, a batch is cut into chunks."""

    def make():
        return scaled(SIZES, ACTIVATIONS, dtype=dtype, **options)

    fit_is_the_loop_on_any_threads(make, batch_size, dtype, monkeypatch)


@pytest.mark.parametrize("optimizer", optimizers.BY_NAME.values())
def test_every_rule_learns_scales(optimizer):
    x, labels, _ = batch(30, 7, 3)
    fitted, looped = (scaled(lr=None, optimizer=optimizer(lr=0.01)) for _ in range(2))
    before = fitted.input_scale.copy()
    fitted.fit(x, labels, epochs=3, batch_size=30, shuffle=False)
    train_by_hand(looped, x, labels, 3)
    assert_same_state(state(fitted), state(looped))
    assert (fitted.input_scale != before).all()


@pytest.mark.parametrize("every", [2, 7])
def test_accumulated_batches_are_one_larger_batch(every):
    x, labels, _ = batch(103, 7, 3)
    small, large = (scaled(lr=None, optimizer=optimizers.Adam(0.01)) for _ in range(2))
    small.fit(x, labels, batch_size=10, accumulate=every, epochs=3, shuffle=False)
    large.fit(x, labels, batch_size=10 * every, epochs=3, shuffle=False)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-12)


@both_dtypes
def test_pixels_are_scaled_too(dtype):
    """uint8 inputs, brought to [0, 1] and then scaled, are the same in either path."""
    x = np.random.default_rng(0).integers(0, 256, (30, 7), np.uint8)
    labels = batch(30, 7, 3)[1]
    fitted, looped = (scaled(dtype=dtype, dropout=[0.2] * 4, dropout_seed=1) for _ in range(2))
    fitted.fit(x, labels, epochs=2, batch_size=30, shuffle=False)
    train_by_hand(looped, x, labels, 2)
    assert_same_state(state(fitted), state(looped))


def test_scales_decay_only_with_all_others():
    for decay_all in (False, True):
        rule = optimizers.AdamW(
            0.1, weight_decay=0.5, decay_all=decay_all, rate_factors={"scales": 6}
        )
        mlp = scaled(lr=None, optimizer=rule)
        before = mlp.input_scale.copy()
        mlp.zero_grads()
        mlp.step()
        assert_allclose(mlp.input_scale, before * 0.7 if decay_all else before, rtol=1e-15)


def test_one_compilation_serves_scales():
    x, labels, _ = batch(9, 7, 3)
    build([7, 5, 3]).fit(x, labels)
    compiled_for = set(train_steps.signatures)
    scaled([7, 5, 3]).fit(x, labels)
    assert set(train_steps.signatures) == compiled_for


class Watcher:
    """A callback that reads the scales, and changes one."""

    def __init__(self):
        self.seen = []

    def on_epoch_end(self, mlp, history):
        self.seen.append(mlp.input_scale.copy())
        mlp.input_scale[0] = 1.25


def test_callbacks_see_and_change_scales():
    x, labels, _ = batch(16, 7, 3)
    watcher, mlp, looped = Watcher(), scaled(), scaled()
    mlp.fit(x, labels, epochs=2, batch_size=16, shuffle=False, callbacks=[watcher])
    train_by_hand(looped, x, labels)
    assert_array_equal(watcher.seen[0], looped.input_scale)
    looped.input_scale[0] = 1.25
    train_by_hand(looped, x, labels)
    assert_array_equal(watcher.seen[1], looped.input_scale)


# Copies, files, bad input


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    mlp = scaled(lr=None, optimizer=optimizers.Adam(0.01, average=0.9))
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    assert other.scale_inputs is True
    assert_array_equal(other.parameters, mlp.parameters)
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))
    other.input_scale[0] = 9
    assert mlp.input_scale[0] != 9


def test_bfloat16_files_keep_scales_whole(tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    mlp = scaled(dtype="bfloat16")
    mlp.save(tmp_path / "m", weights_dtype="bfloat16")
    assert_array_equal(MLP.load(tmp_path / "m").input_scale, mlp.input_scale)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale_inputs": 1}, "scale_inputs must be True or False, got 1"),
        ({"scale_inputs": None}, "scale_inputs must be True or False, got None"),
        ({"scale_input": True}, "no argument 'scale_input'; did you mean 'scale_inputs'"),
        ({"residual": True, "scale_inputs": True}, "does not add its input .* widths 5-5$"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build([5, 5, 5, 3], **options)


def test_residual_connections_behind_the_first_layer_are_no_obstacle():
    x, labels, _ = batch(30, 7, 3)
    fitted, looped = (scaled([7, 5, 5, 3], residual=True) for _ in range(2))
    fitted.fit(x, labels, batch_size=30, shuffle=False)
    train_by_hand(looped, x, labels)
    assert_same_state(state(fitted), state(looped))


def test_networks_without_scales_have_none_to_assign():
    with pytest.raises(AttributeError, match="only networks with scale_inputs=True"):
        build([5, 3]).input_scale = np.ones(5)
    with pytest.raises(ValueError, match=r"scale must have shape|\(5,\)"):
        build([5, 3], scale_inputs=True).input_scale = np.ones(4)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"scale_inputs": 1}, "the field scale_inputs .* is 1"),
        ({"scale_inputs": False}, r"must not hold input\.momentum_scale"),
    ],
)
def test_files_that_describe_no_scales(metadata, message, tmp_path):
    assert_refused_in_a_file(scaled(), metadata, message, tmp_path / "m")


def test_files_without_scales_do_not_name_them(tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need the extra io")
    build(SIZES).save(tmp_path / "m")
    assert b"scale" not in (tmp_path / "m").read_bytes().replace(b"gradient_scale", b"")
    assert MLP.load(tmp_path / "m").input_scale is None


def test_rate_factors_name_scales():
    rule = dataclasses.replace(optimizers.Adam(), rate_factors={"scales": 6})
    assert rule.rate_factors == {"scales": 6.0}
