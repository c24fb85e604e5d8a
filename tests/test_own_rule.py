"""optimizers.rule: a function of a user's own wherever an update rule of fastmlp's works."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import optimizers, set_num_threads
from fastmlp.kernels import _own
from fastmlp.kernels.epoch import train_steps
from fastmlp.optimizers import SGD, Adam, AdamW
from tests.test_optimizers import ALL_OPTIONS, Exchange, assert_same, data, network, train_by_hand

both_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def sgd(gradient, parameter, velocity, lr, momentum):
    velocity = momentum * velocity + gradient
    return parameter - lr * velocity, velocity


def adam(gradient, parameter, first, second, lr, beta1, beta2, eps):
    first = beta1 * first + (1 - beta1) * gradient
    second = beta2 * second + (1 - beta2) * gradient * gradient
    return parameter - lr * first / (math.sqrt(second) + eps), first, second


def plain(gradient, parameter, unused, lr):
    return parameter - lr * gradient, unused


def own_sgd(**options):
    return optimizers.rule(sgd, **({"lr": 0.1, "momentum": 0.9} | options))


def own_adam(**options):
    numbers = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3}
    return optimizers.rule(adam, states=2, **(numbers | options))


MAKERS = {"one state": own_sgd, "two states": own_adam}
every_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


# The formula


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.1},
        {"weight_decay": 0.1, "decay_all": True},
        {"clip_value": 0.01},
        {"clip_norm": 0.1, "weight_decay": 0.1},
        ALL_OPTIONS,
    ],
    ids=str,
)
@both_dtypes
@pytest.mark.usefixtures("on_threads")
def test_the_bits_of_the_same_formula_in_fastmlp(options, dtype):
    x, y = data(dtype=dtype)
    own, known = (network(o, dtype=dtype) for o in (own_sgd(**options), SGD(0.1, 0.9, **options)))
    for mlp in (own, known):
        mlp.fit(x, y, batch_size=30, epochs=2, seed=0)
        mlp.fit(x, y, batch_size=30, accumulate=3, seed=1)
    assert own.velocities.any()
    assert_same(own, known)


def test_two_states_and_several_numbers():
    """The same operations in the same order as in NumPy."""
    x, y = data()
    mlp = network(own_adam(), norms=0)
    w, first, second = mlp.parameters.copy(), *np.zeros((2, mlp.parameters.size))
    for _ in range(5):
        train_by_hand(mlp, x, y, len(x))
        g = mlp.gradients
        first = 0.9 * first + (1 - 0.9) * g
        second = 0.99 * second + (1 - 0.99) * g * g
        w = w - 0.01 * first / (np.sqrt(second) + 1e-3)
        for actual, expected in ((mlp.velocities, first), (mlp.squares, second)):
            assert_allclose(actual, expected, rtol=1e-14)
        assert_allclose(mlp.parameters, w, rtol=1e-14, atol=1e-16)


def test_decoupled_decay_shrinks_weights_before_the_rule_sees_them():
    """Adam without its bias corrections, which are 1 where both betas are 0."""
    x, y = data()
    options = {"weight_decay": 0.5, "eps": 0.1}
    own = network(own_adam(beta1=0.0, beta2=0.0, decoupled=True, **options))
    known = network(AdamW(0.01, (0.0, 0.0), **options))
    for mlp in (own, known):
        mlp.fit(x, y, batch_size=30, epochs=2, seed=0)
    assert_allclose(own.parameters, known.parameters, rtol=1e-13, atol=1e-15)


@every_maker
@pytest.mark.parametrize("options", [{}, ALL_OPTIONS, {"weight_decay": 0.1}], ids=str)
@both_dtypes
@pytest.mark.usefixtures("on_threads")
def test_fit_in_order_is_the_hand_written_loop(make, options, dtype):
    x, y = data(dtype=dtype)
    fitted, by_hand = (network(make(**options), dtype=dtype) for _ in range(2))
    fitted.fit(x, y, batch_size=30, epochs=3, shuffle=False)
    train_by_hand(by_hand, x, y, 30, 3)
    assert_same(fitted, by_hand)


@pytest.mark.usefixtures("forced_threads")
@every_maker
def test_bits_do_not_depend_on_threads(make):
    """Wide enough for several pieces a thread, in batches of several chunks."""
    x, y = data(700, 130)
    results = []
    for threads in (1, 2, 3):
        set_num_threads(threads)
        mlp = network(make(), (130, 120, 130, 60))
        mlp.fit(x, y, batch_size=600, epochs=2, shuffle=False)
        results.append(mlp)
    for other in results[1:]:
        assert_same(results[0], other)


def test_a_schedule_gives_the_rates():
    x, y = data()
    rates = np.linspace(0.01, 0.1, 8)
    fitted, by_hand = network(own_sgd()), network(own_sgd())
    fitted.fit(x, y, batch_size=30, epochs=2, shuffle=False, lr_schedule=rates)
    for i, rate in enumerate(rates):
        by_hand.lr = rate
        here = slice(i % 4 * 30, i % 4 * 30 + 30)
        train_by_hand(by_hand, x[here], y[here], 30)
    assert_same(fitted, by_hand)


CHANGES = {
    "rate": lambda mlp: setattr(mlp, "lr", 0.003),
    "number": lambda mlp: setattr(mlp.optimizer, "momentum", 0.5),
    "another": lambda mlp: setattr(mlp, "optimizer", own_adam()),
    "fastmlp's": lambda mlp: setattr(mlp, "optimizer", Adam(0.01)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_callback_may_change_it(change):
    x, y = data()
    fitted, by_hand = network(own_sgd()), network(own_sgd())
    fitted.fit(x, y, batch_size=30, epochs=2, shuffle=False, callbacks=[Exchange(change)])
    train_by_hand(by_hand, x, y, 30)
    change(by_hand)
    train_by_hand(by_hand, x, y, 30)
    assert_same(fitted, by_hand)


@pytest.mark.parametrize("compute", [np.float32, np.float64, "bfloat16"])
def test_what_is_not_finite_for_zeros_does_not_leak_from_the_padding(compute):
    """Registers have lanes beyond the last feature, where parameters and gradients are 0."""

    def poles(gradient, parameter, unused, lr):
        size = abs(gradient) + abs(parameter)
        return parameter - lr * gradient / size, 1 / size

    dtype, options = (np.float32, {"compute_dtype": compute}) if compute == "bfloat16" else (
        compute, {}
    )  # fmt: skip
    x, y = data(dtype=dtype)
    optimizer = optimizers.rule(poles, lr=1e-4, average=0.5, clip_norm=1.0)
    mlp = network(optimizer, (20, 33, 17, 5), norms=1, dtype=dtype, **options)
    history = mlp.fit(x, y, batch_size=30, epochs=3)
    assert np.isfinite(history.train_loss).all()
    for array in (mlp.parameters, mlp.averages, mlp.predict_proba(x), mlp.predict_proba(x[:2])):
        assert np.isfinite(array).all()


def test_an_exception_is_not_a_number():
    """fit ends before the next update, as with any NaN."""

    def fragile(gradient, parameter, unused, lr):
        if gradient > 0.01:
            raise ValueError("too large")
        return parameter - lr * gradient, unused

    x, y = data()
    mlp = network(optimizers.rule(fragile, lr=0.1), norms=0)
    train_by_hand(mlp, x, y, len(x))
    assert 0 < (mlp.gradients > 0.01).sum() < mlp.gradients.size
    assert_array_equal(np.isnan(mlp.parameters), mlp.gradients > 0.01)
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 1, step 1"):
        mlp.fit(x, y, batch_size=30)
    assert mlp.updates == 1


def test_the_epoch_is_not_compiled_anew_and_the_function_once(monkeypatch):
    x, y = data()
    network(Adam()).fit(x, y)
    signatures = set(train_steps.signatures)
    compiled = []
    monkeypatch.setattr(_own, "_compile", lambda *a, f=_own._compile: compiled.append(a) or f(*a))

    def descent(gradient, parameter, unused, lr):
        return parameter - lr * gradient, unused

    for rate in (0.1, 0.2):
        mlp = network(optimizers.rule(descent, lr=rate))
        mlp.fit(x, y)
        copy.deepcopy(mlp).fit(x, y)
        mlp.step()
    assert len(compiled) == 1
    network(optimizers.rule(descent, lr=0.1), dtype=np.float32)
    assert len(compiled) == 2
    assert set(train_steps.signatures) == signatures


# In a network


def test_attributes_and_names():
    rule = own_adam(clip_norm=1.0, weight_decay=0.1)
    assert (rule.lr, rule.beta1, rule.eps, rule.states) == (0.01, 0.9, 1e-3, 2)
    assert repr(rule) == (
        "rule(adam, states=2, lr=0.01, beta1=0.9, beta2=0.99, eps=0.001, weight_decay=0.1, "
        "clip_norm=1.0)"
    )
    assert rule == own_adam(clip_norm=1.0, weight_decay=0.1)
    assert rule != own_adam(clip_norm=1.0, weight_decay=0.1, beta2=0.98)


def test_numbers_may_be_given_in_any_order():
    assert optimizers.rule(adam, 2, eps=1e-3, beta2=0.99, lr=0.01, beta1=0.9) == own_adam()


def test_the_network_has_a_copy_of_it():
    given = own_sgd()
    a, b = network(given), network(given)
    a.momentum = 0.5
    assert (given.momentum, b.momentum, a.optimizer.momentum) == (0.9, 0.9, 0.5)


def test_the_same_function_goes_on_and_another_starts_anew():
    x, y = data()
    mlp = network(own_adam())
    mlp.fit(x, y)
    kept = mlp.squares.copy()
    mlp.optimizer = own_adam(beta1=0.5, lr=0.5)
    assert_array_equal(mlp.squares, kept)
    assert mlp.updates == 1
    mlp.optimizer = optimizers.rule(plain, lr=0.1)
    assert mlp.squares.size == mlp.updates == 0
    assert not mlp.velocities.any()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
@every_maker
def test_a_copy_goes_on_to_the_same_bits(copied, make):
    x, y = data()
    mlp = network(make(average=0.9))
    mlp.fit(x, y, batch_size=30)
    twin = copied(mlp)
    assert twin.optimizer == mlp.optimizer
    for each in (mlp, twin):
        each.fit(x, y, batch_size=30, seed=1)
    assert_same(mlp, twin)


def test_a_function_that_no_module_has_is_not_pickled():
    rule = optimizers.rule(lambda gradient, parameter, v, lr: (parameter, v), lr=0.1)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(network(rule))


def test_a_file_keeps_no_functions(tmp_path):
    pytest.importorskip("safetensors", reason="files of networks need safetensors")
    with pytest.raises(ValueError, match=r"keeps no functions, got rule\(sgd, states=1, lr=0.1"):
        network(own_sgd()).save(tmp_path / "model")
    assert not (tmp_path / "model").exists()


# Bad input


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.rule(sgd, momentum=0.9), TypeError, "argument: 'lr'"),
        (
            lambda: optimizers.rule(sgd, lr=0.1), TypeError,
            "sgd must be a function of (gradient, parameter, 1 state, lr), "
            "got (gradient, parameter, velocity, lr, momentum)",
        ),
        (
            lambda: own_sgd(states=2), TypeError,
            "sgd must be a function of (gradient, parameter, 2 states, lr, momentum), got (grad",
        ),
        (
            lambda: own_sgd(momentun=0.5), TypeError,
            "lr, momentum, momentun), got (gradient, parameter, velocity, lr, momentum); did you "
            "mean 'momentum'?",
        ),
        (lambda: own_sgd(clip_nrom=0.5), TypeError, "momentum); did you mean 'clip_norm'?"),
        (lambda: optimizers.rule(1.0, lr=0.1), TypeError, "1 state, lr), got 1.0"),
        (
            lambda: optimizers.rule(lambda *numbers: numbers, lr=0.1), TypeError,
            "<lambda> must be a function of (gradient, parameter, 1 state, lr), got (*numbers)",
        ),
        (
            lambda: optimizers.rule(lambda g, p, s, *, lr: (p, s), lr=0.1), TypeError,
            "lr), got (g, p, s, *, lr)",
        ),
        (
            lambda: optimizers.rule(lambda g, p, s, rate: (p, s), lr=0.1), TypeError,
            "lr), got (g, p, s, rate)",
        ),
        (
            lambda: optimizers.rule(
                lambda g, p, s, lr, a, b, c, d, e, f: (p, s), lr=0.1, a=1, b=1, c=1, d=1, e=1, f=1
            ), ValueError, "at most 5 numbers besides lr, got 6: a, b, c, d, e, f",
        ),
        (
            lambda: optimizers.rule(lambda g, p, s, lr, code: (p, s), lr=0.1, code=1), ValueError,
            "a number must not be named code, which every optimizer has",
        ),
        (lambda: own_sgd(states=3), ValueError, "states must be 1 or 2, got 3"),
        (lambda: own_sgd(states=0), ValueError, "states must be at least 1, got 0"),
        (lambda: own_sgd(lr=-0.1), ValueError, "lr must be at least 0, got -0.1"),
        (lambda: own_sgd(momentum=np.nan), ValueError, "momentum must be finite, got nan"),
        (lambda: own_sgd(momentum="much"), TypeError, "momentum must be a number, got 'much'"),
        (lambda: own_sgd(clip_norm=0), ValueError, "clip_norm must be at least 1.17549e-38, got 0"),
        (
            lambda: setattr(own_sgd(), "momentum", np.inf), ValueError,
            "momentum must be finite, got inf",
        ),
        (lambda: setattr(own_sgd(), "beta", 0.9), AttributeError, "has no beta"),
        (lambda: own_sgd().beta, AttributeError, "this rule has no beta"),
        (
            lambda: setattr(own_sgd(), "function", plain), AttributeError,
            "function cannot be changed: make another rule",
        ),
        (lambda: own_sgd().options, RuntimeError, "prepare must be told the dtype"),
    ],
)  # fmt: skip
def test_what_is_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


@pytest.mark.parametrize(
    "function",
    [
        lambda g, p, s, lr: p,
        lambda g, p, s, lr: (p, s, s),
        lambda g, p, s, lr: (str(p), s),
        lambda g, p, s, lr: (np.linalg.nothing(p), s),
    ],
    ids=["one number", "three numbers", "text", "unknown function"],
)
def test_what_cannot_be_compiled_is_refused_before_anything_changes(function):
    x, y = data()
    rule = optimizers.rule(function, lr=0.1)
    with pytest.raises(TypeError, match="<lambda> must be a function of numbers that Numba can"):
        network(rule)
    mlp, expected = network(Adam()), network(Adam())
    mlp.fit(x, y, shuffle=False)
    with pytest.raises(TypeError, match="<lambda> must be a function of numbers that Numba can"):
        mlp.optimizer = rule
    assert mlp.optimizer == Adam()
    expected.fit(x, y, shuffle=False)
    assert_same(mlp, expected)
