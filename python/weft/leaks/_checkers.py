"""Which checks a leak test makes."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Checkers:
    """The checks of a leak test, all of them by default."""

    memory: bool = True
    """Native heap, mapped blocks, Python's own blocks, USS, RSS, address space."""
    fds: bool = True
    """Descriptors."""
    handles: bool = True
    """Of Windows. Checks nothing here."""
    c_threads: bool = True
    """OS threads."""
    py_threads: bool = True
    """Threads of `threading`."""
    gcgarbage: bool = True
    """Objects that only the garbage collector can free."""
    fibers: bool = True
    """Fibers that have not ended."""
    processes: bool = True
    """Child processes, running or not waited for."""
    files: bool = True
    """Files in the folder for temporary files: $TMPDIR, or /tmp."""
    segments: bool = True
    """Shared memory, of POSIX and of System V."""

    @classmethod
    def _known(cls, names: tuple[str, ...]) -> list[str]:
        all_names = [field.name for field in fields(cls)]
        if wrong := sorted(set(names) - set(all_names)):
            raise ValueError(f"invalid checker names: {', '.join(wrong)}; there are {', '.join(all_names)}")
        return all_names

    @classmethod
    def only(cls, *checks: str) -> Checkers:
        """These checks and no others. ValueError: there is none of that name."""
        return cls(**{name: name in checks for name in cls._known(checks)})

    @classmethod
    def exclude(cls, *checks: str) -> Checkers:
        """All checks but these. ValueError: there is none of that name."""
        return cls(**{name: name not in checks for name in cls._known(checks)})
