"""weft.heap: the figures of the process's allocator, against heaps that are made here."""

import contextlib
import ctypes
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from xml.etree import ElementTree

import pytest

from weft import heap

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.malloc.argtypes = [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

# Beyond what threads keep in their caches, and a block's size with its header.
SIZE, CHUNK, COUNT = 2000, 2016, 1000


@pytest.fixture
def blocks():
    """blocks(count, size=SIZE): that many; their memory is not Python's. What is left of them is freed in the end."""
    made = []

    def make(count, size=SIZE):
        made.append([libc.malloc(size) for _ in range(count)])
        return made[-1]

    yield make
    for each in made:
        free(each)


def free(blocks):
    while blocks:
        libc.free(blocks.pop())


def program(text, **environment):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(text)], env=dict(os.environ) | environment,
                          capture_output=True, text=True, timeout=60, check=False)


class TestGlibc:
    def test_blocks_in_use(self, blocks):
        some = blocks(COUNT)  # with room in the list
        free(some)
        before = heap.info()
        some += [0] * COUNT
        for number in range(COUNT):
            some[number] = libc.malloc(SIZE)
        full = heap.info()
        # Python allocates, too: here less than a block for each ten.
        assert abs(full.heap_used - before.heap_used - COUNT * CHUNK) < COUNT * CHUNK / 10
        free(some)
        assert abs(heap.info().heap_used - before.heap_used) < COUNT * CHUNK / 10
        assert heap.allocator() == "glibc"

    def test_another_threads_arena(self, blocks):
        filled, measured = threading.Event(), threading.Event()
        begun, go = threading.Event(), threading.Event()

        def fill():
            libc.free(libc.malloc(SIZE))
            begun.set()
            go.wait()
            some = blocks(COUNT)
            filled.set()
            measured.wait()
            free(some)

        thread = threading.Thread(target=fill)
        thread.start()
        begun.wait()
        before = heap.info(), heap.arenas()
        go.set()
        filled.wait()
        full = heap.info(), heap.arenas()
        measured.set()
        thread.join()
        assert full[0].heap_count == len(full[1]) > 1
        assert abs(full[0].heap_used - before[0].heap_used - COUNT * CHUNK) < COUNT * CHUNK / 10
        grown = [after.used - former.used for former, after in zip(before[1], full[1])]
        assert grown[0] < COUNT * CHUNK / 10 and max(grown[1:]) >= COUNT * CHUNK, "it is not the main arena that has grown"

    def test_mapped_blocks(self):
        before = heap.info()
        block = libc.malloc(48 << 20)
        full = heap.info()
        libc.free(block)
        assert full.mmap_used - before.mmap_used == (48 << 20) + 4096
        assert heap.info().mmap_used == before.mmap_used

    def test_arenas_have_what_info_says(self):
        heap.arenas()
        arenas, info = heap.arenas(), heap.info()
        assert len(arenas) == info.heap_count
        assert abs(sum(arena.used for arena in arenas) - info.heap_used) < 16384
        for arena in arenas:
            assert arena.used + arena.top + arena.fragmented == arena.held and arena.fragmented >= 0

    def test_fragmentation(self, blocks):
        some = blocks(2 * COUNT)
        full = heap.arenas()[0]
        free([some.pop(number) for number in range(2 * COUNT - 2, 0, -2)])
        holes = heap.arenas()[0]
        assert abs(holes.fragmented - full.fragmented - COUNT * CHUNK) < COUNT * CHUNK / 10

    def test_trim(self, blocks):
        some = blocks(COUNT, 8 * SIZE)
        for block in some:
            ctypes.memset(block, 1, 8 * SIZE)
        last = some.pop()
        before = resident()
        free(some)
        assert heap.trim() is True
        assert before - resident() > COUNT * 8 * SIZE * 0.8
        some.append(last)

    def test_of_psutil(self):
        first = heap.info()
        figures = heap.heap_info()
        assert figures._fields == ("heap_used", "mmap_used") and type(figures).__name__ == "pheap"
        assert figures._asdict() == {"heap_used": figures[0], "mmap_used": figures[1]}
        assert abs(figures.heap_used - first.heap_used) < 8192 and figures.mmap_used == first.mmap_used
        assert heap.heap_trim() is None

    def test_asking_takes_nothing(self):
        done = program("""
            from weft import heap
            figures = [None] * 20
            for number in range(20):
                figures[number] = heap.info()
            assert len(set(figures[1:])) == 1, figures
        """)
        assert done.returncode == 0, done.stderr


