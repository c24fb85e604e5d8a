"""Parametric activations: z + w * (act(z) - z) with a learnt w for every neuron."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import (
    GELU,
    SELU,
    Activation,
    Identity,
    LeakyReLU,
    Mish,
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
from tests.reference import ACTIVATIONS, SLOPES, finite_difference

# With residual connections layers 1 and 2 add their input.
SIZES, FUNCTIONS = [7, 17, 17, 17, 3], [ReLU, SELU, GELU, Identity]
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])


def bent(value):
    return value * value if value > 0 else 0.5 * value


def bent_slope(value):
    return 2 * value if value > 0 else 0.5


def parametric(sizes=SIZES, activations=None, **options):
    """A network whose activations' weights are no longer 1; some are negative, some above 1."""
    mlp = build(sizes, activations, parametric_activations=True, **options)
    rng = np.random.default_rng(5)
    for weights in mlp.activation_weights:
        weights[:] = rng.uniform(-0.5, 1.5, weights.size)
    return mlp


def test_weights_are_part_of_the_parameters():
    plain, mlp = build(SIZES), build(SIZES, parametric_activations=True)
    assert plain.activation_weights == []
    assert [weights.shape for weights in mlp.activation_weights] == [(17,)] * 3
    assert mlp.parameters.size == plain.parameters.size + 51
    mlp.activation_weights[1][3] = 2.5
    assert np.count_nonzero(mlp.parameters == 2.5) == 1


@pytest.mark.parametrize("norms", [{}, {"num_bn_layers": 2}, {"num_ln_layers": 2}], ids=str)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-13), (np.float32, 1e-4)])
def test_weights_of_one_are_the_activations_themselves(dtype, tolerance, norms):
    """z + (a - z) is a to a rounding or two of the larger of them."""
    x, _, _ = batch(60, 7, 3, dtype=dtype)
    plain, mlp = (
        build(SIZES, FUNCTIONS, dtype=dtype, residual=True, parametric_activations=learnt, **norms)
        for learnt in (False, True)
    )
    assert_allclose(mlp.forward(x), plain.forward(x), rtol=0, atol=tolerance)
    for rows in (x, x[:3]):
        assert_allclose(mlp._outputs(rows), plain._outputs(rows), rtol=0, atol=tolerance)


@pytest.mark.parametrize("activation", [ReLU, SELU, GELU, Mish, Sigmoid, LeakyReLU])
def test_outputs_by_numpy(activation):
    mlp = parametric([7, 19, 3], [activation, Identity])
    x, _, _ = batch(21, 7, 3)
    first, last = mlp.linear_layers
    z, w = x @ first.W + first.b, mlp.activation_weights[0]
    a = ACTIVATIONS[mlp.activations[0].name][0](z)
    expected = (z + w * (a - z)) @ last.W + last.b
    for found in (mlp.forward(x), mlp._outputs(x), mlp._outputs(x[:4])):
        assert_allclose(found, expected[: len(found)], rtol=0, atol=1e-13)


@every_dtype
@pytest.mark.parametrize("norms", [{}, {"num_bn_layers": 4}, {"num_ln_layers": 4}], ids=str)
@pytest.mark.usefixtures("forced_threads")
def test_predictions_are_the_same_bits_for_any_number_of_rows(norms, dtype):
    mlp = parametric(SIZES, FUNCTIONS, dtype=dtype, residual=True, **norms)
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
        {"residual": True},
        {"dropout": [0.1, 0.2, 0.3, 0.4]},
        {"dropout": [0.1, 0.2, 0.3, 0.4], "residual": True, "num_bn_layers": 3},
        {"num_ln_layers": 2, "residual": True},
    ],
    ids=str,
)
def test_gradients_by_finite_differences(options):
    mlp = parametric(
        [5, 5, 6, 6, 3], [Tanh, GELU, SELU, Identity], batchnorm_reduction="sum", **options
    )
    x, labels, rows = batch(9, 5, 3)

    def loss(_):
        mlp.dropout_seed = 7
        mlp.forward(x)
        return mlp.total_loss(rows) / len(rows)

    loss(None)
    mlp.backward(labels)
    found = [layer.dmix[0].copy() for layer in mlp._mixes]
    slopes = [layer.dW.copy() for layer in mlp.linear_layers]
    for gradient, weights in zip(found, mlp.activation_weights, strict=True):
        assert_allclose(gradient, finite_difference(loss, weights), rtol=1e-5, atol=1e-8)
    for gradient, linear in zip(slopes, mlp.linear_layers, strict=True):
        assert_allclose(gradient, finite_difference(loss, linear.W), rtol=1e-5, atol=1e-8)


