"""The office: where other processes reach the actors and channels of this one, and this one those of others.

One a process, made when it shares the first of its own or gets the first of another's. A fork child has one of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import threading
import time
import uuid as uuids
import weakref
from multiprocessing import process, util
from typing import TYPE_CHECKING, Any

from weft import _weft
from weft.actor._link import Link
from weft.actor._names import ActorRef

if TYPE_CHECKING:
    from weft.actor._ends import Exports
    from weft.actor._remote import StandIn

# How many peers may be at the handshake at once: the oldest has to go then.
_STRANGERS = 64
# How long the end of the process waits for what was sent to be out.
_LAST = 5.0


def own_key() -> bytes:
    """multiprocessing's key of this process, which its children inherit."""
    return bytes(process.current_process().authkey)


class Listener:
    """Accepts connections, in a thread of its own, until it is closed."""

    def __init__(self, office: Office, address: str, authkey: bytes | None, served: ActorRef[Any] | None = None) -> None:
        self._office = office
        self._authkey = authkey
        self._served = served
        self._strangers: list[Link] = []
        self._runs = False
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            os.fchmod(self.socket.fileno(), 0o600)  # what the path will have
            self.socket.bind(address)
            self.socket.listen(socket.SOMAXCONN)
        except BaseException:
            self.socket.close()
            raise

    def run(self) -> None:
        """Begin to accept. Idempotent."""
        if not self._runs:
            self._runs = True
            try:
                _weft._start_os_thread("weft-office", self._accept)
            except BaseException:
                self._runs = False
                raise

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self.socket.accept()
            except OSError:
                if self.socket.fileno() < 0 or self._closed:
                    return
                time.sleep(0.1)  # too many descriptors are open
                continue
            self._strangers = [link for link in self._strangers if not link.ready.done()]
            if len(self._strangers) >= _STRANGERS:
                self._strangers.pop(0).shut()
            try:
                key = self._authkey if self._authkey is not None else own_key()
                link = Link(self._office, key, address="", accepted=sock, served=self._served)
                self._strangers.append(link)
            except (OSError, MemoryError, RuntimeError):
                sock.close()

    _closed = False

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # accept() returns
        self.socket.close()


class Office:
    def __init__(self) -> None:
        self.pid = os.getpid()
        self.address = "\0weft-" + os.urandom(16).hex()
        self.all_links: set[Link] = set()
        self.listener: Listener | None = None
        self.services: set[Listener] = set()
        self.exports: Exports | None = None
        self.links: dict[str, Link] = {}  # by the other's address
        self._exported: dict[bytes, ActorRef[Any]] = {}
        self._lock = threading.Lock()
        self._finalizer = util.Finalize(None, self.flush, exitpriority=1)

    def listen(self) -> Listener:
        """Have the address; accept() does not run yet."""
        with self._lock:
            if self.listener is None:
                self.listener = Listener(self, self.address, None)
            return self.listener

    def open(self) -> None:
        """Have others connect from now on."""
        self.listen().run()

    def link_to(self, address: str) -> Link:
        """The connection with the process of that address; made if there is none. Does not wait."""
        link = self.links.get(address)
        if link is not None and link.error is None:
            return link
        with self._lock:
            link = self.links.get(address)
            if link is None or link.error is not None:
                link = self.links[address] = Link(self, own_key(), address=address)
            return link

    def introduce(self, link: Link, address: str) -> None:
        """The other process has told its address."""
        link.address = address
        self.links.setdefault(address, link)

    def forget(self, link: Link) -> None:
        """It has ended: with it, all actors of the other process."""
        with self._lock:
            if self.links.get(link.address) is link:
                del self.links[link.address]
            elif link.ready.done():
                return  # there is another
        for (address, _), stand_in in list(_stand_ins.items()):
            if address == link.address:
                stand_in.stopped._settle(None)

    def gone(self, address: str, uuid: bytes) -> None:
        """An actor of another process has ended."""
        stand_in = _stand_ins.get((address, uuid))
        if stand_in is not None:
            stand_in.stopped._settle(None)

    def export(self, ref: ActorRef[Any]) -> bytes:
        """Have an actor of this process found by others; return its UUID."""
        self.open()
        uuid: bytes = _weft._actor_uuid(ref)
        if uuid not in self._exported:
            self._exported[uuid] = ref
            _weft._watch_actor(ref, lambda: self._exported.pop(uuid, None))
        return uuid

    def find(self, uuid: bytes) -> ActorRef[Any] | None:
        """An actor of this process that lives."""
        ref = self._exported.get(uuid)
        if ref is None:
            ref = _weft._find_actor("urn:uuid:" + str(uuids.UUID(bytes=uuid)))
        return ref if ref is not None and _weft._peer_of(ref) is None else None

    def flush(self) -> None:
        """Before the process ends: have what was sent come to the others."""
        if os.getpid() != self.pid:
            return
        end = time.monotonic() + _LAST
        for link in list(self.all_links):
            link.flush(max(0.0, end - time.monotonic()))

    def close(self) -> None:
        """End all connections, and accept none."""
        self._finalizer.cancel()
        for listener in (self.listener, *self.services):
            if listener is not None:
                listener.close()
        links = list(self.all_links)
        for link in links:
            link.shut()
        for link in links:
            link.closed.wait(_LAST)

    def forsake(self) -> None:
        """In a fork child, whose parent's office it is: let its descriptors go."""
        for listener in (self.listener, *self.services):
            if listener is not None:
                listener.socket.close()
        for link in list(self.all_links):
            link.forsake()


_present: Office | None = None
_making = threading.Lock()
_stand_ins: weakref.WeakValueDictionary[tuple[str, bytes], StandIn] = weakref.WeakValueDictionary()
numbers = itertools.count(1)


def present() -> Office:
    """This process's."""
    global _present
    if _present is None or _present.pid != os.getpid():
        with _making:
            if _present is None or _present.pid != os.getpid():
                _present = Office()
    return _present


def stand_in(address: str, uuid: bytes, text: str, limited: bool) -> StandIn:
    """What stands for an actor of another process; the same as long as somebody has it."""
    from weft.actor._remote import StandIn

    found = _stand_ins.get((address, uuid))
    if found is None:
        found = _stand_ins.setdefault((address, uuid), StandIn(address, uuid, text, limited))
    return found


def known_link(address: str) -> Link | None:
    """The connection with the process of that address, if there is one."""
    link = _present.links.get(address) if _present is not None else None
    return link if link is not None and link.error is None else None


def shut() -> None:
    """Have everything as if nothing had been shared."""
    global _present
    office, _present = _present, None
    if office is not None:
        office.close()


def flush() -> None:
    if _present is not None:
        _present.flush()


# --- Forks. What refers to an actor of the parent's goes on doing so in the child.


def before_fork() -> None:
    present().listen()


def after_fork_in_parent() -> None:
    if _present is not None and _present.listener is not None:
        _present.listener.run()


def after_fork_in_child(lost: list[ActorRef[Any]]) -> None:
    global _present, _making
    parents, _present = _present, None
    _making = threading.Lock()
    if parents is None:
        return
    parents.forsake()
    if parents.listener is None:
        return
    for ref in lost:
        if _weft._peer_of(ref) is None:
            limited = _weft._actor_is_limited(ref)
            peer = stand_in(parents.address, _weft._actor_uuid(ref), str(ref), limited)
            _weft._turn_into_stand_in(ref, peer)


