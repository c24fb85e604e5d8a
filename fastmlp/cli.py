"""The `fastmlp` command: its entry point, and what the user sees when something goes wrong.

The commands are in _cli, which needs Typer.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from ._cli.errors import INTERRUPTED, CommandError
from ._extras import require
from ._files import in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit status.

    0 after success; 1 when something went wrong; 2 after wrong usage, with one line that says what
    is wrong; 130 after Ctrl-C.
    """
    # Everything that takes time to import is imported inside the try. A Ctrl-C in the first
    # milliseconds, while Python itself starts, comes before any code of ours: Python answers it.
    try:
        return _run(sys.argv[1:] if arguments is None else arguments)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _run(arguments: Sequence[str]) -> int:
    for stream in (sys.stdout, sys.stderr):
        # A path or a sign of our own that the encoding lacks must not end the command.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        for package in ("typer", "rich"):
            require(package, "cli")
        _check_environment()
        from ._cli.commands import run

        status = run(arguments)
        sys.stdout.flush()  # Here a reader that has left is still noticed.
        return status
    except CommandError as error:
        return _complain(str(error), error.status)
    except ImportError as error:
        return _complain(str(error), 1)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}", 1)
    except BrokenPipeError:
        # Whoever read our output has left; without this, Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _complain(in_words(error), 1)


def _check_environment() -> None:
    from .threads import get_num_threads

    try:
        get_num_threads()
    except ValueError as error:
        raise CommandError(str(error), 2) from None
    if os.environ.get("NUMBA_DISABLE_JIT", "0") != "0":
        raise CommandError("NUMBA_DISABLE_JIT must not be set: kernels run only compiled", 2)


def _complain(message: str, status: int) -> int:
    # It takes some milliseconds more.
    from ._cli.lines import say

    say(f"fastmlp: {message}", sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
