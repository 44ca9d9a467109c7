// How the networking part waits.
#pragma once

#include <span>

#include "poll/poller.hpp"
#include "sync/wake.hpp"

namespace weft::detail {

/// Poller::wait() for fibers, cancellable; ppoll(2) for a thread that cannot switch: that ignores
/// `announcement`, and takes kMaxNative at most. Without `waits` it is a sleep.
Outcome wait_for(std::span<engine::FdWait> waits, Nanos deadline, const char* call,
                 const engine::Poller::Announcement* announcement = nullptr) noexcept;
inline constexpr size_t kMaxNative = 16;

/// What every operation begins with: lets others run if it is their turn, and tells whether the fiber may
/// still wait at all.
Outcome begin_operation() noexcept;

/// Closes a descriptor that is not waited for by anybody who would use it again.
long close_now(int fd) noexcept;

}  // namespace weft::detail
