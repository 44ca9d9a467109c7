// The timers of one carrier.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "fiber/clock.hpp"
#include "fiber/intrusive_list.hpp"

namespace weft::engine {

/// A pending deadline. Lives inside what it belongs to; linked while pending.
struct Timer : ListHook {
  Nanos deadline = 0;
  void* owner = nullptr;  ///< what it lives in
  bool pending() const noexcept { return linked(); }
};

/// A hierarchical timing wheel with nanosecond resolution: insert and remove cost the same with one timer
/// pending or a million, and no timer is ever reported early or out of order.
///
/// Eleven levels of 64 slots cover all 63 bits. A timer stands at the level of the highest six-bit digit in
/// which its deadline differs from `position_`, in the slot of that digit; so all timers of a lower level are
/// due before all timers of a higher one, and within a level the slots are in order of time. Each slot
/// remembers a lower bound of its deadlines, so that finding when to wake up never walks a slot. When time
/// reaches a slot it is emptied: what is due is reported, the rest moves to a lower level, at most once a
/// level. After G. Varghese, T. Lauck, "Hashed and Hierarchical Timing Wheels", 1987, scheme 7.
///
/// Not thread-safe: a carrier's own.
class TimerWheel {
 public:
  TimerWheel() = default;

  bool empty() const noexcept { return size_ == 0; }
  size_t size() const noexcept { return size_; }

  /// REQUIRES: !timer.pending(). A deadline in the past is due at the next expire().
  void insert(Timer& timer, Nanos deadline) noexcept;

  /// REQUIRES: timer.pending().
  void remove(Timer& timer) noexcept;

  /// When to call expire() next: no timer is due before it; kNever when empty. Once timers were removed this
  /// may be earlier than needed, by which nothing is lost but one wake-up.
  Nanos next_deadline() const noexcept;

  /// How often a timer was put into a slot so far: the work that insert() and expire() do. For tests.
  uint64_t placements() const noexcept { return placements_; }

  /// Unlinks every timer with deadline <= now and calls fire(Timer&) for each, in order of deadline and,
  /// where equal, of insertion. `fire` may insert timers, which wait for the next call even if they are due,
  /// and remove any.
  template <typename Fire>
  void expire(Nanos now, Fire&& fire) {
    if (size_ == 0) {
      position_ =
          now;  // with nothing pending it is free to move, and near deadlines then start at low levels
      return;
    }
    if (now < next_deadline()) return;
    List<Timer> due;
    collect(now, due);
    while (Timer* timer = due.pop_front()) {
      --size_;
      fire(*timer);
    }
  }

  /// Forgets every timer without touching it (in a fork child, whose other fibers are gone).
  void clear() noexcept;

 private:
  static constexpr int kDigitBits = 6, kSlots = 1 << kDigitBits, kLevels = 11;

  struct Slot {
    List<Timer> timers;
    Nanos earliest = kNever;  // a lower bound of the deadlines; exact until a timer is removed
  };
  struct Level {
    std::array<Slot, kSlots> slots;
    uint64_t occupied = 0;  // a bit for each slot that holds timers
  };

  int level_of(Nanos deadline) const noexcept;
  static int slot_of(Nanos deadline, int level) noexcept {
    return static_cast<int>(deadline >> (level * kDigitBits)) & (kSlots - 1);
  }
  void vacate(int level, int slot) noexcept;
  void place(Timer& timer) noexcept;
  void collect(Nanos now, List<Timer>& due) noexcept;

  std::array<Level, kLevels> levels_;
  uint32_t occupied_levels_ = 0;
  Nanos position_ = 0;  // no pending timer's deadline is before it
  size_t size_ = 0;
  uint64_t placements_ = 0;
};

}  // namespace weft::engine
