"""Schemas of tables: what is learnt of one, rows of another by it, and what is no schema."""

import json
import sys

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import Column, DatasetError, DatasetNotFoundError, Schema, load_rows
from tests.test_tables import ROWS, in_order, table, with_none, with_one

pd = pytest.importorskip("pandas", reason="tables need the extra tables")

LEAF = Column("leaf", ("long", "round"))
TREES = Schema((Column("height"), LEAF), ("tree",), ("ash", "oak"), "float64")


@pytest.fixture(params=["csv", "parquet"])
def write(request, tmp_path):
    """Write a table to a file of either kind; its path."""
    if request.param == "parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")

    def to(frame, name="mine"):
        path = tmp_path / f"{name}.{request.param}"
        if request.param == "csv":
            frame.to_csv(path, index=False)
        else:
            frame.to_parquet(path)
        return path

    return to


@pytest.fixture
def parquet(tmp_path):
    """The same to a Parquet file, which keeps types and lists."""
    pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")

    def to(frame):
        frame.to_parquet(tmp_path / "typed.parquet")
        return tmp_path / "typed.parquet"

    return to


# What is learnt of a table


def test_the_schema_of_a_table(write):
    frame = table(flag=np.arange(ROWS) > 9, colour=np.resize(["red", "Blue"], ROWS))
    schema = datasets.load(write(frame), target="kind").schema
    assert schema == Schema(
        (Column("number"), Column("flag"), Column("colour", ("Blue", "red"))),
        ("kind",), ("a", "b", "c"), "float64",
    )  # fmt: skip
    schema = datasets.load(write(frame), target="number,flag", task="regression").schema
    assert (schema.targets, schema.classes) == (("number", "flag"), None)
    assert schema.columns == (Column("kind", ("a", "b", "c")), Column("colour", ("Blue", "red")))
    assert schema.width == 5


@pytest.mark.parametrize(
    ("values", "classes"),
    [(["10", "9", "x"], ("10", "9", "x")), ([2.0, 10.0], (2, 10)), ([True, False], (False, True))],
)
def test_classes_are_what_stands_in_the_table(values, classes, write):
    schema = datasets.load(write(table(kind=np.resize(values, ROWS))), target="kind").schema
    assert schema.classes == classes
    assert [type(name) for name in schema.classes] == [type(name) for name in classes]
    assert schema.class_names == tuple(map(str, classes))
    assert Schema.from_dict(json.loads(json.dumps(schema.to_dict()))) == schema


def test_other_data_have_none(tmp_path):
    np.savez(tmp_path / "mine.npz", x=np.eye(4), y=np.arange(4))
    assert datasets.load(tmp_path / "mine.npz").schema is None


# Rows by a schema


def both_parts(data):
    """All rows, as the table has them."""
    return in_order(data)[0]


def test_rows_are_as_they_were_learnt_from_in_any_order_of_the_columns(write):
    """The target may be there or not, and other columns, whatever they have."""
    frame = table(colour=np.resize(["red", "Blue", "red", "green"], ROWS), flag=np.arange(ROWS) > 9)
    data = datasets.load(write(frame), target="kind")
    other = pd.DataFrame({
        "note": with_none(3), "flag": frame.flag, "age": with_one(np.inf, 2),
        "colour": frame.colour, "number": frame.number,
    })  # fmt: skip
    for each in (frame, frame.drop(columns="kind"), other):
        rows = load_rows(write(each, "other"), data.schema)
        np.testing.assert_array_equal(rows.x, both_parts(data))
        assert rows.x.dtype == np.float64
        assert rows.unknown == {}


def test_of_parquet_other_columns_are_not_even_read(parquet):
    frame = table()
    schema = datasets.load(parquet(frame), target="kind").schema
    days = pd.date_range("2026-01-01", periods=ROWS)
    path = parquet(frame.assign(many=[[1, 2]] * ROWS, day=days))
    with pytest.raises(DatasetError, match=r"column 'many.*must be numbers or text, got lists"):
        datasets.load(path, target="kind")
    np.testing.assert_array_equal(load_rows(path, schema).x[:, 0], frame.number)
    # pandas takes no two columns of a name.
    import pyarrow as pa
    from pyarrow.parquet import write_table

    write_table(pa.table([[1], [2], [3.5]], names=["n", "n", "number"]), path)
    assert load_rows(path, schema).x.tolist() == [[3.5]]
    for other in (table(number=[[1, 2]] * ROWS), frame.set_index("number")):
        with pytest.raises(DatasetError, match="must have the columns number, lacks number"):
            load_rows(parquet(other), schema)


