"""How the settings reach the first interpreter on each path, and nothing else."""

import json
import os
import shutil
import subprocess

import pytest
from cli_support import PRELOAD, WEFT, clean_environment

# Prints whether the preload library is loaded, and what is seen of the environment.
LOOK = """
import json, os
with open("/proc/self/maps") as maps:
    loaded = "libweft-preload" in maps.read()
print(json.dumps({"loaded": loaded, "environment": dict(os.environ)}))
"""
LOOK_IN_CHILD = "import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', sys.argv[1]]))"
LOOK_AFTER_EXEC = "import os, sys; os.execv(sys.executable, [sys.executable, '-c', sys.argv[1]])"


def traces(environment):
    return {name for name in environment if name.startswith(("WEFT_", "LD_"))}


@pytest.fixture
def look(weft):
    def run(*arguments, **options):
        done = weft(*arguments, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def test_the_interpreter_sees_the_environment_it_would_have_had(look, python):
    plain = subprocess.run([python, "-c", LOOK], capture_output=True, text=True, env=clean_environment(WEFTY="1"))
    under = look("run", "--stack-size=64K", "--backend=epoll", "--verbose", python, "-c", LOOK, env={"WEFTY": "1"})
    assert under["loaded"]
    assert under["environment"] == json.loads(plain.stdout)["environment"]


@pytest.mark.parametrize("chain", [
    ["sh", "-c", 'exec "$0" "$@"'],
    ["sh", "-c", '"$0" "$@"; exit $?'],
    ["env"],
    ["env", "A=1"],
    ["nice"],
    ["xargs", "-a", "/dev/null"],
    ["sh", "-c", 'sh -c "exec \\"\\$0\\" \\"\\$@\\"" "$0" "$@"; exit $?'],
], ids=lambda chain: " ".join(chain)[:30])
def test_it_passes_through_chains_to_the_first_interpreter(look, python, chain):
    seen = look("run", "--stack-size=64K", *chain, python, "-c", LOOK)
    assert seen["loaded"]
    assert not traces(seen["environment"])


def test_it_reaches_the_first_interpreter_of_each_path(weft, python):
    done = weft("run", "sh", "-c", '"$0" "$@"; "$0" "$@"', python, "-c", LOOK)
    assert [json.loads(line)["loaded"] for line in done.stdout.splitlines()] == [True, True]


def test_it_passes_through_scripts(look, python, tmp_path):
    script = tmp_path / "script"
    script.write_text(f"#!{python}\n{LOOK}")
    script.chmod(0o755)
    assert look("run", script)["loaded"]


def test_shells_on_the_way_keep_it(weft):
    done = weft("run", "--stack-size=64K", "sh", "-c", "echo $LD_PRELOAD $WEFT_STACK_SIZE")
    assert done.stdout == f"{PRELOAD} 65536\n"


@pytest.mark.parametrize("how", [LOOK_IN_CHILD, LOOK_AFTER_EXEC], ids=["child", "exec"])
def test_what_the_interpreter_starts_is_not_patched(look, python, how):
    seen = look("run", python, "-c", how, LOOK)
    assert not seen["loaded"]
    assert not traces(seen["environment"])


@pytest.mark.parametrize("how", [LOOK_IN_CHILD, LOOK_AFTER_EXEC], ids=["child", "exec"])
def test_children_are_patched_with_the_option(look, python, how):
    seen = look("run", "--children", "--stack-size=64K", python, "-c", how, LOOK)
    assert seen["loaded"]
    assert seen["environment"]["WEFT_CHILDREN"] == "1"
    assert seen["environment"]["WEFT_STACK_SIZE"] == "65536"


@pytest.mark.parametrize("former", ["", "{0}", "{0}:{1}", "{0} {1}"])
def test_the_programs_own_preloads_survive_in_order(look, compile_c, python, former):
    libraries = [compile_c(name, "int unused;", "-shared", "-fPIC") for name in ("one.so", "two.so")]
    value = former.format(*libraries)
    script = LOOK.replace("print(", "import sys; sys.stderr.write(open('/proc/self/maps').read()); print(")
    seen = look("run", python, "-c", script, env={"LD_PRELOAD": value})
    assert seen["loaded"]
    assert seen["environment"]["LD_PRELOAD"] == value


def test_weft_under_weft_loads_it_once(weft):
    done = weft("run", "--children", "--stack-size=64K", WEFT, "run", "--stack-size=128K", "sh", "-c",
                "echo $LD_PRELOAD $WEFT_STACK_SIZE")
    assert done.stdout == f"{PRELOAD} 131072\n"


def test_options_win_over_variables(weft):
    done = weft("run", "--backend=epoll", "sh", "-c", "echo $WEFT_BACKEND $WEFT_STACK_SIZE",
                env={"WEFT_BACKEND": "io_uring", "WEFT_STACK_SIZE": "64K"})
    assert done.stdout == "epoll 65536\n"


@pytest.mark.parametrize("variable, value", [
    ("WEFT_BACKEND", "kqueue"), ("WEFT_STACK_SIZE", "12"), ("WEFT_THREADS", "some"), ("WEFT_STATS", "yes"),
    ("WEFT_VERBOSE", "2"), ("WEFT_CHILDREN", "no"), ("WEFT_DUMP_SIGNAL", "NOSUCH"), ("WEFT_ROUTING", "1"),
])
def test_a_bad_variable_is_refused(weft, python, variable, value):
    done = weft("run", "true", env={variable: value})
    assert done.returncode == 2
    assert f"{variable}: '{value}' is not allowed; give " in done.stderr
    # The preload library says the same, where weft was not asked.
    direct = subprocess.run([python, "-c", "print('ran')"], capture_output=True, text=True,
                            env=clean_environment(LD_PRELOAD=str(PRELOAD), **{variable: value}))
    assert direct.returncode == 2
    assert f"{variable}: '{value}' is not allowed; give " in direct.stderr
    assert direct.stdout == ""


def test_a_dormant_process_does_not_mind_bad_variables():
    done = subprocess.run(["sh", "-c", "echo ran"], capture_output=True, text=True,
                          env=clean_environment(LD_PRELOAD=str(PRELOAD), WEFT_BACKEND="kqueue"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")


@pytest.fixture
def host(compile_c):
    """A program, no interpreter, that prints "1" where it runs under Weft: has the library, and not its entry."""
    return compile_c("program", """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(void) {
  static char line[4096];
  int loaded = 0;
  FILE *maps = fopen("/proc/self/maps", "r");
  while (fgets(line, sizeof line, maps)) loaded |= strstr(line, "libweft-preload") != NULL;
  printf("%d", loaded && !getenv("LD_PRELOAD"));
  return 0;
}
""")


LAUNCH = "#include <unistd.h>\nint main(int argc, char **argv) { return execv(argv[1], argv + 1); }"


def test_threads_all_takes_the_first_program(weft, host):
    done = weft("run", "--threads=all", "--stats", host)
    assert done.stdout == "1"
    assert "weft: process" in done.stderr


@pytest.mark.parametrize("threads", ["all", "none"])
@pytest.mark.parametrize("launcher", [["sh", "-c", 'exec "$0"'], ["sh", "-c", '"$0"; true'], ["env", "A=1"],
                                      ["timeout", "20"], ["nice", "env", "A=1", "sh", "-c", '"$0"; true'],
                                      ["flock", "/dev/null"], ["setpriv", "--"], ["unshare", "--"],
                                      ["prlimit", "--core=0"], ["setarch", "x86_64"], ["strace", "-o/dev/null"],
                                      ["busybox", "env"], ["tini", "--"], ["dumb-init"]],
                         ids=lambda value: value if isinstance(value, str) else " ".join(value)[:20])
def test_launchers_are_not_taken_for_the_first_program(weft, host, threads, launcher):
    if not shutil.which(launcher[0]) or subprocess.run([*launcher, host], capture_output=True).returncode:
        pytest.skip(f"no {launcher[0]} that works here")
    assert weft("run", f"--threads={threads}", *launcher, host).stdout == "1"


def test_a_launcher_is_known_by_the_link_that_was_executed(weft, compile_c, host, tmp_path):
    program = compile_c("all-commands-in-one", LAUNCH)
    (tmp_path / "nohup").symlink_to(program)
    assert weft("run", "--threads=all", tmp_path / "nohup", host).stdout == "1"
    assert weft("run", "--threads=all", program, host).stdout == "0"


def test_a_script_with_the_name_of_a_launcher_is_none(weft, compile_c, host, tmp_path):
    script = tmp_path / "time"
    script.write_text(f"#!{host}\n")
    script.chmod(0o755)
    assert weft("run", "--threads=all", script).stdout == "1"
    # Its interpreter is what runs under Weft, and not what that starts.
    script.write_text(f"#!{compile_c('interpreter', LAUNCH.replace('argv[1], argv + 1', 'argv[2], argv + 2'))}\n")
    assert weft("run", "--threads=all", script, host).stdout == "0"


def test_a_debugger_with_an_interpreter_of_its_own_is_passed_through(weft, python):
    command = ["gdb", "-q", "-batch", "-nx", "-ex", "run", "--args", python, "-c", "print(6 * 7)"]
    if not shutil.which("gdb") or "42\n" not in subprocess.run(command, capture_output=True, text=True).stdout:
        pytest.skip("no gdb that works here")
    done = weft("run", *command[:-1], "print('loaded:', 'libweft-preload' in open('/proc/self/maps').read())")
    assert "loaded: True\n" in done.stdout


def test_verbose_says_what_became_of_which_process(weft, python):
    def line(*options):
        done = weft("run", "--verbose", *options, "sh", "-c", '"$0" -c "import os; print(os.getpid())"; true', python)
        (text,) = [line for line in done.stderr.splitlines() if "process" in line]
        name = f"weft: process {done.stdout.strip()}, {os.path.realpath(python)}"
        assert text.startswith(name)
        return text.removeprefix(name)

    assert line().startswith(", runs under Weft: ")
    assert line().endswith(" references to libc functions, in it and its libraries, now lead to Weft")
    assert line("--routing=off") == ": routing is off, so its calls go to libc as ever"


def test_the_library_needs_libc_alone_and_exports_its_public_names_only():
    dynamic = subprocess.run(["readelf", "-d", str(PRELOAD)], capture_output=True, text=True, check=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line]
    assert set(needed) <= {"libc.so.6", "ld-linux-x86-64.so.2"}
    symbols = subprocess.run(["nm", "-D", "--defined-only", str(PRELOAD)], capture_output=True, text=True, check=True)
    names = [line.split()[2] for line in symbols.stdout.splitlines()]
    assert names and all(name.startswith(("_ZN4weft", "_ZNK4weft")) for name in names)
    assert not any("6engine" in name for name in names)


def test_without_threads_a_program_pays_no_threads(weft, python):
    done = weft("run", python, "-c", "import os; print(len(os.listdir('/proc/self/task')))")
    assert done.stdout == "1\n"
