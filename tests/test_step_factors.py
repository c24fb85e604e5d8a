"""Weight decay and dropout that follow a function of the progress within a fit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import optimizers, set_num_threads, train_many
from fastmlp.optimizers import SGD, Adam, AdamW, Momentum
from tests.networks import assert_same_state, batch, build, state, train_by_hand

SIZES = [7, 17, 9, 3]
RULES = {
    "momentum": Momentum(0.1, 0.9, 0.05),
    "coupled": Adam(0.01, weight_decay=0.1),
    "decoupled": AdamW(0.01, weight_decay=2.0, ntk=True, decay_all=True),
}


def flat_cos(progress):
    """1 up to a half, then half a cosine down to 0: RealMLP-TD's."""
    return 1.0 if progress < 0.5 else (1 + math.cos(2 * math.pi * (progress - 0.5))) / 2


def by_hand(mlp, x, labels, size, factors, change):
    """As many steps as factors, each after ``change(mlp, factor)``."""
    starts = list(range(0, len(x), size))
    for step, factor in enumerate(factors):
        first = starts[step % len(starts)]
        change(mlp, factor)
        train_by_hand(mlp, x[first : first + size], labels[first : first + size])


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_decay_is_that_of_the_step(rule, short, monkeypatch):
    """To the bit the loop that changes weight_decay, also where fit pauses after every step."""
    if short:
        monkeypatch.setattr("fastmlp._pace.SECONDS_PER_CALL", 0)
    x, labels, _ = batch(31, 7, 3)
    fitted, looped = (build(SIZES, lr=None, optimizer=rule) for _ in range(2))
    fitted.fit(x, labels, epochs=3, batch_size=8, shuffle=False, decay_schedule=flat_cos)

    def change(mlp, factor):
        mlp.weight_decay = rule.weight_decay * factor

    by_hand(looped, x, labels, 8, [flat_cos(step / 12) for step in range(12)], change)
    assert_same_state(state(fitted), state(looped))
    assert fitted.weight_decay == rule.weight_decay


@pytest.mark.parametrize("dtype", [np.float32, np.float64, "bfloat16"])
@pytest.mark.parametrize("options", [{}, {"residual": True}], ids=str)
@pytest.mark.usefixtures("forced_threads")
def test_dropout_is_that_of_the_step(options, dtype, monkeypatch):
    """Of x, too; to the bit, on any number of threads."""
    monkeypatch.setattr("fastmlp.engine.STEP_WORK_PER_THREAD", 1)
    shares, sizes = np.array([0.2, 0.5, 0.3]), [7, 17, 17, 3]
    made = {"dropout": shares, "dropout_seed": 3, "dtype": dtype, "momentum": 0.9, **options}
    x, labels, _ = batch(31, 7, 3, dtype=dtype)
    looped = build(sizes, **made)

    def change(mlp, factor):
        mlp.dropout = shares * factor

    # A last step without any dropout would not be counted by the loop.
    factors = [1 - 0.9 * step / 12 for step in range(12)]
    by_hand(looped, x, labels, 8, factors, change)
    for count in (1, 2, 3):
        set_num_threads(count)
        fitted = build(sizes, **made)
        fitted.fit(
            x, labels, epochs=3, batch_size=8, shuffle=False,
            dropout_schedule=lambda progress: 1 - 0.9 * round(12 * progress) / 12,
        )  # fmt: skip
        assert_same_state(state(fitted), state(looped))
        assert_array_equal(fitted.dropout, shares)
        assert fitted.dropout_steps == looped.dropout_steps == 12


def test_a_factor_of_zero_drops_nothing():
    x, labels, _ = batch(31, 7, 3)
    dropping, plain = build(SIZES, dropout=0.5), build(SIZES)
    dropping.fit(x, labels, batch_size=8, shuffle=False, dropout_schedule=lambda progress: 0)
    plain.fit(x, labels, batch_size=8, shuffle=False)
    assert_same_state(state(dropping), state(plain))


@settings(deadline=None, max_examples=20)
@given(st.floats(0, 3), st.floats(0, 1), st.sampled_from(sorted(RULES)))
def test_a_constant_function_is_another_number(decay, dropout, name):
    x, labels, _ = batch(31, 7, 3)
    rule, options = RULES[name], {"epochs": 2, "batch_size": 8, "shuffle": False}
    fitted, other = (
        build(SIZES, lr=None, optimizer=rule, dropout=0.5, dropout_seed=1) for _ in range(2)
    )
    fitted.fit(
        x, labels, decay_schedule=lambda progress: decay, dropout_schedule=lambda progress: dropout,
        **options,
    )  # fmt: skip
    other.weight_decay *= decay
    other.dropout = 0.5 * dropout
    other.fit(x, labels, **options)
    assert_same_state(state(fitted), state(other))