def reference_steps(mlp, x, rows, steps, rate, factor):
    """Plain gradient steps in float64, of two layers."""
    (w1, b1), (w2, b2) = [(m.W.copy(), m.b.copy()) for m in mlp.linear_layers]
    mix, name = mlp.activation_weights[0].copy(), mlp.activations[0].name
    for _ in range(steps):
        z = x @ w1 + b1
        bend, slope = ACTIVATIONS[name][0](z) - z, SLOPES[name](z)
        y = z + mix * bend
        logits = y @ w2 + b2
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        delta = (p / p.sum(axis=1, keepdims=True) - rows) / len(x)
        dy = delta @ w2.T
        dz = dy * (1 - mix + mix * slope)
        w2, b2 = w2 - rate * y.T @ delta, b2 - rate * delta.sum(axis=0)
        w1, b1 = w1 - rate * x.T @ dz, b1 - rate * dz.sum(axis=0)
        mix = mix - rate * factor * (dy * bend).sum(axis=0)
    return mix, w1, w2


@pytest.mark.parametrize("activation", [SELU, Mish, Sigmoid])
def test_twenty_steps_with_a_rate_of_their_own(activation):
    """RealMLP's learn a tenth as fast as weights."""
    rule = optimizers.SGD(0.3, rate_factors={"activations": 0.1})
    fitted, looped = (
        parametric([7, 17, 3], [activation, Identity], lr=None, optimizer=rule) for _ in range(2)
    )
    x, labels, rows = batch(31, 7, 3)
    mix, *weights = reference_steps(fitted, x, rows, 20, 0.3, 0.1)
    fitted.fit(x, labels, epochs=20, batch_size=31, shuffle=False)
    train_by_hand(looped, x, labels, 20)
    for mlp in (fitted, looped):
        assert_allclose(mlp.activation_weights[0], mix, rtol=0, atol=1e-12)
        for linear, w in zip(mlp.linear_layers, weights, strict=True):
            assert_allclose(linear.W, w, rtol=0, atol=1e-12)


# The two paths


