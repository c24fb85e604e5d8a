"""The `fastmlp` command: its entry point, and what the user sees when something goes wrong.

The commands are in _cli, which needs Typer.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from ._cli.errors import INTERRUPTED, CommandError
from ._extras import require
from .datasets import DatasetError
from .threads import get_num_threads


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, by default that of the process, and return the exit status.

    0 after success; 1 when something went wrong; 2 after wrong usage, with one line that says what
    is wrong; 130 after Ctrl-C.
    """
    for stream in (sys.stdout, sys.stderr):
        # Names of files and the signs of our own output must not fail in an encoding without them.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    try:
        for package in ("typer", "rich"):
            require(package, "cli")
        _check_environment()
        from ._cli.commands import run

        status = run(sys.argv[1:] if arguments is None else arguments)
        sys.stdout.flush()  # While a reader that has left is still noticed here.
        return status
    except CommandError as error:
        return _complain(str(error), error.status)
    except (DatasetError, ImportError) as error:
        return _complain(str(error), 1)
    except MemoryError as error:
        return _complain(f"not enough memory: {error}", 1)
    except BrokenPipeError:
        # Whoever read our output has left; without this, Python would complain about it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)


def _check_environment() -> None:
    try:
        get_num_threads()
    except ValueError as error:
        raise CommandError(str(error), 2) from None


def _complain(message: str, status: int) -> int:
    print(f"fastmlp: {message}", file=sys.stderr)
    return status
