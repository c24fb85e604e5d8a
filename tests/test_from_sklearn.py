"""Networks from fitted estimators: the same predictions, and what they go on with."""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from fastmlp import MLP, estimators
from fastmlp.optimizers._scikit_learn import UncorrectedAdam, VelocitySGD
from tests.exchange import TOLERANCE, every_dtype
from tests.networks import assert_close

DIGITS = load_digits()
X, CLASSES = DIGITS.data[:200] / 16, DIGITS.target[:200]
TARGETS = {
    "classes": CLASSES,
    "names": np.array(list("jihgfedcba"))[CLASSES],
    "two classes": np.where(CLASSES > 4, "high", "low"),
    "labels": np.stack([CLASSES % 2, CLASSES > 4, CLASSES % 3 == 0], axis=1).astype(int),
    "values": np.stack([CLASSES, X.sum(axis=1)], axis=1) / 10,
    "one value": CLASSES / 10,
    "counts": CLASSES,
}
REGRESSIONS = "values", "one value", "counts"
every_library = pytest.mark.parametrize("library", [neural_network, estimators])


def fitted(library, kind, dtype=np.float64, **arguments):
    """An estimator of that library for the targets of that name."""
    name = "MLPRegressor" if kind in REGRESSIONS else "MLPClassifier"
    if kind == "counts":
        arguments["loss"] = "poisson"
    arguments = {"hidden_layer_sizes": (20, 7), "max_iter": 5, "random_state": 0} | arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return getattr(library, name)(**arguments).fit(X.astype(dtype), TARGETS[kind])


def in_names(estimator, kind, predicted):
    """What a network's predictions stand for."""
    return (
        estimator.classes_[predicted] if kind in ("classes", "names", "two classes") else predicted
    )


@every_library
@every_dtype
@pytest.mark.parametrize("kind", TARGETS)
def test_predictions_are_the_same(kind, dtype, library):
    estimator = fitted(library, kind, dtype)
    mlp = MLP.from_sklearn(estimator)
    x = X.astype(dtype)
    assert mlp.dtype == dtype
    expected = estimator.predict(x)
    if kind in REGRESSIONS:
        return assert_close(mlp.predict(x), expected, TOLERANCE[dtype])
    assert_array_equal(in_names(estimator, kind, mlp.predict(x)), expected)
    probabilities = estimator.predict_proba(x)
    if kind == "two classes":
        probabilities = probabilities[:, 1:]
    return assert_close(mlp.predict_proba(x), probabilities, TOLERANCE[dtype])


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_every_activation_of_scikit_learn(activation):
    estimator = fitted(neural_network, "values", activation=activation)
    assert_close(MLP.from_sklearn(estimator).predict(X), estimator.predict(X), 1e-12)


def test_weights_are_copies():
    for library in (neural_network, estimators):
        estimator = fitted(library, "classes")
        mlp = MLP.from_sklearn(estimator)
        before = [coef.copy() for coef in estimator.coefs_]
        mlp.parameters += 1
        for coef, kept in zip(estimator.coefs_, before, strict=True):
            assert_array_equal(coef, kept)


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"beta_1": 0.8, "learning_rate_init": 0.01}, UncorrectedAdam(0.01, betas=(0.8, 0.999))),
        ({"solver": "sgd", "momentum": 0.5}, VelocitySGD(1e-3, 0.5)),
        ({"solver": "sgd", "nesterovs_momentum": False}, VelocitySGD(1e-3, 0.9, nesterov=False)),
    ],
)
def test_the_solver_goes_on(arguments, rule):
    mlp = MLP.from_sklearn(fitted(neural_network, "classes", **arguments))
    assert repr(mlp.optimizer) == repr(rule)


@pytest.mark.parametrize("kind", ["classes", "two classes", "labels", "values", "counts"])
def test_a_step_is_that_of_scikit_learn(kind):
    """By the solver sgd, without penalty, of all rows at once."""
    arguments = {
        "solver": "sgd", "alpha": 0.0, "batch_size": 200, "shuffle": False, "momentum": 0.0,
        "nesterovs_momentum": False, "learning_rate_init": 0.1,
    }  # fmt: skip
    mlp = MLP.from_sklearn(fitted(neural_network, kind, max_iter=1, **arguments))
    later = fitted(neural_network, kind, max_iter=2, **arguments)
    y = TARGETS[kind]
    if kind in ("classes", "two classes"):
        y = np.searchsorted(later.classes_, y)
    mlp.fit(X, y, batch_size=200, shuffle=False)
    for layer, coef, intercept in zip(
        mlp.linear_layers, later.coefs_, later.intercepts_, strict=True
    ):
        assert_close(layer.W, coef, 1e-12)
        assert_close(layer.b[0], intercept, 1e-12)


def test_what_only_fastmlp_has_is_copied():
    estimator = fitted(
        estimators, "classes", batch_norm=True, dropout=0.2, activation=["gelu", "mish"],
        optimizer="adamw", label_smoothing=0.1,
    )  # fmt: skip
    mlp = MLP.from_sklearn(estimator)
    assert mlp is not estimator.network_
    assert_array_equal(mlp.predict_proba(X), estimator.predict_proba(X))
    assert_array_equal(mlp.squares, estimator.network_.squares)
    assert (mlp.dropout, mlp.updates) == ((0, 0.2, 0.2), estimator.network_.updates)


@pytest.mark.parametrize("cls", ["MLPClassifier", "MLPRegressor"])
@every_library
def test_before_fit(library, cls):
    with pytest.raises(NotFittedError, match=f"This {cls} instance is not fitted yet. Call 'fit'"):
        MLP.from_sklearn(getattr(library, cls)())


@pytest.mark.parametrize("what", [estimators.RealMLPClassifier(), None, MLP])
def test_what_is_no_such_estimator(what):
    with pytest.raises(TypeError, match=r"must be an MLPClassifier or MLPRegressor, .* got "):
        MLP.from_sklearn(what)
