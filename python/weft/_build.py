"""Where extension modules in C++ find the library that this package is made of."""

from __future__ import annotations

from weft import _weft

_FOLDER = __file__.rpartition("/")[0]


def get_include() -> str:
    """Return the folder of the C++ headers, for `-I`: `#include <weft/weft.hpp>`."""
    return f"{_FOLDER}/include"


def get_library() -> str:
    """Return the path of libweft.so, to link an extension module to: it shares the engine of this process."""
    return f"{_FOLDER}/lib/libweft.so." + ".".join(_weft.__version__.split(".")[:2])
