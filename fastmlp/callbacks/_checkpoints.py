"""What saves a network while it is trained."""

from __future__ import annotations

import glob
import os
import re
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._files import remove_left_by_the_dead
from ..history import History
from ..validation import check_choice, check_count, check_positive
from ._stopping import Lowest

if TYPE_CHECKING:
    from ..history import FitPlan, Progress


class CheckpointWarning(RuntimeWarning):
    """A checkpoint could not be written, and the fit goes on without."""


class Checkpoint:
    """Save the network, and where the fit stands, from time to time.

    path : the file, replaced whole each time
    monitor : a list of the history; only when that figure is its lowest is anything saved
    epochs : after every so many epochs, by default every one unless seconds are given
    seconds : also within an epoch, whenever so many have passed since the last time
    keep : how many files are kept. From two on their names have the number of steps that were
        done, model-00001407.safetensors for the path model.safetensors
    on_error : "raise" ends the fit by the OSError where one cannot be written; "warn" says so once
        in a CheckpointWarning, and the fit goes on. Files that were there before stay whole.

    A fit that was killed goes on from the last file, to the same bits as one left alone:

    >>> checkpoint = Checkpoint("model.safetensors", seconds=60)
    >>> mlp = MLP.load(checkpoint.latest()) if checkpoint.latest() else network()
    >>> mlp.fit(x, labels, epochs=90, seed=0, callbacks=[checkpoint], resume="auto")

    Raises ValueError or TypeError for other arguments, ValueError from fit when that has no
    validation data to watch.
    """

    writes = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        monitor: str | None = None,
        *,
        epochs: int | None = None,
        seconds: float | None = None,
        keep: int = 1,
        on_error: str = "raise",
    ) -> None:
        self.path = path
        self._lowest = None if monitor is None else Lowest(monitor)
        if seconds is not None and monitor is not None:
            raise ValueError(
                f"monitor and seconds exclude each other, since figures come once an epoch, "
                f"got {monitor!r} and {seconds!r}"
            )
        self.seconds = None if seconds is None else check_positive("seconds", seconds)
        if epochs is None and seconds is None:
            epochs = 1
        self.epochs = None if epochs is None else check_count("epochs", epochs)
        self.keep = check_count("keep", keep)
        self.on_error = check_choice("on_error", on_error, ("raise", "warn"))
        self._saved, self._warned = 0.0, False
        self._mlp: Any = None

    def latest(self) -> Path | None:
        """The file that was written last, or None where there is none yet."""
        return next(iter(self._files()), None)

    def _files(self) -> list[Path]:
        """Those that are there, the one that was written last first."""
        path = Path(self.path)
        if self.keep == 1:
            return [path] if path.exists() else []
        pattern = re.compile(rf"{re.escape(path.stem)}-(\d+){re.escape(path.suffix)}")
        found = path.parent.iterdir() if path.parent.is_dir() else ()
        # Not by their numbers alone: those of an earlier fit may be larger.
        times = [(f.stat().st_mtime_ns, f) for f in found if pattern.fullmatch(f.name)]
        return [file for _, file in sorted(times, reverse=True)]

    def check_plan(self, plan: FitPlan) -> None:
        if self._lowest is not None:
            self._lowest.check_plan(plan)

    def on_train_begin(self, mlp: Any, plan: FitPlan) -> None:
        if self._lowest is not None:
            self._lowest.begin()
        self._saved, self._warned, self._mlp = time.monotonic(), False, mlp

    def on_progress(self, progress: Progress) -> None:
        # The end of an epoch is saved in its own event, once its figures are known.
        if self._due and progress.step < progress.steps:
            self._save(progress.epoch * progress.steps + progress.step)

    def on_epoch_end(self, mlp: Any, history: History) -> None:
        regular = self.epochs is not None and len(history.train_loss) % self.epochs == 0
        if regular and self._lowest is not None:
            regular = self._lowest.improved(history)
        if regular or self._due:
            self._save(len(history.step_loss))

    def on_train_end(self, mlp: Any, history: History) -> None:
        self._mlp = None

    def state_dict(self) -> dict[str, Any]:
        return {} if self._lowest is None else {"lowest": self._lowest.value}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if self._lowest is not None:
            self._lowest.value = float(state["lowest"])

    @property
    def _due(self) -> bool:
        return self.seconds is not None and time.monotonic() - self._saved >= self.seconds

    def _save(self, steps: int) -> None:
        path = Path(self.path)
        if self.keep > 1:
            # Those of other numbers than this one's, too.
            pattern = f"{glob.escape(path.stem)}-*{glob.escape(path.suffix)}"
            remove_left_by_the_dead(path.parent, pattern)
            path = path.with_name(f"{path.stem}-{steps:08d}{path.suffix}")
        try:
            self._mlp.save(path)
            for old in self._files()[self.keep :]:
                old.unlink(missing_ok=True)
        except OSError as error:
            if self.on_error == "raise":
                raise
            if not self._warned:
                self._warned = True
                warnings.warn(
                    f"no checkpoint was written, and the fit goes on: {error}",
                    CheckpointWarning,
                    stacklevel=2,
                )
        self._saved = time.monotonic()
