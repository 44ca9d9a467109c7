"""Reads a public header: what it declares, and what its comments say. For generate-reference.

The parser knows the style of our headers and no more of C++. What it does not know it refuses (ParseError): nothing
is left out that is not meant to be. Left out on purpose: what is private or protected, friends that are no operators,
copying and assigning (told of in words where they are deleted), names of `detail`, and static_assert.
"""

import re
from dataclasses import dataclass, field

_TYPE = re.compile(
    r"^(class|struct|enum class|enum)\s+(?:\[\[\w+\]\]\s*)*([\w:]+(?:<[\w:]+>)?)\s*(?:final\b)?\s*(:.*)?$", re.DOTALL
)
_NAMESPACE = re.compile(r"^namespace\s+([\w:]*)$")
_ACCESS = re.compile(r"(public|private|protected)\s*:(?!:)")
_BEFORE_NAME = re.compile(r"(operator\s*(?:\(\)|\[\]|[^\s\w(]+|bool)|~?\w+)$")
_VARIABLE = re.compile(r"^[\w:<>,\s*&]+?[\s*&](\w+(?:\s*,\s*\w+)*)\s*(?:=.*|\{.*)?$", re.DOTALL)
_ENUMERATOR = re.compile(r"\s*(\w+)(\s*=\s*[^,/}]+?)?\s*(,|$|(?=///<))[ \t]*(?:///<[ ]?(.*))?")


# Of those that are called; with the lines that go on with it.
_MACRO = re.compile(r"#\s*define\s+(\w+)(\([^)]*\))(?:[^\\\n]|\\\n|\\.)*")


class ParseError(Exception):
    """What stands in a header is not of a form that this parser knows. Tells the file and the line."""


@dataclass
class Entity:
    kind: str  # header, namespace, class, struct, enum, function, variable, alias, enumerator, macro
    name: str = ""
    signature: str = ""
    doc: str = ""
    members: list["Entity"] = field(default_factory=list)
    copies: bool = True  # of a class: copying was not deleted
    moves: bool = False
    follows: bool = False  # it stands right below the one before it, and what that says is for both
    inside: str = ""  # the namespace that it was declared in, below the header's: "net"; "weft" for weft itself


