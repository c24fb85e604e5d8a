"""RealMLPClassifier and RealMLPRegressor as scikit-learn's estimators."""

import pickle

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.metrics import log_loss, mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import fastmlp
from fastmlp.estimators import RealMLPClassifier, RealMLPRegressor, _realmlp_base
from fastmlp.estimators._recipe import Training, folded

# Few epochs of one step, whatever the order of the rows: what the checks compare to 1e-7.
CHECKED = {
    "hidden_layer_sizes": (32, 32), "max_iter": 40, "batch_size": 1000, "validation_fraction": 0,
    "dtype": "float64",
}  # fmt: skip


@parametrize_with_checks([RealMLPClassifier(**CHECKED), RealMLPRegressor(**CHECKED)])
def test_scikit_learn_accepts_it(estimator, check):
    check(estimator)


SMALL = {"hidden_layer_sizes": (16, 16), "max_iter": 8, "batch_size": 32, "random_state": 0}


def iris():
    x, y = load_iris(return_X_y=True)
    return x, np.array(["setosa", "versicolor", "virginica"])[y]


def diabetes():
    return load_diabetes(return_X_y=True)


def frame(rows=60, seed=0):
    """Mixed columns with gaps, and two targets that follow from them."""
    draws = np.random.default_rng(seed)
    table = pd.DataFrame({
        "age": draws.integers(18, 80, rows), "income": draws.lognormal(10, 1, rows),
        "job": draws.choice(["a", "b", "c"], rows), "home": draws.random(rows) < 0.5,
    })  # fmt: skip
    y = (table["job"] == "a") ^ (table["age"] > 50)
    table.loc[::7, "income"] = np.nan
    table.loc[3, "job"] = None
    return table, y.map({True: "yes", False: "no"}).to_numpy(), table["age"].to_numpy(float)


# What it learns


def test_it_learns_classes():
    x, y = iris()
    model = RealMLPClassifier(**SMALL | {"max_iter": 60}).fit(x[::2], y[::2])
    assert model.score(x[1::2], y[1::2]) > 0.85
    assert_array_equal(model.classes_, ["setosa", "versicolor", "virginica"])
    chances = model.predict_proba(x)
    assert_allclose(chances.sum(axis=1), 1, rtol=1e-6)
    assert_array_equal(model.predict(x), model.classes_[chances.argmax(axis=1)])


def test_it_learns_values():
    x, y = diabetes()
    model = RealMLPRegressor(**SMALL | {"max_iter": 60}).fit(x[::2], y[::2])
    assert model.score(x[1::2], y[1::2]) > 0.35
    two = np.stack([y, -1000 * y + 7], axis=1)
    both = RealMLPRegressor(**SMALL | {"max_iter": 60}).fit(x[::2], two[::2])
    assert both.predict(x).shape == two.shape
    assert both.score(x[1::2], two[1::2]) > 0.35


def test_it_learns_from_frames():
    table, y, _ = frame(400)
    for x in (table, pl.from_pandas(table)):
        model = RealMLPClassifier(**SMALL | {"max_iter": 40}).fit(x[:300], y[:300])
        assert model.score(x[300:], y[300:]) > 0.9
        assert_array_equal(model.feature_names_in_, ["age", "income", "job", "home"])
        assert model.n_features_in_ == 4


def test_pandas_and_polars_are_the_same_bits():
    table, y, _ = frame()
    one = RealMLPClassifier(**SMALL).fit(table, y)
    other = RealMLPClassifier(**SMALL).fit(pl.from_pandas(table), y)
    assert_array_equal(one.predict_proba(table), other.predict_proba(table))


def test_a_constant_target():
    x, y = diabetes()
    model = RealMLPRegressor(**SMALL).fit(x, np.full(len(y), 7.0))
    assert_array_equal(model.predict(x), np.full(len(y), 7.0))


# The network


