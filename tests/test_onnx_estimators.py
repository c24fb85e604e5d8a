"""to_onnx of estimators: onnxruntime gives the labels, probabilities and values that they give."""

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError

from fastmlp import MLP, Activation
from fastmlp.estimators import MLPClassifier, MLPRegressor, RealMLPClassifier, RealMLPRegressor
from tests.onnx_models import AGREEMENT, onnx, run, session_of
from tests.test_realmlp import SMALL, diabetes, iris

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X, Y = load_iris(return_X_y=True)
TARGETS = {
    "classes": Y, "booleans": Y > 0, "texts": np.array(["a", "b", "c"])[Y],
    "two texts": np.array(["no", "yes"])[(Y > 0).astype(int)], "floats": Y * 2.0, "far": Y * 10**12,
    "objects": np.array(["a", "b", "c"], object)[Y],
}  # fmt: skip


def classifies_alike(model, found, x):
    assert_array_equal(found["label"], model.predict(x))
    assert_allclose(found["probabilities"], model.predict_proba(x), rtol=0, atol=AGREEMENT)


def values_agree(model, found, x):
    wanted = model.predict(x)
    assert list(found) == ["variable"]
    values = found["variable"]
    assert values.shape == (len(x), wanted.size // len(x))
    atol = AGREEMENT * np.abs(wanted).max()
    assert_allclose(values.reshape(wanted.shape), wanted, rtol=0, atol=atol)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "estimator.onnx"


# scikit-learn's MLPs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("targets", TARGETS)
def test_classifiers(targets, dtype, path):
    x = X.astype(dtype)
    model = MLPClassifier((8,), max_iter=20, random_state=0, batch_norm=True, dropout=0.1)
    model.fit(x, TARGETS[targets]).to_onnx(path)
    found = run(path, X=x)
    assert list(found) == ["label", "probabilities"]
    classifies_alike(model, found, x)
    kinds = {"i": np.int64, "b": np.bool_, "f": np.float64, "U": object, "O": object}
    assert found["label"].dtype == kinds[model.classes_.dtype.kind]


def test_several_labels_a_row(path):
    y = np.stack([Y > 0, Y > 1, Y == 1], axis=1).astype(int)
    model = MLPClassifier((8,), max_iter=20, random_state=0).fit(X, y)
    model.to_onnx(path)
    found = run(path, X=X)
    classifies_alike(model, found, X)
    assert found["label"].shape == (150, 3)


@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
@pytest.mark.parametrize("outputs", [1, 2])
def test_regressors(outputs, loss, path):
    y = np.stack([Y, 5 - Y], axis=1)[:, :outputs].squeeze()
    model = MLPRegressor(loss, (8,), "gelu", max_iter=20, random_state=0).fit(X, y)
    model.to_onnx(path)
    values_agree(model, run(path, X=X), X)


@pytest.mark.parametrize("given", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_input_is_of_the_dtype_that_is_asked_for(dtype, given, path):
    model = MLPClassifier((8,), max_iter=5, random_state=0, dtype=dtype).fit(X, Y)
    model.to_onnx(path, input_dtype=given)
    x = X.astype(given)
    assert run(path, X=x)["probabilities"].dtype == dtype
    classifies_alike(model, run(path, X=x), x)


def test_an_estimators_model_is_read_as_its_network(path):
    for y in (Y, Y > 0):
        model = MLPClassifier((8,), max_iter=5, random_state=0).fit(X, y)
        model.to_onnx(path)
        read = MLP.from_onnx(path)
        assert_allclose(read.predict_proba(X), model.network_.predict_proba(X), rtol=1e-12)
    model = MLPRegressor("squared_error", (8,), max_iter=5, random_state=0).fit(X, Y)
    model.to_onnx(path)
    assert_allclose(MLP.from_onnx(path).predict(X), model.predict(X), rtol=1e-12)


# RealMLP


WAYS = {
    "plain": {}, "float64": {"dtype": "float64"}, "folds": {"n_cv": 3},
    "refit": {"n_cv": 2, "refit": True},
    "td": {"parametric_activation": True, "periodic_embedding": True, "dropout": 0.1},
    "folds of td": {"n_cv": 2, "parametric_activation": True, "periodic_embedding": True},
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_realmlp_of_numbers(way, path):
    x, y = iris()
    model = RealMLPClassifier(**SMALL | WAYS[way]).fit(x, y)
    model.to_onnx(path)
    classifies_alike(model, run(path, X=x), x)
    x, y = diabetes()
    for targets in (y, np.stack([y, 5 - 1000 * y], axis=1)):
        model = RealMLPRegressor(**SMALL | WAYS[way]).fit(x, targets)
        model.to_onnx(path)
        values_agree(model, run(path, X=x), x)


def test_the_clip_is_the_same_far_out(path):
    x, y = iris()
    model = RealMLPClassifier(**SMALL).fit(x, y)
    model.to_onnx(path)
    far = np.concatenate([x[:3] * 10.0**p for p in (1, 3, 30, 300)] + [-x[:3] * 1e300])
    classifies_alike(model, run(path, X=far), far)


def test_missing_numbers(path):
    x, y = iris()
    x = x.copy()
    x[::5, 1] = x[1::7, 3] = np.nan
    model = RealMLPClassifier(**SMALL).fit(x, y)
    model.to_onnx(path)
    # Also where there was none in fit.
    x[2::9, 0] = np.nan
    x[4] = np.nan
    classifies_alike(model, run(path, X=x), x)


def test_categories_that_are_numbers(path):
    x, y = iris()
    x = np.round(x, 1)
    model = RealMLPClassifier(**SMALL, categorical_features=[1, 3]).fit(x, y)
    for given in ("float64", "float32"):
        model.to_onnx(path, input_dtype=given)
        shown = x.copy()
        shown[7, 1] = shown[8, 3] = 99.5
        shown[9, 1] = np.nan
        classifies_alike(model, run(path, X=shown.astype(given)), shown)


def table(rows=200):
    """Columns of all kinds, some called as outputs and operators are, and what is missing."""
    draws = np.random.default_rng(0)
    frame = pd.DataFrame({
        "age": draws.integers(18, 80, rows), "income": draws.lognormal(10, 1, rows),
        "job": draws.choice(["a", "b", "c"], rows), "home": draws.random(rows) < 0.5,
        "label": draws.choice(["left", "right"], rows), "gemm.0": draws.standard_normal(rows),
        "code": pd.Categorical(draws.integers(0, 5, rows)),
        "none": pd.Series([None] * rows, dtype=object),
        "size": pd.Categorical(draws.integers(0, 3, rows) / 2), "one": ["same"] * rows,
    })  # fmt: skip
    y = np.where((frame["job"] == "a") ^ (frame["age"] > 50), "yes", "no")
    frame.loc[::7, "income"] = np.nan
    frame.loc[3, "job"] = None
    return frame, y


def inputs(frame):
    """Columns as the model takes them, one by one; "" is a text that no column has."""
    found = {}
    for name in frame.columns:
        column = frame[name]
        if name in ("job", "label", "none", "one"):
            found[name] = np.array([v if isinstance(v, str) else "" for v in column], object)
        else:
            kind = {"home": bool, "code": np.int64}.get(name, np.float64)
            found[name] = column.astype(kind).to_numpy()
    return {name: values.reshape(-1, 1) for name, values in found.items()}


@pytest.mark.parametrize("way", ["plain", "folds", "td"])
def test_mixed_tables(way, path):
    frame, y = table()
    model = RealMLPClassifier(**SMALL | WAYS[way]).fit(frame, y)
    model.to_onnx(path)
    kinds = {i.name: i.type for i in session_of(path).get_inputs()}
    assert kinds == {
        "age": "tensor(double)", "income": "tensor(double)", "job": "tensor(string)",
        "home": "tensor(bool)", "label": "tensor(string)", "gemm.0": "tensor(double)",
        "code": "tensor(int64)", "none": "tensor(string)", "size": "tensor(double)",
        "one": "tensor(string)",
    }  # fmt: skip
    frame.loc[5, "label"] = "neither"
    frame.loc[6, "age"] = np.nan
    found = run(path, **inputs(frame))
    assert list(found) == ["label_", "probabilities"]
    found["label"] = found.pop("label_")
    classifies_alike(model, found, frame)


def test_only_categories(path):
    frame, y = table()
    frame = frame[["job", "home"]]
    model = RealMLPClassifier(**SMALL).fit(frame, y)
    model.to_onnx(path)
    classifies_alike(model, run(path, **inputs(frame)), frame)


def test_an_array_of_objects(path):
    frame, y = table()
    x = frame[["age", "job"]].to_numpy(object)
    model = RealMLPClassifier(**SMALL, categorical_features=[1]).fit(x, y)
    model.to_onnx(path)
    named = {"x0": frame[["age"]].to_numpy(float), "x1": inputs(frame)["job"]}
    classifies_alike(model, run(path, **named), x)


# The file, and what is refused


def test_what_the_model_says_of_itself(path):
    model = RealMLPRegressor(**SMALL).fit(*diabetes())
    model.to_onnx(path)
    read = onnx.load(path)
    assert (read.producer_name, read.doc_string) == (
        "fastmlp", "fastmlp.estimators.RealMLPRegressor",
    )  # fmt: skip
    assert [output.doc_string for output in read.graph.output] == ["values"]
    onnx.checker.check_model(read, full_check=True)


@pytest.mark.parametrize(
    "estimator", [MLPClassifier(), MLPRegressor(), RealMLPClassifier(), RealMLPRegressor()]
)
def test_before_fit(estimator, path):
    with pytest.raises(NotFittedError):
        estimator.to_onnx(path)


def test_what_has_no_operators(path):
    model = MLPClassifier((4,), Activation.of(abs, abs, "hat"), max_iter=1)
    with pytest.raises(ValueError, match=r"own activations.*Activation.of\(hat\)"):
        model.fit(X, Y).to_onnx(path)
    frame, y = table()
    frame["mixed"] = pd.Series([1, "two"] * 100, dtype=object)
    model = RealMLPClassifier(**SMALL).fit(frame, y)
    message = "the categories of column 'mixed' must be numbers, booleans or strings, of one kind"
    with pytest.raises(ValueError, match=message):
        model.to_onnx(path)
    with pytest.raises(ValueError, match="input_dtype must be one of float32, float64, got 'int8'"):
        model.to_onnx(path, input_dtype="int8")
    assert not path.exists()