class Parser:
    def __init__(self, text, name):
        self.text, self.name, self.at = text, name, 0

    def fail(self, message, at=None):
        line = self.text.count("\n", 0, self.at if at is None else at) + 1
        raise ParseError(f"{self.name}:{line}: {message}")

    # --- Characters.

    def skip_quoted(self):
        quote = self.text[self.at]
        start = self.at
        self.at += 1
        while self.at < len(self.text) and self.text[self.at] != quote:
            self.at += 2 if self.text[self.at] == "\\" else 1
        if self.at >= len(self.text):
            self.fail("a quote that is not closed", start)
        self.at += 1

    def is_quote(self):
        # An apostrophe between digits separates them.
        here = self.text[self.at]
        return here == '"' or (here == "'" and not self.text[self.at - 1].isalnum())

    def skip_line(self):
        end = self.text.find("\n", self.at)
        self.at = len(self.text) if end < 0 else end

    def skip_braces(self):
        """From a brace that opens to behind the one that closes it."""
        start, depth = self.at, 0
        while self.at < len(self.text):
            here = self.text[self.at]
            if self.is_quote():
                self.skip_quoted()
                continue
            if self.text.startswith("//", self.at):
                self.skip_line()
                continue
            if self.text.startswith("/*", self.at):
                self.fail("a comment of the kind /* */, which our headers do not have")
            depth += (here == "{") - (here == "}")
            self.at += 1
            if depth == 0:
                return
        self.fail("a brace that is not closed", start)

    # --- Declarations.

    def declaration(self):
        """Reads up to the `;` that ends a declaration, or the `{` of its body; initialisers are passed over. Returns
        its text, and whether a body follows."""
        start, parts, depth = self.at, [], 0
        while self.at < len(self.text):
            here = self.text[self.at]
            if self.is_quote():
                begin = self.at
                self.skip_quoted()
                parts.append(self.text[begin : self.at])
                continue
            if self.text.startswith("//", self.at):
                if self.text.startswith("///", self.at):
                    self.fail("a /// comment in the middle of a declaration")
                self.skip_line()
                continue
            if here in "([":
                depth += 1
            elif here in ")]":
                depth -= 1
            elif here == ";" and depth == 0:
                self.at += 1
                return "".join(parts).strip(), False
            elif here == "}" and depth == 0:
                self.fail("a } in the middle of a declaration", start)
            elif here == "{":
                text = "".join(parts).strip()
                if depth == 0 and not self.initialises(text):
                    return text, True
                begin = self.at
                self.skip_braces()
                parts.append(self.text[begin : self.at])
                continue
            parts.append(here)
            self.at += 1
        self.fail("a declaration that does not end", start)

    def initialises(self, text):
        """Does the brace that comes after `text` begin a value, and no body?"""
        plain = without_template(text)
        if _NAMESPACE.match(plain) or re.match(r"(class|struct|union|enum)\b", plain):
            return False
        close = parameters_end(plain)
        if close is None:
            return True  # a variable
        head, tail = plain[:close], plain[close:]
        if re.search(r"(?<![=!<>])=(?!=)", re.sub(r"operator\s*[^\s\w(]+", "", head.split("(")[0])):
            return True  # auto x = f() {...}
        initialisers = re.search(r"(?<!:):(?!:)(.*)$", tail, re.DOTALL)
        # In `: a_(1), b_{2} {` a name without a value comes before a value's brace.
        return bool(initialisers and re.search(r"(^|[,\s])[\w:<>]+$", initialisers.group(1)))

    def trailing_doc(self):
        """The ///< comment behind what was just read, with the lines that go on with it."""
        match = re.compile(r"[ \t]*///<[ ]?(.*)((?:\n[ \t]*///<.*)*)").match(self.text, self.at)
        if not match:
            return ""
        self.at = match.end()
        return " ".join([match.group(1), *re.findall(r"///<\s?(.*)", match.group(2))]).strip()

    # --- Scopes.

    def scope(self, owner, access="public", depth=0):
        """Reads declarations into `owner` up to the brace that closes it, or the end of the file."""
        doc, doc_at, last_end = [], 0, -1
        while True:
            gap = re.compile(r"\s*").match(self.text, self.at)
            blank = gap.group().count("\n") > 1
            self.at = gap.end()
            if doc and blank:
                self.fail("a /// comment, and nothing below it that it is about", doc_at)
            if blank:
                last_end = -1
            if self.at >= len(self.text) or self.text[self.at] == "}":
                if doc:
                    self.fail("a /// comment, and nothing below it that it is about", doc_at)
                if (self.at >= len(self.text)) != (depth == 0):
                    self.fail("braces that do not match")
                self.at += depth > 0
                return
            if self.text.startswith("///<", self.at):
                self.fail("a ///< comment behind nothing")
            if self.text.startswith("///", self.at):
                begin = self.at
                self.skip_line()
                if not doc:
                    doc_at = begin
                line = self.text[begin + 3 : self.at]
                doc.append(line[1:] if line.startswith(" ") else line)
                last_end = -1
                continue
            if self.text.startswith("//", self.at):
                self.skip_line()
                continue
            if self.text[self.at] == "#":
                directive = re.compile(r"#\s*(\w+)").match(self.text, self.at).group(1)
                if directive == "define" and not depth and _MACRO.match(self.text, self.at):
                    before = len(owner.members)
                    self.macro(owner, "\n".join(doc))
                    owner.members[before].follows = last_end == before and not doc
                    doc, last_end = [], len(owner.members)
                    continue
                if depth or directive not in ("pragma", "include"):
                    self.fail(f"#{directive}, which this parser does not know here")
                self.skip_line()
                continue
            if match := _ACCESS.match(self.text, self.at):
                if owner.kind not in ("class", "struct") or doc:
                    self.fail(f"{match.group(1)}: out of place")
                access, self.at = match.group(1), match.end()
                continue
            before = len(owner.members)
            self.one(owner, access, "\n".join(doc), depth)
            if len(owner.members) == before + 1 and not owner.members[before].inside:
                owner.members[before].follows = last_end == before and not doc
            if access == "public":
                last_end = len(owner.members)
            doc = []

    def macro(self, owner, doc):
        """It is shown as it is called."""
        match = _MACRO.match(self.text, self.at)
        self.at = match.end()
        self.add(owner, Entity("macro", match.group(1), match.group(1) + match.group(2), doc))

    def one(self, owner, access, doc, depth):
        begin = self.at
        text, body = self.declaration()
        if not text:
            self.fail("a ; that ends nothing", begin)
        plain = without_template(text)
        shown = access == "public"
        if match := _NAMESPACE.match(plain):
            self.namespace(owner, match.group(1), doc, depth)
        elif plain.startswith(("static_assert", "using namespace ", "friend class ")) or re.match(
            r"(template\s*<[^;]*>\s*)?friend\b", text
        ):
            if body:
                self.skip_braces()
            if "operator" in plain and shown:
                self.function(owner, text.replace("friend ", "", 1), doc, begin)
        elif re.match(r"(class|struct|union|enum)\b", plain):
            self.type(owner, text, plain, body, shown, doc, depth, begin)
        elif plain.startswith("using "):
            match = re.match(r"using\s+(\w+)\s*=", plain)
            if not match or body:
                self.fail(f"a using that this parser does not know: {squeezed(text)}", begin)
            if shown:
                self.add(owner, Entity("alias", match.group(1), signature_of(text) + ";", doc))
        elif parameters_end(plain) is not None and not self.is_variable(plain):
            if body:
                self.skip_braces()
            if shown:
                self.function(owner, text, doc, begin)
        else:
            match = _VARIABLE.match(plain)
            if not match or body:
                self.fail(f"a declaration that this parser does not know: {squeezed(text)[:100]}", begin)
            behind = self.trailing_doc()
            if shown:
                self.add(owner, Entity("variable", match.group(1), signature_of(text) + ";", doc or behind))

    @staticmethod
    def is_variable(plain):
        """`T x = f();` and `T x{f()};`, which have parentheses, too."""
        head = re.sub(r"operator\s*(\(\)|[^\s\w(]+)", "operator", plain[: plain.find("(")])
        return bool(re.search(r"=|\{", head))

    def add(self, owner, entity):
        if re.match(r"(static\s+|inline\s+|constexpr\s+)*detail::", entity.signature):
            if entity.doc:
                self.fail(f"{entity.name} is documented, and has a type of detail::")
            return
        owner.members.append(entity)

    def namespace(self, owner, name, doc, depth):
        if name.split("::")[-1] == "detail" or not name:
            self.skip_braces()
            return
        self.at += 1
        inner = Entity("namespace", name, f"namespace {name}", doc)
        self.scope(inner, depth=depth + 1)
        if name in ("weft", "weft::heap", "weft::net", "weft::process"):
            for entity in inner.members:
                entity.inside = name
                owner.members.append(entity)
            if doc:
                self.fail(f"namespace {name} is documented: say it in the header's first lines")
        else:
            owner.members.append(inner)

    def type(self, owner, text, plain, body, shown, doc, depth, begin):
        match = _TYPE.match(plain)
        if shown and not match:
            self.fail(f"a type that this parser does not know: {squeezed(text)[:100]}", begin)
        if not body:
            if doc:
                self.fail(f"a comment for a type that is only declared: {squeezed(text)}", begin)
            return  # only declared here
        if not shown:
            self.skip_braces()
            self.declaration()  # a variable's name may follow
            return
        if match.group(1).startswith("enum"):
            entity = self.enum(match, doc, text)
        else:
            bases = match.group(3) or ""
            signature = squeezed(text.removesuffix(bases)) + re.sub(r"\s*:\s*", " : ", squeezed(bases), count=1)
            signature = signature.replace(" [[nodiscard]]", "").strip() + ";"
            entity = Entity(match.group(1), match.group(2), signature, doc)
            self.at += 1
            self.scope(entity, "public" if match.group(1) == "struct" else "private", depth + 1)
        rest, more = self.declaration()
        if rest or more:
            self.fail(f"something between a type's }} and its ;: {rest}", begin)
        self.add(owner, entity)

    def enum(self, match, doc, text):
        entity = Entity("enum", match.group(2), signature_of(text) + ";", doc)
        start = self.at
        self.skip_braces()
        body, end = self.text[start + 1 : self.at - 1], self.at
        at = 0
        while body[at:].strip():
            found = _ENUMERATOR.match(body, at)
            if not found or found.end() == at:
                self.fail("an enumerator that this parser does not know", start + 1 + at)
            name, value, _, behind = found.groups(default="")
            entity.members.append(Entity("enumerator", name, name + value, behind.strip()))
            at = found.end()
        self.at = end
        return entity

    def function(self, owner, text, doc, begin):
        signature = signature_of(text)
        plain = without_template(signature)
        deleted = bool(re.search(r"=\s*delete$", signature))
        name = _BEFORE_NAME.search(plain[: opening(plain)].rstrip())
        if not name:
            self.fail(f"a function without a name: {squeezed(text)[:100]}", begin)
        name = name.group(1)
        if owner.kind in ("class", "struct"):
            own = re.escape(owner.name)
            copy = re.search(rf"\((const )?{own}&( \w+)?\)", plain)
            move = re.search(rf"\({own}&&( \w+)?\)", plain)
            if name in (owner.name, "operator=") and (copy or move):
                if copy:
                    owner.copies = not deleted
                else:
                    owner.copies = owner.copies and False
                    owner.moves = not deleted
                if doc:
                    self.fail(f"copying or moving {owner.name} is documented: say it with the class", begin)
                return
            if name.startswith("~") and not doc:
                return
        if deleted:
            self.fail(f"a deleted function that copies nothing: {signature}", begin)
        signature = re.sub(r"\s*=\s*default$", "", signature)
        self.add(owner, Entity("function", name, signature + ";", doc))


