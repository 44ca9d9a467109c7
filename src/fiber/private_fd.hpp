// The engine's own descriptors, kept out of the program's way.
#pragma once

namespace weft::engine {

/// Moves `fd` to a high number, close-on-exec, where it neither takes a low number from the program nor
/// counts for its limit, and registers it, so that routed close(), dup2(), close_range() and kin spare it.
/// Closes `fd`. Returns the new number, or `fd` itself where it could not be moved; -1 stays -1. Any thread.
int make_private_fd(int fd) noexcept;

/// Closes and forgets a descriptor from make_private_fd(); ignores -1.
void close_private_fd(int fd) noexcept;

/// True for the engine's own. Async-signal-safe.
bool is_private_fd(int fd) noexcept;

/// The smallest private descriptor >= `fd`, or -1: for walking around them in a range.
int next_private_fd(int fd) noexcept;

}  // namespace weft::engine
