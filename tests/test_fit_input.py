"""What people type: arguments by name, lists and integers for arrays, and NaN among the data."""

import inspect

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastmlp
from fastmlp import (
    MLP,
    Activation,
    Huber,
    Identity,
    LeakyReLU,
    SoftmaxCrossEntropy,
    Tanh,
    optimizers,
    schedules,
)
from fastmlp.initializers import xavier_normal, zeros
from tests.networks import assert_same_state, batch, build, state

X, LABELS, Y = batch(33, 5, 3)


def network():
    return build([5, 7, 3], momentum=0.9)


# Arguments


def test_fits_arguments_stand_in_its_signature():
    parameters = inspect.signature(MLP.fit).parameters
    assert list(parameters) == [
        "self", "x", "labels", "epochs", "batch_size", "max_steps", "shuffle", "window",
        "seed", "sample_weight", "validation_data", "callbacks", "progress", "lr_schedule",
        "check_finite", "accumulate", "drop_last", "decay_schedule", "dropout_schedule", "resume",
        "comm", "shards",
    ]  # fmt: skip
    assert parameters["batch_size"].default == 128
    assert parameters["epochs"].kind is inspect.Parameter.KEYWORD_ONLY
    assert parameters["batch_size"].annotation == "int"
    for name in list(parameters)[1:]:
        assert f"{name} :" in MLP.fit.__doc__ or name in ("epochs", "labels"), name


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: optimizers.Adam(beta=(0.9, 0.99)), "Adam has no argument 'beta'.*'betas'"),
        (lambda: optimizers.SGD(0.1, wieght_decay=1), "did you mean 'weight_decay'"),
        (lambda: schedules.Cosine(warm_up=0.1), "Cosine has no argument.*'warmup'"),
        (lambda: Huber(detla=1), "Huber has no argument 'detla'; did you mean 'delta'"),
        (lambda: LeakyReLU(slope=0.1), "LeakyReLU has no argument 'slope'"),
    ],
)  # fmt: skip
def test_a_misspelt_argument_of_a_class_too(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_class_of_ones_own_may_take_any_argument():
    class Mine(Activation):
        def __init__(self, **anything):
            super().__init__()
            self.anything = anything

    assert Mine(colour="red").anything == {"colour": "red"}


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("epoch", "epochs"), ("batchsize", "batch_size"), ("callback", "callbacks"),
     ("validation", "validation_data"), ("lr_scheduler", "lr_schedule")],
)  # fmt: skip
def test_a_misspelt_argument_is_answered_with_the_nearest(typed, nearest):
    mlp = network()
    before = state(mlp)
    message = f"fit has no argument '{typed}'; did you mean '{nearest}'?"
    with pytest.raises(TypeError) as error:
        mlp.fit(X, LABELS, **{typed: 3})
    assert str(error.value) == message
    assert_same_state(state(mlp), before)


def test_an_argument_that_is_near_none():
    with pytest.raises(TypeError, match=r"^fit has no argument 'zzz'$"):
        network().fit(X, LABELS, zzz=1)


def test_the_constructor_answers_likewise():
    with pytest.raises(TypeError, match="MLP has no argument 'momentun'; did you mean 'momentum'"):
        MLP(2, 2, [], [Identity()], zeros, zeros, SoftmaxCrossEntropy(), 0.1, momentun=0.9)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("lr", -0.1, "lr must be at least 0, got -0.1: a negative step climbs the loss"),
        ("momentum", 1.0, "momentum must be at least 0 and below 1, got 1.0: from 1 on velocities"),
        ("momentum", 1.5, "momentum must be at least 0 and below 1, got 1.5"),
        ("momentum", -0.5, "momentum must be at least 0 and below 1, got -0.5"),
        ("weight_decay", -1e-3, "weight_decay must be at least 0, got -0.001: a negative one"),
    ],
)
def test_rates_that_cannot_train_are_refused_with_the_reason(name, value, message):
    mlp = network()
    before = getattr(mlp, name)
    with pytest.raises(ValueError, match=f"^{message}"):
        setattr(mlp, name, value)
    assert getattr(mlp, name) == before
    with pytest.raises(ValueError, match=f"^{message}"):
        build([5, 3], **{name: value})


def test_a_schedule_must_not_climb():
    mlp = network()
    with pytest.raises(ValueError, match=r"lr_schedule must not be negative, got -0\.5"):
        mlp.fit(X, LABELS, batch_size=33, epochs=2, lr_schedule=[0.5, -0.5])


# Data


def test_xor_as_lists_of_lists_trains():
    mlp = MLP(2, 2, [8], [Tanh(), Identity()], xavier_normal(0), zeros, SoftmaxCrossEntropy(), 0.5,
              momentum=0.9)  # fmt: skip
    x, labels = [[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0]
    mlp.fit(x, labels, epochs=200, batch_size=4, seed=0)
    assert mlp.predict(x).tolist() == labels
    assert mlp.evaluate(x, labels)[1] == 0


WHOLE = np.random.default_rng(5).integers(0, 2, (33, 5))


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", ">i4"],
)
@pytest.mark.parametrize("method", ["fit", "predict_proba", "forward", "evaluate"])
def test_integers_and_booleans_are_taken_as_they_are(dtype, method):
    """The same bits as the floats that hold them; unlike uint8 they are not scaled."""
    results = []
    for x in (WHOLE.astype(float), WHOLE.astype(dtype)):
        mlp = network()
        if method == "fit":
            mlp.fit(x, LABELS, epochs=2, seed=0, validation_data=(x, LABELS))
            results.append(mlp.parameters)
        elif method == "evaluate":
            results.append(np.array(mlp.evaluate(x, LABELS)))
        else:
            results.append(getattr(mlp, method)(x))
    assert_array_equal(results[1], results[0])


