"""Blocks of rows from files: what is read."""

import pickle
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from fastmlp.datasets import DatasetError, open_blocks
from tests.block_files import (
    KINDS,
    NAMES,
    WEIGHTS,
    X,
    Y,
    every_kind,
    joined,
    write_parquet,
    written,
)  # fmt: skip
from tests.networks import build

# What is read


@every_kind
@pytest.mark.parametrize("weights", [None, WEIGHTS])
def test_the_rows_are_those_of_the_files(kind, weights, tmp_path):
    files, options = written(kind, tmp_path, weights)
    blocks = open_blocks(files, **options)
    x, y, *rest = joined(blocks)
    assert_array_equal(x, X, strict=True)
    assert_array_equal(y, Y, strict=True)
    if weights is None:
        assert rest == []
    else:
        assert_array_equal(rest[0], WEIGHTS)
    counts = (100, 40, 90) if "npz" in kind else (30, 30, 30, 10, 30, 10, 30, 30, 30)
    assert blocks.row_counts == counts
    assert tuple(len(block[0]) for block in blocks) == counts
    assert (len(blocks), blocks.samples) == (len(counts), 230)
    assert (blocks.features, blocks.dtype) == (6, np.uint8)
    assert_array_equal(blocks[-1][0], X[-counts[-1] :])
    names = None if "target" not in options else (*NAMES, "label", *["weight"] * bool(rest))
    assert blocks.columns == names
    assert repr(blocks) == f"Blocks({len(counts)} blocks of 230 rows, 6 columns of uint8)"
    with pytest.raises(IndexError):
        blocks[len(counts)]


@every_kind
def test_a_fit_from_files_is_one_from_arrays(kind, tmp_path):
    """Shuffled by blocks, too: those of a file's are as good as those of an array."""
    files, options = written(kind, tmp_path, WEIGHTS)
    blocks = pickle.loads(pickle.dumps(open_blocks(files, **options)))
    streamed, in_memory = build([6, 8, 3]), build([6, 8, 3])
    streamed.fit(blocks, shuffle=False, window=50, batch_size=16)
    in_memory.fit(X, Y, sample_weight=WEIGHTS, shuffle=False, batch_size=16)
    assert_array_equal(streamed.parameters, in_memory.parameters)
    streamed.fit(blocks, seed=1, window=50, batch_size=16)
    in_memory.fit([tuple(block) for block in blocks], seed=1, window=50, batch_size=16)
    assert_array_equal(streamed.parameters, in_memory.parameters)


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("dtype", [">f4", "<f8", ">i2", "bool", "int64"])
def test_arrays_of_any_numbers_come_in_the_machines_byte_order(kind, dtype, tmp_path):
    x = (X % 2).astype(dtype).reshape(230, 2, 3)
    files, options = written(kind, tmp_path, x=x, y=Y.astype(">i4"))
    blocks = open_blocks(files, **options)
    assert blocks.dtype == np.dtype(dtype).newbyteorder("=")
    found, y = joined(blocks)
    assert_array_equal(found, (X % 2).astype(blocks.dtype), strict=True)
    assert_array_equal(y, Y.astype(np.int32), strict=True)


def test_an_archive_in_columns_order(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.asfortranarray(X), y=np.asfortranarray(X[:, :2]))
    (block,) = open_blocks(tmp_path / "a.npz")
    assert_array_equal(block[0], X)
    assert_array_equal(block[1], X[:, :2])
    assert block[0].flags.writeable


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_columns_of_several_dtypes_become_one(kind, tmp_path):
    """As ``load`` takes a table: uint8 and float32 alone stay, truth values become float32."""
    pa = pytest.importorskip("pyarrow", reason="needs the extra tables")
    parquet = pytest.importorskip("pyarrow.parquet")
    columns = {"u": X[:, 0], "f": X[:, 1].astype(np.float32), "t": X[:, 2] > 99,
               "y": Y.astype(np.float32), "i": X[:, 3].astype(np.int32)}  # fmt: skip
    for names, dtype in (
        ("u", np.uint8), ("t", np.float32), ("uf", np.float32), ("ft", np.float32),
        ("ufi", np.float64), ("i", np.float64),
    ):  # fmt: skip
        path = tmp_path / f"{names}.{kind}"
        found = pa.table({name: columns[name] for name in (*names, "y")})
        if kind == "parquet":
            parquet.write_table(found, path)
        else:
            with pa.ipc.new_file(str(path), found.schema) as writer:
                writer.write_table(found)
        ((x, y),) = open_blocks(path, target="y")
        assert_array_equal(
            x, np.column_stack([columns[n] for n in names]).astype(dtype), strict=True
        )
        assert_array_equal(y, columns["y"], strict=True)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_several_targets(kind, tmp_path):
    files, _ = written(kind, tmp_path)
    blocks = open_blocks(files, target="b, label")
    x, y = joined(blocks)
    assert_array_equal(x, X[:, [0, 2, 3, 4, 5]])
    assert_array_equal(y, np.column_stack([X[:, 1], Y]), strict=True)


def test_empty_row_groups_and_files_are_left_out(tmp_path):
    write_parquet(tmp_path / "a.parquet", X[:0], Y[:0])
    write_parquet(tmp_path / "b.parquet", X, Y, rows=230)
    blocks = open_blocks([tmp_path / "a.parquet", tmp_path / "b.parquet"], target="label")
    assert blocks.row_counts == (230,)
    with pytest.raises(DatasetError, match=r"a.parquet: must have at least one row"):
        open_blocks(tmp_path / "a.parquet", target="label")


def test_by_default_a_block_of_npy_files_is_a_megabyte_and_nothing_is_read_before(tmp_path):
    """20 GB that take no room on the disk."""
    rows = 20 * 10**9 // 3072
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (rows, 3, 32, 32))
    np.lib.format.open_memmap(tmp_path / "y.npy", "w+", np.uint8, (rows,))
    tracemalloc.start()
    try:
        blocks = open_blocks([(tmp_path / "x.npy", tmp_path / "y.npy")])
        taken = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert blocks.row_counts[0] == 2**20 // 3072
    assert blocks.samples == rows
    assert blocks.features == 3072
    # Some hundred bytes for a block of a megabyte.
    assert taken < 500 * len(blocks)
    assert blocks[len(blocks) - 1][0].shape == (blocks.row_counts[-1], 3072)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_of_tables_the_headers_are_read(kind, tmp_path):
    io_file = Path("/proc/self/io")
    if not io_file.exists():
        pytest.skip("this system does not tell how much a process has read")

    def read():
        return int(io_file.read_text().split("rchar: ")[1].split()[0])

    x = np.random.default_rng(1).random((5000, 6))
    path = tmp_path / f"a.{kind}"
    KINDS[kind][1](path, x, np.zeros(5000), rows=1000)
    before = read()
    blocks = open_blocks(path, target="label")
    assert read() - before < path.stat().st_size / 4
    assert blocks.row_counts == (1000,) * 5


@every_kind
def test_several_threads_may_read(kind, tmp_path):
    files, options = written(kind, tmp_path)
    blocks, wrong = open_blocks(files, **options), []

    def read():
        x, y = joined(blocks)
        wrong.append(not (np.array_equal(x, X) and np.array_equal(y, Y)))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == [False] * 4