@every_dtype
@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "weight_decay": 0.01},
        {"dropout": [0.2, 0.5, 0, 0.1], "dropout_seed": 5, "num_bn_layers": 3},
        {
            "residual": True, "dropout": [0, 0.5, 0.2, 0], "dropout_seed": 5, "num_ln_layers": 2,
            "scale_inputs": True, "lr": None,
            "optimizer": optimizers.AdamW(
                0.01, clip_norm=0.5, average=0.9, ntk=True, decay_all=True,
                rate_factors={"activations": 0.1},
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
        return parametric(SIZES, FUNCTIONS, dtype=dtype, **options)

    fit_is_the_loop_on_any_threads(make, batch_size, dtype, monkeypatch)


@settings(deadline=None, max_examples=15)
@given(
    st.lists(st.integers(1, 70), min_size=1, max_size=3), st.integers(1, 40),
    st.lists(st.sampled_from([ReLU, SELU, GELU, Mish, Tanh]), min_size=3, max_size=3),
    st.booleans(),
)  # fmt: skip
def test_any_network_in_either_path(widths, rows, functions, dropped):
    options = {"dropout": 0.4, "dropout_seed": 1} if dropped else {}
    activations = [*functions[: len(widths)], Identity]
    fitted, looped = (
        parametric([5, *widths, 3], activations, momentum=0.9, **options) for _ in range(2)
    )
    x, labels, _ = batch(rows, 5, 3)
    fitted.fit(x, labels, batch_size=rows, epochs=2, shuffle=False)
    train_by_hand(looped, x, labels, 2)
    assert_same_state(state(fitted), state(looped))


@pytest.mark.parametrize("dropout", [0, 0.4])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_compiled_functions_of_a_users_own(dtype, dropout):
    def own():
        return Activation.of(bent, bent_slope)

    x, labels, _ = batch(31, 7, 3, dtype=dtype)
    fitted, looped = (
        parametric([7, 19, 3], [own, Identity], dtype=dtype, dropout=dropout, dropout_seed=1)
        for _ in range(2)
    )
    fitted.fit(x, labels, batch_size=31, epochs=3, shuffle=False)
    train_by_hand(looped, x, labels, 3)
    assert_same_state(state(fitted), state(looped))
    for each in (x, x[:3]):
        assert_allclose(fitted._outputs(each), looped._outputs(each), rtol=0, atol=0)


class Doubled(Activation):
    """An activation that no kernel knows, with a backward method alone."""

    def forward(self, x):
        return 2 * x

    def backward(self, delta):
        return 2 * delta


@pytest.mark.parametrize("dropout", [0, 0.4])
def test_layers_that_no_kernel_knows(dropout):
    """z + w * (2z - z) is (1 + w) z."""
    own, known = (
        parametric([5, 7, 3], [cls, Identity], dropout=dropout, dropout_seed=1)
        for cls in (Doubled, Identity)
    )
    known.linear_layers[0].W *= 1 + own.activation_weights[0]
    known.linear_layers[0].b *= 1 + own.activation_weights[0]
    x, labels, rows = batch(9, 5, 3)
    for mlp in (own, known):
        mlp.forward(x)
        mlp.backward(labels)
    assert_allclose(own.output, known.output, rtol=0, atol=1e-14)
    expected = known.linear_layers[0].dW * (1 + own.activation_weights[0])
    assert_allclose(own.linear_layers[0].dW, expected, rtol=0, atol=1e-14)

    def loss(_):
        own.dropout_seed = 1
        own.forward(x)
        return own.total_loss(rows) / 9

    found = own._mixes[0].dmix[0].copy()
    assert_allclose(found, finite_difference(loss, own.activation_weights[0]), atol=1e-8)


@pytest.mark.parametrize("every", [2, 7])
def test_accumulated_batches_are_one_larger_batch(every):
    x, labels, _ = batch(103, 7, 3)
    small, large = (parametric(lr=None, optimizer=optimizers.Adam(0.01)) for _ in range(2))
    small.fit(x, labels, batch_size=10, accumulate=every, epochs=3, shuffle=False)
    large.fit(x, labels, batch_size=10 * every, epochs=3, shuffle=False)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-12)


def test_weights_decay_only_with_all_others():
    for decay_all in (False, True):
        rule = optimizers.AdamW(
            0.1, weight_decay=0.5, decay_all=decay_all, rate_factors={"activations": 0.1}
        )
        mlp = parametric(lr=None, optimizer=rule)
        before = mlp.activation_weights[0].copy()
        mlp.zero_grads()
        mlp.step()
        expected = before * 0.995 if decay_all else before
        assert_allclose(mlp.activation_weights[0], expected, rtol=1e-15)


def test_one_compilation_serves_parametric_activations():
    x, labels, _ = batch(9, 7, 3)
    build([7, 5, 3], num_bn_layers=1).fit(x, labels)
    compiled_for = set(train_steps.signatures)
    parametric([7, 5, 3]).fit(x, labels)
    assert set(train_steps.signatures) == compiled_for


# Copies, files, bad input


@pytest.mark.parametrize("way", ["copy", "pickle", "file"])
def test_a_copy_trains_on_to_the_same_bits(way, tmp_path):
    x, labels, _ = batch(30, 7, 3)
    rule = optimizers.Adam(0.01, average=0.9)
    mlp = parametric(SIZES, FUNCTIONS, lr=None, optimizer=rule, scale_inputs=True)
    mlp.fit(x, labels, batch_size=8)
    other = duplicate(mlp, way, tmp_path / "m")
    assert other.parametric_activations is True
    assert_array_equal(other.parameters, mlp.parameters)
    for each in (mlp, other):
        each.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(other), state(mlp))
    other.activation_weights[0][0] = 9
    assert mlp.activation_weights[0][0] != 9


@pytest.mark.parametrize(
    ("sizes", "given", "message"),
    [
        ([5, 5, 3], 1, "parametric_activations must be True or False, got 1"),
        ([5, 3], True, "parametric_activations=True needs a hidden layer, got none"),
    ],
)
def test_what_is_refused(sizes, given, message):
    with pytest.raises((ValueError, TypeError), match=message):
        build(sizes, parametric_activations=given)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"parametric_activations": 1}, "the field parametric_activations .* is 1"),
        ({"parametric_activations": False}, r"must not hold layers\.0\.mix"),
    ],
)
def test_files_that_describe_none(metadata, message, tmp_path):
    assert_refused_in_a_file(parametric(), metadata, message, tmp_path / "m")
