"""Runs one suite in one setup, in as many processes as hangs and crashes make necessary."""

import contextlib
import json
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from compare import Outcome, RunFacts
from suite_runner import DUMP_SIGNAL

RUNNER = Path(__file__).resolve().parent / "suite_runner.py"
# Hangs on the plain interpreter too, on machines whose kernel offers vsock without a host behind it.
EXCLUDED = ("VSOCKSocketStream",)
MAX_RESTARTS = 8
POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Setup:
    """An interpreter, plain (no backend) or under `weft run`."""

    python: object
    backend: str | None = None
    weft: str = ""
    routing: str = "on"

    @property
    def mode(self):
        return self.backend or "plain"

    def command(self, stats_file):
        run = [self.python.path, "-u", str(RUNNER)]
        if self.backend is None:
            return run
        return [self.weft, "run", f"--backend={self.backend}", f"--stats-file={stats_file}",
                f"--routing={self.routing}", *run]


@dataclass(frozen=True)
class Limits:
    suite_seconds: float
    test_seconds: float
    match: tuple[str, ...] = ()


@dataclass
class SuiteRun:
    outcomes: dict = field(default_factory=dict)
    facts: list = field(default_factory=list)
    problems: list = field(default_factory=list)
    seconds: float = 0.0


def clean_environment():
    """What both ways of running get: nothing of the caller's Python, of Weft, or of a preload."""
    kept = {name: value for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "WEFT_", "LD_")) and name not in ("VIRTUAL_ENV", "__PYVENV_LAUNCHER__")}
    return {**kept, "LC_ALL": "C.UTF-8"}


class _Process:
    """One process of a suite: follows its events, notices that it is stuck, says why and kills it."""

    def __init__(self, setup, command, folder, stem, limits, on_event):
        self._setup, self._limits, self._on_event = setup, limits, on_event
        self._events_path = folder / f"{stem}.events"
        self._log_path = folder / f"{stem}.log"
        self._stats_pattern = str(folder / f"{stem}.stats-%p.json")
        for old in [self._events_path, *folder.glob(f"{stem}.stats-*.json")]:
            old.unlink(missing_ok=True)
        self._events_path.touch()
        self.outcomes, self.current, self.finished, self.stuck = {}, None, False, ""
        self._pid, self._offset, self._threads_peak = None, 0, 0
        self._command = [*setup.command(self._stats_pattern), *command, "--events", str(self._events_path)]

    def run(self):
        started = last_event = time.monotonic()
        with open(self._log_path, "wb") as log:
            log.write((" ".join(self._command) + "\n").encode())
            log.flush()
            process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True, env=clean_environment(), cwd="/")
            try:
                while process.poll() is None:
                    time.sleep(POLL_SECONDS)
                    if self._read_events():
                        last_event = time.monotonic()
                    self._sample_threads()
                    now = time.monotonic()
                    if now - last_event > self._limits.test_seconds:
                        self.stuck = f"no progress for {self._limits.test_seconds:.0f} s"
                    elif now - started > self._limits.suite_seconds:
                        self.stuck = f"the suite took longer than {self._limits.suite_seconds:.0f} s"
                    if self.stuck:
                        self._diagnose(process, log)
                        break
            finally:
                # The whole group, for children that a test left behind.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                self.exit_code = process.wait()
        self._read_events()

    def facts(self):
        stats = None
        if self._pid:
            with contextlib.suppress(OSError, ValueError):
                stats = json.loads(Path(self._stats_pattern.replace("%p", str(self._pid))).read_text())
        killed = bool(self.stuck) or not self.finished
        return RunFacts(stats, killed, self._threads_peak)

    def tail_of_log(self, size=6000):
        return self._log_path.read_bytes()[-size:].decode(errors="replace")

    def _read_events(self):
        with open(self._events_path, "rb") as file:
            file.seek(self._offset)
            whole = file.read().rpartition(b"\n")[0]
        if not whole:
            return False
        self._offset += len(whole) + 1
        for line in whole.splitlines():
            event = json.loads(line)
            kind = event.pop("event")
            if kind == "begin":
                self._pid = event["pid"]
            elif kind == "start":
                self.current = event["id"]
            elif kind == "end":
                self.outcomes[event["id"]] = Outcome(event["outcome"], event["reason"], event["subskips"],
                                                     event["seconds"])
                self.current = None
                self._on_event(event)
            elif kind == "finish":
                self.finished = True
        return True

    def _sample_threads(self):
        if self._pid is None:
            return
        count = 0
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{self._pid}/task"):
                with contextlib.suppress(OSError), open(f"/proc/{self._pid}/task/{task}/comm", "rb") as comm:
                    # The kernel's own workers for io_uring stand among the threads.
                    count += not comm.read().startswith(b"iou-")
        self._threads_peak = max(self._threads_peak, count)

    def _diagnose(self, process, log):
        pid = self._pid or process.pid
        log.write(f"\n--- {self.stuck}; in {self.current or 'no test'}\n".encode())
        log.flush()
        if self._setup.backend is not None:
            try:
                dump = subprocess.run([self._setup.weft, "dump", str(pid)], capture_output=True, timeout=20, check=False)
                log.write(b"--- weft dump\n" + dump.stdout + dump.stderr)
            except (OSError, subprocess.TimeoutExpired) as error:
                log.write(f"--- weft dump: {error}\n".encode())
            log.flush()
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, DUMP_SIGNAL)  # faulthandler writes the Python stacks into the log
                time.sleep(1)


def run_suite(setup, suite, folder, limits, only=None, report=lambda text: None, on_event=lambda event: None):
    """Runs `suite` (or just the tests in `only`) and returns a SuiteRun; a hang or crash costs only its own test."""
    result = SuiteRun()
    started = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    skip_file, only_file = folder / f"{suite}.skip", folder / f"{suite}.only"
    for attempt in range(MAX_RESTARTS + 1):
        skip_file.write_text("".join(f"{test}\n" for test in result.outcomes), encoding="utf-8")
        command = [suite, "--skip-file", str(skip_file)]
        command += [f"--exclude={glob}" for glob in EXCLUDED] + [f"--match={glob}" for glob in limits.match]
        if only is not None:
            only_file.write_text("".join(f"{test}\n" for test in only), encoding="utf-8")
            command += ["--only-file", str(only_file)]
        process = _Process(setup, command, folder, f"{suite}-{attempt}" if attempt else suite, limits, on_event)
        process.run()
        result.outcomes.update(process.outcomes)
        result.facts.append(process.facts())
        if process.finished:
            if process.stuck:
                result.problems.append(f"did not exit after its last test: {process.tail_of_log()}")
            elif process.exit_code not in (0, 1):
                result.problems.append(f"exit code {process.exit_code} after its last test: {process.tail_of_log()}")
            break
        ended = process.stuck or f"died with exit code {process.exit_code}"
        if process.current is None:
            result.problems.append(f"{ended}, in no test: {process.tail_of_log()}")
            break
        report(f"{suite}: {process.current}: {ended}; running the rest without it")
        result.outcomes[process.current] = Outcome("hung" if process.stuck else "crashed",
                                                   f"{ended}\n{process.tail_of_log()}")
    else:
        result.problems.append(f"given up after {MAX_RESTARTS} restarts")
    for scratch in (skip_file, only_file):
        scratch.unlink(missing_ok=True)
    result.seconds = time.monotonic() - started
    return result