@pytest.mark.parametrize(
    "options", [{}, {"parametric_activation": True, "periodic_embedding": True}], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_plain_network_is_the_trained_one(dtype, options, monkeypatch):
    """The learnt scale of the inputs goes into the first weights."""
    kept = []

    def keep(mlp):
        kept.append(mlp)
        return folded(mlp)

    monkeypatch.setattr(_realmlp_base, "folded", keep)
    x, y = iris()
    model = RealMLPClassifier(**SMALL, dtype=dtype, **options).fit(x, y)
    [mlp] = kept
    assert abs(np.asarray(mlp.input_scale) - 1).min() > 0.01
    columns = model.columns_.transform(_realmlp_base.read_table(model, x, reset=False), dtype)
    mlp.eval()
    # Products of x, scale and weight are rounded in another order, once each.
    tolerance = 50 * np.finfo(dtype).eps
    assert_allclose(model.network_(columns), mlp(columns), rtol=0, atol=50 * tolerance)
    assert type(model.network_) is fastmlp.MLP
    assert_array_equal(model.network_.predict_proba(columns), model.predict_proba(x))
    assert model.network_.dtype == dtype


def test_the_network_of_a_regressor_tells_deviations():
    x, y = diabetes()
    model = RealMLPRegressor(**SMALL).fit(x, y)
    columns = model.columns_.transform(_realmlp_base.read_table(model, x, reset=False), np.float32)
    outputs = model.network_.predict(columns).astype(float)
    assert_array_equal(model.predict(x), outputs * model.y_std_ + model.y_mean_)
    assert_allclose([model.y_mean_, model.y_std_], [y.mean(), y.std()], rtol=1e-14)


def test_compute_dtype_reaches_the_network():
    x, y = iris()
    model = RealMLPClassifier(**SMALL | {"max_iter": 1}, compute_dtype="bfloat16").fit(x, y)
    assert model.network_.compute_dtype == "bfloat16"


# Seeds, folds, validation


def test_seeds():
    x, y = iris()
    one, same, other = (
        RealMLPClassifier(**SMALL | {"random_state": seed}).fit(x, y).predict_proba(x)
        for seed in (1, 1, 2)
    )
    assert_array_equal(one, same)
    assert not np.allclose(one, other)
    state = np.random.RandomState(1)
    assert_array_equal(
        RealMLPClassifier(**SMALL | {"random_state": state}).fit(x, y).predict_proba(x), one
    )


@pytest.mark.parametrize("n_jobs", [None, 1, 3])
def test_folds_are_averaged(n_jobs):
    x, y = iris()
    model = RealMLPClassifier(**SMALL, n_cv=3, n_jobs=n_jobs).fit(x, y)
    columns = model.columns_.transform(_realmlp_base.read_table(model, x, reset=False), np.float32)
    each = [network.predict_proba(columns) for network in model.networks_]
    assert len(each) == 3
    assert_allclose(model.predict_proba(x), np.mean(each, axis=0), rtol=1e-6)
    assert not np.allclose(each[0], each[1])
    assert len(model.best_epoch_) == len(model.validation_scores_) == 3
    with pytest.raises(AttributeError, match="3 networks: see networks_"):
        _ = model.network_
    values = RealMLPRegressor(**SMALL, n_cv=2).fit(*diabetes())
    assert len(values.networks_) == 2
    x = diabetes()[0]
    columns = values.columns_.transform(
        _realmlp_base.read_table(values, x, reset=False), np.float32
    )
    each = [
        network.predict(columns) * values.y_std_ + values.y_mean_ for network in values.networks_
    ]
    assert_allclose(values.predict(x), np.mean(each, axis=0), rtol=1e-5)


def test_folds_side_by_side_are_those_one_by_one(monkeypatch):
    x, y = iris()
    together = RealMLPClassifier(**SMALL, n_cv=3).fit(x, y)
    monkeypatch.setattr(
        _realmlp_base, "train_many", lambda fits, workers: [mlp.fit(**rest) for mlp, rest in fits]
    )
    alone = RealMLPClassifier(**SMALL, n_cv=3).fit(x, y)
    assert_array_equal(together.predict_proba(x), alone.predict_proba(x))


class Recorded(Training):
    seen: list = []  # noqa: RUF012

    def __init__(self, recipe, task, rows, validation, seed, last_epoch=None):
        super().__init__(recipe, task, rows, validation, seed, last_epoch)
        self.seen.append((rows, validation, last_epoch))


@pytest.fixture
def seen(monkeypatch):
    monkeypatch.setattr(_realmlp_base, "Training", Recorded)
    monkeypatch.setattr(Recorded, "seen", [])
    return Recorded.seen


def test_which_rows_judge(seen):
    x, y = iris()
    RealMLPClassifier(**SMALL).fit(x, y)
    RealMLPClassifier(**SMALL, validation_fraction=0).fit(x, y)
    RealMLPClassifier(**SMALL).fit(x, y, X_val=x[:7], y_val=y[:7])
    sizes = [(len(rows.x), 0 if held is None else len(held.x)) for rows, held, _ in seen]
    assert sizes == [(120, 30), (150, 0), (150, 7)]


def test_every_fold_judges_by_rows_it_has_not_seen(seen):
    x = np.arange(30.0)[:, None] ** 1.5
    RealMLPRegressor(**SMALL, n_cv=3).fit(x, x[:, 0])
    for rows, held, _ in seen:
        together = np.concatenate([rows.x, held.x])
        assert len(held.x) == 10
        assert len(np.unique(together)) == len(together) == 30
    assert len(np.unique([held.x for _, held, _ in seen])) == 30


def test_refit_trains_on_all_rows_for_the_best_epochs(seen):
    x, y = iris()
    model = RealMLPClassifier(**SMALL, n_cv=3, refit=True).fit(x, y)
    rows, held, last = seen[-1]
    assert len(seen) == 4
    assert len(rows.x) == 150
    assert held is None
    assert last == max(1, round(sum(model.best_epoch_) / 3))
    assert len(model.networks_) == 1
    assert model.predict_proba(x).shape == (150, 3)


@pytest.mark.parametrize("metric", ["class_error", "log_loss"])
def test_validation_scores_of_classes(metric):
    """The restored network has the best score, as scikit-learn computes it."""
    x, y = iris()
    model = RealMLPClassifier(**SMALL, val_metric=metric)
    model.fit(x[::2], y[::2], X_val=x[1::2], y_val=y[1::2])
    expected = (
        model.score(x[1::2], y[1::2])
        if metric == "class_error"
        else -log_loss(y[1::2], model.predict_proba(x[1::2]))
    )
    assert max(model.validation_scores_) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("metric", "loss"), [("rmse", root_mean_squared_error), ("mae", mean_absolute_error)]
)
@pytest.mark.parametrize("outputs", [1, 2])
def test_validation_scores_of_values(metric, loss, outputs):
    x, y = diabetes()
    if outputs == 2:
        y = np.stack([y, 5 - y / 10], axis=1)
    model = RealMLPRegressor(**SMALL, val_metric=metric)
    model.fit(x[::2], y[::2], X_val=x[1::2], y_val=y[1::2])
    expected = -loss(y[1::2], model.predict(x[1::2]))
    assert max(model.validation_scores_) == pytest.approx(expected, rel=1e-5)


