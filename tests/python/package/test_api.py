"""The names that the package promises, and what it costs to have it."""

import pickle
import subprocess
import sys

import weft

NAMES = """
FAMILIES Cancelled Case Channel Closed Fiber StillRunning TaskGroup Timeout __version__ after current get_include
get_library is_patched map patch patched readable report run_async running select sending shield sleep spawn start
timeout to_thread unpatch wait_readable wait_writable writable yield_now
""".split()


def test_names():
    assert sorted(weft.__all__) == sorted(NAMES)
    for name in NAMES:
        assert hasattr(weft, name)


def test_dir_lists_no_more():
    assert [name for name in dir(weft) if not name.startswith("_")] == sorted(name for name in NAMES if name[0] != "_")


def test_types_say_where_they_are():
    for name in NAMES:
        thing = getattr(weft, name)
        if isinstance(thing, type):
            assert (thing.__module__, thing.__qualname__) == ("weft", name)
            assert pickle.loads(pickle.dumps(thing)) is thing


def test_each_is_documented():
    for name in NAMES:
        thing = getattr(weft, name)
        if callable(thing):
            assert thing.__doc__, name


def test_import_is_light():
    """No module that is slow to import comes along."""
    program = "import sys; before = set(sys.modules); import weft; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
                          capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"asyncio", "typing", "threading", "inspect", "dataclasses", "contextlib", "re"}


def test_exceptions():
    assert issubclass(weft.Cancelled, BaseException) and not issubclass(weft.Cancelled, Exception)
    assert issubclass(weft.Timeout, TimeoutError)
    assert issubclass(weft.StillRunning, weft.Timeout)
