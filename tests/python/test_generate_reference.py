"""scripts/generate-reference: what it reads out of headers and docstrings, and what it refuses."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import header_parser  # noqa: E402
import reference_cpp  # noqa: E402
import reference_python  # noqa: E402


def parse(body):
    text = f"// Things: what is tested.\n#pragma once\n\nnamespace weft {{\n\n{body}\n\n}}  // namespace weft\n"
    return header_parser.parse(text, "t.hpp")


def rendered(body):
    return "\n".join(reference_cpp.header_lines(parse(body)))


def thing(*members):
    """A class with those public members."""
    return "\n".join(["class Thing {", " public:", *(f"  {member}" for member in members), "};"])


def test_header_comment_and_class_comment():
    text = rendered("/// Does things.\n///\n/// Any thread.\n" + thing("int size() const noexcept { return 1; }"))
    assert text.startswith("## t.hpp\n\nThings: what is tested.\n\n### class Thing\n\nDoes things.\n\nAny thread.\n")
    assert "int size() const noexcept;" in text


MEMBERS = """
explicit constexpr Thing(int count = 0) noexcept : count_(count), other_{} {}
explicit constexpr Thing(int count = 0) noexcept;

Thing() noexcept : bytes_{} {}
Thing() noexcept;

WEFT_API static bool running() noexcept;
static bool running() noexcept;

template <typename R, typename P> bool try_for(duration<R, P> span) { return a < b; }
template <typename R, typename P> bool try_for(duration<R, P> span);

bool operator==(const Other& other) const noexcept { return a == b; }
bool operator==(const Other& other) const noexcept;

void operator()(int) {}
void operator()(int);

explicit operator bool() const noexcept { return x; }
explicit operator bool() const noexcept;

template <std::invocable F> decltype(auto) call(F&& f) { return f(); }
template <std::invocable F> decltype(auto) call(F&& f);

auto spawn(int a, const Options& o = {}) -> Fiber<int> { return {}; }
auto spawn(int a, const Options& o = {}) -> Fiber<int>;

template <R T> requires(!Literal<T>) constexpr Thing(T&& t) noexcept : a_(t) {}
template <R T> requires(!Literal<T>) constexpr Thing(T&& t) noexcept;

static constexpr size_t kMost = 1'000;  // at a time
static constexpr size_t kMost = 1'000;

std::chrono::nanoseconds timeout{0};
std::chrono::nanoseconds timeout{0};

int a, b, c;
int a, b, c;

using Handler = void (*)(int) noexcept;
using Handler = void (*)(int) noexcept;

friend bool operator==(const Thing& a, const Thing& b) { return f(a, b); }
bool operator==(const Thing& a, const Thing& b);

void f() { say("} // no comment"); }  // }
void f();
"""


@pytest.mark.parametrize("pair", MEMBERS.strip().split("\n\n"))
def test_members(pair):
    declared, shown = pair.split("\n")
    assert [member.signature for member in parse(thing(declared)).members[0].members] == [shown]
    # However it is broken into lines.
    broken = declared.replace(" ", "\n    ") if '"' not in declared and "//" not in declared else declared
    assert [member.signature for member in parse(thing(broken)).members[0].members] == [shown]


def test_what_is_left_out_on_purpose():
    text = rendered("""
namespace detail {
struct Hidden {};
}

class Forward;

class Thing {
  static_assert(true);
  int hidden;

 public:
  Thing(const Thing&) = delete;
  Thing& operator=(const Thing&) = delete;
  ~Thing() {}
  void shown();
  detail::Core& core() const { return c; }

 protected:
  void hidden_too();

 private:
  friend class Other;
  union {
    int hidden_in_a_union;
  } bytes_;
  enum { kHidden };
};
""")
    assert "void shown();" in text and "Neither copied nor moved." in text
    assert not any(word in text for word in ("idden", "Forward", "core()", "~Thing", "Other"))


def test_moved_not_copied():
    moving = "Thing& operator=(Thing&& other) noexcept { return *this; }"
    text = rendered(thing("Thing(Thing&&) noexcept = default;", moving, "void f();"))
    assert "Moved, not copied." in text and "&&" not in text


def test_copied_and_moved_alike_is_not_worth_a_word():
    assert "copied" not in rendered(thing("Thing(const Thing& o) noexcept : a(o.a) {}", "void f();"))


def test_members_without_a_comment_go_with_the_one_above_but_for_a_blank_line():
    text = rendered(thing("/// Both.", "void a();", "void b();", "", "void c();", "/// Own.", "void d();"))
    assert "/// Both.\nvoid a();\nvoid b();\n\nvoid c();\n\n/// Own.\nvoid d();" in text


def test_free_functions_share_a_heading_with_what_follows():
    text = rendered("/// Sleeps.\ninline void sleep(int s) {}\nvoid sleep_until(int t);\n\n/// Else.\nvoid other();")
    together = "```cpp\nvoid sleep(int s);\nvoid sleep_until(int t);\n```\n\nSleeps."
    assert f"### sleep(), sleep_until()\n\n{together}\n\n### other()" in text


def test_structs_of_variables_and_enums_are_tables():
    text = rendered("""
