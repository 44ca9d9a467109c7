#include "interpose/sockets_ring.hpp"

#include <liburing.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <new>

#include "fiber/futex_lock.hpp"
#include "fiber/private_fd.hpp"
#include "fiber/sys.hpp"

namespace weft::engine::interpose {

namespace {

constexpr uint16_t kDontWait = 1 << 1;  // IORING_ACCEPT_DONTWAIT, Linux 6.10
constexpr uint64_t kAccept = 1, kCancel = 2;

class AcceptRing {
 public:
  bool open() noexcept {
    io_uring_params parameters{};
    if (io_uring_queue_init_params(4, &ring_, &parameters) != 0) return false;
    ring_.ring_fd = ring_.enter_ring_fd = make_private_fd(ring_.ring_fd);
    for (uint32_t i = 0; i < ring_.sq.ring_entries; ++i) ring_.sq.array[i] = i;
    return true;
  }

  // Gives the ring up without touching what is shared with the parent.
  void abandon() noexcept { close_private_fd(ring_.ring_fd); }

  long accept(int fd, sockaddr* address, socklen_t* address_length, int flags) noexcept {
    if (dont_wait_) {
      long result = -EAGAIN;
      put_accept(fd, address, address_length, flags, kDontWait);
      if (!enter(1)) return kNoRing;
      take(result);
      if (result != -EINVAL) return result;
    }
    // The flag is unknown to this kernel, or the descriptor is no listener. Without it the kernel goes on
    // watching the listener, which has to be taken back.
    long result = -ECANCELED;
    put_accept(fd, address, address_length, flags, 0);
    if (!enter(0)) return kNoRing;
    if (!take(result)) {
      io_uring_sqe& cancel = put(IORING_OP_ASYNC_CANCEL);
      cancel.addr = kAccept;
      cancel.user_data = kCancel;
      enter(1);
      for (int left = 2; left > 0;) {
        if (take(result))
          --left;
        else
          enter(1);
      }
    }
    if (result != -EINVAL) dont_wait_ = false;
    return result == -ECANCELED ? -EAGAIN : result;
  }

 private:
  io_uring_sqe& put(uint8_t operation) noexcept {
    io_uring_sqe& request = ring_.sq.sqes[*ring_.sq.ktail & (ring_.sq.ring_entries - 1)];
    request = {};
    request.opcode = operation;
    std::atomic_ref(*ring_.sq.ktail).store(*ring_.sq.ktail + 1, std::memory_order_release);
    ++unsubmitted_;
    return request;
  }

  void put_accept(int fd, sockaddr* address, socklen_t* address_length, int flags, uint16_t how) noexcept {
    io_uring_sqe& request = put(IORING_OP_ACCEPT);
    request.fd = fd;
    request.addr = reinterpret_cast<uint64_t>(address);
    request.addr2 = reinterpret_cast<uint64_t>(address_length);
    request.accept_flags = static_cast<uint32_t>(flags);
    request.ioprio = how;
    request.user_data = kAccept;
  }

  // False if the kernel took nothing.
  bool enter(uint32_t least) noexcept {
    const uint32_t head = *ring_.sq.khead;
    for (;;) {
      const long result = sys::call(SYS_io_uring_enter, ring_.ring_fd, unsubmitted_, least,
                                    IORING_ENTER_GETEVENTS, nullptr, 0);
      if (std::atomic_ref(*ring_.sq.khead).load(std::memory_order_acquire) != head || unsubmitted_ == 0) {
        unsubmitted_ = 0;
        if (result != -EINTR || least == 0 || has_completion()) return true;
        continue;
      }
      if (result == -EINTR) continue;
      // Take the request back.
      std::atomic_ref(*ring_.sq.ktail).store(head, std::memory_order_release);
      unsubmitted_ = 0;
      return false;
    }
  }

  bool has_completion() noexcept {
    return *ring_.cq.khead != std::atomic_ref(*ring_.cq.ktail).load(std::memory_order_acquire);
  }

  // True if a request has completed; `result` is set if that was the accept.
  bool take(long& result) noexcept {
    if (!has_completion()) return false;
    const io_uring_cqe& completion = ring_.cq.cqes[*ring_.cq.khead & (ring_.cq.ring_entries - 1)];
    if (completion.user_data == kAccept) result = completion.res;
    std::atomic_ref(*ring_.cq.khead).store(*ring_.cq.khead + 1, std::memory_order_release);
    return true;
  }

  io_uring ring_{};
  uint32_t unsubmitted_ = 0;
  bool dont_wait_ = true;
};

constinit FutexLock g_lock;
constinit AcceptRing* g_ring = nullptr;  // guarded by g_lock
constinit bool g_refused = false;        // likewise

void forget_in_child() noexcept {
  if (g_ring) g_ring->abandon();
  g_ring = nullptr;
}

AcceptRing* ring() noexcept {
  if (g_ring || g_refused) return g_ring;
  static const int registered = pthread_atfork(nullptr, nullptr, &forget_in_child);
  auto* made = new (std::nothrow) AcceptRing;
  if (registered == 0 && made && made->open()) return g_ring = made;
  delete made;
  g_refused = true;
  return nullptr;
}

}  // namespace

long accept_by_ring(int fd, sockaddr* address, socklen_t* address_length, int flags) noexcept {
  Guard guard(g_lock);
  AcceptRing* present = ring();
  return present ? present->accept(fd, address, address_length, flags) : kNoRing;
}

}  // namespace weft::engine::interpose
