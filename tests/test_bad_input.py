"""Wrong input is refused with what was expected and what came, before anything changes."""

from types import SimpleNamespace

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp import (
    MLP,
    BatchNorm,
    Identity,
    Linear,
    ReLU,
    Sigmoid,
    SoftmaxCrossEntropy,
)
from tests.networks import assert_same_state, batch, build, gradients, state

REFUSED = (ValueError, TypeError)

# What to pass for x where (N, 5) is wanted, and what the message must mention.
BAD_X = {
    "rank 1": (np.zeros(5), r"5.*\(5,\)"),
    "rank 3": (np.zeros((9, 5, 1)), r"5.*\(9, 5, 1\)"),
    "too narrow": (np.zeros((9, 4)), r"5.*\(9, 4\)"),
    "too wide": (np.zeros((9, 6)), r"5.*\(9, 6\)"),
    "no features": (np.zeros((9, 0)), r"5.*\(9, 0\)"),
    "empty": (np.zeros((0, 5)), r"\(0, 5\)|0 samples|empty"),
    "object": (np.zeros((9, 5), object), "(float|real).*object"),
    "complex": (np.zeros((9, 5), complex), "(float|real).*complex"),
    "string": (np.full((9, 5), "1.0"), "(float|real).*(U3|str)"),
    "None": (None, "(float|real).*object"),
    "longdouble": (np.zeros((9, 5), np.longdouble), "float32, float64, uint8 or integers, got"),
    "int64 that no float64 holds": (
        np.full((9, 5), 2**53 + 1),
        "numbers that float64 holds, got integers from 9007199254740993",
    ),
    "int64 with a large negative": (
        np.full((9, 5), -(2**53) - 1),
        "numbers that float64 holds, got integers from -9007199254740993",
    ),
}

# What to pass as labels for nine samples and three classes.
BAD_LABELS = {
    "class too large": (np.array([0, 1, 2, 3, 0, 0, 0, 0, 0]), r"3"),
    "class negative": (np.array([0, 1, 2, -1, 0, 0, 0, 0, 0]), r"-1"),
    "too short": (np.zeros(8, int), r"9.*8|8.*9"),
    "too long": (np.zeros(10, int), r"9.*10|10.*9"),
    "rows too narrow": (np.zeros((9, 2)), r"3.*\(9, 2\)"),
    "rows too wide": (np.zeros((9, 4)), r"3.*\(9, 4\)"),
    "too few rows": (np.zeros((8, 3)), r"9.*\(8, 3\)|8.*9"),
    "rank 3": (np.zeros((9, 3, 1)), r"3.*\(9, 3, 1\)"),
    "rank 0": (np.array(1), r"9|N"),
    "fractions": (np.full(9, 0.5), r"must be whole numbers, one class a row, got 0\.5 at 0"),
    "float classes with a NaN": (np.array([0.0] * 8 + [np.nan]), r"in 0 \.\.\. 2, got nan at 8"),
    "strings": (np.full(9, "cat"), "int.*(U3|str)"),
    "objects": (np.zeros(9, object), "int.*object"),
    "complex rows": (np.zeros((9, 3), complex), "(float|real).*complex"),
}

METHODS_OF_X = {
    "forward": lambda mlp, x, labels: mlp.forward(x),
    "call": lambda mlp, x, labels: mlp(x),
    "predict": lambda mlp, x, labels: mlp.predict(x),
    "predict_proba": lambda mlp, x, labels: mlp.predict_proba(x),
    "evaluate": lambda mlp, x, labels: mlp.evaluate(x, labels[: 9 if x is None else len(x)]),
    "fit": lambda mlp, x, labels: mlp.fit(x, labels[: 9 if x is None else len(x)]),
    "validation_data": lambda mlp, x, labels: mlp.fit(
        np.ones((9, 5)), labels, validation_data=(x, labels[: 9 if x is None else len(x)])
    ),
}
# What there is to say of no rows at all is an empty array.
MAY_BE_EMPTY = METHODS_OF_X["predict"], METHODS_OF_X["predict_proba"]


def everything(mlp):
    return state(mlp) | gradients(mlp) | {"parameters": mlp.parameters.copy(), "y": mlp.output}


@pytest.fixture
def mlp():
    """A network with batch norm that stands after a backward, nothing of it zero."""
    mlp = build([5, 7, 3], num_bn_layers=1, momentum=0.9)
    x, _, y = batch(9, 5, 3)
    for _ in range(2):
        mlp.forward(x)
        mlp.backward(y)
        mlp.step()
    return mlp


