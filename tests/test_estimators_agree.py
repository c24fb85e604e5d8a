"""The estimators beside scikit-learn's own, with the same random state.

In float64 both make the same steps up to rounding, which some dozens of them do not magnify: curves
and weights differ by 1e-14 at most here, 1e-10 leaves room for other processors.
"""

import inspect
import warnings

import numpy as np
import pytest
import scipy.sparse
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning

from fastmlp import estimators

TOLERANCE = 1e-10
PAIRS = [
    (estimators.MLPClassifier, neural_network.MLPClassifier),
    (estimators.MLPRegressor, neural_network.MLPRegressor),
]

X = load_digits().data[:150] / 16
DIGITS = load_digits().target[:150]
WEIGHTS = np.random.default_rng(0).random(len(X))
VALUES = 1 + X @ np.random.default_rng(1).standard_normal((64, 2))
LABELS = {
    "classes": DIGITS,
    "two classes": DIGITS > 4,
    "strings": np.array(list("abcdefghij"))[DIGITS],
    "several labels": np.stack([DIGITS % 2, DIGITS > 4, DIGITS % 3 == 0], axis=1).astype(int),
}
SOLVERS = [
    {},
    {"shuffle": False, "batch_size": 37, "beta_1": 0.0, "epsilon": 1e-3},
    {"activation": "logistic", "alpha": 5.0, "early_stopping": True, "n_iter_no_change": 2},
    {"activation": "tanh", "hidden_layer_sizes": (20, 7), "alpha": 0.0},
    {"activation": "identity", "hidden_layer_sizes": (3,), "max_iter": 4},
    {"solver": "sgd", "learning_rate_init": 0.05, "batch_size": 64},
    {"solver": "sgd", "nesterovs_momentum": False, "momentum": 1.0, "power_t": 0.2},
    {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.1},
    {
        "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.2, "tol": 0.05,
        "n_iter_no_change": 1,
    },
]  # fmt: skip


def fit(classes, arguments, x, y, weights=None):
    """The estimators of both libraries, fitted."""
    arguments = {"random_state": 3, "max_iter": 8} | arguments
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return [cls(**arguments).fit(x, y, sample_weight=weights) for cls in classes]


def assert_agree(ours, theirs, x=X):
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(ours, name) == getattr(theirs, name), name
    names = ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "loss_")
    for name in names:
        expected = getattr(theirs, name)
        if expected is None:
            assert getattr(ours, name) is None
        else:
            assert_allclose(getattr(ours, name), expected, TOLERANCE, err_msg=name)
    for name in ("coefs_", "intercepts_"):
        for mine, other in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            assert mine.dtype == other.dtype
            assert_allclose(mine, other, TOLERANCE, TOLERANCE, err_msg=name)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(theirs, method):
            mine, other = getattr(ours, method)(x), getattr(theirs, method)(x)
            if np.issubdtype(other.dtype, np.floating):
                assert_allclose(mine, other, 1e-8, TOLERANCE, err_msg=method)
            else:
                assert_array_equal(mine, other)


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("arguments", SOLVERS, ids=str)
def test_classifier(arguments, labels, weights):
    assert_agree(*fit(PAIRS[0], arguments, X, LABELS[labels], weights))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("arguments", SOLVERS[:-3], ids=str)