struct Options {
  int a = 1;  ///< one
  /// Two,
  /// in lines.
  int b{2};
  int c;
};

enum class Kind : int {
  kOne = 1,  ///< first
  kTwo,
  kLast  ///< a|b
};
""")
    assert "| `int a = 1` | one |\n| `int b{2}` | Two, in lines. |\n| `int c` |  |" in text
    assert "| `kOne = 1` | first |\n| `kTwo` |  |\n| `kLast` | a\\|b |" in text


def test_nested_types_and_namespaces_have_their_full_names():
    nested = thing("/// Came.", "struct Received {", "  int size;", "};")
    text = rendered(nested + "\n\n/// Here.\nnamespace this_fiber {\nvoid f();\n}")
    assert "#### struct Thing::Received\n\nCame." in text
    assert "### namespace this_fiber\n\nHere.\n\n```cpp\nvoid f();\n```" in text


def test_bases_and_templates_are_shown():
    first = thing("void f();").replace("class Thing", "class [[nodiscard]] Thing : public Base")
    text = rendered(f"{first}\n\ntemplate <typename T>\n{thing('void f();')}")
    assert "```cpp\nclass Thing : public Base;\n```" in text
    assert "```cpp\ntemplate <typename T> class Thing;\n```" in text


def test_comments_keep_their_text_and_their_examples():
    text = rendered("""
/// Of std::optional<T>, `a<b>` and *x; see [1].
///
///     for (;;) {
///       f();
///     }
///
/// End.
void f();
""")
    assert "Of std::optional\\<T\\>, `a<b>` and \\*x; see \\[1\\].\n\n" in text
    assert "\n\n```cpp\nfor (;;) {\n  f();\n}\n```\n\nEnd." in text


def test_macros_are_shown_as_they_are_called():
    text = rendered("""
}
/// Does it.
#define WEFT_DO(what, ...) \\
  run(what, __VA_ARGS__)
#define WEFT_DO_IT(...) run(__VA_ARGS__)
namespace weft {
void f();
""")
    assert "### WEFT_DO, WEFT_DO_IT\n\n```cpp\nWEFT_DO(what, ...)\nWEFT_DO_IT(...)\n```\n\nDoes it.\n" in text
    assert "run(" not in text


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("/// About nothing.\n\nvoid f();", "nothing below it"),
        ("class A {\n public:\n  void f();\n  /// About nothing.\n};", "nothing below it"),
        ("#define WEFT_X 1", "#define"),
        ("#if 1\nvoid f();\n#endif", "#if"),
        ("typedef int Number;\nextern int x[3];", "does not know"),
        ('extern "C" {\nvoid f();\n}', "in the middle"),
        ("WEFT_MACRO;", "does not know"),
        ("union A {\n  int x;\n};", "does not know"),
        ("class A {\n public:\n  void f() {\n};", "ends nothing"),
        ("class A {\n public:\n  void f();", "do not match|not end"),
        ("/* old */ void f() { /* x */ }", "does not know|/\\*"),
        ("class A {\n public:\n  /// Documented.\n  A(const A&) = delete;\n};", "say it with the class"),
        ("void f(int) = delete;", "deleted"),
        ("class A {\n public:\n  /// Said.\n  detail::Core& core();\n};", "type of detail"),
        ("enum class A { kOne + 1 };", "enumerator"),
        ("class A {} a;", "between a type"),
        ("using Base::f;", "does not know"),
        ("void f(char c = 'x);", "quote"),
    ],
)
def test_what_is_not_understood_is_refused(body, why):
    with pytest.raises(header_parser.ParseError, match=why):
        rendered(body)


def test_an_error_tells_file_and_line():
    with pytest.raises(header_parser.ParseError, match=r"^t\.hpp:6: .*#define"):
        parse("#define X")


def test_a_header_without_a_first_line_is_refused():
    with pytest.raises(header_parser.ParseError, match="first line"):
        header_parser.parse("#pragma once\n", "t.hpp")


def test_anchors_are_those_of_check_docs():
    text = reference_cpp.render([parse("void f();")])
    assert "[t.hpp](#thpp)" in text and "\n## t.hpp\n" in text


# --- Python.


class _Native:
    """As a function of nanobind."""

    def __init__(self, *overloads):
        self.__nb_signature__ = overloads

    def __call__(self):
        pass


def package(tmp_path, source="", **names):
    (tmp_path / "__init__.py").write_text(source)
    module = types.ModuleType("package", "What it is.\n\nAnd more.")
    module.__file__ = str(tmp_path / "__init__.py")
    module.__dict__.update(names)
    module.__all__ = list(names)
    return module


def test_functions_of_python_and_of_nanobind(tmp_path):
    def plain(a: "int", /, *, b: "str | None" = None) -> "bool":
        """Does it.

