"""A fit of an estimator that raises leaves it as it was, whatever raised."""

import copy
import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="estimators need the extra sklearn")

from fastmlp.callbacks import EarlyStopping
from fastmlp.estimators import (
    MLPClassifier,
    MLPRegressor,
    RealMLPClassifier,
    RealMLPRegressor,
)
from tests.network_states import facts

RNG = np.random.default_rng(0)
X = RNG.standard_normal((40, 3))
CLASSES = np.arange(40) % 3
VALUES = X @ [1.0, 2.0, 3.0]
NAN = np.where(np.arange(120).reshape(40, 3) == 64, np.nan, X)


class Raise:
    """A callback of the user's own."""

    def __init__(self, event):
        setattr(self, event, self._raise)

    def _raise(self, *arguments):
        raise RuntimeError("mine")


def state_of(estimator):
    """Everything fitted: the objects themselves, their content, and the random state."""
    networks = [vars(estimator).get("network_"), *vars(estimator).get("networks_", ())]
    content = {
        name: pickle.dumps(value)
        for name, value in vars(estimator).items()
        if not (name.startswith("network") or name in ("callbacks", "schedule"))
    }
    return (
        {name: id(value) for name, value in vars(estimator).items() if type(value) is not list},
        content,
        [facts(network) for network in networks if network is not None],
    )


def assert_undone(estimator, call, error=(ValueError, TypeError, RuntimeError)):
    before = state_of(estimator)
    with pytest.raises(error):
        call(estimator)
    identities, content, networks = state_of(estimator)
    assert content.keys() == before[1].keys()
    assert [name for name in content if content[name] != before[1][name]] == []
    assert (identities, networks) == (before[0], before[2])


def small(cls, **parameters):
    """It draws from a random state of the caller's."""
    usual = {"random_state": np.random.RandomState(3), "max_iter": 2}
    usual |= {"hidden_layer_sizes": (4,)}
    return cls(**(usual | parameters))


def target_of(estimator):
    return CLASSES if "Classifier" in type(estimator).__name__ else VALUES


def refit(estimator, X=X, y=None, parameters=None, **arguments):
    estimator.set_params(**(parameters or {}))
    return estimator.fit(X, target_of(estimator) if y is None else y, **arguments)


ANY = {
    "infinity in X": lambda e: refit(e, X=np.where(np.isnan(NAN), np.inf, X)),
    "strings": lambda e: refit(e, X=np.full((40, 3), "a")),
    "rank 1": lambda e: refit(e, X=X[:, 0]),
    "other columns than y has rows": lambda e: refit(e, X=X[:7]),
    "no y": lambda e: e.fit(X, None),
    "weights": lambda e: refit(e, sample_weight=np.ones(7)),
    "NaN in weights": lambda e: refit(e, sample_weight=np.full(40, np.nan)),
    "X_val alone": lambda e: refit(e, X_val=X),
    "X_val of other columns": lambda e: refit(e, X_val=X[:, :2], y_val=target_of(e)),
}
OF_PARAMETERS = {
    "width 0": {"hidden_layer_sizes": (0,)},
    "dropout": {"dropout": [0.1] * 9},
    "activation": {"activation": ["relu"] * 9},
    "callbacks": {"callbacks": [3]},
    "nothing to monitor": {"callbacks": [EarlyStopping(1)]},
    "schedule": {"schedule": [0.1] * 99},
    "schedule that climbs": {"schedule": lambda t: -1.0},
    "held out": {"early_stopping": True, "validation_fraction": 0.01},
    "compute dtype": {"compute_dtype": "float32", "dtype": "float64"},
    "begin": {"callbacks": [Raise("on_train_begin")]},
    "epoch": {"callbacks": [Raise("on_epoch_end")]},
    "end": {"callbacks": [Raise("on_train_end")]},
}
ESTIMATORS = {
    "classifier": lambda: small(MLPClassifier),
    "warm classifier": lambda: small(MLPClassifier, warm_start=True, dropout=0.2),
    "early stopping": lambda: small(MLPClassifier, early_stopping=True, validation_fraction=0.2),
    "regressor": lambda: small(MLPRegressor),
    "lbfgs": lambda: small(MLPRegressor, solver="lbfgs"),
    "RealMLP classifier": lambda: small(RealMLPClassifier),
    "RealMLP regressor": lambda: small(RealMLPRegressor, n_cv=2),
}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("fitted", [True, False], ids=["fitted", "new"])
@pytest.mark.parametrize("make", ESTIMATORS.values(), ids=ESTIMATORS)
def test_a_refused_fit_leaves_the_estimator(make, fitted):
    for what, call in ANY.items():
        estimator = make()
        if fitted:
            refit(estimator)
        try:
            assert_undone(estimator, call)
        except BaseException as error:
            error.add_note(what)
            raise


