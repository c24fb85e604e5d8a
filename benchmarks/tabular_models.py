"""Estimators that learn from tables, each with the preprocessing it needs and its own defaults."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Model(NamedTuple):
    """An estimator; ``make(classes, seed)`` raises ImportError where its package is missing."""

    name: str
    make: Callable[[bool, int], Any]


def _real_mlp(**options: Any) -> Callable[[bool, int], Any]:
    def make(classes: bool, seed: int) -> Any:
        from fastmlp.estimators import RealMLPClassifier, RealMLPRegressor

        cls = RealMLPClassifier if classes else RealMLPRegressor
        return cls(random_state=seed, **options)

    return make


def _every_switch(**options: Any) -> Callable[[bool, int], Any]:
    """As near to RealMLP-TD as there are switches for; its rate of regression is larger."""

    def make(classes: bool, seed: int) -> Any:
        switched = _real_mlp(
            parametric_activation=True, periodic_embedding=True, dropout=0.15, weight_decay=0.02,
            init="data", learning_rate_init=0.04 if classes else 0.2, **options,
        )  # fmt: skip
        return switched(classes, seed)

    return make


def _fastmlp(classes: bool, seed: int) -> Any:
    from fastmlp.estimators import MLPClassifier, MLPRegressor

    return _standardised(classes, (MLPClassifier if classes else MLPRegressor)(random_state=seed))


def _sklearn_mlp(classes: bool, seed: int) -> Any:
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    return _standardised(classes, (MLPClassifier if classes else MLPRegressor)(random_state=seed))


def _standardised(classes: bool, network: Any) -> Any:
    """Numbers of mean 0 and deviation 1, a column per category; targets likewise."""
    from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    columns = ColumnTransformer(
        [
            (
                "numbers",
                make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()),
                make_column_selector(dtype_include="number"),
            ),
            (
                "categories",
                OneHotEncoder(handle_unknown="ignore", sparse_output=False),
                make_column_selector(dtype_exclude="number"),
            ),
        ]
    )
    if not classes:
        network = TransformedTargetRegressor(network, transformer=StandardScaler())
    return make_pipeline(columns, network)


def _hist_gradient_boosting(classes: bool, seed: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    cls = HistGradientBoostingClassifier if classes else HistGradientBoostingRegressor
    return cls(random_state=seed)


def _catboost(classes: bool, seed: int) -> Any:
    from catboost import CatBoostClassifier, CatBoostRegressor

    cls = CatBoostClassifier if classes else CatBoostRegressor
    model = cls(random_seed=seed, verbose=False, allow_writing_files=False)
    return _Prepared(model, _without_missing_words, lambda words: {"cat_features": words})


def _lightgbm(classes: bool, seed: int) -> Any:
    from lightgbm import LGBMClassifier, LGBMRegressor

    return (LGBMClassifier if classes else LGBMRegressor)(random_state=seed, verbose=-1)


def _xgboost(classes: bool, seed: int) -> Any:
    from xgboost import XGBClassifier, XGBRegressor

    return (XGBClassifier if classes else XGBRegressor)(random_state=seed, enable_categorical=True)


def _pytabkit(classes: bool, seed: int) -> Any:
    from pytabkit import RealMLP_TD_S_Classifier, RealMLP_TD_S_Regressor

    cls = RealMLP_TD_S_Classifier if classes else RealMLP_TD_S_Regressor
    model = cls(random_state=seed, device="cpu", verbosity=0)
    return _Prepared(model, _without_missing_numbers, lambda words: {})


class _Prepared:
    """An estimator whose frames are changed first."""

    def __init__(self, model: Any, change: Any, options: Callable[[list[str]], dict]) -> None:
        self._model, self._change, self._options = model, change, options

    def fit(self, x: Any, y: np.ndarray) -> None:
        self._means = x.mean(numeric_only=True)
        words = [name for name in x if x[name].dtype.name == "category"]
        self._model.fit(self._change(x, self._means), y, **self._options(words))

    def predict(self, x: Any) -> np.ndarray:
        return np.ravel(self._model.predict(self._change(x, self._means)))


def _without_missing_numbers(frame: Any, means: Any) -> Any:
    """pytabkit's networks take no missing numbers."""
    return frame.fillna(means)


def _without_missing_words(frame: Any, means: Any) -> Any:
    """CatBoost takes words, not categories, and no missing ones."""
    words = [name for name in frame if frame[name].dtype.name == "category"]
    return frame.assign(**{name: frame[name].astype(object).fillna("missing") for name in words})


# The other library that has RealMLP.
RIVAL = "pytabkit RealMLP-TD-S"

MODELS = [
    Model("RealMLP", _real_mlp()),
    Model("RealMLP, n_cv=5", _real_mlp(n_cv=5)),
    Model("RealMLP, every switch", _every_switch()),
    Model("RealMLP, every switch, n_cv=5", _every_switch(n_cv=5)),
    Model("fastmlp MLP", _fastmlp),
    Model("scikit-learn MLP", _sklearn_mlp),
    Model("HistGradientBoosting", _hist_gradient_boosting),
    Model("CatBoost", _catboost),
    Model("LightGBM", _lightgbm),
    Model("XGBoost", _xgboost),
    Model(RIVAL, _pytabkit),
]
# RealMLP with one thing changed: not measured unless they are named.
VARIANTS = [
    Model("parametric activations", _real_mlp(parametric_activation=True)),
    Model("dropout", _real_mlp(dropout=0.15)),
    Model("weight decay", _real_mlp(weight_decay=0.02)),
    Model("drawn by data", _real_mlp(init="data")),
    Model("periodic embeddings", _real_mlp(periodic_embedding=True)),
    Model("bfloat16", _real_mlp(compute_dtype="bfloat16")),
]
BY_NAME = {model.name: model for model in [*MODELS, *VARIANTS]}
