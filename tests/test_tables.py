"""Tables with named columns as data sets: what becomes of their columns, and what is refused."""

import sys
from pathlib import Path

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import DatasetError, DatasetNotFoundError

pd = pytest.importorskip("pandas", reason="tables need the extra tables")

ROWS = 30


def table(**columns):
    """A table of a column of numbers, that of the classes, and others, given or in their place."""
    number, kind = np.arange(ROWS) / 4, np.resize(["b", "c", "a"], ROWS)
    return pd.DataFrame({"number": number, "kind": kind} | columns)


@pytest.fixture(params=[".csv", ".parquet"])
def written(request, tmp_path):
    """Write a table to a file of either kind and load that."""
    if request.param == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")

    def load(frame, target="kind", **options):
        path = tmp_path / f"mine{request.param}"
        if request.param == ".csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        return datasets.load(path, target=target, **options)

    return load


@pytest.fixture
def parquet(tmp_path):
    """Of a CSV file, the types of the columns are lost."""
    pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")

    def load(frame, target="kind", **options):
        frame.to_parquet(tmp_path / "mine.parquet")
        return datasets.load(tmp_path / "mine.parquet", target=target, **options)

    return load


def in_order(data):
    """All rows, sorted by the first feature: what is held out is no business of these tests."""
    x, y = np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])
    order = np.argsort(x[:, 0])
    return x[order], y[order]


def test_numbers_stay_and_texts_are_a_feature_each_in_sorted_order(written):
    colour = np.resize(["red", "Blue", "red", "green", "red"], ROWS)
    data = written(table(flag=np.arange(ROWS) > 9, colour=colour, whole=-(np.arange(ROWS) ** 2)))
    x, y = in_order(data)
    expected = [np.arange(ROWS) / 4, np.arange(ROWS) > 9]
    expected += [colour == name for name in ("Blue", "green", "red")]
    expected += [-(np.arange(ROWS) ** 2)]
    np.testing.assert_array_equal(x, np.transpose(expected))
    assert x.dtype == np.float64
    assert data.categories == {"colour": ("Blue", "green", "red")}
    np.testing.assert_array_equal(y, np.resize([1, 2, 0], ROWS))
    assert y.dtype == np.int64
    assert data.class_names == ("a", "b", "c")
    assert (data.name, data.num_classes, data.image_shape) == ("mine", 3, None)
    assert np.bincount(data.test_y).tolist() == [2, 2, 2], "a fifth of each class"


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ([10, -2, 300], ("-2", "10", "300")),
        ([2.0, 10.0, 1.0], ("1", "2", "10")),
        ([True, False, True], ("False", "True")),
        (["10", "9", "x"], ("10", "9", "x")),
    ],
)
def test_classes_are_numbered_in_sorted_order(values, names, written):
    data = written(table(kind=np.resize(values, ROWS)))
    assert data.class_names == names
    sorted_values = sorted(set(values))
    expected = [sorted_values.index(value) for value in np.resize(values, ROWS).tolist()]
    np.testing.assert_array_equal(in_order(data)[1], expected)


def test_the_target_may_be_any_of_the_columns(written):
    data = written(table(number=np.arange(ROWS) % 2, other=np.arange(ROWS)), target="number")
    assert data.categories == {"kind": ("a", "b", "c")}
    assert data.train_x.shape == (24, 4)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["uint8", "uint8"], np.uint8),
        (["float32", "float32"], np.float32),
        (["float32", "int16"], np.float32),
        (["uint8", "int8"], np.float64),
        (["float32", "int32"], np.float64),
        (["int64", "int64"], np.float64),
        (["uint8", "bool"], np.float32),
        (["Int64", "Float64"], np.float64),
        (["UInt8", "UInt8"], np.uint8),
    ],
)
def test_numbers_are_of_a_type_that_holds_them_all(dtypes, expected, parquet):
    frame = table(number=np.arange(ROWS), second=np.arange(ROWS) % 2)
    frame = frame.astype(dict(zip(["number", "second"], dtypes, strict=True)))
    x, _ = in_order(parquet(frame))
    assert x.dtype == expected
    np.testing.assert_array_equal(x, np.transpose([np.arange(ROWS), np.arange(ROWS) % 2]))


def test_bytes_can_be_pictures(parquet):
    """As they are in an .npz."""
    pixels = np.random.default_rng(0).integers(0, 256, (ROWS, 64)).astype(np.uint8)
    frame = pd.DataFrame(pixels).rename(columns=str).assign(kind=table().kind)
    data = parquet(frame)
    assert data.image_shape == (8, 8)
    assert sorted(map(bytes, [*data.train_x, *data.test_x])) == sorted(map(bytes, pixels))


def test_a_categorical_column_is_text(parquet):
    data = parquet(table(colour=pd.Categorical(np.resize(["x", "w"], ROWS), ["x", "unused", "w"])))
    assert data.categories == {"colour": ("w", "x")}


