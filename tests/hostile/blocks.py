"""Files that are read block by block: .npy, .npz, Parquet and Arrow IPC."""

import io
from functools import partial

import numpy as np

from fastmlp.datasets import open_blocks
from tests.hostile.arrays import other_header, prepare_npz
from tests.hostile.seeds import some_digits
from tests.hostile.tables import prepare_parquet
from tests.mutation import mutated


def _read(path, files=None, **options):
    blocks = open_blocks(path if files is None else files(path), **options)
    for number in range(len(blocks)):
        x, labels, *_ = blocks[number]
        assert len(x) == len(labels) == blocks.row_counts[number] > 0


def prepare_npy(folder):
    """A file that stands for x and for rows of labels."""
    images, _ = some_digits(8)
    arrays = images, images.reshape(8, -1)[:, :30].astype(">f4"), images[:, :5, 0] / 3
    files = []
    for array in arrays:
        np.save(stream := io.BytesIO(), array)
        files.append(stream.getvalue())
    return files, partial(_read, files=lambda path: [(path, path)], block_rows=3)


def npy_mutant(rng, files):
    content = rng.choice(files)
    match rng.randrange(4):
        case 0:
            return mutated(rng, content, files)
        case 1:
            return content[: rng.randrange(len(content))]
    return other_header(rng, "", content)[1]


def prepare_npz_blocks(folder):
    files, _ = prepare_npz(folder)
    # Those with x and y.
    return files[:4], _read


def prepare_parquet_blocks(folder):
    files, _ = prepare_parquet(folder)
    # Of numbers alone.
    return files[:5], partial(_read, target="kind")


def prepare_arrow(folder):
    import pyarrow as pa

    images, labels = some_digits(6)
    columns = images.reshape(6, -1)[:, :3].T
    files = []
    for dtype, compression in ((np.uint8, None), (np.float32, "zstd"), (np.float64, "lz4")):
        table = pa.table(dict(zip("abc", columns.astype(dtype), strict=True)) | {"kind": labels})
        options = pa.ipc.IpcWriteOptions(compression=compression)
        with pa.ipc.new_file(stream := io.BytesIO(), table.schema, options=options) as writer:
            writer.write_table(table, max_chunksize=4)
        files.append(stream.getvalue())
    return files, partial(_read, target="kind")


def arrow_mutant(rng, files):
    content = rng.choice(files)
    if rng.randrange(3) == 0:
        return mutated(rng, content, files)
    # The footer alone, whose own length stays right; or what lies before it.
    size = int.from_bytes(content[-10:-6], "little")
    batches, footer = content[: -10 - size], content[-10 - size : -10]
    if rng.randrange(3) == 0:
        footer = mutated(rng, footer, files)
    else:
        batches = mutated(rng, batches, files)
    return batches + footer + len(footer).to_bytes(4, "little") + content[-6:]
