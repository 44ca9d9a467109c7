"""Reads the docstrings of the installed package, and writes them as Markdown. For generate-reference."""

import ast
import importlib.util
import inspect
import re
import textwrap
from pathlib import Path

from reference_cpp import anchor, escaped

# Of the names that begin with __, those that programs meet, if by syntax only, and those that are of no interest.
_SPECIAL = {
    "__init__", "__enter__", "__exit__", "__call__", "__len__", "__iter__", "__next__", "__await__",
}  # fmt: skip
_UNTOLD = {
    "__module__", "__new__", "__doc__", "__class_getitem__", "__repr__", "__dict__", "__weakref__",
    "__nb_signature__", "__firstlineno__", "__static_attributes__", "__del__", "__annotations__", "__orig_bases__",
    "__parameters__", "__abstractmethods__", "__getattribute__", "__setattr__", "__delattr__", "__eq__", "__hash__",
    "__dir__", "__str__", "__deepcopy__", "__copy__", "__reduce__", "__slots__", "__match_args__", "__getnewargs__",
    "__dataclass_fields__", "__dataclass_params__", "__post_init__", "__replace__", "__int__", "__index__",
    "__init_subclass__",
}  # fmt: skip


# A word to pytest, and no reader's business.
_FOR_PYTEST = re.compile(r"\s*\(PYTEST_DONT_REWRITE[^)]*\)")


class DocumentError(Exception):
    """Something of the package has no form that can be shown."""


def native_signature(name, overloads, method):
    """Of a nanobind function: `__nb_signature__`, with its default values filled in."""
    if len(overloads) != 1:
        raise DocumentError(f"{name} has {len(overloads)} overloads")
    text, doc, defaults = overloads[0]
    for number, value in enumerate(defaults or ()):
        text = text.replace(f"\\{number}", repr(value))
    if "\\" in text or not text.startswith("def "):
        raise DocumentError(f"{name}: a signature that is not understood: {text}")
    return shortened(text.removeprefix("def "), method), doc or ""


def stub_signature(name):
    """Of a function of the extension module, a line for each overload: the interpreter keeps no types, the stub has
    them."""
    stub = Path(importlib.util.find_spec("weft").origin).with_name("_weft.pyi")
    lines = []
    for node in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef) and node.name == name:
            returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
            lines.append(shortened(re.sub(r"([\w\]])=", r"\1 = ", f"{name}({ast.unparse(node.args)})") + returns, False))
    if not lines:
        raise DocumentError(f"{name}: the stub does not have it")
    return "\n".join(lines)


def shortened(text, method):
    text = re.sub(r"\b(weft\._weft|weft|typing|collections\.abc|_weft)\.", "", text)
    return re.sub(r"\((?:(?:self|cls)(?:: [\w\[\]]+)?|/)(, )?", "(", text, count=1) if method else text


def signature(name, thing, method=False):
    """How `thing` is called, and what it says of itself."""
    short = name.split(".")[-1]
    if hasattr(thing, "__nb_signature__"):
        return native_signature(name, thing.__nb_signature__, method)
    doc = inspect.cleandoc(thing.__doc__ or "")  # not inspect.getdoc(), which takes that of a base
    if inspect.isbuiltin(thing):
        return stub_signature(short), doc
    text = re.sub(r"(: |-> )(['\"])(.*?)\2", r"\1\3", str(inspect.signature(thing)))  # types that are kept as text
    return shortened(short + text, method), doc


def paragraphs(doc):
    """A docstring's paragraphs."""
    return [" ".join(block.split()) for block in re.split(r"\n\s*\n", doc.strip()) if block.strip()]


def prose(doc):
    """Its paragraphs; what is indented is code."""
    blocks = [block.strip("\n") for block in re.split(r"\n\s*\n", doc.strip("\n")) if block.strip()]
    return "\n\n".join(
        code(textwrap.dedent(block)) if block.startswith("    ") else escaped(" ".join(block.split())) for block in blocks
    )


def code(text):
    return f"```python\n{text}\n```"


