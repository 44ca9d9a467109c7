"""Debuggers, profilers and other tools see fibers as threads."""

import ast
import cProfile
import inspect
import os
import pickle
import pstats
import pydoc
import subprocess
import sys
import textwrap
import threading
import traceback

import pytest

import weft

# What a child process needs to park a fiber of each kind in wait_at_gate(), and to let them go on by `gate.set()`.
PARKED = """
import os, sys, threading, time, weft

gate = threading.Event()
entered = []

def wait_at_gate():
    entered.append(threading.get_ident())
    gate.wait()

weft.patch()
fiber = weft.spawn(wait_at_gate, name="spawned fiber")
thread = threading.Thread(target=wait_at_gate, name="thread fiber")
thread.start()
while len(entered) < 2:
    weft.yield_now()
"""


def run_program(*arguments, code=0, **options):
    """Runs Python with these arguments; returns what it said."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=90, check=False,
                          **options)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def traced_step():
    weft.yield_now()
    return 7


def recorder(seen, wanted):
    """A trace or profile function that notes whose events of traced_step() it is told."""

    def trace(frame, event, argument):
        if frame.f_code is traced_step.__code__ and event in wanted:
            seen.append((event, threading.get_ident()))
        return trace

    return trace


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_a_tracer_is_the_fibers_own(run, kind):
    seen = []
    tracer = recorder(seen, {"call", "return"})
    start, get = getattr(sys, f"set{kind}"), getattr(sys, f"get{kind}")
    before = get()

    def body():
        start(tracer)
        other = weft.spawn(traced_step)  # runs while this one is traced
        traced_step()
        other.join()
        assert get() is tracer
        start(None)
        return threading.get_ident()

    ident = run(body)
    assert seen == [("call", ident), ("return", ident)]
    assert get() is before


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_the_tracer_for_new_threads(run, kind):
    seen = []
    former = getattr(threading, f"get{kind}")()
    getattr(threading, f"set{kind}")(recorder(seen, {"call", "return"}))
    try:
        run(traced_step)
    finally:
        getattr(threading, f"set{kind}")(former)
    assert [event for event, _ in seen] == ["call", "return"]
    assert threading.get_ident() not in {ident for _, ident in seen}
    run(traced_step)
    assert len(seen) == 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="settrace_all_threads() is of 3.12")
def test_a_tracer_reaches_those_that_are_parked(run):
    seen = []
    gate = weft.Channel()

    def start():
        gate.receive()
        threading.settrace_all_threads(recorder(seen, {"call"}))
        gate.receive()
        threading.settrace_all_threads(None)

    def body():
        gate.send(None)
        weft.yield_now()
        traced_step()
        gate.send(None)
        return threading.get_ident()

    former = threading.gettrace(), sys.gettrace()
    starter = weft.spawn(start)
    try:
        assert ("call", run(body)) in seen
        starter.result()
    finally:
        threading.settrace(former[0])
        sys.settrace(former[1])


def test_cprofile_in_a_fiber(run):
    def body():
        profile = cProfile.Profile()
        profile.enable()
        for _ in range(5):
            traced_step()
        profile.disable()
        return profile

    profile = run(body)
    counts = {key[2]: value[0] for key, value in pstats.Stats(profile).stats.items()}
    assert counts["traced_step"] == 5
    assert any("yield_now" in name and count == 5 for name, count in counts.items())


def test_frames_of_the_parked(run):
    parked, gate = weft.Channel(1), weft.Channel()

    def inner_place():
        parked.send(threading.get_ident())
        gate.receive()

    def look():
        ident = parked.receive()
        weft.yield_now()
        frame = sys._current_frames()[ident]
        stack = "".join(traceback.format_stack(frame))
        gate.send(None)
        return stack

    looker = weft.spawn(look)
    run(inner_place)
    assert "in inner_place" in looker.result() and "gate.receive()" in looker.result()
    assert "in test_frames_of_the_parked" not in looker.result()


def test_faulthandler():
    done = run_program("-c", PARKED + textwrap.dedent("""
        import faulthandler
        faulthandler.dump_traceback(all_threads=True)
        gate.set()
    """))
    blocks = done.stderr.split("\n\n")
    assert len(blocks) == 3 and sum("in wait_at_gate" in block for block in blocks) == 2, done.stderr
    assert blocks[-1].startswith("Current thread") and "in <module>" in blocks[-1]


@pytest.mark.parametrize("hang", ["gate.wait()", "exec('while True: pass')", "sum(iter(int, 1))"])
def test_faulthandlers_watchdog(hang):
    """Also where no fiber can run: computing, in Python and in C."""
    done = run_program("-c", PARKED + textwrap.dedent(f"""
        import faulthandler
        faulthandler.dump_traceback_later(0.05, exit=True)
        {hang}
    """), code=1)
    assert "Timeout (0:00:00.050000)!" in done.stderr, done.stderr
    assert done.stderr.count("in wait_at_gate\n") == 2 and "in <module>" in done.stderr


@pytest.mark.parametrize("start", ["weft.spawn(work, name='debugged').join()",
                                   "t = threading.Thread(target=work, name='debugged'); t.start(); t.join()"])
def test_pdb(tmp_path, start):
    program = tmp_path / "program.py"
    program.write_text(PARKED + textwrap.dedent(f"""
        def work():
            value = 41
            breakpoint()
            value += 1
            weft.yield_now()
            print("value is", value)

        {start}
        gate.set()
    """))
    typed = "\n".join(["where", "p value", "p threading.current_thread().name", "next", "next", "next", "p value * 10",
                       "continue", ""])
    done = run_program(str(program), input=typed)
    assert done.stdout.count("(Pdb)") == 8
    for expected in ("work()\n-> ", "(Pdb) 41\n", "'debugged'", "-> weft.yield_now()", "-> print(", "(Pdb) 420",
                     "value is 42"):
        assert expected in done.stdout, done.stdout


@pytest.mark.parametrize("option", [[], ["--nonblocking"]])
def test_py_spy(option):
    """It reads the interpreter's list of threads, not the system's."""
    spy = [os.path.join(os.path.dirname(sys.executable), "py-spy"), "dump", *option, "--pid"]
    done = run_program("-c", PARKED + textwrap.dedent(f"""
        import subprocess
        print(subprocess.run({spy!r} + [str(os.getpid())], capture_output=True, text=True, timeout=60).stdout)
        gate.set()
    """))
    blocks = done.stdout.split("\nThread ")[1:]
    parked = [block for block in blocks if "wait_at_gate (<string>:" in block]
    assert len(parked) == 2 and any('"thread fiber"' in block for block in parked), done.stdout
    assert any('"MainThread"' in block and "<module> (<string>:" in block for block in blocks)


@pytest.mark.parametrize("core", ["ctrace", "pytrace", "sysmon"])
def test_coverage(tmp_path, core):
    if core == "sysmon" and sys.version_info < (3, 12):
        pytest.skip("sys.monitoring is of 3.12")
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent("""\
        import threading, weft

        def in_spawned():
            weft.yield_now()
            return 1

        def in_thread():
            weft.yield_now()
            return 2

        def in_none():
            return 3  # missed

        weft.patch()
        fiber = weft.spawn(in_spawned)
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()
        fiber.join()
    """))
    environment = {**os.environ, "COVERAGE_CORE": core, "COVERAGE_FILE": str(tmp_path / "data")}
    for step in (["run", "--concurrency=thread", str(program)], ["report", "--show-missing"]):
        done = run_program("-m", "coverage", *step, cwd=tmp_path, env=environment)
        assert not done.stderr  # where it would say that it took another core
    missed = next(number for number, line in enumerate(program.read_text().splitlines(), 1) if "# missed" in line)
    row = next(line for line in done.stdout.splitlines() if "program.py" in line)
    assert row.split("%")[1].strip() == str(missed), done.stdout


def stub_of_functions():
    """How the stub says that the functions of the extension module are called."""
    stub = os.path.join(os.path.dirname(weft.__file__), "_weft.pyi")
    with open(stub, encoding="utf-8") as file:
        body = ast.parse(file.read()).body
    for node in body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            for argument in ast.walk(node.args):
                if isinstance(argument, ast.arg):
                    argument.annotation = None
            if node.name == "spawn" and node.args.kwonlyargs:
                node.args.kw_defaults = [ast.Constant(None)]  # its overload without a name stands for that
            yield node.name, f"({ast.unparse(node.args)})"


def test_signatures_are_those_of_the_stub():
    stub = dict(reversed(list(stub_of_functions())))  # of overloads the first
    stub["spawn"] = dict(stub_of_functions())["spawn"]
    functions = {name for name in weft.__all__ if inspect.isbuiltin(getattr(weft, name))}
    assert functions == set(stub) and len(functions) == 14
    for name, expected in stub.items():
        function = getattr(weft, name)
        assert str(inspect.signature(function)) == expected, name
        assert pickle.loads(pickle.dumps(function)) is function
        help_text = pydoc.render_doc(function, renderer=pydoc.plaintext)
        assert help_text.splitlines()[2] == name + expected
        assert " ".join(function.__doc__.split()) in " ".join(help_text.split())
    for name in weft.__all__:
        if inspect.isroutine(getattr(weft, name)):
            inspect.signature(getattr(weft, name))
