"""Compiling ahead of time, so that the first training starts at once."""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np

from ._cold import is_cold, is_cold_for, measured
from .initializers import he_normal, zeros
from .kernels._cache import told_otherwise
from .kernels._jit import keep_code
from .kernels.held import hold
from .layers import Identity, ReLU, SoftmaxCrossEntropy
from .mlp import MLP
from .validation import check_compute_dtype, check_dtype

__all__ = ["compile_for", "compile_kernels", "is_cold", "is_cold_for", "warmup"]


def compile_for(mlp: MLP) -> None:
    """Compile what ``fit`` and ``predict`` of a network need, or find it on disk.

    Less than ``warmup``, which serves every network. The network stays as it is. What is compiled
    leaves out columns of zeros, of which the trial's data consist.
    """
    trial = copy.deepcopy(mlp)
    x, labels = np.zeros((8, mlp.input_size), mlp.dtype), np.zeros((8, mlp.output_size))
    trial.fit(x, labels, max_steps=0)
    trial.figures(x, labels)


def warmup(dtype: Any = np.float32, compute_dtype: str | None = None) -> float:
    """Compile all kernels of a dtype, float32 or float64, or find them on disk.

    compute_dtype : as of ``MLP``; "auto" compiles for float32 and for bfloat16
    Returns the seconds that took. One compilation serves every network.
    Raises OSError where machine code is not on disk afterwards: the folder for it cannot be written
    or is full. It serves this process all the same.
    """
    started = time.perf_counter()
    with told_otherwise():
        compile_kernels(dtype, compute_dtype)
    keep_code()
    return time.perf_counter() - started


def compile_kernels(dtype: Any = np.float32, compute_dtype: str | None = None) -> None:
    """``warmup``, whether or not machine code can be kept."""
    dtype = check_dtype(dtype)
    check_compute_dtype(compute_dtype, dtype)
    for name in measured(compute_dtype):
        _compile(dtype, name)


def _compile(dtype: Any, compute_dtype: str | None) -> None:
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
        compute_dtype=compute_dtype,
    )
    for form, given in (("uint8", "float32"), ("uint8", "float64"), ("float32", "float64")):
        hold(np.empty(0, form), np.empty(0, given), dtype)
    x, labels = np.zeros((8, 2), dtype), np.arange(8) % 2
    mlp.fit(x, labels, batch_size=4, validation_data=(x, labels))
    mlp.predict_proba(x[:1])
    mlp.forward(x)
    mlp.backward(labels)
    mlp.step()
    mlp.eval()
    mlp.forward(x)
