"""The lowest figure so far, and what ends a fit once it goes down no more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._fit_state import (
    NETWORK_ARRAYS,
    NETWORK_COUNTERS,
    network_state,
    set_network_state,
)
from ..history import History, check_monitor
from ..validation import check_count, check_number

if TYPE_CHECKING:
    from ..history import FitPlan


class Lowest:
    """The lowest value so far of one list of the history; NaN is never the lowest."""

    def __init__(self, monitor: str, min_delta: float = 0.0) -> None:
        check_monitor(monitor)
        self.monitor = monitor
        self.min_delta = check_number("min_delta", min_delta, 0)
        self.value = math.inf

    def check_plan(self, plan: FitPlan) -> None:
        check_monitor(self.monitor, plan)

    def begin(self) -> None:
        self.value = math.inf

    def improved(self, history: History) -> bool:
        last = getattr(history, self.monitor)[-1]
        if not last < self.value - self.min_delta:
            return False
        self.value = last
        return True


class EarlyStopping:
    """End the training when a figure has not gone down for patience epochs in a row.

    patience : at least 1     monitor : the list of the history to watch
    min_delta : by how much it must go down to count
    restore_best : leave the network as of the epoch with the lowest figure: parameters, momenta,
        running statistics and counters, so that training goes on from there. So it is left however
        the training ends, also by its last epoch, by an error or by Ctrl-C; where every figure was
        NaN, or no epoch came to its end, as of the last step. What another optimizer has taken the
        place of since stays that one's. False leaves it as of the last step always.

    Raises ValueError for other arguments, and from fit when that has no validation data to watch.
    """

    def __init__(
        self,
        patience: int,
        monitor: str = "val_loss",
        *,
        min_delta: float = 0.0,
        restore_best: bool = True,
    ) -> None:
        self.patience = check_count("patience", patience)
        self.restore_best = restore_best
        self._lowest = Lowest(monitor, min_delta)
        self._waited = 0
        self._best: dict[str, np.ndarray] | None = None

    def check_plan(self, plan: FitPlan) -> None:
        self._lowest.check_plan(plan)

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        self._lowest.begin()
        self._waited = 0

    def on_epoch_end(self, mlp: Any, history: History) -> bool:
        if self._lowest.improved(history):
            self._waited = 0
            if self.restore_best:
                self._best = network_state(mlp)
        else:
            self._waited += 1
        return self._waited >= self.patience

    def state_dict(self) -> dict[str, Any]:
        best = {f"best.{name}": values for name, values in (self._best or {}).items()}
        return {"waited": self._waited, "lowest": self._lowest.value, **best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._waited, self._lowest.value = int(state["waited"]), float(state["lowest"])
        names = [n for n in NETWORK_ARRAYS + NETWORK_COUNTERS if f"best.{n}" in state]
        best = {name: state[f"best.{name}"] for name in names}
        if wrong := [n for n in NETWORK_COUNTERS if n in best and best[n].dtype != np.uint64]:
            raise ValueError(f"best.{wrong[0]} must be uint64")
        self._best = best or None

    def on_train_end(self, mlp: Any, history: History) -> None:
        # Kept for no later fit, whose begin may fail before this callback hears of it.
        best, self._best = self._best, None
        set_network_state(mlp, best or {})
