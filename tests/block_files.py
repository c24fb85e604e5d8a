"""Files of rows of every kind that ``open_blocks`` reads."""

from functools import partial

import numpy as np
import pytest

from tests.blocks import cut

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (230, 6), np.uint8)
Y = RNG.integers(0, 3, 230)
WEIGHTS = RNG.random(230)
NAMES = ["a", "b", "c", "d", "e", "f"]
CUTS = (100, 140)


def table(x, y, weights=None):
    pa = pytest.importorskip("pyarrow", reason="needs the extra tables")
    columns = dict(zip(NAMES, x.T, strict=True)) | {"label": y}
    return pa.table(columns if weights is None else columns | {"weight": weights})


def write_parquet(path, *arrays, rows=30, **options):
    found = table(*arrays)
    from pyarrow import parquet

    parquet.write_table(found, path, row_group_size=rows, **options)


def write_arrow(path, *arrays, rows=30, compression=None):
    found = table(*arrays)
    import pyarrow as pa

    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_file(str(path), found.schema, options=options) as writer:
        writer.write_table(found, max_chunksize=rows)


def write_npz(path, x, y, weights=None, save=np.savez_compressed):
    save(path, x=x, y=y, **({} if weights is None else {"sample_weight": weights}))


def write_npy(path, x, y, weights=None):
    """Three files; returns their paths."""
    arrays = {"x": x, "y": y} | ({} if weights is None else {"w": weights})
    paths = [path.with_suffix(f".{name}.npy") for name in arrays]
    for each, array in zip(paths, arrays.values(), strict=True):
        np.save(each, array)
    return tuple(paths)


# (suffix, how a file is written, arguments of open_blocks): the rows of a block are 30, or a file's
KINDS = {
    "npy": (".npy", write_npy, {"block_rows": 30}),
    "npz": (".npz", write_npz, {}),
    "npz, stored": (".npz", partial(write_npz, save=np.savez), {}),
    "parquet": (".parquet", write_parquet, {"target": "label"}),
    "parquet, zstd": (
        ".parquet", partial(write_parquet, compression="zstd"), {"target": "label"}
    ),
    "arrow": (".arrow", write_arrow, {"target": "label"}),
    "feather, lz4": (".feather", partial(write_arrow, compression="lz4"), {"target": "label"}),
    "ipc, zstd": (".ipc", partial(write_arrow, compression="zstd"), {"target": "label"}),
}  # fmt: skip
every_kind = pytest.mark.parametrize("kind", KINDS)


def written(kind, folder, weights=None, x=X, y=Y):
    """The files of three parts, and how to open them."""
    suffix, write, options = KINDS[kind]
    arrays = (x, y) if weights is None else (x, y, weights)
    files = []
    for number, part in enumerate(cut(arrays, CUTS)):
        path = folder / f"part-{number}{suffix}"
        files.append(write(path, *part) or path)
    if weights is not None and "target" in options:
        options = options | {"weight": "weight"}
    return files, options


def joined(blocks):
    return [np.concatenate(arrays) for arrays in zip(*blocks, strict=True)]
