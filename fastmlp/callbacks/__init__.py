"""What can watch a fit: a progress bar, early stopping, checkpoints, logs.

A callback is any object with some of the methods on_train_begin(mlp, plan), on_progress(progress),
called a few times per second from inside an epoch, on_epoch_end(mlp, history), which may return
True to end the training, and on_train_end(mlp, history). One that has a check_plan(plan) besides is
asked before the fit changes anything, and raises where it cannot serve. The arguments' classes are
in history.py.

One whose course is a part of the fit's has two more: state_dict(), a dictionary of numbers, texts,
lists of them and arrays, and load_state_dict(state), called after on_train_begin where a fit goes
on that was interrupted. Such a callback is never cut short by Ctrl-C: that is answered after it.

Where several processes train one network, each calls its callbacks; but one with an attribute
``writes = True`` is called by the first process alone, and must leave the network as it is.
"""

from __future__ import annotations

from ._checkpoints import Checkpoint, CheckpointWarning
from ._logs import CSVLogger, TensorBoard
from ._progress_bar import ProgressBar
from ._stopping import EarlyStopping

__all__ = [
    "CSVLogger", "Checkpoint", "CheckpointWarning", "EarlyStopping", "ProgressBar", "TensorBoard"
]  # fmt: skip
