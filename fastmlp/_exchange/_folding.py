"""Norms as straight lines of every column, which can become part of a linear layer."""

from __future__ import annotations

from typing import Any

import numpy as np


def line_of_norm(gamma: Any, beta: Any, mean: Any, var: Any, eps: float) -> tuple[Any, Any]:
    """(factor, shift) of batch norm by its running statistics, x * factor + shift, (F,) float64."""
    gamma, beta, mean, var = (np.asarray(a, np.float64).ravel() for a in (gamma, beta, mean, var))
    factor = gamma / np.sqrt(var + eps)
    return factor, beta - mean * factor
