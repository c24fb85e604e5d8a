"""Blocks of rows from files: what is refused, and by which words."""

import io
import os
import sys
import zipfile

import numpy as np
import pytest

from fastmlp import datasets
from fastmlp.datasets import DatasetError, DatasetNotFoundError, open_blocks
from tests.block_files import (
    KINDS,
    NAMES,
    WEIGHTS,
    X,
    Y,
    every_kind,
    write_arrow,
    write_npy,
    write_parquet,
    written,
)
from tests.networks import build

# Files that are not alike

OTHERS = {
    "narrower": (X[:, :5], Y),
    "another dtype": (X.astype(np.float32), Y),
    "other labels": (X, Y.astype(np.float64)),
    "rows of labels": (X, X[:, :2]),
    "weights": (X, Y, WEIGHTS),
}


@pytest.mark.parametrize(
    ("kind", "what"),
    [(kind, what) for kind, (_, _, options) in KINDS.items() for what in OTHERS
     if "target" not in options or what != "rows of labels"],
)  # fmt: skip
def test_a_file_of_other_columns_or_dtypes_is_named(kind, what, tmp_path):
    suffix, write, options = KINDS[kind]
    if "target" in options and what == "narrower":
        write = {".parquet": narrow_parquet}.get(suffix, narrow_arrow)
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    files = [KINDS[kind][1](first, X, Y) or first, write(second, *OTHERS[what]) or second]
    message = r"second\S*: must have the columns and dtypes of \S*first"
    with pytest.raises(DatasetError, match=message):
        open_blocks(files, **options)


def narrow_parquet(path, x, y):
    import pandas as pd

    pd.DataFrame(x, columns=NAMES[:5]).assign(label=y).to_parquet(path)


def narrow_arrow(path, x, y):
    import pyarrow as pa

    found = pa.table(dict(zip(NAMES[:5], x.T, strict=True)) | {"label": y})
    with pa.ipc.new_file(str(path), found.schema) as writer:
        writer.write_table(found)


def test_columns_in_another_order(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=NAMES).assign(label=Y)
    frame.to_parquet(tmp_path / "first.parquet")
    frame[["b", "a", *NAMES[2:], "label"]].to_parquet(tmp_path / "second.parquet")
    with pytest.raises(DatasetError, match=r"second.parquet: must have .*, 'a', got 'b' in"):
        open_blocks([tmp_path / "first.parquet", tmp_path / "second.parquet"], target="label")


# Files that change, or are none


def opened(kind, folder):
    """Blocks, and the files that are read for the last."""
    files, options = written(kind, folder)
    last = files[-1] if isinstance(files[-1], tuple) else (files[-1],)
    return open_blocks(files, **options), last


@every_kind
@pytest.mark.parametrize("change", ["shorter", "longer", "gone"])
def test_a_file_that_has_changed_since_is_named(kind, change, tmp_path):
    blocks, files = opened(kind, tmp_path)
    for path in files:
        content = path.read_bytes()
        if change == "gone":
            path.unlink()
        else:
            path.write_bytes(content[:-9] if change == "shorter" else content + b"x")
        with pytest.raises(DatasetError, match=f"{path}: (changed since|cannot be read any more)"):
            blocks[-1]
        path.write_bytes(content)
    blocks[-1]


@every_kind
def test_a_file_that_shrinks_between_the_look_and_the_read(kind, tmp_path, monkeypatch):
    """Its size is not looked at: what is read ends before."""
    blocks, files = opened(kind, tmp_path)
    monkeypatch.setattr("fastmlp.datasets._block_files.check_unchanged", lambda *_: None)
    monkeypatch.setattr("fastmlp.datasets._block_tables.check_unchanged", lambda *_: None)
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) * 2 // 3])
        with pytest.raises(DatasetError, match=str(path)):
            blocks[-1]
        path.write_bytes(content)


@pytest.mark.parametrize("kind", ["npz", "parquet", "arrow"])
def test_another_file_of_the_same_size(kind, tmp_path):
    """Other sizes inside are noticed."""
    blocks, (path,) = opened(kind, tmp_path)
    size = path.stat().st_size
    suffix, write, _ = KINDS[kind]
    write(tmp_path / f"other{suffix}", X[:80], Y[:80])
    content = (tmp_path / f"other{suffix}").read_bytes()
    path.write_bytes(content + b"\0" * (size - len(content)) if kind == "npz" else content)
    os.utime(path, (0, 0))
    with pytest.MonkeyPatch().context() as patch:
        for module in ("_block_files", "_block_tables"):
            patch.setattr(f"fastmlp.datasets.{module}.check_unchanged", lambda *_: None)
        with pytest.raises(DatasetError, match=str(path)):
            blocks[-1]


