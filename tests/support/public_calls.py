"""The package's public names, and what leak tests of them are made with."""

import importlib
import inspect
import pkgutil
import types

import weft


def refuses(error, function, *args, **kwargs):
    """The call is to raise that.

    What is raised, and may be kept by what raised it, refers to this frame: so this is left with no reference in return.
    """
    name = repr(function)
    try:
        function(*args, **kwargs)
    except error:
        del function, args, kwargs
        return
    raise AssertionError(f"{name} did not raise {error}")


def raises(error, outcome):
    """The same of what a fiber or a future ended with.

    It keeps that exception; whose traceback has the caller's frames, which know the fiber: a ring for the collector, as with
    any future of Python. So it is cut here.
    """
    try:
        outcome()
    except error as raised:
        raised.__traceback__ = None
        return
    raise AssertionError(f"{outcome!r} did not raise {error}")


def ends(wait):
    """Each of the ways in which a wait ends without what was waited for: by cancellation, and by a time limit."""
    fiber = weft.spawn(wait)
    weft.yield_now()  # it runs until it waits
    fiber.cancel()
    raises(weft.Cancelled, fiber.result)
    with weft.timeout(0.0001):
        refuses(weft.Timeout, wait)


def modules():
    """The names of the package's public modules."""
    found = ["weft"]
    for module in pkgutil.walk_packages(weft.__path__, "weft."):
        if not any(part.startswith("_") for part in module.name.split(".")):
            found.append(module.name)
    return found


def _exported(module):
    names = getattr(module, "__all__", None)
    if names is not None:
        return names
    return [name for name, thing in vars(module).items()
            if not name.startswith("_") and getattr(thing, "__module__", None) == module.__name__]


def _is_call(thing):
    """Does getting it or calling it run code of ours?"""
    if isinstance(thing, (types.MemberDescriptorType, types.GetSetDescriptorType)):
        return False  # a slot
    if type(thing).__name__ == "_tuplegetter":  # a field of a named tuple
        return False
    return callable(thing) or hasattr(type(thing), "__get__")


def _methods(thing, classes):
    """Those of a class, and of its bases that are ours and that nobody sees."""
    for base in thing.__mro__:
        if not base.__module__.startswith("weft") or (base is not thing and base in classes):
            continue
        for name, member in vars(base).items():
            if not name.startswith("_") and _is_call(member):
                yield name


def names():
    """Every public call: "weft.spawn", "weft.Channel.send". A class stands for its constructor."""
    found = set()
    exported = {(name, each): getattr(importlib.import_module(name), each) for name in modules()
                for each in _exported(importlib.import_module(name))}
    classes = {thing for thing in exported.values() if inspect.isclass(thing)}
    for (module, name), thing in exported.items():
        if not callable(thing):
            continue
        found.add(f"{module}.{name}")
        if inspect.isclass(thing):
            found.update(f"{module}.{name}.{method}" for method in _methods(thing, classes))
    return found
