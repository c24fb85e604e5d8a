"""Tables, .csv and .parquet."""

import codecs
import contextlib
import csv
import io

import numpy as np

from fastmlp import datasets
from fastmlp.datasets import Column, DatasetError, Schema
from tests.hostile.seeds import ends, some_digits
from tests.mutation import TEXTS, mutated

# What all the files have: text, or numbers that a CSV file has as text, too.
KIND = Schema((Column("kind", ("blue", "red", "4")),), ("other",), ("x", "y"), "float64")


def _frames():
    import pandas as pd

    images, labels = some_digits(6)
    numbers = images.reshape(6, -1)[:, 200 % images[0].size :][:, :3]
    plain = pd.DataFrame(numbers, columns=["a", "b", "c"]).assign(kind=labels)
    words = np.array(["red", "green", "red", "blue", "red", "green"])
    mixed = pd.DataFrame({
        "number": numbers[:, 0] / 4, "colour": words, "flag": labels > 4, "kind": words[::-1],
        "day": pd.array([1, 2, 3, 4, 5, 6], "Int64"),
    })  # fmt: skip
    return [plain, mixed, plain.astype("float32").assign(kind=words)]


def prepare_csv(folder):
    frames = _frames()
    files = [frame.to_csv(index=False).encode() for frame in frames]
    quoted = frames[1].to_csv(index=False, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    return [*files, quoted.encode(), codecs.BOM_UTF8 + files[0]], _read_table


def _read_table(path):
    first, last = ends(path)
    with contextlib.suppress(DatasetError):
        datasets.load_rows(path, KIND)
    if (first + last) % 3 == 0 and last % 2:
        numeric = path.suffix == ".parquet" or b"flag" not in path.read_bytes()
        target = "a" if numeric else "number"
        if target.encode() in path.read_bytes()[:8] or path.suffix == ".parquet":
            try:
                datasets.load(path, target=target, task="regression")
            except DatasetError as error:
                if "one of its columns" not in str(error):
                    raise
    data = datasets.load(path, target="kind")
    assert len(data.train_x) == len(data.train_y) > 0


def csv_mutant(rng, files):
    content = rng.choice(files)
    if rng.randrange(3) == 0:
        return mutated(rng, content, files)
    end = b"\r\n" if b"\r\n" in content else b"\n"
    rows = [row.split(b",") for row in content.split(end)]
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(rows)
        at = rng.randrange(len(row) + 1)
        match rng.randrange(7):
            case 0:
                del row[at : at + 1]
            case 1:
                row += row * rng.choice((1, 200) if len(row) < 20 else (1,))
            case 2:
                rows.append(rows[rng.randrange(len(rows))])
            case 3:
                rows[rng.randrange(len(rows))] = [rng.choice(TEXTS).encode("utf-8", "replace")] * 5
            case _:
                text = rng.choice(TEXTS)
                row[at : at + 1] = [text.encode(rng.choice(("utf-8", "utf-16")), "replace")]
    return end.join(b",".join(row) for row in rows)


def prepare_parquet(folder):
    frames, files = _frames(), []
    options = [{"compression": None}, {"compression": "zstd"}, {"use_dictionary": False},
               {"compression": None, "data_page_version": "2.0"},
               {"compression": None, "write_page_index": True, "row_group_size": 3}]  # fmt: skip
    for frame in (*frames[:2], frames[1].astype({"colour": "category"})):
        for option in options:
            frame.to_parquet(stream := io.BytesIO(), engine="pyarrow", **option)
            files.append(stream.getvalue())
    return files, _read_table


def parquet_mutant(rng, files):
    content = rng.choice(files)
    if rng.randrange(3) == 0:
        return mutated(rng, content, files)
    # The footer alone, whose own length stays right; or the pages before it.
    size = int.from_bytes(content[-8:-4], "little")
    pages, footer = content[: -8 - size], content[-8 - size : -8]
    if rng.randrange(3):
        footer = mutated(rng, footer, files)
    else:
        pages = mutated(rng, pages, files)
    return pages + footer + len(footer).to_bytes(4, "little") + content[-4:]
