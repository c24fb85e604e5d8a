"""How far many fits are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._files import in_one_line
from ..callbacks._progress_bar import LinesAndBar
from ..history import History
from ..mlp import MLP

if TYPE_CHECKING:
    from rich.progress import ProgressColumn


class FitsDone(LinesAndBar):
    """A line for every fit that has ended and, on a terminal, a bar of how many have."""

    def __init__(self, total: int, what: str = "fit") -> None:
        """what : what a fit is called"""
        super().__init__()
        self._total, self._what, self._done = total, what, 0
        self._in_percent: bool | None = None
        self._show_count()

    def tell(self, index: int, mlp: MLP, result: History | BaseException) -> None:
        """A fit has ended; index : its place among the fits."""
        self._done += 1
        in_percent = not mlp.criterion.of_values
        if in_percent != self._in_percent:
            self._in_percent = in_percent
            self._write(self._heading(self._what, in_percent))
        if isinstance(result, History) and result.train_loss:
            seconds = sum(result.epoch_seconds)
            self._write(self._figures(f"{index}", result, in_percent, seconds))
        elif isinstance(result, History):
            self._write(f"{index:>7}   no epoch")
        else:
            self._write(f"{index:>7}   {type(result).__name__}: {in_one_line(result)}")
        self._show_count()

    def _show_count(self) -> None:
        self._show(completed=self._done, total=self._total)

    def _columns(self) -> list[ProgressColumn | str]:
        from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn

        return [
            f"{self._what}s",
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
        ]
