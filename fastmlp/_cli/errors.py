"""How a command ends early."""

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 plus the number of SIGINT, the convention of shells."""

TERMINATED = 143
"""The exit status after SIGTERM: 128 plus its number."""


class CommandError(Exception):
    """Ends the command: the message is printed in one line, the status returned."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