@pytest.mark.parametrize("name", OF_PARAMETERS)
@pytest.mark.parametrize("way", ["new", "fit", "warm_start", "partial_fit"])
def test_parameters_that_do_not_fit_and_callbacks_that_raise(name, way):
    estimator = small(MLPClassifier, warm_start=way == "warm_start")
    if way != "new":
        refit(estimator)
    calls = {"partial_fit": lambda e: e.partial_fit(X, CLASSES)}
    estimator.set_params(**OF_PARAMETERS[name])
    if way == "partial_fit" and name in ("dropout", "compute dtype"):
        pytest.skip("partial_fit goes on with those of the network that is there")
    assert_undone(estimator, calls.get(way, refit))


def test_an_interrupt_of_lbfgs(monkeypatch):
    """scikit-learn keeps what the other solvers have reached by then."""
    estimator = refit(small(MLPRegressor, solver="lbfgs"))

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("scipy.optimize.minimize", interrupted)
    assert_undone(estimator, refit, KeyboardInterrupt)


@pytest.mark.parametrize("bad", [{"X": NAN}, {"sample_weight": np.ones(3)}, {"classes": [0, 1]}])
def test_a_first_partial_fit_that_is_refused_is_none(bad):
    estimator = small(MLPClassifier)
    arguments = {"X": X, "y": CLASSES, "classes": [0, 1, 2]}
    assert_undone(estimator, lambda e: e.partial_fit(**(arguments | bad)))
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        estimator.partial_fit(X, CLASSES)
    estimator.partial_fit(**arguments)
    assert_undone(estimator, lambda e: e.partial_fit(**(arguments | bad)))


def test_after_a_refused_fit_training_goes_on_to_the_same_bits():
    first, second = small(MLPClassifier), small(MLPClassifier)
    for estimator in (first, second):
        estimator.partial_fit(X, CLASSES, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="NaN"):
        second.partial_fit(NAN, CLASSES)
    with pytest.raises(RuntimeError, match="mine"):
        second.set_params(callbacks=[Raise("on_epoch_end")]).partial_fit(X, CLASSES)
    second.set_params(callbacks=None)
    for estimator in (first, second):
        estimator.partial_fit(X, CLASSES)
        assert estimator.t_ == 80
    # Random, and of no use without dropout.
    second.network_.dropout_seed = first.network_.dropout_seed
    assert facts(first.network_) == facts(second.network_)
    assert first.loss_curve_ == second.loss_curve_


@pytest.mark.parametrize("cls", [MLPClassifier, MLPRegressor, RealMLPClassifier, RealMLPRegressor])
def test_parameters_are_set_all_or_none(cls):
    estimator = small(cls)
    before = copy.copy(estimator.get_params())
    with pytest.raises(ValueError, match="Invalid parameter 'alpah'"):
        estimator.set_params(max_iter=9, batch_size=7, alpah=3)
    assert estimator.get_params() == before
    assert estimator.set_params(max_iter=9).max_iter == 9
