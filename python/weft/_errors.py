"""What waits raise."""

from __future__ import annotations


class Cancelled(BaseException):
    """Raised by a cancellable wait of a fiber that was asked to end. Let it pass."""

    __module__ = "weft"

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("the fiber was cancelled",)))


class Timeout(TimeoutError):
    """A deadline passed before what was waited for came."""

    __module__ = "weft"

    def __init__(self, *args: object) -> None:
        super().__init__(*(args or ("the time is up",)))


class Closed(Exception):
    """The channel is closed: nothing can be sent any more, or nothing is left to receive."""

    __module__ = "weft"