def with_one(value, row):
    values = np.arange(ROWS, dtype=float)
    values[row] = value
    return values


def with_none(row):
    return np.where(np.arange(ROWS) == row, None, np.resize(["x", "y"], ROWS))


MANY = {
    "name": [f"Mx {k}" for k in range(101)], "number": np.arange(101), "kind": np.arange(101) % 2,
}  # fmt: skip
REFUSED = {
    "number missing": (
        {"age": with_one(np.nan, 7)},
        "column 'age' must have a value in every row, got none in row 8$",
    ),
    "text missing": ({"city": with_none(3)}, "column 'city' must have a value .* row 4$"),
    "infinity": (
        {"age": with_one(-np.inf, 4)}, "column 'age' must be finite, got -inf in row 5$"
    ),
    "many texts": (
        MANY,
        "column 'name' must be numbers, or text of at most 100 categories, got 101 different texts",
    ),
    "class missing": ({"kind": with_none(2)}, "target 'kind' must have a value .* row 3$"),
    "fraction": (
        {"kind": with_one(1.5, 6)},
        r"target 'kind' must be text or whole numbers, one class for each row, got 1\.5 in row 7; "
        r'for numbers: --task regression, in Python task="regression"$',
    ),
    "one class": ({"kind": ["a"] * ROWS}, "target 'kind' must have at least 2 classes, got only a"),
    "one row": (
        {"kind": ["a"], "number": [1]}, "must have at least 2 rows to hold out a fifth, got 1$"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_columns_that_are_refused(name, written):
    columns, message = REFUSED[name]
    frame = pd.DataFrame(columns) if "number" in columns else table(**columns)
    with pytest.raises(DatasetError, match=rf"mine\.(csv|parquet): {message}"):
        written(frame)


def test_a_hundred_texts_are_not_too_many(written):
    frame = pd.DataFrame({"code": [f"{k:03}x" for k in range(100)], "kind": np.arange(100) % 2})
    data = written(frame)
    assert data.train_x.shape == (80, 100)
    assert np.concatenate([data.train_x, data.test_x]).sum(axis=0).tolist() == [1] * 100


def test_columns_that_are_neither_numbers_nor_text(parquet):
    times = pd.date_range("2026-01-01", periods=ROWS)
    with pytest.raises(DatasetError, match="column 'day' must be numbers or text, got datetime64"):
        parquet(table(day=times))
    with pytest.raises(
        DatasetError, match=r"column 'raw' must be numbers or text, got b'\\x01' in"
    ):
        parquet(table(raw=[b"\x01"] * ROWS))


def test_a_column_that_is_not_there(written):
    with pytest.raises(DatasetError, match="one of its columns number, kind, got 'kinds'; did you "
                                           "mean 'kind'"):  # fmt: skip
        written(table(), target="kinds")


def test_long_lists_of_columns_are_cut(written):
    frame = table(**{f"c{k}": np.arange(ROWS) for k in range(30)})
    with pytest.raises(DatasetError, match=r"number, kind, c0, .* c7, \.\.\., got 'zzz'$"):
        written(frame, target="zzz")


def test_a_table_of_classes_alone(written):
    with pytest.raises(DatasetError, match="must have a column besides the target, got none"):
        written(table()[["kind"]])


def test_two_columns_of_a_name(tmp_path):
    pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")
    from pyarrow.parquet import write_table

    same = pa.table([[1, 2], [3, 4], ["a", "b"]], names=["n", "n", "kind"])
    write_table(same, tmp_path / "mine.parquet")
    with pytest.raises(DatasetError, match=r"mine\.parquet: cannot be read as parquet: .*\bn\b"):
        datasets.load(tmp_path / "mine.parquet", target="kind")


@pytest.mark.parametrize("content", [b"", b"PAR1 no such thing", b"a,b\n1,2,3\n1\n1,2,3,4,5\n\xff"])
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_files_that_cannot_be_read(content, suffix, tmp_path):
    if suffix == "csv" and content.startswith(b"PAR1"):
        content = b'a,b\n"never closed'
    path = tmp_path / f"mine.{suffix}"
    path.write_bytes(content)
    if suffix == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")
    with pytest.raises(DatasetError, match=rf"mine\.{suffix}: cannot be read as {suffix}: "):
        datasets.load(path, target="a")


def test_wrong_calls(tmp_path):
    for options in ({"target": "kind"}, {}, {"task": "regression"}):
        with pytest.raises(DatasetNotFoundError, match=r"none\.csv: no such file"):
            datasets.load(tmp_path / "none.csv", **options)
    (tmp_path / "mine.csv").touch()
    with pytest.raises(
        ValueError, match=r"target must name the column of .*mine\.csv with the cla"
    ):
        datasets.load(tmp_path / "mine.csv")
    with pytest.raises(ValueError, match=r"column of .*mine\.csv with the targets, got none"):
        datasets.load(tmp_path / "mine.csv", task="regression")
    with pytest.raises(ValueError, match="task must be one of classification, regression, got 'r"):
        datasets.load(tmp_path / "mine.csv", target="kind", task="regresion")
    with pytest.raises(ValueError, match="task must be classification for digits, which has clas"):
        datasets.load("digits", task="regression")
    with pytest.raises(ValueError, match=r"target is for files ending in \.csv or \.parquet, got "):
        datasets.load("digits", target="kind")
    with pytest.raises(ValueError, match=r"or the path of an \.npz, \.csv or \.parquet file, got"):
        datasets.load("digit")


# Targets that are numbers


def test_a_target_for_regression_stays_a_number(written):
    prices = np.random.default_rng(0).standard_normal(ROWS)
    data = written(table(price=prices), target="price", task="regression")
    x, y = in_order(data)
    np.testing.assert_array_equal(x[:, 0], np.arange(ROWS) / 4)
    np.testing.assert_array_equal(y, prices)
    assert (y.dtype, data.train_y.shape, data.test_y.shape) == (np.float64, (24,), (6,))
    assert (data.task, data.num_outputs, data.class_names) == ("regression", 1, None)
    assert data.categories == {"kind": ("a", "b", "c")}
    assert repr(data) == "Dataset('mine', train (24, 4), test (6, 4), float64, 1 targets)"
    with pytest.raises(ValueError, match="mine has no classes: its task is regression"):
        _ = data.num_classes


@pytest.mark.parametrize("target", ["low,high", " low , high", "high,low"])
def test_several_targets(target, written):
    low, high = np.arange(ROWS) ** 2, np.arange(ROWS) / 8
    data = written(table(low=low, high=high), target=target, task="regression")
    x, y = in_order(data)
    assert x.shape == (ROWS, 4)
    expected = [high, low] if target.startswith("high") else [low, high]
    np.testing.assert_array_equal(y, np.transpose(expected))
    assert data.train_y.flags.c_contiguous
    assert (data.train_y.shape, data.num_outputs) == ((24, 2), 2)


def test_a_column_may_have_a_comma_in_its_name(written):
    frame = table(**{"price, in euros": np.arange(ROWS) / 2})
    data = written(frame, target="price, in euros", task="regression")
    np.testing.assert_array_equal(in_order(data)[1], np.arange(ROWS) / 2)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        (["float32", "float32"], np.float32),
        (["float32", "int8"], np.float64),
        (["bool", "uint8"], np.float64),
        (["Float32", "Float32"], np.float32),
    ],
)
def test_targets_are_float32_where_all_of_them_are(dtypes, expected, parquet):
    frame = table(a=np.arange(ROWS) % 2, b=np.arange(ROWS) % 3)
    frame = frame.astype(dict(zip(["a", "b"], dtypes, strict=True)))
    _, y = in_order(parquet(frame, target="a,b", task="regression"))
    assert y.dtype == expected
    np.testing.assert_array_equal(y, np.transpose([np.arange(ROWS) % 2, np.arange(ROWS) % 3]))


