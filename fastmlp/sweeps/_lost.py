"""Fits of which nothing came back."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

# So many places are named, and the others counted.
_MOST_NAMED = 8


class FitLostError(RuntimeError):
    """Fits whose worker died, or that no worker took. Their networks are as they were.

    entries : (int, ...), their places in ``fits``, in order
    """

    def __init__(self, entries: Iterable[int], reason: str) -> None:
        self.entries, self.reason = tuple(sorted(entries)), reason
        super().__init__(_sentence(self.entries, reason))

    def __reduce__(self) -> tuple[type, tuple[tuple[int, ...], str]]:
        return type(self), (self.entries, self.reason)


def all_of(errors: Sequence[FitLostError]) -> FitLostError:
    """One error for several, with each reason once."""
    by_reason: dict[str, list[int]] = {}
    for error in errors:
        by_reason.setdefault(error.reason, []).extend(error.entries)
    if len(by_reason) == 1:
        ((reason, entries),) = by_reason.items()
        return FitLostError(entries, reason)
    reasons = [f"{_named(entries)}: {reason}" for reason, entries in by_reason.items()]
    return FitLostError((i for error in errors for i in error.entries), "; ".join(reasons))


def _sentence(entries: Sequence[int], reason: str) -> str:
    verb = "was" if len(entries) == 1 else "were"
    return f"{_named(entries)} {verb} lost: {reason}"


def _named(entries: Sequence[int]) -> str:
    names = [f"fits[{i}]" for i in sorted(entries)[:_MOST_NAMED]]
    more = len(entries) - len(names)
    return ", ".join(names) + (f" and {more} more" if more else "")