def test_tuples():
    info = heap.Info(1, 2, 3)
    assert info == (1, 2, 3) and repr(info) == "Info(heap_used=1, mmap_used=2, heap_count=3)"
    assert info._replace(heap_used=5).heap_used == 5
    assert pickle.loads(pickle.dumps(info)) == info and not hasattr(info, "__dict__")
    assert heap.Arena(0, 100, 50, 20).fragmented == 30


@pytest.mark.parametrize("wrong", [lambda: heap.info(1), lambda: heap.trim(0), lambda: heap.Info(1)])
def test_wrong_arguments(wrong):
    with pytest.raises(TypeError):
        wrong()


GROWTH = """
    import ctypes, os, threading
    from weft import heap
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    blocks = [libc.malloc(2000) for _ in range(1000)]
    while blocks: libc.free(blocks.pop())
    blocks = [0] * 1000
    before = heap.info()
    for number in range(1000): blocks[number] = libc.malloc(2000)
    after = heap.info()
    assert 0.95 < (after.heap_used - before.heap_used) / (1000 * 2048) < 1.05, (before, after)
    arenas = heap.arenas()
    assert abs(sum(arena.used for arena in arenas) - after.heap_used) < 65536, (arenas, after)
    assert len(arenas) == after.heap_count
    for block in blocks: libc.free(block)
    assert heap.info().heap_used - before.heap_used < 50_000
    assert heap.trim() in (True, False) and heap.heap_trim() is None
    print(heap.allocator())
"""


class TestOtherAllocators:
    @pytest.mark.parametrize("name, library", [("jemalloc", "libjemalloc.so.2"), ("mimalloc", "libmimalloc.so.2")])
    def test_known(self, name, library):
        done = program(GROWTH, LD_PRELOAD=library)
        assert (done.stdout, done.stderr) == (name + "\n", "")

    def test_another_is_refused(self):
        done = program("""
            from weft import heap
            for ask in heap.info, heap.heap_info, heap.trim, heap.heap_trim, heap.arenas, heap.allocator:
                try:
                    ask()
                except NotImplementedError as error:
                    print(error)
            assert heap.python_info().blocks > 1000
        """, LD_PRELOAD="libtcmalloc_minimal.so.4")
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert len(lines) == 6 and len(set(lines)) == 1
        assert "libtcmalloc_minimal.so.4, is not one whose figures are known; run the program with that of glibc" in lines[0]

    def test_replaced_half_way(self, tmp_path):
        source, library = tmp_path / "half.c", tmp_path / "half.so"
        source.write_text("void* __libc_calloc(unsigned long, unsigned long);\n"
                          "void* calloc(unsigned long n, unsigned long size) { return __libc_calloc(n, size); }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
        done = program("from weft import heap; heap.info()", LD_PRELOAD=str(library))
        assert done.returncode == 1
        assert f"libc.so.6, calloc() that of {library}, and neither" in done.stderr and "replaced half-way" in done.stderr

    def test_what_comes_later_changes_nothing(self):
        later = """
            import ctypes, os
            os.environ["LD_PRELOAD"] = "libmimalloc.so.2"
            ctypes.CDLL("libmimalloc.so.2", ctypes.RTLD_GLOBAL)
        """
        done = program(textwrap.dedent(later) + textwrap.dedent(GROWTH))
        assert (done.stdout, done.stderr) == ("glibc\n", "")


class TestPythonsOwn:
    def test_blocks(self):
        before = heap.python_info(), sys.getallocatedblocks()
        kept = [[] for _ in range(20_000)]
        after = heap.python_info(), sys.getallocatedblocks()
        assert before[0].allocator.startswith("pymalloc")
        assert abs((after[0].blocks - before[0].blocks) - (after[1] - before[1])) < 500
        assert after[0].used - before[0].used > 20_000 * sys.getsizeof(kept[0]) * 0.9
        assert after[0].held >= after[0].used and after[0].arenas >= before[0].arenas > 0

    @pytest.mark.parametrize("setting, name", [("malloc", "malloc"), ("malloc_debug", "malloc_debug")])
    def test_without_one(self, setting, name):
        done = program("from weft import heap; print(*heap.python_info()); print(heap.info().heap_used > 1_000_000)",
                       PYTHONMALLOC=setting)
        assert done.stdout == f"{name} 0 0 0 0 0\nTrue\n", done.stderr

    def test_debug(self):
        done = program("""
            import sys
            from weft import heap
            info = heap.python_info()
            print(info.allocator, 0.9 < info.blocks / sys.getallocatedblocks() < 1)  # which counts larger ones, too
        """, PYTHONMALLOC="debug")
        assert done.stdout == "pymalloc_debug True\n", done.stderr

    def test_behind_tracemalloc(self):
        done = program("""
            import tracemalloc
            from weft import heap
            tracemalloc.start()
            try:
                heap.python_info()
            except NotImplementedError as error:
                print(error)
            tracemalloc.stop()
            print(heap.python_info().blocks > 1000)
        """)
        assert "tracemalloc.stop()" in done.stdout and done.stdout.endswith("\nTrue\n"), done.stderr

    @pytest.mark.skipif(sys.version_info < (3, 13), reason="PYTHONMALLOC=mimalloc came with 3.13")
    def test_mimalloc_of_its_own(self):
        done = program("from weft import heap; print(heap.allocator(), heap.info().heap_used > 0); heap.python_info()",
                       PYTHONMALLOC="mimalloc")
        assert done.stdout == "glibc True\n"
        assert "NotImplementedError: weft.heap: this Python's objects are in a mimalloc of its own" in done.stderr

    def test_other_interpreters_are_told_of(self):
        with contextlib.suppress(ModuleNotFoundError):
            import _xxsubinterpreters as interpreters
        with contextlib.suppress(ModuleNotFoundError):
            import _interpreters as interpreters
        before = heap.python_info()
        number = interpreters.create()
        try:
            interpreters.run_string(number, "kept = [[] for _ in range(50_000)]")
            after = heap.python_info()
        finally:
            interpreters.destroy(number)
        if sys.version_info < (3, 12):
            assert after.other_interpreters == 0 and after.blocks - before.blocks > 50_000
        else:
            assert after.other_interpreters == 1 and after.blocks - before.blocks < 10_000
        assert heap.python_info().other_interpreters == before.other_interpreters == 0


def test_import_is_light():
    """So is that of weft; psutil's kind of tuple brings `collections`."""
    text = "import sys; import weft; before = set(sys.modules); import weft.heap; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {text}"],
                          capture_output=True, text=True, check=True, timeout=60)
    allowed = {"weft.heap", "collections", "_collections", "itertools", "keyword", "operator", "_operator", "reprlib",
               "_collections_abc", "_thread"}
    assert set(done.stdout.split()) <= allowed


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")


