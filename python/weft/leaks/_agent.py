"""What `weft leaks module:function` runs: `python -m weft.leaks._agent`. It tells by descriptor 3 what it finds."""

from __future__ import annotations

import ast
import faulthandler
import functools
import importlib
import importlib.util
import json
import os
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

_REQUEST = "WEFT_LEAKS_REQUEST"
_PASSED = 3
_HIGH = 900
_OURS = "--own-malloc"
# The names that users type: a field of Checkers.
_CHECKERS = {
    "memory": "memory",
    "descriptors": "fds",
    "threads": "c_threads",
    "python-threads": "py_threads",
    "fibers": "fibers",
    "processes": "processes",
    "files": "files",
    "segments": "segments",
    "garbage": "gcgarbage",
}


class Mistake(Exception):
    """Something is wrong with the request; the text says what."""


def require_malloc() -> None:
    """Run anew with every allocation in malloc(), so that the code that makes it is told; where CPython can."""
    if sys.argv[1:] == [_OURS]:
        del os.environ["PYTHONMALLOC"]  # the function's children are to have what they ever have
    elif "PYTHONMALLOC" not in os.environ and not sysconfig.get_config_var("Py_GIL_DISABLED"):
        os.environ["PYTHONMALLOC"] = "malloc"
        os.execv(sys.executable, [sys.executable, "-m", "weft.leaks._agent", _OURS])


def take_descriptor() -> int:
    """A copy of the descriptor under a high number: the low ones are the function's."""
    import fcntl

    try:
        fd = fcntl.fcntl(_PASSED, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    except OSError:  # so many are not allowed
        fd = fcntl.fcntl(_PASSED, fcntl.F_DUPFD_CLOEXEC, _PASSED + 1)
    os.close(_PASSED)
    return fd


def load(place: str) -> Any:
    """The module of that name, or of that file."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    path = Path(place).resolve()
    if not path.exists():
        raise Mistake(f"there is no file {place}")
    sys.path[0] = str(path.parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def find(place: str, name: str) -> Callable[..., Any]:
    """The function, by its name in the module."""
    try:
        found = load(place)
    except ModuleNotFoundError as error:
        if error.name is None or not (place == error.name or place.startswith(f"{error.name}.")):
            raise
        here = "; it is looked for in the working directory, too"
        raise Mistake(f"there is no module {error.name} for {sys.executable}{here}") from None
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise Mistake(f"{place} has no {name}; it has {', '.join(sorted(_functions(found))) or 'no function'}") from None
    if not callable(found):
        raise Mistake(f"{name} of {place} cannot be called: it is {found!r}")
    return functools.partial(found) if isinstance(found, type) else found


def _functions(owner: Any) -> list[str]:
    return [name for name, value in vars(owner).items() if callable(value) and not name.startswith("_")][:20]


def arguments_of(texts: list[str]) -> tuple[list[Any], dict[str, Any]]:
    """Python's literals as what they are, all else as text; name=value by name."""

    def value(text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (ValueError, SyntaxError):
            return text

    args, kwargs = [], {}
    for text in texts:
        name, equals, rest = text.partition("=")
        if equals and name.isidentifier():
            kwargs[name] = value(rest)
        else:
            args.append(value(text))
    return args, kwargs


def main() -> None:
    """Check the function that the environment tells of."""
    if _REQUEST not in os.environ:
        raise SystemExit("weft.leaks._agent is what `weft leaks` runs: weft leaks module:function")
    require_malloc()
    request = json.loads(os.environ.pop(_REQUEST))
    fd = take_descriptor()
    faulthandler.enable()
    last = time.monotonic()
    alive = min(1.0, request["call_limit"] / 4)

    def tell(event: dict[str, Any]) -> None:
        nonlocal last
        rest = (json.dumps({name: _readable(value) for name, value in event.items()}) + "\n").encode()
        while rest:
            rest = rest[os.write(fd, rest) :]
        last = time.monotonic()

    try:
        outcome = _check(request, tell, lambda: tell({}) if time.monotonic() - last > alive else None)
    except Mistake as mistake:
        outcome = {"verdict": "failed", "what": "program", "text": str(mistake)}
    except BaseException as error:
        trace = "".join(traceback.format_exception(error.with_traceback(_beyond_us(error.__traceback__)))).rstrip()
        outcome = {"verdict": "failed", "what": type(error).__name__, "text": f"raised {error!r}\n{trace}"}
    tell(outcome)
    sys.stdout.flush()
    os._exit(0)  # threads and fibers that the function left would be waited for


def _readable(value: Any) -> Any:
    """Without the surrogates that stand for bytes which are no text."""
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


def _beyond_us(trace: TracebackType | None) -> TracebackType | None:
    """The frames behind those of leak tests."""
    here = str(Path(__file__).parent)
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(here):
        trace = trace.tb_next
    return trace


def _check(request: dict[str, Any], tell: Callable[[dict[str, Any]], None], tell_alive: Callable[[], None]) -> dict[str, Any]:
    from weft.leaks import Checkers, Options
    from weft.leaks._check import report_on
    from weft.leaks._options import require_repeatable

    function = find(request["place"], request["function"])
    try:
        require_repeatable("weft leaks", function)
    except TypeError as error:
        raise Mistake(str(error)) from None
    args, kwargs = arguments_of(request["arguments"])
    tell({"loaded": True})
    here = os.getpid()

    def call() -> None:
        function(*args, **kwargs)
        if os.getpid() != here:
            tell({"verdict": "failed", "what": "forked", "text": "forked, and its child came back from it"})
            os._exit(1)
        tell_alive()

    given = [_CHECKERS[name] for name in request["only"]]
    options = Options(
        warmup_times=request["warm_up"],
        times=request.get("calls", 200),
        retries=request["runs"],
        tolerance=request["tolerance"],
        time_limit=request["time_limit"],
        memory_limit=request["memory_limit"],
        call_limit=threading.TIMEOUT_MAX,  # whoever reads the report has a limit of its own
        search=request["search"],
        checkers=Checkers.only(*given) if given else Checkers(),
    )
    report = report_on(call, function, options, lambda trial: tell({"line": trial.line(trial.runs)}))
    return {
        "verdict": "leaks" if report.leaks else "clean",
        "what": type(report.error).__name__ if report.leaks else "",
        "text": str(report.error) if report.leaks else "",
        "svg": report.svg,
        "calls": report.calls,
        "uncertain": report.uncertain,
        "exact": report.exact,
    }


if __name__ == "__main__":
    main()
