"""What the process's allocator holds: bytes in use, mapped, free but held.

The figures are those of the C library's malloc(), or of jemalloc or mimalloc where one of them is preloaded or linked in its
place. Python's own objects are mostly elsewhere: `python_info()` tells of them. `heap_info()` and `heap_trim()` are psutil's.

NotImplementedError: the process has another allocator, or one that was replaced half-way. The text names its file, and what
to do. Raised by all functions but `python_info()`, which says itself when.
"""

from __future__ import annotations

from weft import _weft
from weft._weft import _heap_allocator, _heap_arenas, _heap_figures, _heap_trim, _python_heap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple
else:
    # typing takes longer to import than the whole of weft.
    from collections import namedtuple

    class _NamedTupleType(type):
        def __new__(cls, name, _bases, members):
            return type(name, (namedtuple(name, members["__annotations__"]),), members | {"__slots__": ()})

    NamedTuple = type.__new__(_NamedTupleType, "NamedTuple", (), {})

__all__ = [
    "Arena",
    "Frame",
    "Info",
    "Profile",
    "PythonInfo",
    "Site",
    "allocator",
    "arenas",
    "heap_info",
    "heap_trim",
    "info",
    "pheap",
    "python_info",
    "trim",
]


class Info(NamedTuple):
    """What `info()` returns: bytes of the program's blocks, and the number of arenas."""

    heap_used: int
    """In blocks that lie in the heap. glibc: of all arenas, with their headers, and with freed ones that threads keep for
    themselves (up to seven of a size, up to 1,032 bytes). jemalloc: all blocks, without such. mimalloc: all blocks of the
    calling OS thread, which fibers share; it tells of no other."""
    mmap_used: int
    """In blocks that have a mapping of their own: those beyond 128 KiB at first, with glibc. jemalloc, mimalloc: 0."""
    heap_count: int
    """Arenas: parts of the heap with a lock each, over which threads are spread. mimalloc: 1."""


class pheap(NamedTuple):
    """What `heap_info()` returns: psutil's two fields, with what `Info` has in them."""

    heap_used: int
    """Bytes in blocks that lie in the heap."""
    mmap_used: int
    """Bytes in blocks that have a mapping of their own."""


class Arena(NamedTuple):
    """One arena: bytes that it has from the kernel, and how much of that is in use."""

    number: int
    """0 is the main one, with glibc: that of the main thread."""
    held: int
    """From the kernel, used or not."""
    used: int
    """In blocks, as `Info.heap_used` counts them."""
    top: int
    """Free at its end: what grows, and what the kernel gets back first. 0 where that is not told."""

    @property
    def fragmented(self) -> int:
        """Free, held, and between blocks: of use only for blocks that fit."""
        return max(0, self.held - self.used - self.top)


class PythonInfo(NamedTuple):
    """What `python_info()` returns: Python's own allocator, which serves blocks of up to 512 bytes."""

    allocator: str
    """"pymalloc"; "malloc", which hands all on to malloc(), so that the rest is 0; or these with "_debug"."""
    used: int
    """Bytes in blocks."""
    blocks: int
    """Their number. `sys.getallocatedblocks()` also counts larger ones, which malloc() has, and those of all interpreters."""
    held: int
    """Bytes of its arenas, used or not. Mapped by Python itself: not in `Info`."""
    arenas: int
    """Their number."""
    other_interpreters: int
    """Subinterpreters may have an allocator of their own from Python 3.12 on: so many there are besides this one, whose own
    is in none of these figures."""


class Frame(NamedTuple):
    """A line of a stack."""

    function: str
    """As one writes it; empty: not known."""
    file: str
    """Of Python: of the code; else the library or program."""
    line: int
    """Of Python only; else 0."""
    python: bool
    """Is it Python code?"""


class Site(NamedTuple):
    """One stack that allocated, and estimates of all that it did."""

    frames: tuple[Frame, ...]
    """The innermost call first."""
    live_blocks: float
    """Blocks that have not been freed."""
    live_bytes: float
    """Bytes in them."""
    made_blocks: float
    """Blocks that were ever allocated."""
    made_bytes: float
    """Bytes in them."""


