"""What the extension module has for actors, told what it needs of the package."""

from __future__ import annotations

from weft import _weft
from weft._weft import ActorProxy, ActorRef, CallableProxy, Dispatcher, Future, MessageTimer, ThreadingFuture
from weft.actor import _hooks, messages
from weft.actor._exceptions import ActorDeadError, ForeignError, MailboxFull, Timeout

__all__ = [
    "ActorProxy",
    "ActorRef",
    "CallableProxy",
    "Dispatcher",
    "ForeignActor",
    "Future",
    "MessageTimer",
    "ThreadingFuture",
]


class ForeignActor:
    """The `actor_class` of actors of other languages."""

    __module__ = "weft.actor"


_weft._set_actor_names(
    {
        "ActorDeadError": ActorDeadError,
        "MailboxFull": MailboxFull,
        "Timeout": Timeout,
        "_ActorStop": messages._ActorStop,
        "ProxyCall": messages.ProxyCall,
        "ProxyGetAttr": messages.ProxyGetAttr,
        "ProxySetAttr": messages.ProxySetAttr,
        "hooks": _hooks,
        "ForeignError": ForeignError,
        "ForeignActor": ForeignActor,
    }
)

for _type in (ActorProxy, ActorRef, CallableProxy, Dispatcher, Future, MessageTimer, ThreadingFuture):
    _type.__module__ = "weft.actor"