def test_texts_that_look_like_numbers_stay_texts(write):
    """The first table has a text that does not, the second has none."""
    codes = np.resize(["007", "7", "x", "True"], ROWS)
    schema = datasets.load(write(table(code=codes)), target="kind").schema
    assert schema.columns[1] == Column("code", ("007", "7", "True", "x"))
    few = table().head(3).assign(code=["7", "007", "7"])
    x, unknown = load_rows(write(few, "other"), schema)
    np.testing.assert_array_equal(x[:, 1:], [[0, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 0]])
    assert unknown == {}


def test_a_text_that_was_not_there_is_none_of_the_categories(write):
    colours = np.resize(["red", "blue"], ROWS)
    schema = datasets.load(write(table(colour=colours, same="x")), target="kind").schema
    known = load_rows(write(table(colour=colours, same="x"), "known"), schema).x
    colours = colours.copy().astype(object)
    colours[[4, 17]] = "pink", "grey"
    x, unknown = load_rows(write(table(colour=colours, same="x"), "other"), schema)
    expected = known.copy()
    expected[[4, 17], 1:3] = 0
    np.testing.assert_array_equal(x, expected)
    assert {name: rows.tolist() for name, rows in unknown.items()} == {"colour": [4, 17]}


@pytest.mark.parametrize("rows", [1, 0])
def test_a_single_row_and_none(rows, write):
    schema = datasets.load(write(table(price=0.5)), target="price", task="regression").schema
    x, _ = load_rows(write(table().head(rows), "other"), schema)
    np.testing.assert_array_equal(x, [[0, 0, 1, 0]][:rows] or np.zeros((0, 4)))


def pixels(rows=ROWS):
    return pd.DataFrame({"a": np.arange(rows) * 8, "b": 255 - np.arange(rows)}, dtype=np.uint8)


def test_numbers_are_of_the_type_that_was_learnt_from(parquet, tmp_path):
    """Of bytes, which a network scales, a CSV file has whole numbers; of float32, their digits."""
    bytes_ = datasets.load(parquet(pixels().assign(kind=table().kind)), target="kind")
    assert bytes_.train_x.dtype == np.uint8
    pixels().to_csv(tmp_path / "mine.csv", index=False)
    x = load_rows(tmp_path / "mine.csv", bytes_.schema).x
    assert x.dtype == np.uint8
    np.testing.assert_array_equal(x, pixels())
    frame = pd.DataFrame({"a": np.random.default_rng(0).random(ROWS, np.float32)})
    floats = datasets.load(parquet(frame.assign(kind=table().kind)), target="kind")
    frame.to_csv(tmp_path / "mine.csv", index=False)
    x = load_rows(tmp_path / "mine.csv", floats.schema).x
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, frame)


@pytest.mark.parametrize(
    ("dtype", "value", "got"),
    [
        ("uint8", 0.5, r"0\.5"),
        ("uint8", -1, "-1"),
        ("uint8", 256, "256"),
        ("uint8", 1e30, r"1e\+30"),
        ("float32", -1e39, r"-1e\+39"),
    ],
)
def test_numbers_that_this_type_does_not_hold(dtype, value, got, write):
    values = np.zeros(ROWS, type(value))
    values[2] = value
    schema = Schema((Column("a"),), ("kind",), ("x", "y"), dtype)
    with pytest.raises(
        DatasetError, match=rf"column 'a' must hold {dtype}, as .*, got {got} in row 3$"
    ):
        load_rows(write(pd.DataFrame({"a": values})), schema)


