"""RealMLP's preprocessing, against plain NumPy that takes one column and one row at a time."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator

from fastmlp.estimators._columns import Columns
from fastmlp.estimators._tables import categorical_columns, read_table

NAN = math.nan


def table(x):
    return read_table(BaseEstimator(), x, reset=True)


def fitted(x, categorical=(), weights=None):
    return Columns(list(categorical)).fit(table(x), weights)


def transformed(x, categorical=(), weights=None):
    return fitted(x, categorical, weights).transform(table(x))


def quantile(values, q):
    """Of the inverted distribution function, the mean of both ends of a jump."""
    values = sorted(values)
    position = q * len(values)
    if position == int(position) and position > 0:
        return (values[int(position) - 1] + values[min(int(position), len(values) - 1)]) / 2
    return values[int(position)]


def reference(column):
    """A column of numbers as RealMLP makes it, by the definition."""
    low, middle, high = (quantile(column, q) for q in (0.25, 0.5, 0.75))
    if high > low:
        scale = 1 / (high - low)
    elif max(column) > min(column):
        scale = 2 / (max(column) - min(column))
    else:
        scale = 0
    scaled = [scale * (value - middle) for value in column]
    return [z / math.sqrt(1 + (z / 3) ** 2) for z in scaled]


def assert_columns(result, *expected):
    np.testing.assert_allclose(result, np.transpose(expected), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize(
    "column",
    [
        [3.0, 1, 4, 1, 5, 9, 2, 6],
        [3.0, 1, 4, 1, 5],
        [1.0, 2],
        [7.0],
        [5.0] * 6,
        [0.0] * 7 + [1.0],
        [0.0, 1] * 5,
        [-2.0] * 9 + [1e6],
        [1e-9, 2e-9, 3e-9, 4e-9, 5e-9],
        [1e9, 1e9 + 1, 1e9 + 2, 1e9 + 3],
        list(range(100)),
    ],
    ids=str,
)
def test_numbers(column):
    assert_columns(transformed(np.array(column)[:, None]), reference(column))


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.float32, np.bool_])
def test_dtypes_of_numbers(dtype):
    column = np.array([0, 1, 1, 0, 1], dtype)
    assert_columns(transformed(column[:, None]), reference(column.astype(float)))


def test_far_numbers_end_at_three():
    """However far: no square, no difference and no product overflows into NaN."""
    columns = fitted(np.array([[-1.0, -1e308, 0], [0, 0, 0], [1, 1e308, 0], [2, 1.7e308, 5e-324]]))
    far = columns.transform(table(np.array([[1e308, -1.7e308, 1e308], [-1e200, 1e-300, 0]])))
    assert np.isfinite(far).all()
    np.testing.assert_allclose(far[:, 0], [3, -3], rtol=1e-14)
    assert far[0, 2] == 0


def test_a_missing_number_is_the_mean_and_is_told():
    column = [1.0, NAN, 4, 7, NAN]
    columns = fitted(np.array(column)[:, None])
    assert columns.names == ["x0", "x0=missing"]
    assert_columns(
        columns.transform(table(np.array(column)[:, None])),
        reference([1, 4, 4, 7, 4]),
        reference([0, 1, 0, 0, 1]),
    )


def test_a_number_that_is_missing_only_later_is_the_mean():
    columns = fitted(np.array([[1.0], [2.0], [6.0]]))
    later = columns.transform(table(np.array([[NAN], [3.0]])))
    np.testing.assert_array_equal(later[0], later[1])


def test_a_column_without_any_number_is_zero():
    x = np.array([[NAN, 1.0], [NAN, 2.0], [NAN, 3.0]])
    columns = fitted(x)
    assert columns.names == ["x0", "x1", "x0=missing"]
    assert_columns(columns.transform(table(x)), [0] * 3, reference([1, 2, 3]), [0] * 3)
    assert not columns.transform(table(np.array([[5.0, 1.0]])))[0, [0, 2]].any()


def test_infinity_is_refused_by_name():
    frame = pd.DataFrame({"good": [1.0, NAN], "bad": [-np.inf, 1.0]})
    with pytest.raises(ValueError, match="infinity in column 'bad'"):
        fitted(frame)
    columns = fitted(frame.replace(-np.inf, 0))
    with pytest.raises(ValueError, match="infinity in column 'bad'"):
        columns.transform(table(frame))


FRAMES = pytest.mark.parametrize("frame_of", [pd.DataFrame, pl.DataFrame], ids=["pandas", "polars"])


@FRAMES
def test_categories(frame_of):
    """Two become -1 and 1; of others each has a column; one that is missing or new has zeros."""
    frame = frame_of({"job": ["b", "a", None, "c", "a"], "sex": ["m", "f", "f", None, "m"]})
    columns = fitted(frame, [0, 1])
    assert columns.names == ["job=a", "job=b", "job=c", "sex=m"]
    raw = [[0, 1, 0, 0, 1], [1, 0, 0, 0, 0], [0, 0, 0, 1, 0], [1, -1, -1, 0, 1]]
    assert_columns(columns.transform(table(frame)), *map(reference, raw))
    later = frame_of({"job": ["d", "a"], "sex": ["?", "f"]})
    unknown, known = columns.transform(table(later))
    zeros = (np.zeros(4) - columns.center) * columns.scale
    np.testing.assert_allclose(unknown, zeros / np.sqrt(1 + (zeros / 3) ** 2), rtol=1e-14)
    np.testing.assert_array_equal(known, columns.transform(table(frame))[1])


@FRAMES
def test_a_column_without_any_category_is_zero(frame_of):
    frame = frame_of({"gone": [None, None, None], "one": ["x", "x", "x"], "n": [1, 2, 3]})
    columns = fitted(frame, [0, 1])
    assert columns.names == ["n", "gone=missing", "one=x"]
    assert_columns(columns.transform(table(frame)), reference([1, 2, 3]), [0] * 3, [0] * 3)


def test_a_single_category_tells_missing_from_not():
    frame = pd.DataFrame({"one": ["x", None, "x", "x"]})
    assert_columns(transformed(frame, [0]), reference([1, 0, 1, 1]))


def test_categories_of_one_value_in_several_frames():
    """A network that learnt from pandas predicts for polars and for an array."""
    values = {"job": ["a", "b", "c", "a"], "age": [1, 2, 3, 4]}
    columns = fitted(pd.DataFrame(values).astype({"job": "category"}), [0])
    expected = columns.transform(table(pd.DataFrame(values)))
    as_array = np.array(list(zip(*values.values(), strict=True)), object)
    for x in (pl.DataFrame(values), pl.DataFrame(values).cast({"job": pl.Categorical}), as_array):
        np.testing.assert_array_equal(columns.transform(table(x)), expected)


@FRAMES
def test_numbers_as_categories(frame_of):
    frame = frame_of({"code": [10, 30, 20, 10], "half": [0.5, None, 1.5, 2.5]})
    columns = fitted(frame, [0, 1])
    assert columns.names == ["code=10", "code=20", "code=30", "half=0.5", "half=1.5", "half=2.5"]
    assert_columns(columns.transform(table(frame))[:, 3:], *map(reference, (
        [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]
    )))  # fmt: skip


def test_which_columns_hold_categories():
    pandas = pd.DataFrame({
        "category": pd.Categorical(["a", "b"]), "object": np.array(["a", 1], object),
        "string": pd.array(["a", "b"], "string"), "bool": [True, False],
        "boolean": pd.array([True, None], "boolean"), "int": [1, 2],
        "Int": pd.array([1, None], "Int64"), "float": [1.0, 2.0],
    })  # fmt: skip
    assert categorical_columns(table(pandas), "from_dtype") == [0, 1, 2, 3, 4]
    polars = pl.DataFrame({
        "string": ["a", "b"], "category": pl.Series(["a", "b"], dtype=pl.Categorical),
        "enum": pl.Series(["a", "b"], dtype=pl.Enum(["a", "b"])), "bool": [True, None],
        "int": [1, None], "float": [1.0, 2.0],
    })  # fmt: skip
    assert categorical_columns(table(polars), None) == [0, 1, 2, 3]
    for given_columns in (["int"], [4], np.array([False] * 4 + [True, False])):
        assert categorical_columns(table(polars), given_columns) == [0, 1, 2, 3, 4]
    assert categorical_columns(table(polars), []) == [0, 1, 2, 3]
    assert categorical_columns(table(np.eye(2)), None) == []


@pytest.mark.parametrize(
    ("given_columns", "message"),
    [
        (["nose"], "'nose', which is no column"),
        ([2], r"must lie in 0 \.\.\. 1, got 2"),
        ([-1], r"must lie in 0 \.\.\. 1, got -1"),
        ([True], "a mask must have 2 entries, one per column, got 1"),
        ([["x0"]], "one-dimensional"),
    ],
)
def test_categorical_features_that_are_none(given_columns, message):
    with pytest.raises(ValueError, match=message):
        categorical_columns(table(np.eye(2)), given_columns)


def test_nullable_numbers():
    frame = pd.DataFrame({"Int": pd.array([1, None, 4], "Int64"), "f": [1.0, 2.0, NAN]})
    columns = fitted(frame)
    assert columns.names == ["Int", "f", "Int=missing", "f=missing"]
    assert_columns(columns.transform(table(frame))[:, :1], reference([1, 2.5, 4]))
    polars = pl.DataFrame({"Int": [1, None, 4], "f": [1.0, 2.0, None]})
    np.testing.assert_array_equal(columns.transform(table(polars)), columns.transform(table(frame)))


def test_columns_that_hold_something_else_are_named():
    columns = fitted(pd.DataFrame({"age": [1, 2], "job": ["a", "b"]}), [1])
    with pytest.raises(ValueError, match=r"column 'age' must hold numbers: .*'old'"):
        columns.transform(table(pd.DataFrame({"age": [1, "old"], "job": ["a", "b"]})))
    with pytest.raises(TypeError, match="column 'job' must hold categories: unhashable"):
        columns.transform(table(pd.DataFrame({"age": [1, 2], "job": [["a"], "b"]})))
    dates = pd.DataFrame({"day": pd.to_datetime(["2020-01-01", "2020-01-02"])})
    with pytest.raises(TypeError, match="column 'day' must hold numbers or categories, got Date"):
        fitted(dates)


def test_empty_frames_are_refused():
    for frame, message in (
        (pl.DataFrame({"a": []}), r"0 sample\(s\)"),
        (pd.DataFrame(index=range(3)), r"0 feature\(s\)"),
    ):
        with pytest.raises(ValueError, match=message):
            table(frame)


def test_neither_arrays_nor_frames_are_changed():
    x = np.array([[1.0, NAN], [2, 3], [4, 5]])
    before = x.copy()
    transformed(x)
    np.testing.assert_array_equal(x, before)
    for frame in (pd.DataFrame(x), pl.DataFrame(x)):
        transformed(frame)
        np.testing.assert_array_equal(frame.to_numpy(), before)


def test_float32_is_rounded_last():
    """Numbers that float32 does not tell apart are apart after the shift."""
    x = 1e9 + np.arange(8.0)[:, None]
    result = fitted(x).transform(table(x), np.float32)
    assert result.dtype == np.float32
    assert result.flags.c_contiguous
    np.testing.assert_array_equal(result, transformed(x).astype(np.float32))


def test_memory_order_does_not_matter():
    x = np.arange(12.0).reshape(4, 3) ** 2
    np.testing.assert_array_equal(transformed(np.asfortranarray(x)), transformed(x))
    np.testing.assert_array_equal(transformed(np.repeat(x, 2, axis=1)[:, ::2]), transformed(x))


rows = st.lists(
    st.tuples(
        st.sampled_from([-3.0, 0.0, 0.5, 1.0, 7.0, NAN]),
        st.floats(-1e3, 1e3),
        st.sampled_from(["a", "b", None]),
        st.integers(1, 4),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(rows=rows)
def test_a_weight_is_so_many_rows(rows):
    *values, weights = zip(*rows, strict=True)
    frame = pd.DataFrame(dict(zip("xyz", values, strict=True))).astype({"z": object})
    repeated = frame.loc[frame.index.repeat(weights)].reset_index(drop=True)
    weighted = fitted(frame, [2], np.array(weights, float))
    many = fitted(repeated, [2])
    np.testing.assert_allclose(
        weighted.transform(table(frame)), many.transform(table(frame)), rtol=1e-9, atol=1e-9
    )
    assert weighted.names == many.names


def test_weights_scale():
    x = np.array([[3.0], [1], [4], [1], [5]])
    weights = np.array([1.0, 2, 3, 4, 5])
    expected = fitted(x, weights=weights)
    for factor in (0.25, 1024.0):
        columns = fitted(x, weights=factor * weights)
        np.testing.assert_array_equal(columns.center, expected.center)
        np.testing.assert_array_equal(columns.scale, expected.scale)
