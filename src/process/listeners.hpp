// Who listens: asked of the kernel instead of by connecting.
#pragma once

#include <cstdint>

namespace weft::process {

/// True if nothing listens at TCP port `port` of `host`, a loopback address or "localhost". Never of another
/// host: false, as where the kernel does not tell. Costs a third of a connection that is refused, and takes
/// no local port.
///
/// A rule of the packet filter may lead a connection elsewhere, where somebody does listen, and one that is
/// bound to a device is not found. So a caller that waits connects all the same now and then. Any thread;
/// never blocks; no descriptor stays open.
bool nobody_listens(const char* host, uint16_t port) noexcept;

}  // namespace weft::process
