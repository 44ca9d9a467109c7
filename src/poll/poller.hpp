// Poller: how fibers wait for descriptors.
#pragma once

#include <memory>
#include <span>
#include <string>

#include "fiber/carrier.hpp"

namespace weft {

enum class Backend : uint8_t { kAuto, kIoUring, kEpoll };
const char* to_string(Backend backend) noexcept;

/// A descriptor and what is waited for on it, as for poll(2). Lives on the waiting fiber's stack.
struct FdWait : ListHook {
  int fd = -1;
  short events = 0;   ///< POLLIN, POLLOUT, POLLPRI, POLLRDHUP
  short revents = 0;  ///< what was seen, with POLLERR, POLLHUP, POLLNVAL; 0 where another wait of the call was ready

  // The poller's own.
  Fiber* fiber = nullptr;
  uint64_t ticket = 0;
  uint64_t token = 0;
};

/// The event source of a carrier: readiness of descriptors, for any number of fibers on one descriptor, in all directions.
class Poller : public EventSource {
 public:
  /// A poller of the kind asked for; kAuto: io_uring, or epoll where the kernel refuses that. Null with errno set when it
  /// cannot be had. `why`, if given, receives a sentence for `weft doctor`: what was chosen, and for what reason.
  static std::unique_ptr<Poller> create(Backend backend, std::string* why = nullptr);

  /// The poller of the calling thread's carrier. REQUIRES: the caller is a fiber.
  static Poller& of_this_carrier() noexcept { return static_cast<Poller&>(Carrier::current()->events()); }

  virtual Backend backend() const noexcept = 0;

  /// Parks the running fiber until one of `waits` is ready, the absolute time `deadline`, or what `flags` allow. Wake::kReady:
  /// at least one revents is set. A descriptor that is always ready to the kernel (a regular file) is ready at once, one that
  /// is not open has POLLNVAL. Wake::kClosed: one of them was closed meanwhile, through closing(); its revents is POLLNVAL.
  /// Readiness is a hint: another fiber may take it first. Negative descriptors are ignored.
  virtual Wake wait(std::span<FdWait> waits, Nanos deadline, uint8_t flags, const char* call) noexcept = 0;

  /// The same for one descriptor.
  Wake wait(int fd, short events, Nanos deadline, uint8_t flags, const char* call) noexcept {
    FdWait one;
    one.fd = fd;
    one.events = events;
    return wait({&one, 1}, deadline, flags, call);
  }

  /// To be called before `fd` is closed or replaced, on any thread. Ends every wait for it, on every carrier, with
  /// Wake::kClosed; when it returns no poll of ours keeps the file behind `fd` open, nor can readiness of that file be taken
  /// for that of the next to bear its number. Cheap when nothing of ours ever waited for `fd`.
  static void closing(int fd) noexcept;
};

}  // namespace weft