# Weights


@pytest.mark.parametrize("cls", [RealMLPClassifier, RealMLPRegressor])
def test_a_weight_of_zero_is_a_row_less(cls):
    x, y = iris() if cls is RealMLPClassifier else diabetes()
    weights = np.ones(len(y))
    weights[::3] = 0
    kept = weights > 0
    weighted = cls(**SMALL).fit(x, y, weights)
    fewer = cls(**SMALL).fit(x[kept], y[kept], weights[kept])
    assert_array_equal(weighted.predict(x), fewer.predict(x))


def test_weights_reach_the_validation(seen):
    x, y = iris()
    weights = np.random.default_rng(0).random(150) + 0.1
    RealMLPClassifier(**SMALL).fit(x, y, weights)
    ((rows, held, _),) = seen
    together = np.sort(np.concatenate([rows.weights, held.weights]))
    assert_array_equal(together, np.sort(weights))


# Around it


@pytest.mark.parametrize("cls", [RealMLPClassifier, RealMLPRegressor])
def test_copies_predict_the_same(cls, tmp_path):
    table, labels, values = frame()
    y = labels if cls is RealMLPClassifier else values
    model = cls(**SMALL, n_cv=2).fit(table, y)
    expected = model.predict(table)
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict(table), expected)
    joblib.dump(model, tmp_path / "model")
    assert_array_equal(joblib.load(tmp_path / "model").predict(table), expected)
    assert_array_equal(clone(model).fit(table, y).predict(table), expected)


