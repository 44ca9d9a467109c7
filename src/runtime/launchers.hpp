// Programs that only start the one which is meant.
#pragma once

#include <string_view>

namespace weft::engine {

/// Is a program of that name, without directories, a launcher? One replaces itself by another program, or
/// starts one and waits for it, and what it does itself is not why it is run: shells (many a `python3` is a
/// shell script), what sets something first, init programs of containers, tracers and debuggers. `make`, test
/// runners and supervisors are none: who asks for all threads of those has them.
bool is_launcher(std::string_view name) noexcept;

/// Those of the launchers that may carry a Python interpreter, for their own scripts.
bool is_launcher_with_python(std::string_view name) noexcept;

}  // namespace weft::engine