@pytest.mark.parametrize("kind", ["npy", "npz", "parquet", "arrow"])
def test_a_file_that_is_none(kind, tmp_path):
    files, options = written(kind, tmp_path)
    damaged = files[1][0] if isinstance(files[1], tuple) else files[1]
    for content in (b"", b"no such thing" * 9, damaged.read_bytes()[:-50]):
        damaged.write_bytes(content)
        with pytest.raises(DatasetError, match=f"{damaged}: .*cannot be read"):
            open_blocks(files, **options)
    damaged.unlink()
    with pytest.raises(DatasetNotFoundError, match=f"{damaged}: no such file"):
        open_blocks(files, **options)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
@pytest.mark.parametrize("column", ["c", "label"])
def test_a_missing_value_is_named_by_file_group_and_row(kind, column, tmp_path):
    import pandas as pd
    import pyarrow as pa

    frame = pd.DataFrame(X, columns=NAMES).assign(label=Y)
    frame[column] = frame[column].astype("Int64")
    frame.loc[77, column] = None
    found = pa.Table.from_pandas(frame, preserve_index=False)
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        from pyarrow import parquet

        parquet.write_table(found, path, row_group_size=30)
    else:
        with pa.ipc.new_file(str(path), found.schema) as writer:
            writer.write_table(found, max_chunksize=30)
    blocks = open_blocks(path, target="label")
    assert len(blocks[1][0]) == 30
    what = "row group 2" if kind == "parquet" else "batch 2"
    message = f"{path}: {what}: column '{column}' must have a value .* got none in row 18"
    with pytest.raises(DatasetError, match=message):
        blocks[2]
    with pytest.raises(DatasetError, match=message) as raised:
        build([6, 4, 3]).fit(blocks, shuffle=False, window=30, batch_size=10)
    assert raised.value.__notes__ == [f"raised by reading block 2, {path}: {what}"]


@pytest.mark.parametrize("kind", ["npy", "parquet", "arrow"])
def test_nan_and_wrong_classes_are_named_by_file_group_and_row(kind, tmp_path):
    x, y = X.astype(np.float32), Y.copy()
    x[125, 3], y[205] = np.nan, 7
    files, options = written(kind, tmp_path, x=x)
    blocks, mlp = open_blocks(files, **options), build([6, 4, 3])
    where = {
        "npy": r"part-1.x.npy: rows from 0 on", "parquet": "part-1.parquet: row group 0",
        "arrow": "part-1.arrow: batch 0",
    }  # fmt: skip
    with pytest.raises(ValueError, match=rf"block 4, .*{where[kind]}: x\[25, 3\] must be finite"):
        mlp.fit(blocks, shuffle=False, window=30, batch_size=10)
    files, options = written(kind, tmp_path, y=y)
    blocks = open_blocks(files, **options)
    where = {
        "npy": r"part-2.x.npy: rows from 60 on", "parquet": "part-2.parquet: row group 2",
        "arrow": "part-2.arrow: batch 2",
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"block 8, .*{where[kind]}: labels .* got 7 at 5"):
        mlp.fit(blocks, shuffle=False, window=30, batch_size=10)


def test_tables_of_other_things_than_numbers(tmp_path):
    import pandas as pd

    frame = pd.DataFrame(X, columns=NAMES).assign(label=Y)
    for name, values, kind in (
        ("words", "red", "string"), ("days", pd.Timestamp("2020-01-01"), "timestamp"),
    ):  # fmt: skip
        path = tmp_path / f"{name}.parquet"
        frame.assign(**{name: values}).to_parquet(path)
        with pytest.raises(
            DatasetError, match=f"{path}: .*column '{name}' must be numbers, got .*{kind}"
        ):
            open_blocks(path, target="label")
    frame[["label"]].to_parquet(path)
    with pytest.raises(DatasetError, match="must have a column besides the target"):
        open_blocks(path, target="label")


def test_arrays_of_other_things_than_numbers(tmp_path):
    for x, message in (
        (X.astype(str), "must hold numbers of up to 64 bits"),
        (X.astype(complex), "must hold numbers of up to 64 bits"),
        (X.astype(object), "must hold numbers|cannot be read"),
        (X[:, 0], r"x must be \(N, D\)"),
    ):
        np.savez(tmp_path / "a.npz", x=x, y=Y)
        with pytest.raises(DatasetError, match=f"a.npz: .*({message})"):
            open_blocks(tmp_path / "a.npz")
        pair = write_npy(tmp_path / "a", x, Y)
        with pytest.raises(DatasetError, match=f"a.x.npy: .*({message})"):
            open_blocks([pair])
    pair = write_npy(tmp_path / "b", np.asfortranarray(X), Y)
    with pytest.raises(DatasetError, match=r"b.x.npy: .*C order\), got Fortran"):
        open_blocks([pair])
    pair = write_npy(tmp_path / "c", X, Y[:-1])
    with pytest.raises(DatasetError, match=r"c.y.npy: must have as many rows as \S*c.x.npy"):
        open_blocks([pair])
    np.savez(tmp_path / "d.npz", x=X, y=Y[:-1])
    with pytest.raises(DatasetError, match=r"d.npz: x, labels and weights must have as many rows"):
        open_blocks(tmp_path / "d.npz")
    np.savez(tmp_path / "e.npz", images=X, y=Y)
    with pytest.raises(DatasetError, match=r"e.npz: must hold the arrays .*x, y, got images, y"):
        open_blocks(tmp_path / "e.npz")


