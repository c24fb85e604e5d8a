"""Estimators for scikit-learn (extra ``sklearn``)."""

from .._extras import require

require("sklearn", "sklearn")

# Once scikit-learn is known to be there.
from ._mlp import MLPClassifier, MLPRegressor  # noqa: E402
from ._realmlp import RealMLPClassifier, RealMLPRegressor  # noqa: E402

__all__ = ["MLPClassifier", "MLPRegressor", "RealMLPClassifier", "RealMLPRegressor"]
