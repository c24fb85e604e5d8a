"""What estimators take beyond scikit-learn's, what is done with them, and what they refuse."""

import io
import pickle
import re
import warnings

import joblib
import numpy as np
import pandas
import polars
import pytest
import scipy.sparse
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits, load_iris
from sklearn.ensemble import BaggingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401 - makes the next import work
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.class_weight import compute_sample_weight

import fastmlp
from fastmlp import MLP, Activation, callbacks, optimizers, schedules
from fastmlp.estimators import MLPClassifier, MLPRegressor
from fastmlp.history import NotFiniteWarning

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
NAMES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
FRAME = pandas.DataFrame(X, columns=NAMES)
DIGITS, DIGIT = load_digits(return_X_y=True)


def classifier(**arguments):
    return MLPClassifier((16,), **{"max_iter": 30, "random_state": 0} | arguments)


def scaled(**arguments):
    """In a pipeline that trains well: 30 epochs of one batch are few."""
    return make_pipeline(StandardScaler(), classifier(learning_rate_init=0.05, **arguments))


def same_predictions(one, other):
    assert_array_equal(one.predict_proba(X), other.predict_proba(X))


# In scikit-learn's tools


def test_pipeline_and_cross_validation():
    assert cross_val_score(scaled(), X, Y).min() > 0.85


def test_grid_search_in_two_processes():
    grid = {"mlpclassifier__alpha": [1e-4, 100.0], "mlpclassifier__batch_size": [50]}
    search = GridSearchCV(scaled(), grid, cv=3, n_jobs=2).fit(X, Y)
    assert search.best_params_["mlpclassifier__alpha"] == 1e-4


