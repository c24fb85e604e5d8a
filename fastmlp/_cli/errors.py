"""How a command ends early."""

INTERRUPTED = 130
"""The exit status after Ctrl-C: 128 and the number of SIGINT, as shells have it."""


class CommandError(Exception):
    """Something foreseeable ends the command: its message is printed, its status returned."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.status = status
