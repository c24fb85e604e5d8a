"""Training several networks at the same time: seeds, learning rates, batch sizes, folds.

Each fit is handed to a worker of an executor: a thread of this process by default, or a process of
this machine or of another. It ends in the bits that it has alone.
"""

from __future__ import annotations

from ._lost import FitLostError
from ._many import train_many

__all__ = ["FitLostError", "train_many"]
