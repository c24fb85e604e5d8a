"""Updates of a whole network in flat buffers: every rule, decay by group, clipping and averages."""

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from fastmlp import optimizers
from fastmlp._layout import LayerSpec, Layout
from fastmlp.kernels.activation import NO_ACTIVATION
from fastmlp.kernels.update import FlatUpdate, update_parameters
from fastmlp.optimizers import Adagrad, Adam, Lion, Momentum, RMSprop
from tests.rules import UPDATES

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])

# Each with decay, and with whatever else it has.
OPTIMIZERS = {
    "Momentum": Momentum(0.1, 0.9, 0.01),
    "SGD": optimizers.SGD(0.1, 0.9, 0.3, 0.01),
    "SGD-plain": optimizers.SGD(0.1, dampening=0.5),
    "SGD-nesterov": optimizers.SGD(0.1, 0.9, weight_decay=0.01, nesterov=True),
    "Adam": Adam(0.01, (0.8, 0.95), 1e-3, 0.1),
    "AdamW": optimizers.AdamW(0.01, (0.8, 0.95), 1e-3, 0.1),
    "NAdam": optimizers.NAdam(0.01, (0.8, 0.95), 1e-3, 0.1, 0.02),
    "RAdam": optimizers.RAdam(0.01, (0.8, 0.75), 1e-3, 0.1),
    "RMSprop": RMSprop(0.01, 0.9, 1e-3, 0.1, 0.5),
    "Adagrad": Adagrad(0.01, 0.1, 0.1, 0.5, 1e-3),
    "Adamax": optimizers.Adamax(0.01, (0.8, 0.95), 1e-3, 0.1),
    "Lion": Lion(0.01, (0.8, 0.95), 0.1),
}


def layout_of(sizes, dtype, bias=True, batchnorm=True):
    pairs = pairwise(sizes)
    return Layout([LayerSpec(*pair, NO_ACTIVATION, bias, batchnorm) for pair in pairs], dtype)


def groups(layout):
    """(slice of the flat buffers, whether they are weights, whether they are batch norm's)."""
    for row in layout.table:
        outputs = int(row["outputs"])
        places = (
            (row["flat_w"], row["inputs"] * outputs, True, False),
            (row["flat_b"], outputs, False, False),
            (row["flat_gamma"], 2 * outputs, False, True),
        )
        for start, size, weights, norm in places:
            if start >= 0:
                yield slice(int(start), int(start + size)), weights, norm


def expected(optimizer, layout, w, gradients, norm_scale):
    """(w, averages) after an update by each of the gradients, in float64, from the papers."""
    w = w.astype(np.float64)
    averages, states = w.copy(), [np.full_like(w, optimizer.first_state), np.zeros_like(w)]
    rule = UPDATES[type(optimizer).__name__]
    for t, gradient in enumerate(gradients, 1):
        g = gradient.astype(np.float64)
        for part, _, norm in groups(layout):
            g[part] *= norm_scale if norm else 1
        if optimizer.clip_value is not None:
            g = np.clip(g, -optimizer.clip_value, optimizer.clip_value)
        if optimizer.clip_norm is not None:
            g *= min(1, optimizer.clip_norm / (np.linalg.norm(g) + 1e-6))
        for part, weights, norm in groups(layout):
            own = optimizer
            if not (weights or optimizer.decay_all):
                own = dataclasses.replace(own, weight_decay=0.0)
            if norm and isinstance(own, Momentum):
                own = dataclasses.replace(own, momentum=0.0)
            w[part], *new = rule(own, t, w[part], [s[part] for s in states], g[part])
            for state, value in zip(states, new, strict=False):
                state[part] = value
        if optimizer.average is not None:
            averages = optimizer.average * averages + (1 - optimizer.average) * w
    return w, averages


def updated(optimizer, layout, w, gradients, norm_scale=1.0):
    """(w, averages) after an update by each of the gradients, by the kernel."""
    w, nothing = w.copy(), np.empty(0, w.dtype)
    first = np.full_like(w, optimizer.first_state)
    second = np.zeros_like(w) if optimizer.states == 2 else nothing
    averages = nothing if optimizer.average is None else w.copy()
    for done, g in enumerate(gradients):
        before = g.copy()
        factors = optimizer.schedule(np.array([optimizer.lr]), done, layout.groups, w.dtype)[0]
        update = FlatUpdate(optimizer.options, factors, norm_scale)
        update_parameters(w, first, second, averages, g, layout.table, update)
        assert_array_equal(g, before)
    return w, averages


