"""Every criterion through fit: the bits of the hand-written loop, weights of rows and classes."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from fastmlp import (
    MLP,
    BinaryCrossEntropy,
    Criterion,
    Identity,
    MeanAbsoluteError,
    MeanSquaredError,
    PoissonNLL,
    SoftmaxCrossEntropy,
    Tanh,
)
from fastmlp.kernels.epoch import train_steps
from tests.losses import errors, loss_and_derivative
from tests.networks import assert_close, assert_same_state, state
from tests.test_criteria import MAKERS, operands

OUTPUTS = 4
ROWS = 33

every_criterion = pytest.mark.parametrize("name", [*MAKERS, "own"])
every_compute = pytest.mark.parametrize("compute", ["float64", "float32", "bfloat16"])


def pseudo_huber(z, y):
    return math.sqrt(1 + (z - y) * (z - y)) - 1


def pseudo_huber_slope(z, y):
    return (z - y) / math.sqrt(1 + (z - y) * (z - y))


def criterion_named(name):
    if name == "own":
        return Criterion.of(pseudo_huber, pseudo_huber_slope)
    return MAKERS[name]()


def network(criterion, compute="float64", outputs=OUTPUTS, **options):
    rng = np.random.default_rng(0)
    dtype = "float64" if compute == "float64" else "float32"
    return MLP(
        5, outputs, [17], [Tanh(), Identity()],
        lambda d0, d1: rng.standard_normal((d0, d1)) / np.sqrt(d0), lambda d: np.zeros((1, d)),
        criterion, **{"lr": 0.05, "momentum": 0.9} | options, dtype=dtype,
        compute_dtype="bfloat16" if compute == "bfloat16" else None,
    )  # fmt: skip


def rows_for(criterion, outputs=OUTPUTS):
    """(x, targets, weights) of float64."""
    rng = np.random.default_rng(1)
    weights = rng.random(ROWS)
    weights[::7] = 0
    return rng.standard_normal((ROWS, 5)), operands(criterion, ROWS, outputs)[1], weights


@every_criterion
@every_compute
@pytest.mark.parametrize("weighted", [False, True])
def test_fit_is_the_loop(name, compute, weighted):
    """To the bit; a batch of 8, the last of 1, with the figures that the loop has."""
    fitted, looped = (network(criterion_named(name), compute, num_bn_layers=1) for _ in range(2))
    x, y, weights = rows_for(fitted.criterion)
    x, weights = x.astype(fitted.dtype), weights if weighted else None
    history = fitted.fit(x, y, epochs=2, batch_size=8, shuffle=False, sample_weight=weights)
    for _ in range(2):
        losses = []
        for first in range(0, ROWS, 8):
            part = slice(first, first + 8)
            chosen = None if weights is None else weights[part]
            looped.forward(x[part])
            looped.backward(y[part], chosen)
            ones = np.ones(len(y[part])) if chosen is None else chosen
            losses.append(ones @ looped.criterion.loss)
            looped.step()
    assert_same_state(state(fitted), state(looped))
    shares = fitted.criterion.class_shares(y)
    counts = (np.ones(ROWS) if weights is None else weights) * (1 if shares is None else shares)
    assert_allclose(history.train_loss[-1], np.sum(losses) / counts.sum(), rtol=1e-5)
    assert len(history.step_loss) == 10
    assert np.isfinite(history.train_error).all()


def test_one_compilation_serves_every_criterion():
    compiled = None
    for name in [*MAKERS, "own"]:
        mlp = network(criterion_named(name))
        x, y, weights = rows_for(mlp.criterion)
        mlp.fit(x, y, sample_weight=weights)
        compiled = set(train_steps.signatures) if compiled is None else compiled
    assert set(train_steps.signatures) == compiled


@pytest.mark.parametrize("name", MAKERS)
def test_evaluate_is_numpys(name):
    mlp = network(criterion_named(name))
    x, y, weights = rows_for(mlp.criterion)
    outputs = mlp.forward(x)
    expected, _ = loss_and_derivative(mlp.criterion, outputs, y)
    wrong = errors(mlp.criterion, outputs, y)
    shares = mlp.criterion.class_shares(y)
    shares = np.ones(ROWS) if shares is None else shares
    for w in (None, weights):
        ones = np.ones(ROWS) if w is None else w
        loss, error = mlp.evaluate(x, y, w)
        assert_allclose(loss, ones @ expected / (ones @ shares), rtol=1e-12)
        assert_allclose(error, np.average(wrong, weights=ones), rtol=1e-12)


@pytest.mark.parametrize("name", ["SoftmaxCrossEntropy", "MeanSquaredError"])
def test_a_weight_of_two_is_a_row_that_is_there_twice(name):
    """And one of 0 is none: one step on all rows, in another order of sums."""
    weighted, repeated = (network(criterion_named(name)) for _ in range(2))
    x, y, _ = rows_for(weighted.criterion)
    weights = np.arange(ROWS) % 3
    weighted.fit(x, y, batch_size=ROWS, sample_weight=weights)
    copies = np.repeat(np.arange(ROWS), weights)
    repeated.fit(x[copies], y[copies], batch_size=len(copies))
    assert_same_state(state(weighted), state(repeated), 1e-13)
    assert_allclose(weighted.history.train_loss, repeated.history.train_loss, rtol=1e-13)
    assert_allclose(weighted.history.train_error, repeated.history.train_error, rtol=1e-13)


def test_weights_of_classes_are_those_of_their_rows():
    labels = np.random.default_rng(0).integers(0, OUTPUTS, ROWS)
    by_class = network(SoftmaxCrossEntropy(class_weights=[1, 0.5, 2, 0.25]))
    by_row = network(SoftmaxCrossEntropy())
    x, _, _ = rows_for(by_row.criterion)
    by_class.fit(x, labels, batch_size=8, seed=0)
    weights = np.array([1, 0.5, 2, 0.25])[labels]
    by_row.fit(x, labels, batch_size=8, seed=0, sample_weight=weights)
    assert_same_state(state(by_class), state(by_row), 1e-14)
    assert_allclose(by_class.history.train_loss, by_row.history.train_loss, rtol=1e-13)
    # A class that is missed is one error, whatever its weight.
    assert by_class.history.train_error[0] * ROWS == pytest.approx(
        round(by_class.history.train_error[0] * ROWS)
    )


def test_accumulated_batches_have_one_sum_of_weights():
    whole, parts = (network(MeanSquaredError()) for _ in range(2))
    x, y, weights = rows_for(whole.criterion)
    whole.fit(x, y, batch_size=ROWS, shuffle=False, sample_weight=weights)
    parts.fit(x, y, batch_size=8, shuffle=False, sample_weight=weights, accumulate=5)
    assert_same_state(state(whole), state(parts), 1e-14)


def test_a_batch_without_weight_changes_nothing_but_the_momenta():
    mlp = network(MeanSquaredError(), momentum=0.0)
    x, y, _ = rows_for(mlp.criterion)
    before = state(mlp)
    weights = np.zeros(ROWS)
    weights[8:] = 1
    mlp.fit(x, y, batch_size=8, max_steps=1, shuffle=False, sample_weight=weights)
    assert_same_state(state(mlp), before)
    assert mlp.history.step_loss == [0]


def test_a_single_output_takes_and_gives_vectors():
    column, vector = (network(MeanSquaredError(), outputs=1) for _ in range(2))
    x, y, _ = rows_for(column.criterion, 1)
    column.fit(x, y, seed=0, validation_data=(x, y))
    vector.fit(x, y[:, 0], seed=0, validation_data=(x, y[:, 0]))
    assert_same_state(state(column), state(vector))
    assert vector.predict(x).shape == (ROWS,)
    residual = y[:, 0] - vector.predict(x)
    r2 = 1 - (residual**2).sum() / ((y - y.mean()) ** 2).sum()
    assert_allclose(vector.score(x, y), r2, rtol=1e-12)
    assert_allclose(vector.history.val_r2, [r2], rtol=1e-12)
    assert_allclose(vector.history.val_error, [np.abs(residual).mean()], rtol=1e-12)
    assert vector.history.error_name == "mean absolute error"
    with pytest.raises(TypeError, match="MeanSquaredError predicts values"):
        vector.predict_proba(x)


def test_several_labels_are_predicted_one_by_one():
    mlp = network(BinaryCrossEntropy(), lr=1.0)
    x, y, _ = rows_for(mlp.criterion)
    history = mlp.fit(x, y, epochs=300)
    assert history.train_loss[-1] < 0.1
    labels = mlp.predict(x)
    assert labels.dtype == np.int64
    assert_array_equal(labels, mlp.predict_proba(x) > 0.5)
    assert_close(mlp.predict_proba(x), 1 / (1 + np.exp(-mlp.forward(x))), 1e-14)
    assert mlp.score(x, y) == 1 - mlp.evaluate(x, y)[1] == (labels == y).mean()


def test_counts_are_predicted_as_rates():
    mlp = network(PoissonNLL(), outputs=1)
    x, y, _ = rows_for(mlp.criterion, 1)
    mlp.fit(x, y, epochs=200)
    assert_allclose(mlp.predict(x), np.exp(mlp.forward(x)[:, 0]), rtol=1e-14)
    assert_allclose(mlp.predict(x).mean(), y.mean(), rtol=0.05)


def test_a_callback_may_change_the_criterion():
    class Change:
        def on_epoch_end(self, mlp, history):
            mlp.criterion = MeanAbsoluteError()

    changed, by_hand = (network(MeanSquaredError()) for _ in range(2))
    x, y, _ = rows_for(changed.criterion)
    changed.fit(x, y, epochs=2, shuffle=False, callbacks=[Change()])
    by_hand.fit(x, y, shuffle=False)
    by_hand.criterion = MeanAbsoluteError()
    by_hand.fit(x, y, shuffle=False)
    assert_same_state(state(changed), state(by_hand))


@pytest.mark.parametrize("name", MAKERS)
def test_a_file_keeps_the_criterion(name, tmp_path):
    pytest.importorskip("safetensors", reason="files need the extra io")
    mlp = network(MAKERS[name]())
    x, y, _ = rows_for(mlp.criterion)
    mlp.save(tmp_path / "mlp.safetensors")
    loaded = MLP.load(tmp_path / "mlp.safetensors")
    assert repr(loaded.criterion) == repr(mlp.criterion)
    for network_ in (mlp, loaded):
        network_.fit(x, y, seed=0)
    assert_same_state(state(loaded), state(mlp))


def test_a_file_keeps_no_functions(tmp_path):
    pytest.importorskip("safetensors", reason="files need the extra io")
    with pytest.raises(ValueError, match=r"a file keeps no functions, got the criterion Criterion"):
        network(criterion_named("own")).save(tmp_path / "mlp.safetensors")


@pytest.mark.parametrize(
    ("criterion", "labels", "options", "message"),
    [
        (MeanSquaredError(), np.zeros(ROWS, int), {}, r"labels must be \(33, 4\), got \(33,\)"),
        (BinaryCrossEntropy(), np.full((ROWS, 4), 2), {}, r"labels\[0, 0\] must be from 0 to 1"),
        (PoissonNLL(), -np.ones((ROWS, 4)), {}, r"labels\[0, 0\] must be at least 0, got -1"),
        (SoftmaxCrossEntropy(), np.full(ROWS, 7), {}, r"labels must lie in 0 ... 3, got 7"),
        (MeanSquaredError(), np.zeros((ROWS, 4)), {"sample_weight": np.ones(3)},
         r"sample_weight must be \(33,\), got shape \(3,\)"),
        (MeanSquaredError(), np.zeros((ROWS, 4)), {"sample_weight": -np.ones(ROWS)},
         r"sample_weight\[0\] must be finite and at least 0, got -1"),
        (MeanSquaredError(), np.zeros((ROWS, 4)), {"sample_weight": np.full(ROWS, np.nan)},
         r"sample_weight\[0\] must be finite"),
        (MeanSquaredError(), np.zeros((ROWS, 4)), {"sample_weight": np.zeros(ROWS)},
         "sample_weight must have an entry above 0"),
        (MeanSquaredError(), np.zeros((ROWS, 4)),
         {"validation_data": (np.zeros((2, 5)), np.zeros((2, 4)), np.ones(3))},
         r"validation_data\[2\] must be \(2,\), got shape \(3,\)"),
        (MeanSquaredError(), np.full((ROWS, 4), np.inf), {}, r"labels\[0, 0\] must be finite"),
    ],
)  # fmt: skip
def test_bad_input_changes_nothing(criterion, labels, options, message):
    mlp = network(criterion)
    before = state(mlp)
    with pytest.raises(ValueError, match=message):
        mlp.fit(np.ones((ROWS, 5)), labels, **options)
    assert_same_state(state(mlp), before)
    assert mlp.history is None


def test_class_weights_must_fit_the_network():
    with pytest.raises(
        ValueError, match="class_weights must have 4 entries, one per output, got 2"
    ):
        network(SoftmaxCrossEntropy(class_weights=[1, 2]))
