// Runtime: the engine of the process, and how many OS threads run fibers.
#pragma once

#include <cstddef>
#include <cstdint>

#include "weft/error.hpp"

namespace weft {

/// What a Runtime starts, or asks for where the engine runs already. A value; nothing is checked before a
/// Runtime is made of it.
struct RuntimeOptions {
  /// OS threads that run fibers, the calling one included: 1 to 64. A fiber that has started stays on its
  /// carrier; one that is new is started by whichever is free.
  int carriers = 1;
  enum class Backend : std::uint8_t { kAuto, kIoUring, kEpoll };
  /// How descriptors are waited for; kAuto: io_uring, or epoll where the kernel refuses that.
  Backend backend = Backend::kAuto;
  /// Bytes of a fiber's stack where SpawnOptions do not say: at least 16 KiB.
  std::size_t stack_size = 1024 * 1024;
};

/// What is counted since the runtime started.
struct RuntimeReport {
  int carriers;
  const char* backend;  ///< "io_uring" or "epoll"
  std::uint64_t fibers_spawned, fibers_alive, fibers_peak;
  std::uint64_t switches;
  std::uint64_t stolen;  ///< new fibers that another carrier started than the one they were spawned on
  std::uint64_t stalls;  ///< times that a carrier did not switch for 5 ms while others could have run
  int offload_threads;
};

/// The process's engine, which starts with the first Runtime, spawn(), TimeoutScope, Shield or TaskGroup, on
/// the thread that makes it: that is the first carrier, which runs fibers whenever its own code waits. It is
/// to be a thread that stays. One Runtime at a time.
///
/// The engine itself lives as long as the process. ~Runtime() stops what this one started beyond it: it waits
/// until every fiber on the other carriers has ended, and ends those threads.
class Runtime {
 public:
  /// Throws std::invalid_argument for options out of range; std::system_error where the engine cannot start,
  /// where another Runtime lives, whatever its options (EBUSY), or where the engine runs already with another
  /// backend or stack size (EALREADY). The first is to be made on the thread that is to be the first carrier.
  explicit Runtime(const RuntimeOptions& options = {}) {
    if (options.carriers < 1 || options.carriers > 64)
      throw std::invalid_argument("weft::Runtime: carriers must be 1 to 64");
    if (options.stack_size < detail::kMinStackSize)
      throw std::invalid_argument("weft::Runtime: stack_size must be 16384 or more");
    const int error = start(options);
    if (error == EALREADY)
      detail::throw_errno(error, "weft::Runtime: the engine runs already, with other options");
    if (error == EBUSY)
      detail::throw_errno(error, "weft::Runtime: there is one already; it sets the carriers");
    if (error) detail::throw_errno(error, "weft::Runtime: the engine cannot start");
  }
  /// A wait, which nothing ends before those fibers do.
  ~Runtime() { stop(); }
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  WEFT_API static bool running() noexcept;
  /// All zero where it does not run. Any thread.
  WEFT_API static RuntimeReport report() noexcept;

 private:
  WEFT_API static int start(const RuntimeOptions& options) noexcept;
  WEFT_API static void stop() noexcept;
};

}  // namespace weft