class Profile:
    """Samples allocations with the stacks that make them, native and Python, of all threads, while it is entered.

    `with Profile() as profile: ...`, then, or in between, ask it. `interval`: bytes between two samples, on average; with 1
    every allocation is sampled, and all figures are exact. `seed`, if not 0, makes runs alike. One at a time in a process.
    What it found stays until another is entered.

    Seen are malloc() and its kin, whoever calls them: of Python's objects those of more than 512 bytes, and all with
    PYTHONMALLOC=malloc in the environment.

    Entering: RuntimeError: another one is running. NotImplementedError: the process has another allocator than glibc's.
    """

    _MEASURES = ("live_bytes", "live_blocks", "made_bytes", "made_blocks")

    def __init__(self, interval: int = 512 * 1024, seed: int = 0) -> None:
        if interval < 1:
            raise ValueError(f"interval must be 1 or more (got {interval})")
        if seed < 0:
            raise ValueError(f"seed must be 0 or more (got {seed})")
        self._interval = interval
        self._seed = seed

    def __enter__(self) -> Profile:
        _weft._heap_profile_begin(self._interval, self._seed)
        return self

    def __exit__(self, *error: object) -> None:
        _weft._heap_profile_end()

    def sites(self) -> list[Site]:
        """Each stack, in the order in which they were first seen."""
        return [
            _make(Site, (tuple(_make(Frame, frame) for frame in frames), *figures))
            for frames, *figures in _weft._heap_profile_sites()
        ]

    def write_pprof(self, path: str) -> None:
        """Write a profile for pprof: blocks and bytes, alive and ever allocated. The file appears when it is complete.

        OSError: it cannot be written.
        """
        _weft._heap_profile_write_pprof(path)

    def write_svg(self, path: str, measure: str = "live_bytes", title: str = "") -> None:
        """Write a flame graph as an SVG that needs nothing else, in the same way. `measure` is what boxes are as wide as: a
        field of `Site`. ValueError: there is none of that name."""
        if measure not in self._MEASURES:
            raise ValueError(f"measure must be one of {', '.join(self._MEASURES)} (got {measure!r})")
        _weft._heap_profile_write_svg(path, self._MEASURES.index(measure), title)


def allocator() -> str:
    """Whose malloc() the process has: "glibc", "jemalloc" or "mimalloc".

    It was bound as the program was loaded. What is loaded later does not change it.
    """
    return _heap_allocator()


def info() -> Info:
    """Bytes in use, as of now. Takes less than a microsecond, and more where there are many free blocks."""
    return _make(Info, _heap_figures())


def heap_info() -> pheap:
    """psutil's: `info()` without `heap_count`."""
    heap_used, mmap_used, _ = _heap_figures()
    return _make(pheap, (heap_used, mmap_used))


def trim() -> bool:
    """Give free memory back to the kernel: from the ends of arenas, and whole pages between blocks. Was there any?

    glibc also says so of pages between blocks that it has given back before; jemalloc and mimalloc do not tell: True. Other
    threads run meanwhile.
    """
    return _heap_trim()


def heap_trim() -> None:
    """psutil's: `trim()` that does not tell."""
    _heap_trim()


def arenas() -> list[Arena]:
    """Each arena; with glibc the main one first. With mimalloc there is one: the heap of the calling thread.

    Takes some KiB of the heap itself meanwhile, which count.
    """
    return [_make(Arena, row) for row in _heap_arenas()]


def python_info() -> PythonInfo:
    """Python's own allocator, of the calling interpreter. Takes 0.1 ms or more: the interpreter tells it as text.

    NotImplementedError: it does not tell: a free-threaded one, PYTHONMALLOC=mimalloc, or tracemalloc stands before it.
    """
    name, known, *figures = _python_heap()
    if known:
        return _make(PythonInfo, (name, *figures))
    if name.startswith("mimalloc"):
        raise NotImplementedError(
            "weft.heap: this Python's objects are in a mimalloc of its own, which does not tell how much it has (it is a"
            " free-threaded build, or PYTHONMALLOC=mimalloc was set): sys.getallocatedblocks() has their number"
        )
    raise NotImplementedError(
        f"weft.heap: something stands before Python's own allocator ({name or 'a hook, such as that of tracemalloc'}):"
        " stop that first (tracemalloc.stop()), or use sys.getallocatedblocks()"
    )


_make = tuple.__new__
