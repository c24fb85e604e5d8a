"""Tables from strangers: what their files state, and what pandas and pyarrow make of damage."""

import io

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import DatasetError, _sizes, _tables
from tests.memory import takes

pd = pytest.importorskip("pandas", reason="tables need the extra tables")
pa = pytest.importorskip("pyarrow", reason="Parquet needs the extra tables")

write_table = pytest.importorskip("pyarrow.parquet").write_table

ROWS = 12_345


def refused(path, message, target="kind"):
    with pytest.raises(DatasetError, match=message) as caught:
        datasets.load(path, target=target)
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value)) < 1000
    assert str(caught.value).isprintable()


# CSV

LINES = "a,b,kind\n" + "1,2,x\n3,4,y\n" * 5

CSV = {
    "a quote that never ends": (LINES + '5,"6,x\n' * 9, "EOF inside string|expected"),
    "a row too long": (LINES + "1,2,x,4\n", "Expected 3 fields"),
    "rows too long": (LINES.replace(",x", ",x,").replace(",y", ",y,"), "at most 3 fields"),
    "other line ends": ("\r,b,kind\n" + "0,0,5\n" * 9, "cannot be read as csv: rows must have at"),
    "two columns of a name": ("a,a,kind\n1,2,x\n", "columns must have different names, got 'a' tw"),
    "a name of a megabyte": ("a" * 1_000_000 + ",kind\n1,x\n", "field larger than field limit"),
    "UTF-16": (LINES.encode("utf-16"), "'utf-8' codec can't decode byte 0xff"),
    "Latin 1": (LINES.encode() + "1,2,é\n".encode("latin1"), "'utf-8' codec can't decode byte"),
    "zero bytes": (b"\0" * 1000, "target must be one of its columns"),
    "infinity": (LINES + "inf,2,x\n", "column 'a' must be finite, got inf in"),
    "mixed types": (LINES + "".join(f"t{k},2,x\n" for k in range(99)), "101 different texts"),
    "nothing but the names": ("a,b,kind\n", "at least 2 rows"),
    "nothing": ("\n\n\n", "cannot be read as csv"),
    "control signs in a name": ("\x1b[2Ja,kind\n,x\n,y\n", "must have a value in every row"),
}  # fmt: skip


@pytest.mark.parametrize("name", CSV)
def test_csv_files_that_are_refused(name, tmp_path):
    content, message = CSV[name]
    path = tmp_path / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(path, message)


@pytest.mark.skipif(
    int(pd.__version__.split(".")[0]) < 3, reason="pandas before 3 takes 1e999 for a text"
)
def test_numbers_beyond_float64_are_refused(tmp_path):
    (tmp_path / "a.csv").write_text(LINES + "1e999,2,x\n")
    refused(tmp_path / "a.csv", "column 'a' must be finite, got inf in")


def test_a_byte_order_mark_is_none_of_the_name(tmp_path):
    (tmp_path / "a.csv").write_bytes(
        b"\xef\xbb\xbf" + LINES.replace("a,b,kind", "kind,b,a").encode()
    )
    data = datasets.load(tmp_path / "a.csv", target="kind")
    assert data.class_names == ("1", "3")


def test_a_line_of_megabytes(tmp_path):
    """Without a sign of where it ends: read once, and refused."""
    path = tmp_path / "a.csv"
    path.write_bytes(LINES.encode() + b"1,2," + b"z" * 20_000_000)
    assert datasets.load(path, target="kind").num_classes == 3
    path.write_bytes(LINES.encode() + b"1," * 5_000_000)
    assert takes(lambda: refused(path, "Expected 3 fields in line 12, saw 5000001")) < 400


@pytest.mark.parametrize("first", ["a", "c{}"])
def test_more_columns_than_pandas_can_bear(first, tmp_path):
    """A million of them took 1.3 GB and 15 s; a hundred thousand of one name 100 s."""
    path = tmp_path / "a.csv"
    count = _tables.MOST_COLUMNS + 1
    path.write_text(",".join(first.format(k) for k in range(count)) + "\n" + "1," * count)
    refused(path, r"cannot be read as csv: must have at most 100,000 columns, got 100,001")


def test_thousands_of_fields_that_have_no_name(tmp_path, monkeypatch):
    """pandas is not asked: it would take them for the names of rows, 3,000 of them in a second."""
    monkeypatch.setattr(pd, "read_csv", lambda *arguments, **options: pytest.fail("pandas asked"))
    (tmp_path / "a.csv").write_text("kind\n" + ("1," * 50_000 + "x\n") * 3)
    refused(tmp_path / "a.csv", "rows must have at most 1 fields, as the first one has")


def test_blank_lines_before_the_names(tmp_path):
    (tmp_path / "a.csv").write_text("\n\n" + LINES)
    assert datasets.load(tmp_path / "a.csv", target="kind").train_x.shape == (8, 2)


# Parquet


def parquet(frame, **options):
    frame.to_parquet(stream := io.BytesIO(), index=False, **options)
    return stream.getvalue()


def varint(number):
    """As Thrift's compact protocol has whole numbers: zigzag, seven bits a byte."""
    number, out = number << 1, b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


