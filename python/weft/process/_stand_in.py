"""weft.process under mirakuru's name."""

from __future__ import annotations

import importlib.machinery
import signal
import sys
import types


def install_as_mirakuru() -> None:
    """Make `import mirakuru` give weft.process, with the modules that mirakuru 3 has. To be called before that import.

    RuntimeError: mirakuru itself has been imported.
    """
    from weft import process

    present = sys.modules.get("mirakuru")
    if present is not None and getattr(present, "__weft__", False):
        return
    if present is not None:
        raise RuntimeError("mirakuru has been imported already: call install_as_mirakuru() before")
    names = {name: getattr(process, name) for name in process.__all__}
    package = types.ModuleType("mirakuru", process.__doc__)
    package.__dict__.update(names, __weft__=True, __path__=[], __version__="3.0.0")
    package.__dict__["__all__"] = [name for name in process.__all__ if name != "install_as_mirakuru"]
    modules = {"mirakuru": package}
    for part in ("base", "base_env", "compat", "exceptions", "http", "output", "pid", "tcp", "unixsocket"):
        module = types.ModuleType(f"mirakuru.{part}", process.__doc__)
        module.__dict__.update(names)
        setattr(package, part, module)
        modules[f"mirakuru.{part}"] = module
    modules["mirakuru.compat"].__dict__["SIGKILL"] = signal.SIGKILL
    for name, module in modules.items():
        module.__spec__ = importlib.machinery.ModuleSpec(name, None, is_package=name == "mirakuru")
    sys.modules.update(modules)
