"""scikit-learn's own checks of estimators, and its own tests of its MLP, on fastmlp's classes."""

from pathlib import Path

import pytest
from sklearn.neural_network.tests import test_mlp
from sklearn.utils.estimator_checks import parametrize_with_checks

from fastmlp import estimators

# What reads attributes with an underscore that only scikit-learn's implementation has.
PRIVATE = {
    "test_fit": "_coef_grads and others are set before _fit",
    "test_gradient": "_loss_grad_lbfgs is called",
    "test_learning_rate_warmstart": "_optimizer.learning_rate is read",
    "test_adaptive_learning_rate": "_optimizer.learning_rate is read",
}

IMPORT = "from sklearn.neural_network import MLPClassifier, MLPRegressor"


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        estimators.MLPClassifier(max_iter=20),
        estimators.MLPRegressor(max_iter=20),
        estimators.MLPClassifier(max_iter=60, activation="silu", label_smoothing=0.1),
        estimators.MLPRegressor(max_iter=20, optimizer="adamw", activation=["gelu"]),
    ]
)
def test_estimator(estimator, check):
    check(estimator)


@pytest.fixture(name="global_random_seed")
def one_seed():
    return 42


def _tests_of_scikit_learn():
    """Its test functions, compiled with fastmlp's classes in the place of its own."""
    path = Path(test_mlp.__file__)
    source = path.read_text(encoding="utf-8")
    assert source.count(IMPORT) == 1
    source = source.replace(IMPORT, "from fastmlp.estimators import MLPClassifier, MLPRegressor")
    names = {"__name__": __name__, "__file__": str(path)}
    exec(compile(source, str(path), "exec"), names)
    return {name: test for name, test in names.items() if name.startswith("test_")}


_TESTS = _tests_of_scikit_learn()
assert set(PRIVATE) < set(_TESTS)
globals().update(
    {
        name: pytest.mark.filterwarnings("default")(test)
        for name, test in _TESTS.items()
        if name not in PRIVATE
    }
)