def check(optimizer, layout, steps=8, norm_scale=1.0, seed=0):
    """Within a few roundings a step: nothing is divided by what is much smaller than itself."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(layout.parameters).astype(layout.dtype)
    gradients = rng.standard_normal((steps, layout.parameters)).astype(layout.dtype)
    actual = updated(optimizer, layout, w, gradients, norm_scale)
    for found, value in zip(
        actual, expected(optimizer, layout, w, gradients, norm_scale), strict=True
    ):
        if found.size:
            tolerance = 16 * steps * np.finfo(layout.dtype).eps
            np.testing.assert_allclose(found, value, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("sizes", [(1, 1), (3, 17, 5), (65, 49, 16), (130, 7)])
@both_dtypes
def test_every_rule(optimizer, sizes, dtype):
    check(optimizer, layout_of(sizes, dtype))


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize(
    "options",
    [
        {"decay_all": True},
        {"clip_value": 0.5},
        {"clip_norm": 2.0},
        {"clip_norm": 1e9},
        {"average": 0.75},
        {"clip_value": 0.5, "clip_norm": 2.0, "average": 0.75, "decay_all": True},
    ],
    ids=str,
)
@both_dtypes
def test_every_rule_with_options(optimizer, options, dtype):
    optimizer = dataclasses.replace(optimizer, **options)
    check(optimizer, layout_of((70, 51, 9), dtype), norm_scale=0.25)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("batchnorm", [True, False])
def test_without_biases_or_batch_norm(bias, batchnorm):
    optimizer = dataclasses.replace(OPTIMIZERS["AdamW"], clip_norm=1.0)
    check(optimizer, layout_of((70, 51, 9), np.float64, bias, batchnorm), norm_scale=0.25)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(sorted(OPTIMIZERS)),
    st.lists(st.integers(1, 140), min_size=2, max_size=4),
    st.booleans(),
    st.integers(0, 99),
)
def test_any_network(name, sizes, clipped, seed):
    optimizer = dataclasses.replace(OPTIMIZERS[name], clip_norm=3.0 if clipped else None)
    check(optimizer, layout_of(sizes, np.float64), steps=3, norm_scale=0.5, seed=seed)


@both_dtypes
def test_velocity_without_momentum_is_minus_the_step(dtype):
    layout = layout_of((4, 5), dtype, batchnorm=False)
    w, v, g = np.random.default_rng(0).standard_normal((3, layout.parameters)).astype(dtype)
    nothing, rule = w[:0], Momentum(0.5)
    update = FlatUpdate(
        rule.options, rule.schedule(np.array([0.5]), 0, layout.groups, dtype)[0], 1.0
    )
    update_parameters(w, v, nothing, nothing, g, layout.table, update)
    assert_array_equal(v, -g / 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_a_poisoned_gradient_is_seen_and_poisons_its_parameter_alone(optimizer, value):
    """NaN in every rule; an infinity in those that do not divide it away."""
    layout = layout_of((5, 7), np.float64)
    w = np.ones(layout.parameters)
    gradient = np.ones((1, layout.parameters))
    gradient[0, 33] = value
    found, _ = updated(optimizer, layout, w, gradient)
    assert np.isfinite(np.delete(found, 33)).all()
    if np.isnan(value) or isinstance(optimizer, Momentum | optimizers.SGD):
        assert not np.isfinite(found[33])


@pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_zero_gradients_move_nothing(optimizer):
    """Not even where a rule divides by what it has seen of them."""
    layout = layout_of((5, 7), np.float32)
    optimizer = dataclasses.replace(optimizer, weight_decay=0.0)
    w = np.ones(layout.parameters, np.float32)
    found, _ = updated(optimizer, layout, w, np.zeros((3, layout.parameters), np.float32))
    assert_array_equal(found, w)
