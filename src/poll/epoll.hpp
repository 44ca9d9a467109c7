// The poller for kernels and containers that refuse io_uring.
#pragma once

#include <sys/epoll.h>

#include <atomic>

#include "poll/poller.hpp"

namespace weft::engine {

/// One epoll set. A descriptor is registered with EPOLLONESHOT when a fiber first waits for it and armed anew
/// by EPOLL_CTL_MOD for each wait, though that costs a system call: a set that stays armed cannot notice that
/// a number was closed behind our back and now stands for another file, whose fibers would wait for ever.
class EpollPoller final : public Poller {
 public:
  /// Null with errno set when a descriptor or a place in the table is not to be had.
  static std::unique_ptr<Poller> create();
  ~EpollPoller() override;

  Backend backend() const noexcept override { return Backend::kEpoll; }
  void poll(Nanos timeout) noexcept override;
  void interrupt() noexcept override;
  bool has_events() noexcept override;

 protected:
  void arm(FdWait& wait) noexcept override;
  void disarm(std::span<FdWait> waits, Wake wake) noexcept override;
  void deregister(FdEntry& entry, int fd) noexcept override;
  void retire(FdEntry&) noexcept override {}  // closing() leaves none
  void renew() noexcept override;

 private:
  static constexpr int kEventsAtOnce = 256;

  EpollPoller() noexcept = default;
  bool open() noexcept;
  void close() noexcept;
  long control(int operation, const FdEntry& entry, int fd, uint32_t events) noexcept;
  long register_wait(FdEntry& entry, FdWait& wait) noexcept;
  void file_is_gone(FdEntry& entry, int fd) noexcept;
  int collect(Nanos timeout) noexcept;
  void deliver(const epoll_event& event) noexcept;

  // Read by other threads; they change in a fork child only, where there are none.
  int epoll_ = -1;
  int bell_ = -1;             // an eventfd, for interrupt()
  bool interrupted_ = false;  // the next poll that would block is not to
  epoll_event events_[kEventsAtOnce];
};

}  // namespace weft::engine
