"""Course write-ups: their assignments' functions under their own names, and their experiments.

``hw1p1``, ``ece421``, ``handin2`` and ``vu_dl1`` are one recipe each. ``RECIPES`` has their
experiments, which `fastmlp reproduce` runs.
"""

from . import ece421, handin2, hw1p1, vu_dl1
from ._vu_dl1_runs import RECIPE as _VU_DL1

RECIPES = (hw1p1.RECIPE, ece421.RECIPE, handin2.RECIPE, _VU_DL1)

__all__ = ["RECIPES", "ece421", "handin2", "hw1p1", "vu_dl1"]