def test_large_integers_are_taken_where_nothing_is_lost():
    """In float64; the first that it cannot hold is refused."""
    mlp = build([1, 3])
    largest = np.array([[2**53], [-(2**53)]])
    assert_array_equal(mlp.forward(largest), mlp.forward(largest.astype(float)))
    for lost in (2**53 + 1, -(2**53) - 1):
        with pytest.raises(ValueError, match="x must be numbers that float64 holds"):
            mlp.forward(np.array([[lost]]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "uint64", "int8"])
def test_classes_of_any_dtype_with_whole_values(dtype):
    expected, mlp = network(), network()
    history = expected.fit(X, LABELS, validation_data=(X, LABELS), seed=0)
    labels = LABELS.astype(dtype)
    found = mlp.fit(X, labels, validation_data=(X, labels.tolist()), seed=0)
    assert found.val_loss == history.val_loss
    assert_same_state(state(mlp), state(expected))


def test_booleans_are_two_classes():
    expected, mlp = build([5, 2]), build([5, 2])
    yes = LABELS > 0
    expected.fit(X, yes.astype(int), seed=0)
    mlp.fit(X, yes, seed=0)
    assert_same_state(state(mlp), state(expected))


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64"])
def test_no_rows_have_no_predictions(dtype):
    mlp = network()
    empty = np.zeros((0, 5), dtype)
    assert mlp.predict(X[:0]).shape == mlp.predict(empty).shape == (0,)
    assert mlp.predict(empty).dtype == np.int64
    assert mlp.predict_proba(empty).shape == (0, 3)


def test_no_rows_cannot_be_trained_on_or_evaluated():
    for call in (network().fit, network().evaluate):
        with pytest.raises(ValueError, match="x must have at least one row"):
            call(X[:0], LABELS[:0])


# NaN and infinity


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("row", "column"), [(0, 0), (12, 3), (32, 4)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_first_bad_row_and_column_is_named(bad, row, column, dtype):
    mlp = network()
    before = state(mlp)
    x = X.astype(dtype)
    x[row, column] = bad
    x[row + 1 :, :] = np.nan
    with pytest.raises(ValueError, match=rf"^x\[{row}, {column}\] must be finite, got {bad}$"):
        mlp.fit(x, LABELS)
    with pytest.raises(
        ValueError, match=rf"^validation_data\[0\]\[{row}, {column}\] must be finite"
    ):
        mlp.fit(X, LABELS, validation_data=(x, LABELS))
    assert_same_state(state(mlp), before)


@pytest.mark.parametrize("where", ["labels", r"validation_data\[1\]"])
def test_bad_rows_of_labels_are_named(where):
    y = Y.copy()
    y[7, 2] = np.inf
    options = {"labels": y} if where == "labels" else {"labels": Y, "validation_data": (X, y)}
    with pytest.raises(ValueError, match=rf"^{where}\[7, 2\] must be finite, got inf$"):
        network().fit(X, **options)


def test_the_place_is_right_in_large_arrays_of_any_strides():
    """Beyond the first of the pieces that are looked at one by one."""
    mlp = build([1000, 3])
    x = np.zeros((2000, 1500), np.float32)[::2, 100:1100]
    labels = np.zeros(1000, int)
    x[777, 123] = np.nan
    with pytest.raises(ValueError, match=r"^x\[777, 123\] must be finite, got nan$"):
        mlp.fit(x, labels)


@pytest.mark.parametrize("where", ["x", "labels"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_a_fit_within_its_first_epoch_looks_at_the_rows_that_it_trains_on(where, shuffle):
    """Of several bad rows the first by its number; and at all rows where it goes beyond."""
    order = np.arange(33)
    if shuffle:
        np.random.default_rng(0).shuffle(order)
    taken, others = np.sort(order[:16]), np.sort(order[16:])
    data = {"x": X.copy(), "labels": Y.copy()}
    data[where][others, 1] = np.nan
    options = {"batch_size": 8, "shuffle": shuffle, "seed": 0}
    mlp = network()
    mlp.fit(**data, max_steps=2, **options)
    before = state(mlp)
    for steps in (3, 5, 6, None):
        first = others[0] if steps != 3 else np.sort(order[16:24])[0]
        with pytest.raises(ValueError, match=rf"^{where}\[{first}, 1\] must be finite, got nan$"):
            mlp.fit(**data, max_steps=steps, epochs=2, **options)
    data[where][taken[[5, 9]], 2] = np.inf
    with pytest.raises(ValueError, match=rf"^{where}\[{taken[5]}, 2\] must be finite, got inf$"):
        mlp.fit(**data, max_steps=2, **options)
    assert_same_state(state(mlp), before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_numbers_are_finite(dtype):
    """Their sum is not."""
    x = np.zeros((4, 5), dtype)
    x[:, 0] = np.finfo(dtype).max
    build([5, 3], dtype=dtype).fit(x, np.arange(4) % 3, epochs=0)


def test_the_look_can_be_left_out():
    x = X.copy()
    x[20, 1] = np.nan
    mlp = network()
    with pytest.warns(RuntimeWarning, match="the loss is nan in epoch 1, step 3"):
        mlp.fit(x, LABELS, batch_size=8, shuffle=False, check_finite=False)
    assert np.isfinite(mlp.parameters).all()


def test_train_many_is_public():
    assert fastmlp.train_many is fastmlp.sweeps.train_many
    assert "train_many" in fastmlp.__all__
