"""What a shell offers for a value when its user presses Tab."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable

from .. import datasets
from ..kernels.activation import ACTIVATIONS
from ..presets import OPTIMIZERS, PRESETS, SCHEDULES

Completer = Callable[[str], list[str]]


def among(names: Iterable[str]) -> Completer:
    """Offers the names that begin with what has been typed."""
    known = tuple(names)

    def complete(incomplete: str) -> list[str]:
        return [name for name in known if name.startswith(incomplete)]

    return complete


def dataset(incomplete: str) -> list[str]:
    """Names of data sets, and files of a kind that holds one; folders, which may have some."""
    names = among(entry.name for entry in datasets.available())(incomplete)
    return names + [path for path in _paths(incomplete) if path.endswith((os.sep, *_SUFFIXES))]


def _paths(incomplete: str) -> list[str]:
    found = sorted(glob.glob(glob.escape(incomplete) + "*"))
    return [path + os.sep if os.path.isdir(path) else path for path in found]


def recipe(incomplete: str) -> list[str]:
    """Names of recipes, whose modules are imported only for this."""
    from ..recipes import RECIPES

    return among(recipe.name for recipe in RECIPES)(incomplete)


_SUFFIXES = (".npz", *datasets.TABLE_SUFFIXES)

activation = among(sorted(ACTIVATIONS))
compute_dtype = among(("auto", "bfloat16", "float32", "float64"))
dtype = among(("float32", "float64"))
optimizer = among(OPTIMIZERS)
preset = among(PRESETS)
schedule = among(SCHEDULES)
task = among(datasets.TASKS)
