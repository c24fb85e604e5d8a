"""Calls of an estimator that are done whole, or leave it as it was."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

from sklearn.utils import check_random_state


@contextlib.contextmanager
def whole(estimator: Any) -> Iterator[None]:
    """What raises inside leaves what is fitted, and the random state drawn from, as they were.

    Attributes are kept, and lists copied, but nothing else is: what is inside must make a network
    of its own where it may still raise.
    """
    generator = check_random_state(estimator.random_state)
    drawn, before = generator.get_state(), dict(vars(estimator))
    lists = {name: list(v) for name, v in before.items() if name[-1] == "_" and type(v) is list}
    try:
        yield
    except BaseException:
        vars(estimator).clear()
        vars(estimator).update(before | lists)
        generator.set_state(drawn)
        raise


class WholeParameters:
    """Base of estimators whose parameters are all set, or none."""

    def _store(self: Any, arguments: Mapping[str, Any]) -> None:
        """Keep the constructor's arguments as they came: ``fit`` checks them."""
        for name in self._get_param_names():
            setattr(self, name, arguments[name])

    def set_params(self, **params: Any) -> Self:
        """As scikit-learn's. Raises ValueError for an unknown name, and none is set then."""
        estimator: Any = self
        before = estimator.get_params(deep=False)
        try:
            super().set_params(**params)  # type: ignore[misc]
        except BaseException:
            vars(self).update(before)
            raise
        return self
