"""The page for those who come from scikit-learn names every parameter, and says which are new."""

import inspect
import re
from pathlib import Path

import pytest
from sklearn import neural_network

from fastmlp import estimators

PAGE = Path(__file__).parent.parent / "docs" / "scikit-learn.md"


def rows():
    """{parameter: what the table says of it}"""
    found = {}
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `") and line.count("|") == 3:
            names, text = line.strip("|").split("|")
            found |= dict.fromkeys(re.findall(r"`(\w+)`", names), text.strip())
    return found


@pytest.mark.parametrize("name", ["MLPClassifier", "MLPRegressor"])
def test_every_parameter_is_named_same_or_new(name):
    said = rows()
    theirs = inspect.signature(getattr(neural_network, name)).parameters
    for parameter in inspect.signature(getattr(estimators, name)).parameters:
        assert said[parameter].startswith("same" if parameter in theirs else "new"), parameter


def test_no_parameter_is_named_that_is_not_there():
    both = estimators.MLPClassifier, estimators.MLPRegressor
    assert set(rows()) == {p for cls in both for p in inspect.signature(cls).parameters}
