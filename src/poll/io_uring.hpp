// The poller for kernels that allow io_uring.
#pragma once

#include "poll/io_ring.hpp"
#include "poll/poller.hpp"

namespace weft::engine {

/// One ring. Each wait is a poll request of its own, made when the carrier polls next: a hundred fibers that
/// park cost one system call, which is also the one that waits. A request holds on to the file itself, not
/// its number, so it can never report on another file that was given the number meanwhile; and the wait it
/// belongs to stays on its fiber's stack until the request has completed or was removed, so no completion can
/// come too late.
class UringPoller final : public Poller {
 public:
  /// Null with errno set when the kernel refuses, or a descriptor or a place in the table is not to be had.
  static std::unique_ptr<Poller> create();
  ~UringPoller() override;

  Backend backend() const noexcept override { return Backend::kIoUring; }
  void poll(Nanos timeout) noexcept override;
  void interrupt() noexcept override;
  bool has_events() noexcept override;
  long file_operation(const FileOperation& operation) noexcept override;

 protected:
  void arm(FdWait& wait) noexcept override;
  void disarm(std::span<FdWait> waits, Wake wake) noexcept override;
  void deregister(FdEntry&, int) noexcept override {}  // only epoll registers
  void retire(FdEntry& entry) noexcept override;
  void renew() noexcept override;

 private:
  struct FileRequest;

  UringPoller() noexcept = default;
  int open() noexcept;
  void begin() noexcept;
  io_uring_sqe& request() noexcept;
  void watch_bell() noexcept;
  void add(FdWait& wait) noexcept;
  void remove(FdWait& wait) noexcept;
  void wait_for(const FdWait& wait) noexcept;
  void collect() noexcept;
  void reap() noexcept;
  void deliver(FdWait& wait, const io_uring_cqe& completion) noexcept;

  IoRing ring_;
  // Read by other threads; changes in a fork child only, where there are none.
  int bell_ = -1;             // an eventfd, for interrupt()
  bool interrupted_ = false;  // the next poll that would block is not to
};

}  // namespace weft::engine