def test_regressor(arguments, outputs, loss, weights):
    y = VALUES[:, 0] if outputs == 1 else VALUES
    arguments = {"loss": loss, "learning_rate_init": 1e-3} | arguments
    if loss == "poisson":
        y = np.round(np.exp(y / 4))
        arguments["learning_rate_init"] = 1e-4
    assert_agree(*fit(PAIRS[1], arguments, X, y, weights))


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize("case", ["classes", "several labels", "values", "counts"])
def test_lbfgs(case, weights):
    arguments = {"solver": "lbfgs", "max_iter": 15, "alpha": 0.1}
    if case in LABELS:
        ours, theirs = fit(PAIRS[0], arguments, X, LABELS[case], weights)
    elif case == "values":
        ours, theirs = fit(PAIRS[1], arguments, X, VALUES, weights)
    else:
        counts = np.round(np.exp(VALUES / 4))
        ours, theirs = fit(PAIRS[1], arguments | {"loss": "poisson"}, X, counts, weights)
    assert ours.n_iter_ == theirs.n_iter_
    # A line search magnifies rounding from step to step.
    assert_allclose(ours.loss_, theirs.loss_, 1e-6)
    for mine, other in zip(ours.coefs_, theirs.coefs_, strict=True):
        assert_allclose(mine, other, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "csr_array", "csc_array"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_sparse_rows(kind, solver):
    arguments = {"solver": solver, "batch_size": 37, "max_iter": 5}
    sparse = getattr(scipy.sparse, kind)(X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        cls = estimators.MLPClassifier
        dense, thin = (
            cls(random_state=3, **arguments).fit(x, DIGITS, WEIGHTS) for x in (X, sparse)
        )
    for mine, other in zip(dense.coefs_, thin.coefs_, strict=True):
        assert_array_equal(mine, other)
    assert_array_equal(dense.predict_proba(X), thin.predict_proba(sparse))


def test_sparse_rows_with_dropout_are_dropped_alike():
    arguments = {"random_state": 3, "max_iter": 3, "batch_size": 37, "dropout": 0.3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        dense, thin = (
            estimators.MLPClassifier(**arguments).fit(x, DIGITS)
            for x in (X, scipy.sparse.csr_matrix(X))
        )
    assert_array_equal(dense.coefs_[0], thin.coefs_[0])


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_partial_fit_and_warm_start(solver):
    classes = np.unique(DIGITS)
    ours, theirs = (cls(random_state=0, solver=solver) for cls in PAIRS[0])
    for first in range(0, 150, 50):
        rows = slice(first, first + 50)
        for estimator in (ours, theirs):
            estimator.partial_fit(X[rows], DIGITS[rows], WEIGHTS[rows], classes=classes)
        assert_agree(ours, theirs)
    ours, theirs = (
        cls(random_state=0, solver=solver, max_iter=3, warm_start=True) for cls in PAIRS[0]
    )
    for _ in range(3):
        for estimator in (ours, theirs):
            with pytest.warns(ConvergenceWarning, match="Maximum iterations"):
                estimator.fit(X, DIGITS)
        assert_agree(ours, theirs)


def test_float32_stays_float32():
    x = X.astype(np.float32)
    ours, theirs = fit(PAIRS[0], {"max_iter": 5}, x, DIGITS)
    assert ours.coefs_[0].dtype == theirs.coefs_[0].dtype == np.float32
    # 10 steps of rounding to 6e-8 each.
    assert_allclose(ours.loss_curve_, theirs.loss_curve_, 1e-5)


@pytest.mark.parametrize("pair", PAIRS, ids=["classifier", "regressor"])
def test_parameters_are_those_of_the_installed_scikit_learn(pair):
    ours, theirs = (inspect.signature(cls).parameters for cls in pair)
    assert list(ours)[: len(theirs)] == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind), name


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("pair", PAIRS, ids=["classifier", "regressor"])
def test_attributes_and_methods_are_those_of_scikit_learn(pair, solver):
    ours, theirs = fit(pair, {"solver": solver, "max_iter": 2}, X, DIGITS)
    public = {name for name in dir(theirs) if not name.startswith("_")}
    assert public <= set(dir(ours))
    for name in (name for name in vars(theirs) if name.endswith("_")):
        assert type(getattr(ours, name)) is type(getattr(theirs, name)) or name in (
            "coefs_", "intercepts_", "loss_", "best_loss_",
        ), name  # fmt: skip


def test_messages_of_verbose_are_the_same(capsys):
    arguments = {"verbose": True, "solver": "sgd", "learning_rate": "adaptive", "tol": 10.0}
    printed = []
    for cls in PAIRS[0]:
        fit([cls], arguments | {"n_iter_no_change": 1, "max_iter": 8}, X, DIGITS)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]
    assert "Setting learning rate to" in printed[0]