def test_workers_share_the_cores():
    found = joblib.Parallel(n_jobs=2)(joblib.delayed(fastmlp.get_num_threads)() for _ in range(2))
    assert found == [max(1, joblib.cpu_count() // 2)] * 2


def test_halving_search_over_epochs():
    search = HalvingGridSearchCV(
        classifier(), {"alpha": [1e-4, 1e-2, 1.0]}, cv=2, resource="max_iter", max_resources=40,
        min_resources=10, random_state=0,
    ).fit(X, Y)  # fmt: skip
    assert search.best_params_["max_iter"] > 10


def test_calibration_and_bagging():
    calibrated = CalibratedClassifierCV(scaled(), cv=2).fit(X, Y)
    assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    bagged = BaggingClassifier(scaled(), n_estimators=3, random_state=0).fit(X, Y)
    assert bagged.score(X, Y) > 0.9


def test_permutation_importance_finds_the_petals():
    found = permutation_importance(scaled().fit(X, Y), X, Y, n_repeats=5, random_state=0)
    assert found.importances_mean[2:].min() > found.importances_mean[:2].max()


def test_clones_train_alike():
    estimator = classifier(
        optimizer=optimizers.AdamW(1e-3), activation=[fastmlp.GELU()], dropout=0.2,
        schedule=schedules.Cosine(),
    )  # fmt: skip
    copy = clone(estimator)
    assert copy.optimizer is not estimator.optimizer
    same_predictions(estimator.fit(X, Y), copy.fit(X, Y))


@pytest.mark.parametrize("how", ["joblib", "pickle", "skops"])
def test_a_copy_from_a_file_predicts_and_trains_on_alike(how):
    fitted = classifier(batch_norm=True, dropout=0.1).fit(X, Y)
    if how == "joblib":
        file = io.BytesIO()
        joblib.dump(fitted, file)
        file.seek(0)
        copy = joblib.load(file)
    elif how == "pickle":
        copy = pickle.loads(pickle.dumps(fitted))
    else:
        skops = pytest.importorskip("skops.io")
        data = skops.dumps(fitted)
        types = skops.get_untrusted_types(data=data)
        assert all(name.startswith(("fastmlp.", "numpy.")) for name in types)
        copy = skops.loads(data, trusted=types)
    same_predictions(fitted, copy)
    same_predictions(fitted.partial_fit(X, Y), copy.partial_fit(X, Y))


def test_routing_of_weights_and_held_out_rows():
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = classifier().set_fit_request(sample_weight=True, X_val=True, y_val=True)
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = make_pipeline(scaler, estimator, transform_input=["X_val"])
        pipeline.fit(X, Y, sample_weight=np.ones(150), X_val=X[::3], y_val=Y[::3])
        assert len(pipeline[-1].validation_scores_) == 30
        assert pipeline[-1].validation_scores_[-1] == pipeline.score(X[::3], Y[::3])


@pytest.mark.parametrize("library", [pandas, polars], ids=lambda module: module.__name__)
def test_data_frames(library):
    frame = library.DataFrame({name: X[:, i] for i, name in enumerate(NAMES)})
    fitted = classifier().fit(frame, library.Series(np.array(["a", "b", "c"])[Y]))
    assert list(fitted.feature_names_in_) == NAMES
    assert set(fitted.predict(frame)) <= {"a", "b", "c"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # X has no names there
        same_predictions(fitted, classifier().fit(X, Y))


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_sparse_rows_are_made_dense_a_batch_at_a_time(method, monkeypatch):
    sparse = scipy.sparse.random_array((3000, 40), density=0.1, format="csr", random_state=0)
    y = np.asarray(sparse.sum(axis=1) > 2).astype(int)
    fitted = MLPClassifier((8,), max_iter=2, batch_size=100).fit(sparse[:200], y[:200])
    rows = []
    toarray = type(sparse).toarray

    def counted(matrix, *arguments, **options):
        if matrix.shape[1] == sparse.shape[1]:  # Labels are made dense, too.
            rows.append(matrix.shape[0])
        return toarray(matrix, *arguments, **options)

    monkeypatch.setattr(type(sparse), "toarray", counted)
    if method == "fit":
        MLPClassifier((8,), max_iter=1, batch_size=100).fit(sparse, y)
        assert rows == [100] * 30
    else:
        fitted.predict(sparse)
        assert max(rows) < 3000
        assert sum(rows) == 3000


# New parameters


def test_held_out_rows_stop_a_fit_and_the_best_weights_are_kept():
    fitted = classifier(early_stopping=True, max_iter=200, n_iter_no_change=5, batch_norm=True)
    fitted.fit(X, Y, X_val=X[::3], y_val=Y[::3])
    assert fitted.n_iter_ < 200
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert fitted.score(X[::3], Y[::3]) == fitted.best_validation_score_


@pytest.mark.parametrize(
    "y", [Y, Y == 1, np.array(["a", "b", "c"])[Y], np.stack([Y > 0, Y > 1], 1)]
)
def test_the_last_of_the_scores_is_what_score_gives(y):
    fitted = classifier().fit(X, y, X_val=X[::3], y_val=y[::3])
    assert fitted.validation_scores_[-1] == pytest.approx(fitted.score(X[::3], y[::3]), abs=1e-12)


def test_the_last_of_a_regressors_scores_is_what_score_gives():
    for y in (X[:, 3], X[:, 2:]):
        fitted = MLPRegressor(hidden_layer_sizes=(8,), max_iter=5, random_state=0)
        fitted.fit(X, y, X_val=X[::3], y_val=y[::3])
        expected = fitted.score(X[::3], y[::3])
        assert fitted.validation_scores_[-1] == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("weights", [None, np.linspace(0, 1, 150)], ids=["", "weighted"])
@pytest.mark.parametrize("class_weight", ["balanced", {0: 3.0, 1: 0.5}])
def test_class_weights_are_weights_of_rows(class_weight, weights):
    rows = Y != 2
    x, y = X[rows][:80], Y[rows][:80]
    weights = None if weights is None else weights[:80]
    by_class = compute_sample_weight(class_weight, y)
    expected = classifier().fit(x, y, by_class if weights is None else weights * by_class)
    same_predictions(classifier(class_weight=class_weight).fit(x, y, weights), expected)


def test_class_weights_of_several_labels():
    y = np.stack([Y == 0, Y == 1], axis=1).astype(int)
    weights = [{0: 1, 1: 2}, {0: 3, 1: 1}]
    expected = classifier().fit(X, y, compute_sample_weight(weights, y))
    same_predictions(classifier(class_weight=weights).fit(X, y), expected)


@pytest.mark.parametrize("classes", [2, 3])
def test_label_smoothing_keeps_probabilities_from_the_ends(classes):
    x, y = X[classes > Y], Y[classes > Y]
    smooth, sharp = (
        scaled(label_smoothing=share, max_iter=300).fit(x, y).predict_proba(x).max(axis=1).mean()
        for share in (0.2, 0.0)
    )
    assert smooth == pytest.approx(1 - 0.2 + 0.2 / classes, abs=0.03)
    assert sharp > 0.96


@pytest.mark.parametrize(
    "activation", ["gelu", Activation.of(abs, lambda z: 1.0 if z > 0 else -1.0), ["silu", "tanh"]]
)
def test_activations(activation):
    hidden = (12, 6) if isinstance(activation, list) else (12,)
    fitted = MLPClassifier(hidden, activation, max_iter=3, random_state=0).fit(X, Y)
    assert fitted.loss_curve_[-1] < fitted.loss_curve_[0]
    names = [type(layer).__name__ for layer in fitted.network_.activations]
    if isinstance(activation, list):
        assert names == ["SiLU", "Tanh", "Identity"]


def test_dropout_follows_the_random_state():
    one, again, other = (classifier(dropout=0.5, random_state=s).fit(X, Y) for s in (1, 1, 2))
    same_predictions(one, again)
    assert not np.array_equal(one.predict_proba(X), other.predict_proba(X))
    assert not np.array_equal(one.loss_curve_, classifier(random_state=1).fit(X, Y).loss_curve_)


def test_optimizer_by_name_takes_the_initial_rate():
    named = classifier(optimizer="lion", learning_rate_init=0.003).fit(X, Y)
    same_predictions(named, classifier(optimizer=optimizers.Lion(0.003)).fit(X, Y))
    assert isinstance(named.network_.optimizer, optimizers.Lion)


def test_schedule_multiplies_the_rate():
    halved = schedules.Step(step_size=10, gamma=0.5)
    fitted = classifier(schedule=halved, learning_rate_init=0.4, solver="sgd").fit(X, Y)
    assert_allclose(fitted.network_.history.learning_rate, np.repeat([0.4, 0.2, 0.1], 10))


def test_callbacks_see_the_network_and_may_stop():
    class Three:
        def on_epoch_end(self, mlp, history):
            assert isinstance(mlp, MLP)
            return len(history.train_loss) == 3

    assert classifier(callbacks=[Three()]).fit(X, Y).n_iter_ == 3
    stopping = callbacks.EarlyStopping(monitor="train_loss", patience=2)
    assert classifier(callbacks=[stopping], learning_rate_init=1.0, max_iter=500).fit(X, Y)


def test_progress_shows_every_epoch(capsys):
    classifier(progress=True, max_iter=3).fit(X, Y)
    assert "3/3" in "".join(capsys.readouterr())


@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_dtype(dtype):
    for x in (X, X.astype(np.float32), X.round().astype(int)):
        fitted = classifier(dtype=dtype, max_iter=2).fit(x, Y)
        assert fitted.coefs_[0].dtype == fitted.predict_proba(x).dtype == dtype


def test_compute_dtype_is_the_networks():
    fitted = classifier(compute_dtype="bfloat16", max_iter=2).fit(X, Y)
    assert fitted.network_.compute_dtype == "bfloat16"
    assert fitted.coefs_[0].dtype == np.float32


def test_integers_are_not_pixels():
    fitted = MLPClassifier((16,), max_iter=2, random_state=0).fit(DIGITS, DIGIT)
    expected = fitted.predict_proba(DIGITS)
    assert_array_equal(fitted.predict_proba(DIGITS.astype(np.uint8)), expected)


# Weights


def test_weights_are_views_of_the_network(tmp_path):
    fitted = classifier().fit(X, Y)
    fitted.coefs_[0][...] = 0
    assert not fitted.network_.linear_layers[0].W.any()
    assert len(np.unique(fitted.predict_proba(X), axis=0)) == 1
    other = classifier(random_state=1).fit(X, Y)
    fitted.coefs_[0] = other.coefs_[0]
    fitted.coefs_, fitted.intercepts_ = other.coefs_, other.intercepts_
    same_predictions(fitted, other)
    fitted.network_.save(tmp_path / "network.safetensors")
    loaded = MLP.load(tmp_path / "network.safetensors")
    assert_array_equal(loaded.predict(X), fitted.predict(X))
    assert loaded.optimizer == fitted.network_.optimizer


def test_warm_start_takes_new_parameters_over():
    fitted = classifier(warm_start=True, max_iter=2).fit(X, Y)
    before = fitted.network_.parameters.copy()
    fitted.set_params(activation="tanh", learning_rate_init=1e-30, solver="sgd").fit(X, Y)
    assert_array_equal(fitted.network_.parameters, before)
    assert type(fitted.network_.activations[0]).__name__ == "Tanh"
    with pytest.raises(ValueError, match=r"of the widths .*\[4, 16, 3\], got \[4, 8, 3\]"):
        fitted.set_params(hidden_layer_sizes=(8,)).fit(X, Y)


# What ends badly


def test_a_diverging_fit_warns_and_keeps_the_last_finite_weights():
    fitted = MLPRegressor(
        activation="identity", solver="sgd", learning_rate_init=1.0, random_state=0, max_iter=20
    )
    with pytest.warns(NotFiniteWarning, match=r"in epoch \d+, step \d+: .* lr is 1"):
        fitted.fit(X, Y)
    assert all(np.isfinite(w).all() for w in fitted.coefs_)
    assert np.isnan(fitted.loss_curve_[-1])


def test_an_interrupt_keeps_what_was_learnt():
    class Interrupt:
        def on_epoch_end(self, mlp, history):
            if len(history.train_loss) == 2:
                raise KeyboardInterrupt

    with pytest.warns(UserWarning, match="Training interrupted"):
        fitted = classifier(callbacks=[Interrupt()]).fit(X, Y)
    assert fitted.n_iter_ == 2
    same_predictions(fitted, classifier(max_iter=2).fit(X, Y))


BAD = {
    "activation": ("relux", ["relu", "relu"], ["relux"]),
    "dropout": (1.0, -0.1, "some"),
    "batch_norm": ("yes",),
    "class_weight": ("even",),
    "label_smoothing": (1.0,),
    "dtype": ("float16", "bfloat16", int),
    "compute_dtype": ("float16",),
    "optimizer": ("adamm",),
    "callbacks": (print,),
    "progress": ("yes",),
    "hidden_layer_sizes": (0, [3, -1]),
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_bad_parameters(name, value):
    estimator = MLPClassifier(**{name: value})
    with pytest.raises(ValueError, match=name):
        estimator.fit(X, Y)
    with pytest.raises(NotFittedError):
        estimator.predict(X)


@pytest.mark.parametrize("widths", [(32, 32), [8], 32, np.array([4, 4])], ids=repr)
@pytest.mark.parametrize("more", [(), ("relu",)])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_widths_in_the_place_of_a_regressor_s_loss(widths, more, method):
    """Its order is scikit-learn's, in which the loss comes first."""
    estimator = MLPRegressor(widths, *more)
    before = dict(vars(estimator))
    message = (
        f"loss must be one of 'poisson', 'squared_error', got {widths!r}: hidden_layer_sizes is "
        f"the second parameter; write hidden_layer_sizes={widths!r}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        getattr(estimator, method)(X, Y)
    assert vars(estimator) == before


def test_another_loss_is_refused_in_scikit_learn_s_words():
    for loss in ("poison", None):
        with pytest.raises(ValueError, match="The 'loss' parameter of MLPRegressor must be a str"):
            MLPRegressor(loss).fit(X, Y)


@pytest.mark.parametrize("parameter", ["dropout", "schedule", "batch_norm", "callbacks"])
def test_what_acts_on_batches_is_refused_by_lbfgs(parameter):
    values = {
        "dropout": 0.5, "schedule": schedules.Cosine(), "batch_norm": True, "callbacks": [object()]
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"{parameter} needs solver 'sgd' or 'adam'"):
        classifier(solver="lbfgs", **{parameter: values[parameter]}).fit(X, Y)


def test_bad_calls():
    with pytest.raises(ValueError, match="X_val and y_val must be given together"):
        classifier().fit(X, Y, X_val=X)
    with pytest.raises(ValueError, match="4 features"):
        classifier().fit(X, Y, X_val=X[:, :3], y_val=Y)
    with pytest.raises(ValueError, match=r"y_val must have classes that y has, got \[7\]"):
        classifier().fit(X, Y, X_val=X, y_val=np.full(150, 7))
    with pytest.raises(ValueError, match="'balanced' is not supported for partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, Y, classes=[0, 1, 2])
    with pytest.raises(AttributeError, match="no weights before it is fitted"):
        _ = classifier().coefs_
    fitted = classifier().fit(FRAME, Y)
    with pytest.raises(ValueError, match=r"(?s)unseen.*- width.*missing.*- sepal_width"):
        fitted.predict(FRAME.rename(columns={"sepal_width": "width"}))
    swapped = [NAMES[0], NAMES[2], NAMES[1], NAMES[3]]
    with pytest.raises(ValueError, match=f"same order.*\nColumn 1 is {NAMES[2]!r}, in fit"):
        fitted.predict(FRAME[swapped])


def test_convergence_is_told():
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(2\)"):
        classifier(max_iter=2).fit(X, Y)
    with pytest.warns(UserWarning, match="one batch of all"):
        classifier(batch_size=1000).fit(X, Y)
