"""What the extension module has logged."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

logger = logging.getLogger("weft.actor")


def returned(actor: Any, error: BaseException) -> None:
    """The exception goes to who asked."""
    if logger.isEnabledFor(logging.INFO):
        logger.info("Exception returned from %s to caller:", actor, exc_info=error)


def unhandled(actor: Any, error: BaseException) -> None:
    """Nobody asked; or a hook raised it. The actor stops."""
    logger.error("Unhandled exception in %s:", actor, exc_info=error)


def fatal(actor: Any, error: BaseException) -> None:
    """What is no Exception, such as KeyboardInterrupt, stops all."""
    logger.debug("%r in %s. Stopping all actors.", error, actor)


def stopped(actor: Any) -> None:
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("Unregistered %s", actor)
        logger.debug("Stopped %s", actor)


def stop_all() -> None:
    from weft.actor import ActorRegistry

    for ref in reversed(ActorRegistry.get_all()):
        with contextlib.suppress(RuntimeError):  # it waits for the caller: it has been asked to stop all the same
            ref.stop()


def proxy_to_itself(actor: Any, path: tuple[str, ...]) -> None:
    """Looking through it would not end."""
    logger.warning(
        "%s attribute %r is a proxy to itself. Consider making it private by renaming it to %r.",
        actor,
        ".".join(path),
        "_" + path[-1],
    )


def renew(actor_class: type[Any], ref: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Make the instance of an actor that failed anew. It has the same reference from the beginning."""
    actor = actor_class.__new__(actor_class, *args, **kwargs)
    vars(actor)["_actor_ref"] = ref
    actor.__init__(*args, **kwargs)
    return actor


def dead_letter(handler: Any, message: Any, ref: Any, reason: Any) -> None:
    from weft.actor._supervision import DeadLetter

    if not isinstance(message, DeadLetter):
        handler(DeadLetter(message, ref, reason))
