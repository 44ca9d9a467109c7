"""What actors and their futures raise."""

from __future__ import annotations

import weft


class ActorDeadError(Exception):
    """The actor has stopped, or stopped before it came to the message."""

    __module__ = "weft.actor"


class Timeout(weft.Timeout):
    """An answer did not come in time."""

    __module__ = "weft.actor"


class MailboxFull(Exception):
    """The actor's mailbox has no room for the message."""

    __module__ = "weft.actor"
