"""What executors take of subprocess.Popen's arguments."""

from __future__ import annotations

import grp
import pwd
from collections.abc import Mapping
from typing import Any

# The executor sets these itself, or they are as it would.
_SET = {"shell", "env", "cwd", "bufsize", "pipesize", "start_new_session"}
_INSTEAD = {
    "preexec_fn": "the command is not started by a fork of this process; give umask, user, group or limits",
    "process_group": "the command leads a group of its own, which stop() ends",
    "startupinfo": "there is no such thing on Linux",
    "creationflags": "there is no such thing on Linux",
}


def _user(user: str | int) -> int:
    return user if isinstance(user, int) else pwd.getpwnam(user).pw_uid


def _group(group: str | int) -> int:
    return group if isinstance(group, int) else grp.getgrnam(group).gr_gid


def options_of(given: Mapping[str, Any]) -> dict[str, Any]:
    """Keyword arguments for Process. ValueError for what cannot be had, TypeError for what Popen does not know either."""
    options: dict[str, Any] = {}
    taken: dict[str, Any] = {"options": options}
    for name, value in given.items():
        if name in _INSTEAD and value not in (None, 0, -1):
            raise ValueError(f"popen_kwargs: {name} cannot be had: {_INSTEAD[name]}")
        if name == "close_fds":
            if not value:
                raise ValueError("popen_kwargs: close_fds=False cannot be had: name what is to be inherited by pass_fds")
        elif name in ("stdin", "stdout", "stderr", "pass_fds", "executable", "encoding", "errors"):
            taken[name] = value
        elif name in ("text", "universal_newlines"):
            pass  # streams are text, as mirakuru's
        elif name == "restore_signals":
            options["keep_ignored_signals"] = not value
        elif name == "umask":
            options["umask"] = value
        elif name == "user" and value is not None:
            options["user"] = _user(value)
        elif name == "group" and value is not None:
            options["group"] = _group(value)
        elif name == "extra_groups" and value is not None:
            options["groups"] = [_group(group) for group in value]
        elif name in ("nice", "limits", "blocked_signals"):
            options[name] = value
        elif name not in _SET and name not in _INSTEAD and name not in ("user", "group", "extra_groups"):
            raise TypeError(f"popen_kwargs: subprocess.Popen has no argument {name!r}")
    return taken
