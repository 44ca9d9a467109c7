// GilPreemptor: makes a fiber that computes in Python give way.
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/monitor.hpp"
#include "host/python.hpp"

namespace weft::engine::host {

/// Makes the running fiber drop the GIL at its next check, by wanting it: CPython makes the holder hand over
/// to a thread that has waited for the switch interval, and the condition it then waits on is routed, which
/// lets other fibers run.
///
/// A fiber in C code that works without the GIL is waited for: the helper takes the free GIL and keeps it for
/// some milliseconds of each tick, so that the fiber finds it taken when it comes back. Otherwise one that
/// calls such code in a loop would never give way.
///
/// The wanting is done by one helper thread, started when it is first needed, which the interpreter sees as a
/// thread of C code with a state of its own: no frame, unknown to `threading`, never joined. So the monitor
/// never waits for longer than kPatience, however long a C call keeps the GIL.
///
/// A subinterpreter with a GIL of its own is left alone. Must live as long as the process.
class GilPreemptor final : public Preemptor {
 public:
  static constexpr Nanos kPatience = 50 * kMillisecond;

  constexpr GilPreemptor() noexcept = default;
  GilPreemptor(const GilPreemptor&) = delete;
  GilPreemptor& operator=(const GilPreemptor&) = delete;

  /// True: the fiber running on `carrier` held the GIL and gave it up, or came back for it. False: it does
  /// not come to a check (it is in a C call; with the GIL, the helper goes on wanting), or the interpreter is
  /// not up or is going down. REQUIRES: one caller at a time.
  bool preempt(Carrier& carrier) noexcept override;

  /// Before and after a fork in C code that works without the GIL: the child would find it taken by a helper
  /// that it has not. The helper lets go of it, and takes it no more in between. On the thread that forks.
  void before_fork() noexcept;
  void after_fork() noexcept { forks_.fetch_sub(1); }

  /// In a fork child, where the helper is gone, before anything else is asked.
  void reset_after_fork() noexcept;

  /// Times that the helper took the GIL. Any thread.
  uint64_t contentions() const noexcept { return contentions_.load(std::memory_order_relaxed); }

 private:
  struct Helper;

  Helper* helper(const Python& python) noexcept;
  enum class Aim : uint8_t {
    kNone,
    kTake,   ///< from the fiber
    kAwait,  ///< the fiber, with the free GIL in hand
  };
  Aim aim_at(const Python& python, Carrier& carrier) noexcept;
  bool is_worth_awaiting(uint64_t switches) noexcept;
  static void* run(void* helper);
  static void serve(Helper& helper);
  static void interpreter_ended();
  static bool hold_until_switch(Helper& helper, Nanos longest);

  std::atomic<Helper*> helper_{nullptr};
  std::atomic<uint64_t> contentions_{0};
  std::atomic<int> forks_{0};  // under way
  // Whether what read_gil_holder() says has been seen to be right.
  std::atomic<bool> holder_is_known_{false};
  // Of preempt(): how often the fiber that runs since the switch with this number was waited for.
  uint64_t awaited_ = 0;
  int waits_ = 0;
};

}  // namespace weft::engine::host
