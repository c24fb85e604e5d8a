"""Estimators for scikit-learn (extra ``sklearn``)."""

from .._extras import require

require("sklearn", "sklearn")

__all__: list[str] = []
