"""Estimators as ONNX models: from what they take to labels, probabilities or values.

Inputs and outputs have skl2onnx's names and shapes. Of RealMLP the preprocessing is part of the
model, as ``Columns`` does it, in float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .._exchange._onnx_activations import check_exportable
from .._exchange._onnx_export import network_scores, probabilities, values
from .._exchange._onnx_graph import ROWS, Column, Graph
from ..validation import check_choice
from ._columns import FAR, LARGEST, Columns

_FLOATS = ("float32", "float64")


def export_mlp(estimator: Any, path: Any, input_dtype: str | None) -> None:
    """What ``MLPClassifier.to_onnx`` and ``MLPRegressor.to_onnx`` do."""
    network = estimator.network_
    given = check_choice("input_dtype", input_dtype or network.dtype.name, _FLOATS)
    check_exportable(network.activations)
    g = Graph(network.dtype)
    shape = (ROWS, estimator.n_features_in_)
    x = _cast(g, g.input(Column("X", given, shape, "rows of features")), given)
    scores = g("Identity", network_scores(g, network, x))
    if network.criterion.of_values:
        _add_values(g, values(g, network.criterion, scores), network.output_size)
    else:
        _add_classes(g, estimator, probabilities(g, network.criterion, scores))
    g.write(path, _title(estimator), {})


def export_realmlp(estimator: Any, path: Any, input_dtype: str | None) -> None:
    """What ``RealMLPClassifier.to_onnx`` and ``RealMLPRegressor.to_onnx`` do."""
    given = check_choice("input_dtype", input_dtype or "float64", _FLOATS)
    networks = estimator.networks_
    g = Graph(np.float64)
    raw = _preprocessed(g, estimator.columns_, given)
    by_classes = hasattr(estimator, "classes_")
    g.dtype = networks[0].dtype
    x = _cast(g, raw, "float64")
    found = []
    for i, network in enumerate(networks):
        scores = network_scores(g, network, x, prefix=f"networks.{i}." if i else "")
        found.append(probabilities(g, network.criterion, scores) if by_classes else scores)
    if by_classes:
        _add_classes(g, estimator, _mean(g, found))
    else:
        wide = [_widened(g, scores) for scores in found]
        g.dtype = np.dtype(np.float64)
        spread, center = (
            g.constant(name, np.reshape(np.asarray(value, np.float64), -1))
            for name, value in (("y_std", estimator.y_std_), ("y_mean", estimator.y_mean_))
        )
        outputs = g("Add", g("Mul", _mean(g, wide), spread), center)
        _add_values(g, outputs, networks[0].output_size)
    g.write(path, _title(estimator), {})


def _title(estimator: Any) -> str:
    return f"fastmlp.estimators.{type(estimator).__name__}"


def _cast(g: Graph, value: str, dtype: str) -> str:
    """A value of that dtype in the graph's."""
    return value if dtype == g.dtype.name else g.cast(value, g.dtype)


def _widened(g: Graph, value: str) -> str:
    """A value of the graph's dtype in float64."""
    return value if g.dtype == np.float64 else g.cast(value, np.float64)


def _mean(g: Graph, found: Sequence[str]) -> str:
    """Of what several networks give; onnxruntime has the operator Mean in float32 alone."""
    return found[0] if len(found) == 1 else g("Div", g("Sum", *found), float(len(found)))


# Outputs


def _add_values(g: Graph, outputs: str, count: int) -> None:
    g.output(outputs, Column("variable", g.dtype.name, (ROWS, count), "values"))


def _add_classes(g: Graph, estimator: Any, chances: str) -> None:
    """The outputs ``label`` and ``probabilities``, from probabilities (N, K), or (N, 1) for two."""
    classes = np.asarray(estimator.classes_)
    binarizer = getattr(estimator, "_label_binarizer", None)
    count = len(classes)
    if binarizer is not None and binarizer.y_type_.startswith("multilabel"):
        label = g.cast(g("Greater", chances, 0.5), np.int64)
        shape: tuple[Any, ...] = (ROWS, count)
        g.output(label, Column("label", "int64", shape, "which labels a row has, 1 or 0"))
        g.output(chances, Column("probabilities", g.dtype.name, shape, "of every label"))
        return
    if count < 2:
        raise ValueError(f"to_onnx needs a classifier of at least 2 classes, got {count}")
    if binarizer is not None and binarizer.y_type_ == "binary":
        index = g.squeezed(g.cast(g("Greater", chances, 0.5), np.int64))
        chances = g("Concat", g("Sub", 1.0, chances), chances, axis=1)
    else:
        index = g("ArgMax", chances, axis=1, keepdims=0)
    dtype, names = _constants_of("classes_", classes.tolist())
    label = g("Gather", g.constant("classes", names), index)
    g.output(label, Column("label", dtype, (ROWS,), "the most likely class"))
    meaning = "of every class, in the order of classes_"
    g.output(chances, Column("probabilities", g.dtype.name, (ROWS, count), meaning))