        On two
        lines: *x.
        """

    native = _Native(("def native(file: weft._weft.Channel, timeout: float | None = \\0) -> bool", "Waits.", (None,)))
    text = reference_python.generate(package(tmp_path, plain=plain, native=native))
    assert "### plain()\n\n```python\nplain(a: int, /, *, b: str | None = None) -> bool\n```\n\nDoes it.\n" in text
    assert "Does it.\n\nOn two lines: \\*x.\n" in text
    assert "```python\nnative(file: Channel, timeout: float | None = None) -> bool\n```\n\nWaits.\n" in text
    assert text.index("### native()") < text.index("### plain()")


def test_classes_exceptions_and_constants(tmp_path):
    class Thing:
        """A thing."""

        def __init__(self, size: "int" = 3) -> None:
            pass

        def use(self, by: "int | None" = None) -> "None":
            """Use it."""

        def _private(self):
            pass

        def __len__(self):
            return 1

    class Larger(Thing):
        """A larger thing."""

        def __init__(self, *, by: "int") -> None:
            """`by`: by how much."""

    class Oops(ValueError):
        """It failed."""

    @pytest.fixture(scope="module")
    def lent():
        """A thing for a test.

        text

            code = lent.
        """

    source = 'NAMES = ("a",)\n"""Names of all."""\n'
    names = {"Thing": Thing, "Larger": Larger, "lent": lent, "Oops": Oops, "thing": Oops, "NAMES": ("a",), "__version__": "1"}
    text = reference_python.generate(package(tmp_path, source, **names))
    assert "```python\nclass Thing(size: int = 3)\n```\n\nA thing.\n\n| member | |\n|---|---|\n" in text
    assert "\n| `use(by: int \\| None = None) -> None` | Use it. |\n\nAlso `__len__`.\n" in text
    assert "class Larger(*, by: int)\n```\n\nA kind of `Thing`.\n\nA larger thing.\n\n`by`: by how much.\n" in text
    assert "```python\n@pytest.fixture(scope='module')\ndef lent()\n```\n\nA thing for a test.\n" in text
    assert "\ntext\n\n```python\ncode = lent.\n```\n" in text
    assert "_private" not in text
    assert "```python\nclass Oops(ValueError)\n```\n\nIt failed.\n" in text
    assert "NAMES = ('a',)\n```\n\nNames of all.\n" in text
    assert "[Thing](#thing)" in text and "[thing](#thing-1)" in text  # anchors do not know case


def test_what_python_has_no_form_for_is_refused(tmp_path):
    def silent():
        pass

    class Silent:
        pass

    class Odd:
        """Odd."""

        constant = 3

    two = _Native(("def f() -> int", "", None), ("def f(a: int) -> int", "", None))
    names = {"silent": silent, "Silent": Silent, "Odd": Odd, "two": two, "number": 3, "FAMILIES": ("x",)}
    for name, value in names.items():
        with pytest.raises(reference_python.DocumentError, match=name):
            reference_python.generate(package(tmp_path, **{name: value}))


# --- The command.


def run(*arguments):
    command = [sys.executable, "-B", str(ROOT / "scripts/generate-reference"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_documents_in_the_tree_are_up_to_date():
    pytest.importorskip("weft")
    result = run("--check")
    assert (result.returncode, result.stderr) == (0, "")


def test_without_the_package_it_says_so():
    result = run("--check", "--no-python")
    assert (result.returncode, result.stderr) == (0, "")
    assert "those of the Python package were left out" in result.stdout


def test_wrong_usage():
    assert run("--wrong").returncode == 2


def test_check_names_what_differs(tmp_path):
    for name in ("scripts", "include"):
        (tmp_path / name).symlink_to(ROOT / name)
    script = tmp_path / "generate-reference"
    script.write_text((ROOT / "scripts/generate-reference").read_text().replace("parents[1]", "parent"))
    (tmp_path / "docs/reference").mkdir(parents=True)
    command = [sys.executable, "-B", str(script), "--no-python"]
    environment = {"PYTHONPATH": str(ROOT / "scripts")}
    subprocess.run(command, env=environment, check=True)
    assert subprocess.run([*command, "--check"], env=environment, check=False).returncode == 0
    document = tmp_path / "docs/reference/cpp.md"
    document.write_text(document.read_text().replace("### class Mutex", "### class Mutant"))
    result = subprocess.run([*command, "--check"], env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "docs/reference/cpp.md is out of date" in result.stderr and "### class Mutant" in result.stderr
