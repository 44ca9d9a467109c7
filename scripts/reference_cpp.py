"""Writes what the public headers say as Markdown. For generate-reference."""

import re
import textwrap
from pathlib import Path

from header_parser import ParseError, parse

def escaped(text):
    """A comment's text, with what Markdown would take for markup made harmless, but for `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    markup = re.compile(r"([\\<>*\[\]|]|(?<!\w)_|_(?!\w))")
    return "".join(part if part.startswith("`") else markup.sub(r"\\\1", part) for part in parts)


def prose(doc):
    """Paragraphs of a comment, and its examples, which are indented by four."""
    blocks, paragraph, example = [], [], []

    def end():
        if paragraph:
            blocks.append(escaped(" ".join(paragraph)))
            paragraph.clear()
        if example:
            blocks.append("\n".join(["```cpp", *(line[4:] for line in example), "```"]))
            example.clear()

    for line in doc.split("\n"):
        if line.startswith("    "):
            if paragraph:
                end()
            example.append(line)
        elif not line.strip():
            end()
        else:
            if example:
                end()
            paragraph.append(line.strip())
    end()
    return "\n\n".join(blocks)


def code(signatures):
    return "\n".join(["```cpp", *signatures, "```"])


def commented(doc):
    """A comment as lines of `///`, its paragraphs filled anew."""
    lines = []
    for block in re.split(r"\n[ \t]*\n", doc):
        lines += ["///"] if lines else []
        if block.startswith("    "):
            lines += [f"/// {line}" for line in block.split("\n")]
        else:
            filled = textwrap.wrap(" ".join(block.split()), 106, break_long_words=False, break_on_hyphens=False)
            lines += [f"/// {line}" for line in filled]
    return lines


def members(entity):
    """The members of a class as its header groups them, each below its comment."""
    lines, after_type = [], False
    for member in entity.members:
        if member.kind in ("class", "struct", "enum"):
            after_type = True
            continue
        if lines and (after_type or not member.follows):
            lines.append("")
        after_type = False
        lines += commented(member.doc) if member.doc else []
        lines.append(member.signature)
    return [code(lines), ""] if lines else []


def functions(entities):
    """Functions of a namespace that share a comment."""
    doc = next((entity.doc for entity in entities if entity.doc), "")
    return [code([entity.signature for entity in entities]), "", *([prose(doc), ""] if doc else [])]


def scope_of(entity):
    return entity.inside.removeprefix("weft").removeprefix("::")


def type_lines(entity, level, scope):
    name = f"{scope}::{entity.name}" if scope else entity.name
    lines = [f"{'#' * level} {escaped(f'{entity.kind} {name}')}", ""]
    if entity.signature != f"{entity.kind} {entity.name};":
        lines += [code([entity.signature]), ""]
    if entity.doc:
        lines += [prose(entity.doc), ""]
    if entity.kind == "enum":
        lines += ["| value | |", "|---|---|"]
        lines += [f"| `{value.signature}` | {escaped(value.doc)} |" for value in entity.members]
        return [*lines, ""]
    if not entity.copies:
        lines += ["Moved, not copied." if entity.moves else "Neither copied nor moved.", ""]
    inner = [member for member in entity.members if member.kind in ("class", "struct", "enum")]
    plain = [member for member in entity.members if member not in inner]
    if plain and all(member.kind == "variable" for member in plain):
        lines += ["| member | |", "|---|---|"]
        lines += [f"| `{m.signature.rstrip(';')}` | {escaped(' '.join(m.doc.split()))} |" for m in plain]
        lines += [""]
    else:
        lines += members(entity)
    for each in inner:
        lines += type_lines(each, min(level + 1, 6), name)
    return lines


def header_lines(header):
    lines = [f"## {header.name}", "", escaped(header.doc), ""]
    group = []

    def flush():
        if group:
            names = [f"{scope_of(e)}::{e.name}".removeprefix("::") + "()" * (e.kind == "function") for e in group]
            lines.extend([f"### {escaped(', '.join(dict.fromkeys(names)))}", "", *functions(group)])
            group.clear()

    for entity in header.members:
        if not entity.follows:
            flush()
        if entity.kind in ("class", "struct", "enum"):
            flush()
            lines.extend(type_lines(entity, 3, scope_of(entity)))
        elif entity.kind == "namespace":
            flush()
            if odd := next((inner for inner in entity.members if inner.kind != "function"), None):
                raise ParseError(f"{header.name}: {odd.kind} {odd.name} in namespace {entity.name}, not a function")
            lines += [f"### namespace {entity.name}", "", *([prose(entity.doc), ""] if entity.doc else [])]
            lines += members(entity)
        else:
            group.append(entity)
    flush()
    return lines


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def render(headers):
    lines = [
        "# C++ reference",
        "",
        "<!-- Made by scripts/generate-reference from the public headers: change those. -->",
        "",
        "What the headers under `include/weft/` say; `#include <weft/weft.hpp>` is all of them. Everything is in",
        "namespace `weft`, or `weft::heap`, `weft::net` or `weft::process` where the name says so. Names of `detail`",
        "promise nothing and are left out.",
        "[The C++ guide](../guides/cpp.md) tells how to use it; [both doors](both-doors.md) puts it beside Python.",
        "",
        "| header | |",
        "|---|---|",
    ]
    lines += [f"| [{header.name}](#{anchor(header.name)}) | {escaped(header.doc)} |" for header in headers]
    for header in headers:
        lines += ["", *header_lines(header)]
        while lines[-1] == "":
            lines.pop()
    return "\n".join(lines) + "\n"


def public_headers(include):
    root = Path(include)
    found = sorted((root / "weft").glob("*.hpp")) + sorted((root / "weft/net").glob("*.hpp"))
    found += sorted((root / "weft/heap").glob("*.hpp")) + sorted((root / "weft/process").glob("*.hpp"))
    return [path for path in found if path.name != "detail.hpp"]


def generate(include):
    headers = public_headers(include)
    return render([parse(path.read_text(encoding="utf-8"), str(path.relative_to(include))) for path in headers])
