// Descriptor: what several use at a time, and any of them, or another, may close.
#pragma once

#include <sys/socket.h>

#include "weft/detail/io.hpp"

namespace weft::detail {

/// A non-blocking socket. Every operation makes the system call and, where that would block, waits and makes
/// it again. All may be called at the same time, on any thread; those with a deadline are cancellation
/// points, whether they need to wait or not.
///
/// close() ends every operation under way with EBADF. The number is given back to the kernel only when the
/// last of them has left, so none ever touches a file that bears the number later.
class Descriptor {
 public:
  Descriptor() noexcept = default;
  explicit Descriptor(int fd) noexcept : fd_(fd), state_(fd < 0 ? kGone : kOpen) {}
  /// REQUIRES: nobody uses `other`. Likewise the assignment.
  Descriptor(Descriptor&& other) noexcept : Descriptor(other.release()) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this == &other) return *this;
    close();
    fd_ = other.release();
    state_.store(fd_ < 0 ? kGone : kOpen, std::memory_order_relaxed);
    return *this;
  }
  ~Descriptor() { close(); }

  /// -1 once closed.
  int fd() const noexcept { return state_.load(std::memory_order_relaxed) & (kClosed | kGone) ? -1 : fd_; }
  /// Gives it up, open. REQUIRES: nobody uses it.
  WEFT_API int release() noexcept;
  /// When it returns the descriptor is closed, and no operation is under way. Parks, uncancellable, until
  /// they have left. A thread that cannot switch waits for a second at most; then the last of them closes.
  void close() noexcept {
    if (!(state_.load(std::memory_order_relaxed) & kGone)) close_slowly();
  }

  WEFT_API IoResult receive(void* data, size_t size, int flags, Nanos deadline, const char* call) noexcept;
  WEFT_API IoResult send(const void* data, size_t size, Nanos deadline, const char* call) noexcept;
  WEFT_API IoResult receive_message(msghdr& message, int flags, Nanos deadline, const char* call) noexcept;
  WEFT_API IoResult send_message(const msghdr& message, Nanos deadline, const char* call) noexcept;
  /// The value is a new descriptor, non-blocking and close-on-exec. Connections that failed while they were
  /// queued are passed over.
  WEFT_API IoResult accept(sockaddr* peer, socklen_t* size, Nanos deadline) noexcept;

  // These return 0 or a negated errno, and never wait.
  WEFT_API int set_option(int level, int name, const void* value, socklen_t size) noexcept;
  WEFT_API int option(int level, int name, void* value, socklen_t* size) noexcept;
  WEFT_API int local_name(sockaddr* address, socklen_t* size) noexcept;
  WEFT_API int peer_name(sockaddr* address, socklen_t* size) noexcept;
  WEFT_API int shutdown(int how) noexcept;
  WEFT_API int connect_at_once(const sockaddr* address, socklen_t size) noexcept;

 private:
  struct Waiter;

  // state_: kClosed: no operation may begin. kGone: the number was given back. The rest counts operations.
  static constexpr uint32_t kOpen = 0, kClosed = 1, kGone = 2, kUser = 4;

  bool enter() noexcept;
  void leave() noexcept;
  WEFT_API void close_slowly() noexcept;
  void announce(Waiter& waiter) noexcept;
  Outcome wait(short events, Nanos deadline, const char* call) noexcept;
  template <typename Attempt>
  IoResult perform(short events, Nanos deadline, const char* call, Attempt&& attempt) noexcept;
  template <typename Call>
  int at_once(Call&& call) noexcept;

  int fd_ = -1;
  std::atomic<uint32_t> state_{kGone};
  SpinLock lock_;  // guards waiters_
  Waiter* waiters_ = nullptr;
};

}  // namespace weft::detail