@pytest.mark.parametrize(
    ("price", "message"),
    [
        (with_one(np.nan, 7), "target 'price' must have a value in every row, got none in row 8$"),
        (with_one(np.inf, 4), "target 'price' must be finite, got inf in row 5$"),
        (
            np.where(np.arange(ROWS) == 5, "much", "1.5"),
            "target 'price' must be numbers for regression, got 'much' in row 6$",
        ),
    ],
)
def test_targets_that_are_refused(price, message, written):
    with pytest.raises(DatasetError, match=rf"mine\.(csv|parquet): {message}"):
        written(table(price=price), target="number,price", task="regression")


def test_numbers_that_are_kept_as_text_are_none(parquet):
    with pytest.raises(DatasetError, match=r"must be numbers for regression, got '2' in row 1$"):
        parquet(table(price=["2"] * ROWS), target="price", task="regression")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("number,prize", "one of its columns number, kind, price, got 'prize'; did you mean 'pri"),
        ("price,", "got ''$"),
        ("price,number,price", "target must name different columns, got 'price' twice"),
        ("price,number,kind", "target 'kind' must be numbers for regression, got 'b' in row 1$"),
    ],
)
def test_columns_that_are_no_targets(target, message, written):
    with pytest.raises(DatasetError, match=message):
        written(table(price=np.arange(ROWS)), target=target, task="regression")


def test_several_targets_are_for_regression_alone(written):
    with pytest.raises(DatasetError, match="one of its columns number, kind, got 'number,kind'"):
        written(table(), target="number,kind")


def test_a_table_of_targets_alone(written):
    frame = table()[["number"]]
    with pytest.raises(DatasetError, match="must have a column besides the target, got none"):
        written(frame, target="number", task="regression")


@pytest.mark.parametrize(("package", "name"), [("pandas", "a.csv"), ("pyarrow", "a.parquet")])
def test_without_the_packages(package, name, monkeypatch, tmp_path):
    Path(tmp_path, name).touch()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"{package} is not installed: .*'tables'"):
        datasets.load(tmp_path / name, target="kind")