# --- Text of declarations.


def squeezed(text):
    return re.sub(r"\s+", " ", text).strip()


def without_template(text):
    """Without `template <...>` and `requires(...)` in front, and attributes."""
    text = text.strip()
    while True:
        if text.startswith("template"):
            start = text.index("<")
            text = text[closing(text, start, "<", ">") + 1 :].lstrip()
        elif re.match(r"requires\s*\(", text):
            text = text[closing(text, text.index("("), "(", ")") + 1 :].lstrip()
        elif text.startswith("[["):
            text = text[text.index("]]") + 2 :].lstrip()
        else:
            return text


def closing(text, start, opens, closes):
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == opens) - (text[i] == closes)
        if depth == 0:
            return i
    raise ParseError(f"a {opens} that is not closed in: {squeezed(text)[:100]}")


def opening(plain):
    """Where the parameters of a function begin."""
    skipped = re.match(r"[^(]*(operator\s*\(\)|decltype\(auto\))", plain)
    return plain.find("(", skipped.end() if skipped else 0)


def parameters_end(plain):
    """Behind the parameters of a function; None: it is none."""
    start = opening(plain)
    return None if start < 0 else closing(plain, start, "(", ")") + 1


def signature_of(text):
    """A declaration as a user would write it down: in one line, without what initialises members."""
    text = squeezed(text).replace("WEFT_API ", "")
    plain = without_template(text)
    head = text[: len(text) - len(plain)]
    close = parameters_end(plain)
    if close is not None and not Parser.is_variable(plain):
        tail = plain[close:]
        initialisers = re.search(r"\s*(?<!:):(?!:)", tail)
        plain = plain[:close] + (tail[: initialisers.start()] if initialisers else tail)
    return head + re.sub(r"^(inline |friend )+", "", plain)


def parse(text, name):
    """The header of that text. Raises ParseError."""
    first = re.match(r"// (.+)\n", text)
    if not first:
        raise ParseError(f"{name}:1: the first line must be a comment that says what the header is")
    header = Entity("header", name, doc=first.group(1))
    parser = Parser(text, name)
    parser.at = first.end()
    parser.scope(header)
    return header