def _constants_of(what: str, found: Sequence[Any]) -> tuple[str, np.ndarray]:
    """(dtype, array) of labels or categories: whole numbers, floats, booleans or strings.

    Raises ValueError where they are of several kinds, or of another.
    """
    kinds = {
        "bool" if isinstance(value, (bool, np.bool_))
        else "int64" if isinstance(value, (int, np.integer))
        else "float64" if isinstance(value, (float, np.floating))
        else "str" if isinstance(value, str) else type(value).__name__
        for value in found
    }  # fmt: skip
    if kinds == {"int64", "float64"}:
        kinds = {"float64"}
    kind = kinds.pop() if len(kinds) == 1 else ""
    if kind not in ("bool", "int64", "float64", "str"):
        raise ValueError(
            f"{what} must be numbers, booleans or strings, of one kind, to be written to ONNX, "
            f"got {', '.join(map(repr, found[:5]))}"
        )
    if kind == "int64" and not all(-(2**63) <= value < 2**63 for value in found):
        raise ValueError(f"{what} must be of 64 bits to be written to ONNX, got {max(found)}")
    return kind, np.array(found, object if kind == "str" else kind)


# RealMLP's preprocessing


def _preprocessed(g: Graph, columns: Columns, given: str) -> str:
    """The columns as ``Columns.transform`` makes them, (N, d) float64, of the model's inputs.

    One input X, (N, D), where all columns are numbers; otherwise an input (N, 1) for every column,
    by its name: of numbers, or of the kind of its categories.
    """
    tables = _Inputs(g, columns, given)
    parts = tables.numbers()
    parts += [tables.one_hot(place) for place in range(len(columns._categories))]
    raw = parts[0] if len(parts) == 1 else g("Concat", *parts, axis=1)
    center, scale = (
        g.constant(f"columns.{name}", getattr(columns, name)) for name in ("center", "scale")
    )
    z = g("Clip", g("Sub", raw, center), -LARGEST, LARGEST)
    z = g("Clip", g("Mul", z, scale), -FAR, FAR)
    third = g("Div", z, 3.0)
    return g("Div", z, g("Sqrt", g("Add", g("Mul", third, third), 1.0)))


class _Inputs:
    """The inputs of a model for a table, and what each of its columns becomes."""

    def __init__(self, g: Graph, columns: Columns, given: str) -> None:
        self._g, self._columns, self._given = g, columns, given
        names = columns._table_names
        self._kinds = {}
        for place, index in enumerate(columns._categorical):
            found = columns._categories[place]
            what = f"the categories of column {names[index]!r}"
            self._kinds[index] = _constants_of(what, found) if found else ("str", np.empty(0))
        numeric = all(kind in ("int64", "float64") for kind, _ in self._kinds.values())
        self._matrix = None
        if numeric:
            shape = (ROWS, len(names))
            self._matrix = g.input(Column("X", given, shape, f"columns {', '.join(names)}"))
        else:
            for index, name in enumerate(names):
                dtype = self._kinds[index][0] if index in self._kinds else given
                g.input(Column(name, dtype, (ROWS, 1), f"column {name}"))

    def _taken(self, indices: Sequence[int]) -> str:
        """Columns beside each other, (N, k), as they are given."""
        g = self._g
        if self._matrix is not None:
            if len(indices) == len(self._columns._table_names):
                return self._matrix
            at = g.constant(f"columns.at.{'.'.join(map(str, indices))}", np.array(indices))
            return g("Gather", self._matrix, at, axis=1)
        names = [self._columns._table_names[index] for index in indices]
        return names[0] if len(names) == 1 else g("Concat", *names, axis=1)

    def numbers(self) -> list[str]:
        """Numbers, with means in their gaps, and where there are gaps, in the columns that had."""
        g, columns = self._g, self._columns
        if not columns._numeric:
            return []
        given = _cast(g, self._taken(columns._numeric), self._given)
        missing = g("IsNaN", given)
        parts = [g("Where", missing, g.constant("columns.means", columns._means), given)]
        if len(columns._gaps):
            gaps = g("Gather", missing, g.constant("columns.gaps", columns._gaps), axis=1)
            parts.append(g.cast(gaps, np.float64))
        return parts

    def one_hot(self, place: int) -> str:
        """The columns of a column of categories."""
        g, index = self._g, self._columns._categorical[place]
        kind, found = self._kinds[index]
        value = self._taken([index])
        stem = f"columns.{index}"
        if not len(found):
            # Nothing was known of the column: its values make no difference.
            zero = g.constant(f"{stem}.none", np.zeros((1, 1)))
            return g("Mul", g.cast(self._codes(value, [], stem), np.float64), zero)
        if kind == "str":
            value = self._codes(value, list(map(str, found)), stem)
            found = np.arange(len(found))
        elif kind == "bool":
            value, found = g.cast(value, np.int64), found.astype(np.int64)
        else:
            found = found.astype(self._given if self._matrix is not None else kind)
        equal = g("Equal", value, g.constant(f"{stem}.categories", found[None]))
        one_hot = g.cast(equal, np.float64)
        if len(found) == 2:
            return g("MatMul", one_hot, g.constant(f"{stem}.signs", np.array([[-1.0], [1.0]])))
        return one_hot

    def _codes(self, value: str, texts: list[str], stem: str) -> str:
        """The number of every text in a list, -1 for others."""
        return self._g(
            "LabelEncoder", value, domain="ai.onnx.ml", keys_strings=texts or [stem],
            values_int64s=list(range(max(1, len(texts)))), default_int64=-1,
        )  # fmt: skip
