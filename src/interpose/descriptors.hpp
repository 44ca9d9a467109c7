// Closing descriptors, for the families that close some.
#pragma once

namespace weft::engine::interpose {

/// To be called before `fd` is closed or replaced: ends the waits for it. False if it is the engine's own,
/// which is not to be touched: to the program it is not open. Keeps errno.
bool may_close(int fd) noexcept;

}  // namespace weft::engine::interpose
