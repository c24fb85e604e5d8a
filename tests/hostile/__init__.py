"""The readers that strangers' files reach: real files to begin with, and mutants of each kind.

A mutant is damaged as it lies in the file, or inside: then sizes and checksums around the damage
fit again, and it gets past the first check.
"""

from typing import Any, NamedTuple

from fastmlp.datasets import DatasetError
from tests.hostile.arrays import idx_mutant, npz_mutant, prepare_idx, prepare_npz
from tests.hostile.blocks import (
    arrow_mutant,
    npy_mutant,
    prepare_arrow,
    prepare_npy,
    prepare_npz_blocks,
    prepare_parquet_blocks,
)
from tests.hostile.networks import network_mutant, prepare_network
from tests.hostile.pictures import png_mutant, prepare_png
from tests.hostile.tables import csv_mutant, parquet_mutant, prepare_csv, prepare_parquet


class Reader(NamedTuple):
    suffix: str
    errors: tuple  # the documented ones, by their very class
    prepare: Any  # folder to (files to begin with, function that reads a path)
    mutant: Any  # (rng, those files) to the content of another


READERS = {
    "idx": Reader(".gz", (DatasetError,), prepare_idx, idx_mutant),
    "npz": Reader(".npz", (DatasetError, ValueError), prepare_npz, npz_mutant),
    "csv": Reader(".csv", (DatasetError,), prepare_csv, csv_mutant),
    "parquet": Reader(".parquet", (DatasetError,), prepare_parquet, parquet_mutant),
    "npy, by blocks": Reader(".npy", (DatasetError,), prepare_npy, npy_mutant),
    "npz, by blocks": Reader(".npz", (DatasetError,), prepare_npz_blocks, npz_mutant),
    "parquet, by blocks": Reader(
        ".parquet", (DatasetError,), prepare_parquet_blocks, parquet_mutant
    ),
    "arrow, by blocks": Reader(".arrow", (DatasetError,), prepare_arrow, arrow_mutant),
    "network": Reader(".safetensors", (ValueError,), prepare_network, network_mutant),
    "png": Reader(".png", (ValueError,), prepare_png, png_mutant),
}
