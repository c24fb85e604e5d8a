"""What came of a sweep's trials: a line of JSON each, in a folder that a later run goes on from."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from .._files import in_one_line, to_oneself, write_whole
from ..history import History
from ..mlp import MLP
from .errors import CommandError

PLAN, RESULTS, MODEL, HISTORY = "sweep.json", "results.jsonl", "model.safetensors", "history.csv"


@contextlib.contextmanager
def results_in(folder: Path, plan: Mapping[str, Any]) -> Iterator[Results]:
    """Those of a sweep in a folder, which is this process's own meanwhile.

    Raises CommandError where it has those of another sweep, cannot be one's, or where another
    process is at it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CommandError(f"--out {folder} must be a folder to write to: {error}", 2) from None
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(to_oneself(folder))
        except BlockingIOError:
            raise CommandError(
                f"{folder} is being written by another sweep: wait for its end, or give another "
                "--out",
                2,
            ) from None
        yield Results(folder, plan)


class Results:
    """Those in a folder; every file is whole at any moment, except history.csv."""

    def __init__(self, folder: Path, plan: Mapping[str, Any]) -> None:
        self.folder = folder
        self.of_trials: dict[int, dict[str, Any]] = {}
        path = folder / PLAN
        if path.exists():
            self._check_plan(_read_json(path), plan)
        elif any((folder / name).exists() for name in (RESULTS, MODEL, HISTORY)):
            raise CommandError(
                f"{folder} has results that are not a sweep's: give another --out", 2
            )
        else:
            write_whole(path, _line(plan))
        for record in self._lines():
            self.of_trials[record["trial"]] = record

    def _check_plan(self, was: Any, plan: Mapping[str, Any]) -> None:
        # As JSON has it: tuples are lists there.
        now = json.loads(_line(plan))
        changed = [k for k in now if not isinstance(was, dict) or was.get(k) != now[k]]
        if changed:
            raise CommandError(
                f"{self.folder} has the results of another sweep ({', '.join(changed)}): give "
                "another --out",
                2,
            )

    def _lines(self) -> list[dict[str, Any]]:
        path = self.folder / RESULTS
        if not path.exists():
            return []
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        records = [_json(f"{path}, line {i}", line) for i, line in enumerate(lines, 1)]
        for i, record in enumerate(records, 1):
            if not _is_result(record):
                raise CommandError(f"{path}, line {i}: must be the result of a trial, got another")
        return records

    def add(self, record: dict[str, Any], mlp: MLP | None, history: History | None) -> None:
        """Write down a trial; of the best so far its network, before its line.

        If it is cut short in between, the trial comes again, and with it the network.
        """
        best = self.best
        is_best = best is None or _rank(record) < _rank(best)
        if mlp is not None and history is not None and is_best:
            mlp.save(self.folder / MODEL)
            history.to_csv(self.folder / HISTORY)
        trials = self.of_trials | {record["trial"]: record}
        write_whole(self.folder / RESULTS, b"".join(_line(trials[i]) for i in sorted(trials)))
        self.of_trials = trials

    @property
    def ranked(self) -> list[dict[str, Any]]:
        """The best first; those that have no error last."""
        return sorted(self.of_trials.values(), key=_rank)

    @property
    def best(self) -> dict[str, Any] | None:
        return next((record for record in self.ranked if record["val_error"] is not None), None)


def _is_result(record: Any) -> bool:
    """A file may say anything."""
    return (
        isinstance(record, dict)
        and isinstance(record.get("trial"), int)
        and isinstance(record.get("val_error", ""), int | float | None)
    )


def _rank(record: Mapping[str, Any]) -> tuple[bool, float, int]:
    error = record["val_error"]
    return error is None, 0.0 if error is None else error, record["trial"]


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value) + "\n").encode()


def _read_json(path: Path) -> Any:
    return _json(str(path), path.read_text(encoding="utf-8", errors="replace"))


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise CommandError(f"{name}: cannot be read as JSON: {in_one_line(error)}") from None