# --- Profiles.


def keeps_buffers(kept):
    for _ in range(50):
        kept.append(bytearray(10_000))  # here they are kept
        bytearray(20_000)


def test_a_profile_has_the_stacks_that_allocate():
    kept = []
    with heap.Profile(interval=1) as profile:
        keeps_buffers(kept)
    line = next(i for i, text in enumerate(Path(__file__).read_text().splitlines(), 1) if text.endswith("# here they are kept"))
    found = [site for site in profile.sites() if any(f.python and f.function == "keeps_buffers" and f.line == line for f in site.frames)]
    assert round(sum(site.live_blocks for site in found if site.live_bytes > 100_000)) == 50
    assert 500_000 <= sum(site.live_bytes for site in found) < 510_000
    gone = [site for site in profile.sites() if any(f.python and f.line == line + 1 and f.file == __file__ for f in site.frames)]
    assert sum(site.live_blocks for site in gone) == 0
    assert 1_000_000 <= sum(site.made_bytes for site in gone) < 1_050_000


def test_samples_stand_for_what_is_allocated():
    kept = []
    with heap.Profile(interval=10_000, seed=1) as profile:
        for _ in range(20_000):
            kept.append(bytearray(2_000))
    assert sum(site.live_bytes for site in profile.sites()) == pytest.approx(40_000_000, rel=0.1)


def test_a_profile_is_written_as_files(tmp_path):
    kept = []
    with heap.Profile(interval=1) as profile:
        keeps_buffers(kept)
    profile.write_pprof(str(tmp_path / "heap.pb"))
    profile.write_svg(str(tmp_path / "heap.svg"), measure="made_blocks", title="What <is> allocated")
    assert b"keeps_buffers" in (tmp_path / "heap.pb").read_bytes()
    root = ElementTree.parse(tmp_path / "heap.svg").getroot()
    text = ElementTree.tostring(root, encoding="unicode")
    assert "keeps_buffers" in text and "What &lt;is&gt; allocated" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heap.pb", "heap.svg"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        profile.write_pprof(str(tmp_path / "nowhere" / "heap.pb"))
    with pytest.raises(ValueError, match="measure must be one of live_bytes, "):
        profile.write_svg("x", measure="bytes")


def test_one_profile_at_a_time():
    with heap.Profile():
        with pytest.raises(RuntimeError, match="another one is running"), heap.Profile():
            pass
    with heap.Profile():
        pass
    with pytest.raises(ValueError, match="interval must be 1 or more"):
        heap.Profile(interval=0)
