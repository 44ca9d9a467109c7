"""What stands for a pool of actors, and supervises them."""

from __future__ import annotations

from typing import Any, TypeVar

from weft import _weft
from weft.actor._actor import Actor, ActorRegistry, checked_class
from weft.actor._names import ActorRef

A = TypeVar("A", bound=Actor)


class Pool(Actor):
    use_daemon_thread = True  # its actors are not, unless their class says so

    @classmethod
    def start_with(
        cls, actor_class: type[A], size: int, args: tuple[Any, ...], kwargs: dict[str, Any], routing: str
    ) -> ActorRef[A]:
        checked_class(actor_class)
        pool = cls()
        ref: ActorRef[Any] = pool.actor_ref
        _weft._make_actor_pool(ref, routing, actor_class)
        try:
            for _ in range(size):
                actor_class._start(ref, args, kwargs)
            ActorRegistry.register(ref)
            _weft._hold_actor(ref, None, None)
            pool._start_actor_loop(f"{actor_class.__name__}-pool")
            if not ref.is_alive():  # its actors were faster
                ActorRegistry.unregister(ref)
        except BaseException:
            _weft._abandon_actor(ref)
            raise
        return ref

    def on_failure(self, *_: Any) -> None:
        """It was logged as that of the actor that failed."""
