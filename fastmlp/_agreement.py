"""What must be the same on all ranks of a fit, in words that tell the ranks apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._fit_state import FitState, network_state
from ._machine import installed_version
from ._version import __version__
from .kernels._cache import DIGEST
from .kernels._host import lanes, tile_rows
from .kernels._rates import unit_for

# Of a digest, so many digits tell two ranks apart.
_DIGITS = 12

# Of a network, what decides on its training beside its arrays. ``vars`` would say more than that.
_PARTS = (
    "input_size", "hiddens", "output_size", "activations", "criterion", "optimizer", "dtype",
    "compute_dtype", "num_bn_layers", "batchnorm_reduction", "num_ln_layers", "residual", "dropout",
    "scale_inputs", "parametric_activations", "embeddings",
)  # fmt: skip


def must_agree(
    mlp: Any, data: Mapping[str, Any], arguments: Mapping[str, Any], unfinished: FitState | None,
    callbacks: list[Any],
) -> dict[str, str]:  # fmt: skip
    """Everything by name: libraries and processor, the network, the data's shapes, all arguments.

    data : arrays, tuples of arrays or None, whose numbers are not looked at: a rank may have no
        others than it reads    arguments : as JSON can hold them
    """
    return {
        "version of fastmlp": f"{__version__} ({DIGEST[:_DIGITS]})",
        "version of NumPy": np.__version__,
        "version of Numba": installed_version("numba") or "unknown",
        "kind of processor": _processor(mlp),
        **{name: _text(getattr(mlp, name)) for name in _PARTS},
        "parameters": _digest(network_state(mlp)),
        **{f"shape of {name}": _shapes(value) for name, value in data.items()},
        **{name: _text(value) for name, value in arguments.items()},
        "unfinished fit": _text(unfinished),
        "callbacks": ", ".join(type(c).__name__ for c in callbacks if not writes(c)) or "none",
    }


def writes(callback: Any) -> bool:
    """Whether a callback is for the first rank alone: see ``callbacks``."""
    return bool(getattr(callback, "writes", False))


def _processor(mlp: Any) -> str:
    """What the order of sums depends on, and where numbers lie in panels."""
    size = mlp.dtype.itemsize
    compute = mlp.compute_dtype if mlp.compute_dtype != "auto" else "float32"
    unit = type(unit_for(compute)).__name__
    return f"vectors of {lanes(size)}, tiles of {tile_rows(size)} rows, {unit}"


def _text(value: Any) -> str:
    """A short text without addresses, which differ from process to process."""
    text = re.sub(r" at 0x[0-9a-f]+", "", repr(value))
    return text if len(text) <= 60 else f"{text[:40]}... ({_hash(text.encode())})"


def _shapes(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shapes, value))})"
    return "none" if value is None else f"{value.shape} {value.dtype}"


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    return _hash(*(np.ascontiguousarray(array).data for array in arrays.values()))


def _hash(*parts: Any) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:_DIGITS]
