"""What leak tests raise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Error(AssertionError):
    """The base of all that leak tests raise: assertions, to test frameworks."""


class MemoryLeakError(Error):
    """Memory grows with the calls. Its text has the growth run by run, and how much is lost in a call."""

    table: str = ""
    """The runs and what they added, and the bounds of what grows."""
    where: str = ""
    """Which code allocates what is lost; empty where that could not be told."""
    svg: str = ""
    """The growth over the calls, as an SVG document."""
    calls: int = 0
    """In all runs."""
    uncertain: bool = False
    """Time or memory were used up before it was certain."""
    exact: bool = True
    """Allocations were counted as they were made."""


class Left(NamedTuple):
    """Something that was left behind, as in `UnclosedResourceError.extras`. Its repr is for people."""

    number: int
    """The descriptor, or the kernel's number of a thread or process; 0 for what has a name only."""
    path: str
    """Of a file, also one that a descriptor is of; else empty."""
    text: str
    """For people: "fd 7: socket, AF_INET, SOCK_STREAM, 0.0.0.0:80, listening"."""

    def __repr__(self) -> str:
        return self.text


class UnclosedResourceError(Error):
    """Something is left behind by one call, and by each of the calls after it.

    `count` has how many, `fun_name` the function, `extras` what they are, as far as that can be told.
    """

    resource_name: str = "resource"
    """What is left, in the singular."""
    verb: str = "unclosed"
    """What became of it."""

    def __init__(self, count: int, fun_name: str, extras: Sequence[Any] | None = None) -> None:
        self.count: int = count
        self.fun_name: str = fun_name
        self.extras: Sequence[Any] | None = extras
        name = self.resource_name + ("" if count == 1 else "es" if self.resource_name.endswith("s") else "s")
        text = f"detected {count} {self.verb} {name} after calling {fun_name!r} 1 time"
        if extras:
            text += ":" + "".join(f"\n* {extra!r}" for extra in extras)
        super().__init__(text)


class UnclosedFdError(UnclosedResourceError):
    """A descriptor is left open."""

    resource_name = "file descriptor"


class UnclosedHandleError(UnclosedResourceError):
    """A handle of Windows is left open. Never raised here."""

    resource_name = "handle"


class UnclosedHeapCreateError(UnclosedResourceError):
    """A heap of Windows is left. Never raised here."""

    resource_name = "HeapCreate() call"


class UnclosedNativeThreadError(UnclosedResourceError):
    """An OS thread that is none of Python's is left running."""

    resource_name = "native C thread"


class UnclosedPythonThreadError(UnclosedResourceError):
    """A `threading.Thread` is left running."""

    resource_name = "Python thread"


class UnclosedFiberError(UnclosedResourceError):
    """A fiber is left that has not ended."""

    resource_name = "fiber"


class UnclosedProcessError(UnclosedResourceError):
    """A child process is left running, or was not waited for."""

    resource_name = "child process"


class UnclosedFileError(UnclosedResourceError):
    """A file is left in the folder for temporary files."""

    resource_name = "temporary file"
    verb = "left"


class UnclosedSegmentError(UnclosedResourceError):
    """A shared-memory segment is left: of POSIX by its name, or of System V."""

    resource_name = "shared-memory segment"
    verb = "left"


class UncollectableGarbageError(UnclosedResourceError):
    """Objects that only the garbage collector can free, as they refer to each other."""

    resource_name = "GC object"
    verb = "uncollectable"
