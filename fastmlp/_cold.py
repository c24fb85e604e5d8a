"""Whether a training would have to wait for its machine code."""

from __future__ import annotations

from typing import Any

import numpy as np

from .engine import Objective, vocabulary_of
from .kernels._compiled import is_compiled
from .kernels._rates import unit_for
from .kernels._vocabulary import WHOLE, Vocabulary
from .validation import check_dtype


def is_cold(
    dtype: Any = np.float32, compute_dtype: str | None = None, vocabulary: Vocabulary = WHOLE
) -> bool:
    """Whether machine code of the compiled epoch is still to be made for these dtypes.

    vocabulary : what a training needs of it
    """
    name = check_dtype(dtype).name
    units = map(unit_for, measured(compute_dtype))
    return not all(is_compiled(name, unit, vocabulary) for unit in units)


def is_cold_for(mlp: Any) -> bool:
    """Whether machine code of the epoch that trains a network is still to be made."""
    least = vocabulary_of(mlp.layout, Objective(apart=mlp.optimizer.apart))
    return is_cold(mlp.dtype, mlp.compute_dtype, least)


def measured(compute_dtype: str | None) -> tuple[str | None, ...]:
    """The compute dtypes that a fit with this one needs code for."""
    return (None, "bfloat16") if compute_dtype == "auto" else (compute_dtype,)