@pytest.fixture(scope="module")
def honest():
    rng = np.random.default_rng(0)
    text = np.resize(["x", "y"], ROWS)
    frame = pd.DataFrame({"a": rng.integers(0, 9, ROWS), "t": text, "kind": np.arange(ROWS) % 3})
    return parquet(frame)


def with_rows(content, count, places):
    """The file with another number of rows in these of the places where its footer has it."""
    size = int.from_bytes(content[-8:-4], "little")
    parts = content[-8 - size : -8].split(varint(ROWS))
    footer = parts[0]
    for place, part in enumerate(parts[1:]):
        chosen = places is None or place in places or place - len(parts) + 1 in places
        footer += varint(count if chosen else ROWS) + part
    return content[: -8 - size] + footer + len(footer).to_bytes(4, "little") + content[-4:]


@pytest.mark.parametrize(
    ("count", "places", "message"),
    [
        (10**9, None, "24000000000 bytes are promised by 8.*: a decompression bomb"),
        (2**62, None, "bytes are promised by 8.*: a decompression bomb"),
        (ROWS + 1, None, "12346 rows are promised, 12345 follow"),
        (7, [0], "7 rows are promised, and 12345 in its parts|12345 rows are promised, 7 follow"),
        (7, [-1], "12345 rows are promised, and 7 in its parts|7 rows are promised, and 12345"),
    ],
)
def test_rows_that_are_not_there(count, places, message, honest, tmp_path):
    path = tmp_path / "a.parquet"
    path.write_bytes(with_rows(honest, count, places))
    assert takes(lambda: refused(path, message)) < 32


def test_the_file_that_lies_about_nothing(honest, tmp_path):
    (tmp_path / "a.parquet").write_bytes(with_rows(honest, ROWS, None))
    assert datasets.load(tmp_path / "a.parquet", target="kind").train_x.shape == (9876, 3)


def test_equal_values_beyond_measure(tmp_path, monkeypatch):
    """200 million rows took 4 GB, from a file of a megabyte; here the limit is lower."""
    monkeypatch.setattr(_sizes, "BELIEVED", 1 << 20)
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(pd.DataFrame({"a": np.zeros(500_000), "kind": np.zeros(500_000)})))
    message = r"8000000 bytes are promised by \d+: a decompression bomb"
    assert takes(lambda: refused(path, message)) < 4


def test_a_text_that_many_rows_refer_to(tmp_path):
    """300 times a text of 200,000 letters, once in the file: not copied for each of them."""
    rows = 300
    table = pa.table({"a": ["x" * 200_000] * rows, "kind": list(range(2)) * (rows // 2)})
    path = tmp_path / "a.parquet"
    write_table(table, path)
    del table
    assert path.stat().st_size < 50_000
    loaded = []
    assert takes(lambda: loaded.append(datasets.load(path, target="kind"))) < 32
    assert [len(text) for text in loaded[0].categories["a"]] == [200_000]


def test_texts_that_share_their_beginnings(tmp_path):
    """Of an encoding that pyarrow cannot keep as it is in the file."""
    table = pa.table({"a": ["x" * 200_000] * 500, "kind": list(range(2)) * 250})
    path = tmp_path / "a.parquet"
    encoding = {"a": "DELTA_BYTE_ARRAY"}
    write_table(table, path, use_dictionary=False, column_encoding=encoding, compression="zstd")
    del table
    assert takes(lambda: refused(path, "cannot be read as parquet: Not yet implemented")) < 32


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ([[1, 2], [3]] * 2, "column 'a.list.element' must be numbers or text, got lists"),
        ([[[1]], [[2]]] * 2, "must be numbers or text, got lists"),
        ([{"b": 1}, {"b": 2}] * 2, r"column 'a' must be numbers or text, got \{'b': 1\} in it"),
        ([b"\xff", b"\0"] * 2, r"column 'a' must be numbers or text, got b'\\xff' in it"),
    ],
)
def test_values_that_are_neither_numbers_nor_text(column, message, tmp_path):
    write_table(pa.table({"a": column, "kind": [1, 2, 1, 2]}), tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", message)


def test_more_columns_than_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr(_tables, "MOST_COLUMNS", 30)
    table = pa.table({f"c{k}": [1, 2] for k in range(31)})
    write_table(table, tmp_path / "a.parquet")
    refused(tmp_path / "a.parquet", "must have at most 30 columns, got 31")


def test_a_folder_of_that_name(tmp_path):
    for suffix in (".parquet", ".csv"):
        (tmp_path / f"a{suffix}").mkdir()
        refused(tmp_path / f"a{suffix}", "cannot be read as")


def test_names_and_classes_of_a_megabyte(tmp_path):
    """The message stays short."""
    name = "n" * 100_000
    frame = pd.DataFrame({name: [1.0, None], "kind": ["k" * 100_000] * 2})
    path = tmp_path / "a.parquet"
    path.write_bytes(parquet(frame))
    refused(path, "target 'kind' must have at least 2 classes, got only kkk")
    refused(path, "target must be one of its columns nnn.*, got 'kins'", target="kins")
    path.write_bytes(parquet(frame.assign(kind=[1, 2])))
    refused(path, "column 'nnn.* must have a value in every row, got none in row 2")