def assert_refused(mlp, call, message):
    before = everything(mlp)
    before["y"] = before["y"].copy()
    with pytest.raises(REFUSED, match=message):
        call()
    assert_same_state(everything(mlp), before)


@pytest.mark.parametrize("case", BAD_X.values(), ids=BAD_X)
@pytest.mark.parametrize("method", METHODS_OF_X.values(), ids=METHODS_OF_X)
def test_x(mlp, method, case):
    x, message = case
    if method in MAY_BE_EMPTY and np.shape(x) == (0, 5):
        assert len(method(mlp, x, None)) == 0
        return
    assert_refused(mlp, lambda: method(mlp, x, np.zeros(9, int)), message)


@pytest.mark.parametrize("case", BAD_LABELS.values(), ids=BAD_LABELS)
@pytest.mark.parametrize("method", ["evaluate", "fit", "validation_data"])
def test_labels(mlp, method, case):
    x, good, _ = batch(9, 5, 3)
    labels, message = case
    call = {
        "evaluate": lambda: mlp.evaluate(x, labels),
        "fit": lambda: mlp.fit(x, labels),
        "validation_data": lambda: mlp.fit(x, good, validation_data=(x, labels)),
    }[method]
    assert_refused(mlp, call, message)


@pytest.mark.parametrize("method", ["backward", "error", "total_loss"])
@pytest.mark.parametrize(
    "case", ["rows too narrow", "rows too wide", "too few rows", "rank 3", "complex rows"]
)
def test_rows_of_another_shape_than_the_last_forward(mlp, method, case):
    labels, message = BAD_LABELS[case]
    assert_refused(mlp, lambda: getattr(mlp, method)(labels), message)


def test_the_last_short_batch_does_not_hide_a_wrong_label(mlp):
    """Labels are checked as a whole before the first batch trains."""
    x, labels, _ = batch(33, 5, 3)
    labels[-1] = 7
    assert_refused(mlp, lambda: mlp.fit(x, labels, batch_size=8, shuffle=False), "7")


@pytest.mark.parametrize("method", ["backward", "error", "total_loss"])
def test_before_any_forward(method):
    mlp = build([5, 7, 3])
    with pytest.raises((ValueError, RuntimeError), match="forward"):
        getattr(mlp, method)(np.eye(3))


class Watcher:
    """A callback."""

    def on_epoch_end(self, mlp, history):
        return False


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("batch_size", 0, "batch_size.*1.*0"),
        ("batch_size", -3, "batch_size.*1.*-3"),
        ("batch_size", 2.5, r"batch_size.*2\.5"),
        ("epochs", -1, "epochs.*0.*-1"),
        ("epochs", 1.5, r"epochs.*1\.5"),
        ("validation_data", (np.zeros((9, 5)),), "validation_data"),
        ("validation_data", (np.zeros((9, 5)), *np.zeros((3, 9), int)), "validation_data"),
        ("validation_data", {"x": np.zeros((9, 5))}, "validation_data"),
        ("callbacks", [print], r"callbacks\[0\].*methods on_train_begin, .*got <built-in"),
        ("callbacks", [Watcher(), "bar"], r"callbacks\[1\].*methods.*got 'bar'"),
        ("callbacks", [Watcher], r"callbacks\[0\].*object.*got <class"),
        ("callbacks", [SimpleNamespace(on_epoch_end=None)], r"callbacks\[0\].*methods.*None"),
        ("callbacks", Watcher(), "callbacks must be a list, got .*Watcher"),
        ("callbacks", None, "callbacks must be a list, got None"),
    ],
)
def test_fit_options(mlp, option, value, message):
    x, labels, _ = batch(9, 5, 3)
    assert_refused(mlp, lambda: mlp.fit(x, labels, **{option: value}), message)


