// Holding a carrier still while another thread looks at its fibers.
#pragma once

#include <atomic>
#include <csignal>

#include "fiber/carrier.hpp"
#include "runtime/dump_stack.hpp"

namespace weft::engine::dump {

/// Stops a carrier at its next switch. A carrier that does not come to one within the limit runs a single
/// fiber all the while, and the stop still waits for it there: either way no parked fiber goes on until
/// release().
///
/// One for each process and one user at a time: the carrier may meet it long after the user has gone.
class CarrierStop {
 public:
  static CarrierStop& instance() noexcept;

  /// True if the carrier stands still; false if it has not answered. REQUIRES: the caller is not on the
  /// carrier.
  bool stop(Carrier& carrier) noexcept;

  /// After stop() has returned false: stops the carrier in the middle of what it runs, by kSignal, whose
  /// default is to be ignored. False if the program uses that signal, or if the carrier does not take it. A
  /// system call that waits may end with EINTR.
  bool interrupt(Carrier& carrier) noexcept;

  void release() noexcept;

  /// Whether parked fibers are still where they were: a carrier that stands waits for kPatience only, since
  /// whoever stopped it may wait for something that one of its fibers holds.
  bool holds() const noexcept { return state_.load(std::memory_order_acquire) != kGone; }

  /// Where the running fiber stands. REQUIRES: stop() or interrupt() has returned true, release() was not
  /// called.
  const StackContext& running_context() const noexcept { return context_; }

  /// In a fork child, where no one holds anything.
  void reset_after_fork() noexcept;

 private:
  enum State : uint32_t {
    kIdle,
    kWanted,    // the carrier is to stop
    kArriving,  // it is about to stand
    kStanding,  // it waits
    kReleased,  // it may go on
    kGone,      // it went on by itself
  };
  static constexpr int kSignal = SIGURG;
  static constexpr Nanos kAnswerTime = 50 * kMillisecond;
  static constexpr Nanos kPatience = 5 * kSecond;

  CarrierStop() noexcept = default;
  static void meet(InboxNode& node, Carrier& carrier) noexcept;
  static void handle(int number, siginfo_t* info, void* context) noexcept;
  void stand(const StackContext& context) noexcept;
  bool wait_until_standing() noexcept;
  void wait_for_change(uint32_t seen, Nanos deadline) noexcept;
  bool change(uint32_t from, uint32_t to) noexcept;

  std::atomic<uint32_t> state_{kIdle};
  std::atomic<bool> posted_{false};  // node_ is on its way to the carrier
  InboxNode node_;
  StackContext context_;
};

}  // namespace weft::engine::dump
