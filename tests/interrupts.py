"""What comes in between: callbacks that raise or act, Ctrl-C in a method, acts between lines."""

import contextlib
import linecache
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from fastmlp.engine import Trainer

EVENTS = ("on_train_begin", "on_progress", "on_epoch_end", "on_train_end")


def is_held(lock):
    """Whether some thread has a lock, this one too."""

    def take():
        taken = lock.acquire(blocking=False)
        if taken:
            lock.release()
        return taken

    with ThreadPoolExecutor(1) as pool:
        return not pool.submit(take).result()


@contextlib.contextmanager
def between_lines(place, functions, act):
    """Call act before the line of that number, from 0, that some functions run in this thread.

    As another thread may come in there, or the handler of a signal. Lines of ``with`` and ``try``
    are left out: the interpreter lets nobody in there. Gives a list with an entry once act has been
    called.
    """
    watched, left, done = {f.__code__ for f in functions}, [place], []

    def trace(frame, event, argument):
        line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
        if event == "line" and not line.strip().startswith(("with ", "try:")):
            left[0] -= 1
            if left[0] == -1:
                done.append(None)
                act()
        return trace

    sys.settrace(lambda frame, event, argument: trace if frame.f_code in watched else None)
    try:
        yield done
    finally:
        sys.settrace(None)


class Raise:
    """Raises an error at the so-manieth time that an event comes."""

    def __init__(self, event, times, error):
        self._event, self._left, self._error = event, times, error
        self.steps = 0  # that were done then

    def __getattr__(self, name):
        if name in EVENTS:
            return lambda *arguments: self._hear(name, arguments)
        raise AttributeError(name)

    def _hear(self, event, arguments):
        if event == "on_progress":
            self.steps = arguments[0].epoch * arguments[0].steps + arguments[0].step
        if event == self._event:
            self._left -= 1
            if self._left == 0:
                raise self._error


class Act:
    """Calls a function of the network at every occurrence of an event, a few times at most."""

    def __init__(self, event, act):
        self._event, self._act, self._left = event, act, 3
        self.seen = []

    def __getattr__(self, name):
        if name == self._event:
            return lambda *arguments: self._hear()
        raise AttributeError(name)

    def on_train_begin(self, mlp, plan):
        self._mlp = mlp

    def _hear(self):
        self._left -= 1
        if self._left >= 0:
            self.seen.append(self._act(self._mlp))


class CtrlC:
    """A context in which a method raises KeyboardInterrupt at its so-manieth call."""

    def __init__(self, times, when, method, cls=Trainer):
        self._left, self._when, self._place = times, when, (cls, method)
        self.steps = 0  # of training that were done

    def __enter__(self):
        cls, method = self._place
        original, train = getattr(cls, method), Trainer.train

        def counted(trainer, data, schedule, first, last, out):
            reached = train(trainer, data, schedule, first, last, out)
            self.steps += reached - first
            return reached

        def interrupted(owner, *arguments):
            self._left -= 1
            if self._left == 0 and self._when == "before":
                raise KeyboardInterrupt
            result = (counted if method == "train" else original)(owner, *arguments)
            if self._left == 0:
                raise KeyboardInterrupt
            return result

        self._patch = pytest.MonkeyPatch()
        self._patch.setattr(Trainer, "train", counted)
        self._patch.setattr(cls, method, interrupted)
        return self

    def __exit__(self, *exception):
        self._patch.undo()