def test_an_archive_that_is_a_bomb(tmp_path, monkeypatch):
    """Opening and reading take no memory for what it promises."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "|u1", "fortran_order": False, "shape": (10**6, 20)}
    )
    monkeypatch.setattr("fastmlp.datasets._sizes.BELIEVED", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("x.npy", "w", force_zip64=True) as stream:
            stream.write(header.getvalue())
            for _ in range(20):
                stream.write(bytes(10**6))
        np.lib.format.write_array(labels := io.BytesIO(), np.zeros(10**6))
        archive.writestr("y.npy", labels.getvalue())
    with pytest.raises(DatasetError, match=r"a.npz: .*decompression bomb"):
        open_blocks(tmp_path / "a.npz")


def test_an_arrow_file_that_is_a_bomb(tmp_path):
    """Its labels promise a gigabyte for thirty rows: that many bytes are not taken."""
    path = tmp_path / "a.arrow"
    write_arrow(path, X, Y, compression="zstd")
    content = bytearray(path.read_bytes())
    # Before the first four bytes of what zstd has made of 30 int64.
    stated = (240).to_bytes(8, "little") + b"\x28\xb5\x2f\xfd"
    assert content.count(stated) == 7
    path.write_bytes(content.replace(stated, (1 << 30).to_bytes(8, "little") + stated[8:]))
    blocks = open_blocks(path, target="label")
    with pytest.raises(DatasetError, match=r"a.arrow: batch 0: .*bytes are promised for 30 rows"):
        blocks[0]


def test_an_arrow_file_whose_numbers_lie_beyond_their_buffer(tmp_path):
    """Eight bytes are said to hold thirty int64: those behind are not read."""
    path = tmp_path / "a.arrow"
    write_arrow(path, X, Y)
    content, said = path.read_bytes(), (240).to_bytes(8, "little")
    assert content.count(said) == 7
    path.write_bytes(content.replace(said, (8).to_bytes(8, "little")))
    blocks = open_blocks(path, target="label")
    with pytest.raises(DatasetError, match=r"a.arrow: batch 0: .*too small in array"):
        blocks[0]


# Arguments


def test_arguments_that_are_refused(tmp_path):
    write_parquet(tmp_path / "a.parquet", X, Y, WEIGHTS)
    np.savez(tmp_path / "a.npz", x=X, y=Y)
    pair = write_npy(tmp_path / "a", X, Y)
    parquet, npz = tmp_path / "a.parquet", tmp_path / "a.npz"
    for files, options, error, message in (
        ([], {}, ValueError, "files must have at least one"),
        (3, {}, TypeError, "files must be a list"),
        ([3], {}, TypeError, "files must be a list"),
        (tmp_path / "a.csv", {}, ValueError, "files must end in one of .npy, .npz, .parquet"),
        ([pair[0]], {}, ValueError, r"files must be \(x, labels\)"),
        (pair, {}, ValueError, r"files must be \(x, labels\)"),
        ([(*pair, *pair)], {}, ValueError, r"files must be \(x, labels\)"),
        ([(parquet, parquet)], {"target": "label"}, ValueError, "single ones otherwise"),
        ([(pair[0], npz)], {}, ValueError, "files must end in one of"),
        (parquet, {}, ValueError, "target must name the column"),
        (parquet, {"target": "lable"}, DatasetError, "did you mean 'label'"),
        (parquet, {"target": "a,a"}, DatasetError, "different columns"),
        (parquet, {"target": "label", "weight": "wieght"}, DatasetError, "did you mean 'weight'"),
        (parquet, {"target": "label", "weight": "label"}, DatasetError, "besides the target"),
        (parquet, {"target": "label", "block_rows": 9}, ValueError, "block_rows is for .npy"),
        (npz, {"target": "label"}, ValueError, "target is for tables"),
        (npz, {"weight": "label"}, ValueError, "weight is for tables"),
        ([pair], {"block_rows": 0}, ValueError, "block_rows must be at least 1"),
        ([pair], {"block_rows": 1.5}, TypeError, "block_rows must be a whole number"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            open_blocks(files, **options)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    write_parquet(tmp_path / "a.parquet", X, Y)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="the extra 'tables'"):
        open_blocks(tmp_path / "a.parquet", target="label")


def test_names_of_the_interface():
    assert {"Blocks", "open_blocks"} <= set(datasets.__all__)
