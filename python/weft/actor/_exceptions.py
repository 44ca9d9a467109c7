"""What actors and their futures raise."""

from __future__ import annotations

import weft


class ActorDeadError(Exception):
    """The actor has stopped, or stopped before it came to the message; or the process that it is in has ended."""

    __module__ = "weft.actor"


class Timeout(weft.Timeout):
    """An answer did not come in time."""

    __module__ = "weft.actor"


class MailboxFull(Exception):
    """The actor's mailbox has no room for the message."""

    __module__ = "weft.actor"


class ForeignError(RuntimeError):
    """What an actor of another language threw."""

    __module__ = "weft.actor"

    def __init__(self, type: str, text: str = "") -> None:
        super().__init__(type, text)
        self.type = type
        self.text = text

    def __str__(self) -> str:
        return f"{self.type}: {self.text}" if self.text else self.type


class RemoteError(Exception):
    """Stands for an exception of another process, or for an answer from there, that cannot be pickled or unpickled.

    `type_name` and `text` are those of the exception, `traceback_text` is its traceback as it would be printed.
    """

    __module__ = "weft.actor"

    def __init__(self, type_name: str, text: str, traceback_text: str = "") -> None:
        super().__init__(type_name, text, traceback_text)
        self.type_name = type_name
        self.text = text
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}"


class RemoteTraceback(Exception):
    """The `__cause__` of what another process raised: its traceback there."""

    __module__ = "weft.actor"

    def __str__(self) -> str:
        return f'\n"""\n{self.args[0]}"""'
