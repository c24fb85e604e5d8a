"""Compiling ahead of time, so that the first training starts at once."""

from __future__ import annotations

import inspect
import time
from typing import Any

import numpy as np

from .initializers import he_normal, zeros
from .kernels.epoch import train_steps
from .layers import Identity, ReLU, SoftmaxCrossEntropy
from .mlp import MLP
from .validation import check_dtype


def is_cold(dtype: Any = np.float32) -> bool:
    """Whether the machine code of a dtype's compiled epoch is still to be made."""
    rates = list(inspect.signature(train_steps.py_func).parameters).index("rates")
    signatures: list[Any] = getattr(train_steps._cache, "signatures", list)()
    return all(types[rates].dtype.name != check_dtype(dtype).name for types in signatures)


def warmup(dtype: Any = np.float32) -> float:
    """Compile all kernels of a dtype, float32 or float64, or find them on disk.

    Returns the seconds that took. One compilation serves every network.
    """
    dtype = check_dtype(dtype)
    started = time.perf_counter()
    mlp = MLP(
        2,
        2,
        [2],
        [ReLU(), Identity()],
        he_normal(0, dtype),
        zeros,
        SoftmaxCrossEntropy(),
        lr=0.1,
        num_bn_layers=1,
    )
    x, labels = np.zeros((8, 2), dtype), np.arange(8) % 2
    mlp.fit(x, labels, batch_size=4, validation_data=(x, labels))
    mlp.predict_proba(x[:1])
    mlp.forward(x)
    mlp.backward(labels)
    mlp.step()
    mlp.eval()
    mlp.forward(x)
    return time.perf_counter() - started