def class_lines(name, cls):
    rows, call, made = [], name, ""
    bases = [base.__name__ for base in cls.__bases__ if base is not object and not base.__name__.startswith("_")]
    fields = ()
    if hasattr(cls, "_fields"):
        bases, fields = ["NamedTuple"], cls._fields
    failure = issubclass(cls, BaseException)
    attributes = attribute_docs(cls)
    for key in fields:
        rows.append((f"{key}: {vars(cls)['__annotations__'][key]}", attributes.get(key, "")))
    for key, member in vars(cls).items():
        full = f"{name}.{key}"
        if key in _UNTOLD or (key.startswith("_") and not key.startswith("__")):
            continue
        if key.startswith("__") and key not in _SPECIAL:
            raise DocumentError(f"{full}: it is not known whether that is to be told")
        if key == "__init__":
            if not inspect.isroutine(member):
                raise DocumentError(f"{full}: no function")
            if not failure and not isinstance(member, type(object.__init__)):
                text, made = signature(full, member, method=True)
                call = re.sub(r" -> None$", "", text.replace("__init__", name, 1))
            continue
        if isinstance(member, property):
            text = signature(full, member.fget, method=True)[0]
            if " -> " not in text:
                raise DocumentError(f"{full}: a property without a type")
            kind = text.partition(" -> ")[2].replace("_StoppedEvent", "Event").replace("_Inbox", "Queue")
            rows.append((f"{key}: {kind}", member.__doc__ or ""))
        elif isinstance(member, classmethod):
            rows.append(signature(full, member.__func__, method=True))
        elif inspect.isroutine(member) and not isinstance(member, staticmethod):
            rows.append(signature(full, member, method=True))
        elif hasattr(member, "__nb_signature__"):  # static, else it would be a routine
            text, doc = signature(full, member)
            rows.append((f"{name}.{text}", doc))
        elif key in attributes:
            kind = str(vars(cls)["__annotations__"][key]).removeprefix("ClassVar[").removesuffix("]")
            rows.append((f"{key}: {shortened(kind, False)} = {member!r}", attributes[key]))
        elif any(key in attribute_docs(base) for base in cls.__mro__[1:-1] if base.__module__.startswith("weft")):
            continue  # another value of what the base tells of
        else:
            raise DocumentError(f"{full}: a {type(member).__name__}, which is not known how to show")
    doc = inspect.cleandoc(vars(cls).get("__doc__") or "")
    if not doc:
        raise DocumentError(f"{name} has no docstring")
    lines = [f"### {name}", ""]
    called = call != name  # it says how it is made; else its base does
    lines += [code(f"class {call}" if called or not bases else f"class {name}({', '.join(bases)})"), ""]
    if bases and called:
        lines += [f"A kind of {', '.join(f'`{base}`' for base in bases)}.", ""]
    lines += [prose(doc), ""]
    if made:
        lines += [prose(made), ""]
    special = [row for row in rows if row[0].startswith("__") and not row[1]]
    rows = [row for row in rows if row not in special]
    if rows:
        lines += ["| member | |", "|---|---|"]
        # A table's cell ends at a |, even in code.
        rows = [(text.replace("|", "\\|"), " ".join(paragraphs(doc))) for text, doc in rows]
        lines += [f"| `{text}` | {escaped(doc)} |" for text, doc in rows]
        lines.append("")
    if special:
        names = ", ".join(f"`{text.split('(')[0]}`" for text, _ in special)
        lines += [f"Also {names}.", ""]
    return lines


def attribute_docs(cls):
    """The texts below annotated assignments in a class of Python code."""
    try:
        module = ast.parse(inspect.cleandoc("\n" + inspect.getsource(cls)))
    except (OSError, TypeError):
        # It says to be of another module than the one whose source it stands in.
        code = getattr(vars(cls).get("__init__"), "__code__", None)
        if code is None or not Path(code.co_filename).exists():
            return {}
        module = ast.parse(Path(code.co_filename).read_text(encoding="utf-8"))
    body = next((one.body for one in module.body if isinstance(one, ast.ClassDef) and one.name == cls.__name__), [])
    return {
        one.target.id: text
        for one, following in zip(body, body[1:])
        if isinstance(one, ast.AnnAssign)
        and isinstance(following, ast.Expr)
        and isinstance(text := getattr(following.value, "value", None), str)
    }


def constant_docs(package):
    """The texts below assignments in the package's own sources: what Python keeps nowhere."""
    found = {}
    for path in sorted(Path(package.__file__).parent.glob("*.py")):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        for one, next_one in zip(body, body[1:]):
            match one, next_one:
                case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                    found[name] = text
    return found


def generate(package, title="Python reference", see=""):
    functions, classes, failures, constants = [], [], [], []
    docs = constant_docs(package)
    for name in sorted(package.__all__, key=str.lower):
        thing = getattr(package, name)
        if inspect.isclass(thing) and issubclass(thing, BaseException):
            failures.append((name, class_lines(name, thing)))
        elif inspect.isclass(thing):
            classes.append((name, class_lines(name, thing)))
        elif callable(thing):
            # A function up to pytest 8.3, an object of its own class since.
            is_fixture = hasattr(thing, "_pytestfixturefunction") or type(thing).__module__.startswith("_pytest.")
            text, doc = signature(name, inspect.unwrap(thing) if is_fixture else thing)
            if is_fixture:
                marker = getattr(thing, "_pytestfixturefunction", None) or thing._fixture_function_marker
                scope = "" if marker.scope == "function" else f"(scope={marker.scope!r})"
                text = f"@pytest.fixture{scope}\ndef {text}"
            if not doc:
                raise DocumentError(f"{name} has no docstring")
            functions.append((name, [f"### {name}()", "", code(text), "", prose(doc), ""]))
        elif name == "__version__":
            constants.append((name, ["### `__version__`", "", "The version, as text.", ""]))
        elif name in docs and isinstance(thing, tuple):
            constants.append((name, [f"### {name}", "", code(f"{name} = {thing!r}"), "", prose(docs[name]), ""]))
        else:
            raise DocumentError(f"{name}: a {type(thing).__name__}, which is not known how to show")
    lines = [
        f"# {title}",
        "",
        "<!-- Made by scripts/generate-reference from the package's docstrings: change those. -->",
        "",
        *("\n\n".join(paragraphs(_FOR_PYTEST.sub("", package.__doc__))).split("\n")),
        "",
        see,
        "",
    ]
    sections = [("Functions", functions), ("Classes", classes), ("Exceptions", failures), ("Constants", constants)]
    sections = [section for section in sections if section[1]]
    seen = {anchor(title): 0 for title, _ in sections}
    for title, entries in sections:
        links = []
        for _, entry in entries:
            heading = entry[0].removeprefix("### ")
            target = anchor(heading.replace("`", ""))
            count = seen[target] = seen.get(target, -1) + 1
            links.append(f"[{heading}](#{target}{f'-{count}' if count else ''})")
        lines.append(f"- {title}: {', '.join(links)}")
    for title, entries in sections:
        lines += ["", f"## {title}", ""]
        for _, entry in entries:
            lines += entry
        while lines[-1] == "":
            lines.pop()
    return "\n".join(lines) + "\n"
