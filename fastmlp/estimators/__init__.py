"""Estimators for scikit-learn (extra ``sklearn``)."""

from .._extras import require

require("sklearn", "sklearn")

from ._mlp import MLPClassifier, MLPRegressor  # noqa: E402 - once scikit-learn is known to be there

__all__ = ["MLPClassifier", "MLPRegressor"]
