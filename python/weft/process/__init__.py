"""Commands that are started, waited for until they are ready, and ended with all that descends from them.

mirakuru's API. An executor starts a command, knows when its service is really there, and leaves nothing behind, however
the program ends.
"""

from __future__ import annotations

from weft.process._child import Process
from weft.process._errors import (
    AlreadyRunning,
    ExecutorError,
    ExitedBeforeReady,
    LeftBehind,
    ProcessExitedWithError,
    ProcessFinishedWithError,
    TimeoutExpired,
)
from weft.process._executor import Executor, SimpleExecutor
from weft.process._kinds import (
    HTTPExecutor,
    OutputExecutor,
    PidExecutor,
    ReadinessExecutor,
    Ready,
    TCPExecutor,
    UnixSocketExecutor,
)
from weft.process._ports import ReservedPort, listening_socket, reserve_port
from weft.process._stand_in import install_as_mirakuru

__all__ = [
    "AlreadyRunning",
    "Executor",
    "ExecutorError",
    "ExitedBeforeReady",
    "HTTPExecutor",
    "LeftBehind",
    "OutputExecutor",
    "PidExecutor",
    "Process",
    "ProcessExitedWithError",
    "ProcessFinishedWithError",
    "ReadinessExecutor",
    "Ready",
    "ReservedPort",
    "SimpleExecutor",
    "TCPExecutor",
    "TimeoutExpired",
    "UnixSocketExecutor",
    "install_as_mirakuru",
    "listening_socket",
    "reserve_port",
]
