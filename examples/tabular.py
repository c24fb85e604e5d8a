"""A table with categories and gaps: ``python examples/tabular.py``.

The table is one that scikit-learn brings, made less tidy. ``RealMLPClassifier`` takes it as it is,
beside a pipeline that prepares it for ``MLPClassifier``. Needs the extras ``sklearn`` and
``tables``.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from fastmlp.estimators import MLPClassifier, RealMLPClassifier


def untidy_table() -> tuple[pd.DataFrame, pd.Series]:
    """(table, labels): a numerical column as words, and a tenth of another missing."""
    data = load_breast_cancer(as_frame=True)
    table, labels = data.data.copy(), data.target_names[data.target]
    words = ["small", "middle", "large"]
    table["mean area"] = pd.qcut(table["mean area"], 3, labels=words).astype(str)
    missing = np.random.default_rng(0).random(len(table)) < 0.1
    table.loc[missing, "mean texture"] = np.nan
    return table, pd.Series(labels, name="diagnosis")


def pipeline() -> Pipeline:
    """What an estimator of plain numbers needs in front of it."""
    prepared = make_column_transformer(
        (OneHotEncoder(), ["mean area"]),
        remainder=make_pipeline(SimpleImputer(), StandardScaler()),
    )
    return make_pipeline(prepared, MLPClassifier((64,), early_stopping=True, random_state=0))


def main() -> dict[str, float]:
    """The accuracy of each on a quarter of the rows."""
    table, labels = untidy_table()
    x, test_x, y, test_y = train_test_split(table, labels, stratify=labels, random_state=0)
    models = {"RealMLP": RealMLPClassifier(random_state=0), "pipeline and MLP": pipeline()}
    return {name: model.fit(x, y).score(test_x, test_y) for name, model in models.items()}


if __name__ == "__main__":
    for name, accuracy in main().items():
        print(f"{name}: {accuracy:.1%}")