def test_pipelines_and_searches():
    x, y = iris()
    pipeline = make_pipeline(StandardScaler(), RealMLPClassifier(**SMALL))
    scores = cross_val_score(pipeline, x, y, cv=2)
    assert scores.shape == (2,)
    search = GridSearchCV(RealMLPClassifier(**SMALL), {"hidden_layer_sizes": [4, (16, 16)]}, cv=2)
    assert search.fit(x, y).best_params_["hidden_layer_sizes"] in (4, (16, 16))
    table, labels, _ = frame()
    pipeline = make_pipeline(FunctionTransformer(), RealMLPClassifier(**SMALL))
    assert cross_val_score(pipeline, table, labels, cv=2).shape == (2,)


# Bad input


def test_columns_that_are_not_those_of_fit_are_named():
    table, y, _ = frame()
    model = RealMLPClassifier(**SMALL | {"max_iter": 1}).fit(table, y)
    with pytest.raises(ValueError, match=r"(?s)seen at fit time, yet now missing:\n- job"):
        model.predict(table.drop(columns="job"))
    with pytest.raises(ValueError, match=r"(?s)unseen at fit time:\n- town"):
        model.predict(table.rename(columns={"job": "town"}))
    with pytest.raises(ValueError, match=r"same order.*\nColumn 0 is 'income', .* 'age'"):
        model.predict(table[["income", "age", "job", "home"]])
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(ValueError, match="4 features"),
    ):
        model.predict(np.zeros((3, 5), object))
    with pytest.raises(ValueError, match=r"column 'age' must hold numbers: .*'old'"):
        model.predict(table.assign(age="old"))
    with pytest.raises(ValueError, match="infinity in column 'income'"):
        model.predict(table.assign(income=np.inf))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden_layer_sizes": (3, 0)}, "hidden_layer_sizes must be whole numbers above 0"),
        ({"hidden_layer_sizes": (3.5,)}, "hidden_layer_sizes must be whole numbers above 0"),
        ({"activation": "relo"}, "'activation' parameter"),
        ({"n_cv": 0}, "'n_cv' parameter"),
        ({"n_cv": 151}, "150 sample"),
        ({"val_metric": "rmse"}, "'val_metric' parameter"),
        ({"validation_fraction": 1.0}, "'validation_fraction' parameter"),
        ({"refit": True, "validation_fraction": 0}, "refit=True trains for as many epochs"),
        ({"categorical_features": ["x9"]}, "'x9', which is no column"),
        ({"dtype": "float64", "compute_dtype": "bfloat16"}, "compute_dtype='bfloat16' needs"),
        ({"max_iter": 0}, "'max_iter' parameter"),
    ],
)
def test_options_that_are_refused(options, message):
    x, y = iris()
    with pytest.raises(ValueError, match=message):
        RealMLPClassifier(**SMALL | options).fit(x, y)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"X_val": np.zeros((1, 4))}, "X_val and y_val must be given together"),
        (
            {"X_val": np.zeros((1, 4)), "y_val": ["rose"]},
            "y_val has a class that y lacks: .*'rose'",
        ),
        ({"X_val": np.zeros((1, 3)), "y_val": ["setosa"]}, "3 features"),
        ({"sample_weight": -np.ones(150)}, "[Nn]egative"),
        ({"sample_weight": np.arange(150) < 50}, "only one class: .*'setosa'"),
    ],
)
def test_rows_that_are_refused(arguments, message):
    x, y = iris()
    with pytest.raises(ValueError, match=message):
        RealMLPClassifier(**SMALL).fit(x, y, **arguments)


def test_validation_rows_beside_folds_are_refused():
    x, y = iris()
    with pytest.raises(ValueError, match="X_val has no use with n_cv=2"):
        RealMLPClassifier(**SMALL, n_cv=2).fit(x, y, X_val=x, y_val=y)
