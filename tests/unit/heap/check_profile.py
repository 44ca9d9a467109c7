"""Profiles code of the interpreter that runs this, and reads both files that come of it.

Usage: check_profile.py MODULE
"""

import ctypes
import os
import sys
import tempfile
import xml.etree.ElementTree as ElementTree

BLOCK = 5000


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def fields(data):
    """Yields (number, value) of a message: an int, or bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        if key & 7 == 0:
            value, at = varint(data, at)
        elif key & 7 == 2:
            size, at = varint(data, at)
            value, at = data[at : at + size], at + size
            assert len(value) == size
        else:
            raise ValueError(f"wire type {key & 7}")
        yield key >> 3, value
    assert at == len(data)


def numbers(data):
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value


class Profile:
    def __init__(self, data):
        message = list(fields(data))
        self.texts = [value.decode() for number, value in message if number == 6]
        assert self.texts[0] == ""
        functions = {}
        for function in (dict(fields(value)) for number, value in message if number == 5):
            functions[function[1]] = (self.text(function, 2), self.text(function, 4))
        self.mappings = {}
        for mapping in (dict(fields(value)) for number, value in message if number == 3):
            self.mappings[mapping[1]] = (mapping[2], mapping[3], self.text(mapping, 5), self.text(mapping, 6))
        locations = {}
        for location in (dict(fields(value)) for number, value in message if number == 4):
            line = dict(fields(location.get(4, b"")))
            name, file = functions[line[1]] if line else ("", "")
            if 2 in location:
                begin, end = self.mappings[location[2]][:2]
                assert begin <= location[3] < end
            locations[location[1]] = (name, file, line.get(2, 0))
        self.types = [
            (self.text(kind, 1), self.text(kind, 2))
            for kind in (dict(fields(value)) for number, value in message if number == 1)
        ]
        self.samples = []
        for number, value in message:
            if number == 2:
                sample = dict(fields(value))
                stack = [locations[each] for each in numbers(sample[1])]
                self.samples.append((stack, list(numbers(sample[2]))))

    def text(self, message, number):
        return self.texts[message.get(number, 0)]


module = ctypes.PyDLL(os.path.abspath(sys.argv[1]))
module.module_allocate.argtypes = [ctypes.c_size_t]
module.module_allocate.restype = ctypes.c_void_p
module.module_begin.argtypes = [ctypes.c_size_t]
module.module_blocks.restype = ctypes.c_int64


def leaf():
    return module.module_allocate(BLOCK)


def middle():
    return leaf()


def outer():
    return list(map(lambda _: middle(), range(7)))


def main():
    directory = tempfile.mkdtemp()
    pprof, svg = os.path.join(directory, "heap.pb"), os.path.join(directory, "heap.svg")
    outer()
    assert module.module_begin(1) == 0
    before = module.module_blocks()
    outer()
    grown = module.module_blocks() - before
    assert 7 <= grown < 20, grown
    assert module.module_pprof(pprof.encode()) == 0
    assert module.module_svg(svg.encode(), 'a "<title>" & more'.encode()) == 0
    module.module_end()
    assert sorted(os.listdir(directory)) == ["heap.pb", "heap.svg"]

    with open(pprof, "rb") as file:
        profile = Profile(file.read())
    assert profile.types == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    # Of one line, but native code calls on from more than one place.
    found = [(stack, values) for stack, values in profile.samples if stack[0][0] == "module_allocate"]
    assert 1 <= len(found) <= 3, found
    values = [sum(column) for column in zip(*(values for stack, values in found))]
    assert values[0] == values[2] == 7, values
    assert 7 * BLOCK <= values[1] == values[3] <= 7 * (BLOCK + 64), values
    for stack, _ in found:
        check_stack(stack)
    assert all(build_id == "" or len(build_id) >= 16 for *_, build_id in profile.mappings.values())
    assert any(build_id for *_, build_id in profile.mappings.values())
    check_picture(svg)
    for each in [pprof, svg]:
        os.unlink(each)
    os.rmdir(directory)


CODE = {each.__code__.co_qualname: each.__code__.co_firstlineno + 1 for each in (leaf, middle, outer)}
CODE["outer.<locals>.<lambda>"] = CODE["outer"]


def check_stack(stack):
    python = [(name, line) for name, file, line in stack if file == __file__]
    expected = ["leaf", "middle", "outer.<locals>.<lambda>", "outer"]
    assert [name for name, line in python[:4]] == expected, python
    assert all(line == CODE[name] for name, line in python[:4]), python
    names = [name for name, file, line in stack]
    assert "_PyEval_EvalFrameDefault" not in names, names
    # C code that Python called, between what it called and what called it; a stripped interpreter names it badly.
    between = names[names.index("outer.<locals>.<lambda>") + 1 : names.index("outer")]
    assert any("map" in name or "list" in name or name == "" for name in between), names
    # Nothing of the profiler.
    assert not any("weft" in name for name in names), names


def check_picture(svg):
    tree = ElementTree.parse(svg).getroot()
    assert tree.tag == "{http://www.w3.org/2000/svg}svg"
    svg_name = {"svg": "http://www.w3.org/2000/svg"}
    kinds = {
        each.find("svg:title", svg_name).text: each.find("svg:rect", svg_name).get("class")
        for each in tree.iterfind("svg:g", svg_name)
    }
    here = os.path.basename(__file__)
    [leaf_title] = [title for title in kinds if title.startswith(f"leaf ({here}:{CODE['leaf']}): ")]
    assert kinds[leaf_title] == "p", leaf_title
    [allocate_title] = [title for title in kinds if title.startswith("module_allocate: 34.")]
    assert kinds[allocate_title] == "n" and "KiB" in allocate_title, allocate_title
    assert any(text.text == 'a "<title>" & more' for text in tree.iterfind("svg:text", svg_name))


main()
