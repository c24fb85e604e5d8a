"""The data sets that need no file from outside."""

from importlib.resources import as_file, files

import numpy as np

from ._dataset import Dataset, hold_out_fifth
from ._npz import read_npz


def load_synth(num_train: int = 60_000, num_val: int = 10_000, seed: int = 0) -> Dataset:
    """The two-class set of VU Deep Learning, assignment 1: points inside or outside an ellipse.

    x ~ N(0, I), (N, 2) float64; the class is 1 where xᵀQx > 0.6 with Q = [[1, -0.05], [1, 0.4]].
    The num_val points are the test part. The same points as after np.random.seed(seed), without
    touching NumPy's global generator.
    """
    if num_train < 1 or num_val < 1:
        raise ValueError(f"num_train and num_val must be at least 1, got {num_train}, {num_val}")
    q = np.array([[1.0, -0.05], [1.0, 0.4]])
    x = np.random.RandomState(seed).randn(num_train + num_val, 2)
    y = (np.sum(x @ q * x, axis=1) > 0.6).astype(np.int64)
    return Dataset("synth", x[:num_train], y[:num_train], x[num_train:], y[num_train:])


def load_digits() -> Dataset:
    """The 1,797 digits of 8×8 pixels inside the package, see data/NOTICE.md; a fifth held out."""
    with as_file(files("fastmlp") / "data" / "digits.npz") as path:
        x, y = read_npz(path, ("x", "y"))
    # From 0..16 to 0..255, to the nearest: a uint8 x is taken to be in 0..255 everywhere.
    pixels = ((x.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)
    return hold_out_fifth("digits", pixels, y.astype(np.int64), (8, 8))
