// Child: one run of a command, as the watcher and its users share it.
#pragma once

#include <atomic>

#include "fiber/futex_lock.hpp"
#include "process/launch.hpp"
#include "process/output.hpp"
#include "process/protocol.hpp"
#include "process/watcher.hpp"

namespace weft::detail {

/// See the functions of weft/detail/process.hpp.
class Child {
 public:
  Child(const process::Launched& launched, size_t kept_output) noexcept;
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

 private:
  struct Stream final : process::Source {
    Stream(Child& c, size_t limit) noexcept : child(c), kept(limit) {}
    bool ready() noexcept override;
    void drain() noexcept;
    long read_some() noexcept;
    Child& child;
    process::Output kept;
    bool exists = false;
    bool at_end = false;  // the watcher's
  };
  struct Control final : process::Source {
    explicit Control(Child& c) noexcept : child(c) {}
    bool ready() noexcept override;
    Child& child;
  };
  // The keeper itself, by a pidfd: a fork of the program may hold the other end of its socket.
  struct Keeper final : process::Source {
    explicit Keeper(Child& c) noexcept : child(c) {}
    bool ready() noexcept override;
    Child& child;
  };

  friend Child* start_child(const ChildRequest&, Nanos, ChildFailure&, Outcome&) noexcept;
  friend void retain_child(Child*) noexcept;
  friend void release_child(Child*) noexcept;
  friend ChildState child_state(const Child*) noexcept;
  friend uint32_t child_changes(const Child*) noexcept;
  friend Outcome await_child(Child*, uint32_t, Nanos, uint8_t) noexcept;
  friend void child_places(const Child*, char*, size_t) noexcept;
  friend int signal_child(Child*, int, ChildScope) noexcept;
  friend void end_child(Child*, int, Nanos) noexcept;
  friend size_t read_child(const Child*, int, uint64_t&, char*, size_t, bool&) noexcept;
  friend uint64_t child_output_end(const Child*, int, uint64_t&) noexcept;
  friend bool child_has_stream(const Child*, int) noexcept;
  friend int child_input(const Child*) noexcept;
  friend void close_child_input(Child*) noexcept;

  int watch() noexcept;
  void give_up_unwatched() noexcept;
  void note(const process::Event& event) noexcept;
  void lose_keeper() noexcept;
  int send(const process::Request& request) noexcept;
  void changed() noexcept;
  bool is_foreign() const noexcept;
  const Stream& stream(int number) const noexcept { return number == 2 ? errors_ : output_; }

  Control control_;
  Keeper keeper_end_;
  Stream output_, errors_;
  std::atomic<int> input_{-1};
  std::atomic<uint32_t> references_{1};
  std::atomic<uint32_t> changes_{0};  // who waits parks at its address
  std::atomic<int> watched_{0};
  const pid_t keeper_;
  pid_t owner_;

  mutable engine::FutexLock lock_;  // guards what follows
  ChildState state_;
  bool control_open_ = true;
  bool told_end_ = false;
};

}  // namespace weft::detail