ARGUMENTS = {
    "input_size": 5,
    "output_size": 3,
    "hiddens": [7, 4],
    "activations": [ReLU(), Sigmoid(), Identity()],
    "weight_init_fn": lambda fan_in, fan_out: np.ones((fan_in, fan_out)),
    "bias_init_fn": lambda fan_out: np.zeros((1, fan_out)),
    "criterion": SoftmaxCrossEntropy(),
    "lr": 0.1,
}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("input_size", 0, "input_size.*0"),
        ("output_size", -1, "output_size.*-1"),
        ("hiddens", [7, 0], "hidden.*0"),
        ("hiddens", [-7, 4], "hidden.*-7"),
        ("hiddens", [7, 4.5], r"hidden.*4\.5"),
        ("hiddens", [7, "4"], "hidden.*4"),
        ("hiddens", 5, "hiddens.*list.*5"),
        ("activations", None, "activations.*list.*None"),
        ("activations", [ReLU(), Identity()], "activation.*3.*2"),
        ("activations", [ReLU()] * 4, "activation.*3.*4"),
        ("activations", [ReLU, Sigmoid, Identity], "activation.*class"),
        ("activations", ["relu", "relu", "identity"], "activation.*'relu'"),
        ("criterion", None, "criterion.*None"),
        ("criterion", SoftmaxCrossEntropy, "criterion.*class"),
        ("num_bn_layers", 4, "num_bn_layers.*3.*4"),
        ("num_bn_layers", -1, "num_bn_layers.*-1"),
        ("lr", float("nan"), "lr.*finite.*nan"),
        ("lr", float("inf"), "lr.*finite.*inf"),
        ("lr", "0.1", r"lr.*number.*'0\.1'"),
        ("momentum", float("nan"), "momentum.*finite.*nan"),
        ("momentum", -float("inf"), "momentum.*finite.*-inf"),
        ("weight_init_fn", lambda i, o: np.ones((o, i)), r"weight.*\(5, 7\).*\(7, 5\)"),
        ("weight_init_fn", lambda i, o: np.ones(i * o), r"weight.*\(5, 7\).*\(35,\)"),
        ("weight_init_fn", lambda i, o: np.ones((i, o), complex), "weight.*(float|real).*complex"),
        ("bias_init_fn", lambda o: np.zeros((1, o + 1)), r"bias.*\(1, 7\).*\(1, 8\)"),
        ("bias_init_fn", lambda o: np.zeros((o, 1)), r"bias.*\(1, 7\).*\(7, 1\)"),
        ("dtype", np.float16, "float32.*float64.*float16"),
        ("dtype", int, "float32.*float64.*int"),
        ("batchnorm_reduction", "max", "sum.*mean.*max"),
    ],
)
def test_constructor(name, value, message):
    MLP(**ARGUMENTS)
    with pytest.raises(REFUSED, match=f"(?i){message}"):
        MLP(**(ARGUMENTS | {name: value}))


def make_linear():
    return Linear(5, 3, lambda i, o: np.ones((i, o)), lambda o: np.zeros((1, o)))


def evaluated(layer, x):
    layer.forward(x)
    return layer


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: make_linear().forward(np.zeros((9, 4))), r"5.*\(9, 4\)"),
        (lambda: make_linear().forward(np.zeros(5)), r"5.*\(5,\)"),
        (lambda: make_linear().forward(np.zeros((0, 5))), r"\(0, 5\)|empty|0 samples"),
        (lambda: make_linear().forward(np.zeros((9, 5), complex)), "(float|real).*complex"),
        (lambda: make_linear().backward(np.zeros((9, 3))), "forward"),
        (
            lambda: evaluated(make_linear(), np.zeros((9, 5))).backward(np.zeros((9, 5))),
            r"\(9, 3\).*\(9, 5\)",
        ),
        (
            lambda: evaluated(make_linear(), np.zeros((9, 5))).backward(np.zeros((8, 3))),
            r"\(9, 3\).*\(8, 3\)",
        ),
        (lambda: BatchNorm(5).forward(np.zeros((9, 4))), r"5.*\(9, 4\)"),
        (lambda: BatchNorm(5).backward(np.zeros((9, 5))), "forward"),
        (
            lambda: evaluated(BatchNorm(5), np.zeros((9, 5))).backward(np.zeros((8, 5))),
            r"\(9, 5\).*\(8, 5\)",
        ),
        (lambda: SoftmaxCrossEntropy()(np.zeros((9, 3)), np.zeros((9, 2))), r"3.*\(9, 2\)"),
        (lambda: SoftmaxCrossEntropy()(np.zeros(3), np.zeros(3)), r"\(3,\)"),
        (lambda: SoftmaxCrossEntropy().derivative(), "forward"),
        (lambda: Sigmoid().derivative(), "forward"),
        (lambda: ReLU()(np.zeros((9, 3), complex)), "(float|real).*complex"),
    ],
)
def test_layers_on_their_own(call, message):
    with pytest.raises((*REFUSED, RuntimeError), match=message):
        call()


def test_a_refused_batch_leaves_running_statistics(mlp):
    """Also where only the second layer could have noticed: the check is at the door."""
    running = mlp.bn_layers[0].running_mean.copy()
    with pytest.raises(REFUSED):
        mlp.forward(np.zeros((9, 6)))
    assert_array_equal(mlp.bn_layers[0].running_mean, running)