REFUSED = {
    "missing": (
        {"height": with_one(np.nan, 7)}, "column 'height' must have a value in every row, .* row 8$"
    ),
    "text missing": ({"leaf": with_none(3)}, "column 'leaf' must have a value .* row 4$"),
    "infinity": ({"height": with_one(np.inf, 4)}, "column 'height' must be finite, .* row 5$"),
    "a text among numbers": (
        {"height": ["1"] * 3 + ["tall"] * 27}, "column 'height' must be numbers, got 'tall' in row"
    ),
    "another name": (
        {"height": 0.0, "laef": "long"},
        "must have the columns height, leaf, lacks leaf; did you mean 'laef'",
    ),
    "no column of them": ({"other": 1}, "must have the columns height, leaf, lacks height, leaf"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_tables_that_are_refused(name, write):
    columns, message = REFUSED[name]
    usual = {} if "other" in columns or "laef" in columns else {"height": 1.5, "leaf": "long"}
    with pytest.raises(DatasetError, match=rf"mine\.(csv|parquet): {message}"):
        load_rows(write(pd.DataFrame(usual | columns, index=range(ROWS))), TREES)


def test_types_that_only_parquet_keeps(parquet):
    with pytest.raises(DatasetError, match="column 'leaf' must be text, got int64"):
        load_rows(parquet(pd.DataFrame({"height": [1.5], "leaf": [1]})), TREES)
    with pytest.raises(DatasetError, match="column 'height' must be numbers, got '2' in row 1"):
        load_rows(parquet(pd.DataFrame({"height": ["2"], "leaf": ["long"]})), TREES)
    days = pd.date_range("2026-01-01", periods=1)
    with pytest.raises(DatasetError, match="column 'height' must be numbers or text, got datetime"):
        load_rows(parquet(pd.DataFrame({"height": days, "leaf": ["long"]})), TREES)


def test_wrong_calls(tmp_path, monkeypatch):
    with pytest.raises(DatasetNotFoundError, match=r"none\.csv: no such file"):
        load_rows(tmp_path / "none.csv", TREES)
    with pytest.raises(ValueError, match=r"a table must end in \.csv or \.parquet, got 'a\.npz'"):
        load_rows("a.npz", TREES)
    with pytest.raises(TypeError, match="schema must be an object of class Schema, got None"):
        load_rows(tmp_path / "none.csv", None)
    (tmp_path / "a.csv").touch()
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas is not installed: .*'tables'"):
        load_rows(tmp_path / "a.csv", TREES)


# What is no schema


WRONG = {
    "no columns": ({"columns": []}, "columns must be different names, at least one"),
    "two of a name": ({"columns": ["a", ["a", ["x"]]]}, "columns must be different names"),
    "a number for a name": ({"columns": [3]}, "a column must be a name, or .* got 3"),
    "three of a column": ({"columns": [["a", ["x"], 1]]}, "a column must be a name, or"),
    "no categories": ({"columns": [["a", []]]}, "categories of 'a' must be different names, at le"),
    "a category twice": ({"columns": [["a", ["x", "x"]]]}, "categories of 'a' must be different"),
    "a number for a category": ({"columns": [["a", ["x", 1]]]}, "of 'a' must all be str, got 1"),
    "no target": ({"targets": []}, "targets must be different names, at least one"),
    "a target among the columns": ({"targets": ["leaf"]}, "must not be one of the columns.*'leaf'"),
    "a list for a target": ({"targets": [["tree"]]}, r"targets must all be str, got \['tree'\]"),
    "no class": ({"classes": []}, "classes must be different names, at least one"),
    "a class twice": ({"classes": ["a", "a"]}, "classes must be different names"),
    "classes of two kinds": ({"classes": [1, True]}, "classes must all be int, got True"),
    "fractions": ({"classes": [0.5, 1.5]}, r"classes must all be str, got 0\.5"),
    "text for classes": ({"classes": "ab"}, "a schema must have columns, targets, classes and a"),
    "another dtype": ({"dtype": "float16"}, "dtype must be one of uint8, float32, float64, got"),
    "a list for a dtype": ({"dtype": []}, r"dtype must be one of .* got \[\]"),
    "a field more": ({"rows": 3}, "a schema must have .*, got columns, .*, rows"),
    "a field less": ({"dtype": ...}, "a schema must have .* and a dtype, got .*classes$"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_what_is_no_schema(fields, message):
    changed = {k: v for k, v in (TREES.to_dict() | fields).items() if v is not ...}
    with pytest.raises((ValueError, TypeError), match=message):
        Schema.from_dict(changed)


def test_a_schema_is_made_of_columns():
    with pytest.raises(TypeError, match="a column must be an object of class Column, got 'height'"):
        Schema(("height",), ("tree",), None, "float64")
