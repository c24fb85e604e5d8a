"""How many steps a call of the compiled epoch makes, and on how many threads: found while it runs.

The bits of a training do not depend on the number of threads, so it may change from call to call.
Alone on the machine more threads are faster; beside busy processes a team waits for those of its
threads that have no core at present, and fewer are. Where other callers hold the threads that are
wanted, a call gets fewer, and trials tell nothing.
"""

from __future__ import annotations

from typing import NamedTuple

# Whether any number of threads but the most is tried; off where a benchmark compares them.
TRIALS = True

# How long one call may take: progress and Ctrl-C come between calls.
SECONDS_PER_CALL = 0.1

# A trial comes after so many seconds of training, at first and at most; the time between two
# doubles with every trial that gains nothing.
FIRST_INTERVAL, LONGEST_INTERVAL = 0.1, 2.0
# The very first comes sooner: nothing is known of the machine yet, and an epoch may take no longer.
FIRST_TRIAL = 0.02
# Its last call, which tells, has as many steps as take this share of the time before it on the
# present number of threads, and no more than take so long. Waking threads that sleep takes 0.1 to
# 0.4 ms of it.
TRIAL_SHARE, LONGEST_TRIAL = 1 / 40, 0.01
# It begins with a call of so few steps, then three times as many as so far and so on, and is given
# up once it has taken so many times as long as on the present number, and this besides: a team that
# waits for cores may need a hundred times as long.
FIRST_STEPS, CLEARLY_SLOWER, ALLOWANCE = 2, 2.0, 0.002
# What a trial must take less of, per step. Two in a row must, for their number of threads to be
# kept: one alone may be chance.
TRIAL_MARGIN = 0.95
WINS = 2
# For fewer threads one is enough that takes less than 1 / ``CLEARLY_SLOWER``: they are never much
# slower, while more of them may be by any factor.
# A call that takes so much longer per step than the calls before it says that something has
# changed: the next trial comes soon. Beside as many busy processes as there are cores one thread
# alone takes now 0.8 and now 1.4 times as long as usual.
SLOWER = 1.5
# What a call changes of what is usual.
NEWEST_SHARE = 0.2
# Less than that tells nothing: such calls are added up.
LEAST_SECONDS = 0.005


class Call(NamedTuple):
    """So many steps on so many threads."""

    steps: int
    threads: int


class _Meter:
    """Steps and the seconds they took, added up until they tell something."""

    def __init__(self) -> None:
        self._steps, self._seconds = 0, 0.0

    def add(self, steps: int, seconds: float) -> float | None:
        """Seconds per step, or None so far."""
        self._steps += steps
        self._seconds += seconds
        if self._seconds < LEAST_SECONDS:
            return None
        per_step = self._seconds / self._steps
        self._steps, self._seconds = 0, 0.0
        return per_step


class Pace:
    """Decides on the calls of one training: ``next`` says what the next one is, and ``took`` must
    be told how long it took.

    threads : the number that has been fastest so far, at first the most that may be used
    """

    def __init__(self, most: int) -> None:
        self.threads, self._most = most, most
        self._steps = 1
        self._trial: int | None = None
        # Seconds per step, on ``threads``: of the last calls, and as it is usual.
        self._per_step = self._usual = float("inf")
        self._own, self._trial_steps, self._trial_seconds = _Meter(), 0, 0.0
        # Seconds since the last trial, and when the next one is due.
        self._since, self._interval = FIRST_INTERVAL - FIRST_TRIAL, FIRST_INTERVAL
        self._turn = self._wins = 0

    def next(self) -> Call:
        """The next call."""
        others = self._others()
        if self._trial is None and self._since >= self._interval and others:
            self._trial = others[self._turn % len(others)]
        if self._trial is None:
            return Call(self._steps, self.threads)
        steps = min(self._last_of_trial(), max(FIRST_STEPS, 3 * self._trial_steps))
        return Call(steps, self._trial)

    def _last_of_trial(self) -> int:
        """Steps of the last call of a trial."""
        # No call is longer than any may be, however short that is.
        seconds = min(SECONDS_PER_CALL, LONGEST_TRIAL, TRIAL_SHARE * self._interval)
        return max(1, round(seconds / self._per_step))

    def _others(self) -> list[int]:
        """Numbers of threads to try beside the present one."""
        n = self.threads
        if not TRIALS:
            return []
        return sorted({m for m in (n // 2, n - 1, n + 1, 2 * n) if 1 <= m <= self._most} - {n})

    def took(self, call: Call, seconds: float) -> None:
        """Say how long a call took; it may have had fewer steps than ``next`` said."""
        seconds = max(seconds, 1e-6)
        if call.threads == self.threads:
            self._go_on(call.steps, seconds)
            return
        last = self._last_of_trial()
        self._trial_steps += call.steps
        self._trial_seconds += seconds
        expected = self._trial_steps * self._per_step
        lost = self._trial_seconds > CLEARLY_SLOWER * expected + ALLOWANCE
        if 2 * call.steps >= last:
            self._judge(call.threads, seconds / call.steps)
        elif lost or self._trial_steps >= 2 * last:
            # Epochs of few steps have no call as long as half of that.
            self._judge(call.threads, self._trial_seconds / self._trial_steps)

    def _go_on(self, steps: int, seconds: float) -> None:
        # At most twice as many as before: the first call may have been slow to start.
        wanted = int(steps / seconds * SECONDS_PER_CALL)
        self._steps = max(1, min(wanted, 2 * self._steps))
        self._since += seconds
        per_step = self._own.add(steps, seconds)
        if per_step is None:
            return
        self._per_step = per_step
        if self._usual == float("inf"):
            self._usual = per_step
        if per_step > SLOWER * self._usual:
            self._interval = FIRST_INTERVAL
        self._usual += NEWEST_SHARE * (per_step - self._usual)

    def _judge(self, threads: int, per_step: float) -> None:
        """A trial has ended."""
        self._trial, self._since = None, 0.0
        self._trial_steps, self._trial_seconds = 0, 0.0
        if per_step >= TRIAL_MARGIN * self._per_step:
            self._interval = min(2 * self._interval, LONGEST_INTERVAL)
            self._turn += 1
            self._wins = 0
            return
        # The next one comes after a call on the present number.
        self._since = 0.999 * self._interval
        self._wins += 1
        clear = threads < self.threads and CLEARLY_SLOWER * per_step < self._per_step
        if self._wins == WINS or clear:
            self._since, self._interval = 0.0, FIRST_INTERVAL
            self._steps = max(1, int(self._steps * self._per_step / per_step))
            self.threads, self._per_step, self._usual = threads, per_step, float("inf")
            self._turn = self._wins = 0
