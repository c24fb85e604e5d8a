"""scikit-learn's check of an estimator's input."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import _get_feature_names, validate_data


def checked(estimator: Any, X: Any, *targets: Any, **options: Any) -> Any:
    """``validate_data``; where columns are in another order than in fit, it names the first."""
    try:
        return validate_data(estimator, X, *targets, **options)
    except ValueError as error:
        known, names = getattr(estimator, "feature_names_in_", None), _get_feature_names(X)
        if known is None or names is None or sorted(known) != sorted(names):
            raise
        for place, (name, before) in enumerate(zip(names, known, strict=True)):
            if name != before:
                there = f"Column {place} is {name!r}, in fit it was {before!r}.\n"
                raise ValueError(f"{error}{there}") from None
        raise