def test_functions_of_one_are_no_functions():
    x, labels, _ = batch(31, 7, 3)
    ends = []
    for function in (None, lambda progress: 1):
        mlp = build(SIZES, dropout=0.5, dropout_seed=1, momentum=0.9, weight_decay=0.1)
        mlp.fit(x, labels, seed=0, decay_schedule=function, dropout_schedule=function)
        ends.append(mlp.parameters)
    assert_array_equal(ends[0], ends[1])


def test_they_are_asked_once_for_every_step_of_the_training():
    x, labels, _ = batch(31, 7, 3)
    asked = []

    def function(progress):
        asked.append(progress)
        return 1.0

    build(SIZES).fit(x, labels, epochs=9, batch_size=8, max_steps=6, decay_schedule=function)
    assert_array_equal(asked, np.arange(6) / 6)


def test_accumulated_batches_have_the_decay_of_the_last_of_them():
    x, labels, _ = batch(80, 7, 3)
    small, large = (build(SIZES, lr=None, optimizer=SGD(0.1, weight_decay=1.0)) for _ in range(2))
    small.fit(x, labels, batch_size=10, accumulate=4, shuffle=False, decay_schedule=lambda t: 1 - t)
    ends = {0: 5 / 8, 0.5: 1 / 8}
    large.fit(x, labels, batch_size=40, shuffle=False, decay_schedule=ends.get)
    assert_allclose(small.parameters, large.parameters, rtol=0, atol=1e-13)


class Change:
    """A callback that changes decay and dropout after the first epoch."""

    def on_epoch_end(self, mlp, history):
        mlp.weight_decay, mlp.dropout = 0.5, 0.25


def test_callbacks_change_what_is_multiplied():
    x, labels, _ = batch(16, 7, 3)
    fitted, parts = (
        build(SIZES, lr=None, optimizer=SGD(0.1, weight_decay=0.1), dropout=0.5, dropout_seed=1)
        for _ in range(2)
    )
    options = {"batch_size": 8, "shuffle": False}
    fitted.fit(
        x, labels, epochs=2, callbacks=[Change()], decay_schedule=lambda t: 0.5,
        dropout_schedule=lambda t: 0.5, **options,
    )  # fmt: skip
    parts.weight_decay, parts.dropout = 0.05, 0.25
    parts.fit(x, labels, **options)
    parts.weight_decay, parts.dropout = 0.25, 0.125
    parts.fit(x, labels, **options)
    assert_same_state(state(fitted), state(parts))


def test_a_users_rule_and_several_fits_at_once():
    def descend(gradient, parameter, mean, lr):
        return parameter - lr * gradient, mean

    x, labels, _ = batch(31, 7, 3)
    networks = [
        build(SIZES, lr=None, optimizer=rule)
        for rule in (
            optimizers.rule(descend, lr=0.1, weight_decay=0.5, decoupled=True),
            optimizers.rule(descend, lr=0.1, weight_decay=0.5),
            SGD(0.1, weight_decay=0.5),
        )
    ]
    options = {"batch_size": 8, "shuffle": False, "decay_schedule": flat_cos}
    train_many([(mlp, {"x": x, "labels": labels, **options}) for mlp in networks])
    for mlp in networks[:2]:
        assert_allclose(mlp.parameters, networks[2].parameters, rtol=0, atol=1e-13)


# Refusals


@pytest.mark.parametrize("name", ["decay_schedule", "dropout_schedule"])
@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (0.5, TypeError, "must be a function of the progress, got 0.5"),
        (Change, TypeError, "must be a function of the progress, got <class"),
        (lambda t: -t, ValueError, r"must give .* 0.*, got -0\.25 at 0\.25"),
        (lambda t: math.nan, ValueError, "must give .*, got nan at 0"),
        (lambda t: math.inf, ValueError, "must give .*, got inf at 0"),
    ],
)
def test_what_is_refused_changes_nothing(name, function, error, message):
    x, labels, _ = batch(31, 7, 3)
    mlp = build(SIZES, dropout=0.5, dropout_seed=1)
    before = state(mlp)
    with pytest.raises(error, match=f"{name} {message}"):
        mlp.fit(x, labels, batch_size=8, seed=1, **{name: function})
    assert_same_state(state(mlp), before)
    assert (mlp.history, mlp.dropout_seed) == (None, 1)


def test_dropout_grows_to_no_more_than_it_is():
    x, labels, _ = batch(31, 7, 3)
    with pytest.raises(ValueError, match=r"dropout_schedule must give from 0 to 1, got 1\.5 at 0"):
        build(SIZES).fit(x, labels, dropout_schedule=lambda t: 1.5)


def test_a_training_of_no_steps():
    x, labels, _ = batch(31, 7, 3)
    history = build(SIZES, dropout=0.5).fit(
        x, labels, epochs=0, decay_schedule=flat_cos, dropout_schedule=flat_cos
    )
    assert history.train_loss == []
