#include "fiber/timer_wheel.hpp"

#include "fiber/assert.hpp"

namespace weft::engine {

void TimerWheel::insert(Timer& timer, Nanos deadline) noexcept {
  // A deadline before the position is due already: counting it from the position keeps the wheel's order.
  timer.deadline = deadline < position_ ? position_ : deadline;
  ++size_;
  place(timer);
}

int TimerWheel::level_of(Nanos deadline) const noexcept {
  const auto difference = static_cast<uint64_t>(deadline ^ position_);
  return difference == 0 ? 0 : (std::bit_width(difference) - 1) / kDigitBits;
}

void TimerWheel::vacate(int level, int slot) noexcept {
  levels_[level].occupied &= ~(uint64_t{1} << slot);
  if (levels_[level].occupied == 0) occupied_levels_ &= ~(1u << level);
}

void TimerWheel::place(Timer& timer) noexcept {
  const int level = level_of(timer.deadline);
  const int slot = slot_of(timer.deadline, level);
  Slot& home = levels_[level].slots[slot];
  if (home.timers.empty() || timer.deadline < home.earliest) home.earliest = timer.deadline;
  home.timers.push_back(timer);
  levels_[level].occupied |= uint64_t{1} << slot;
  occupied_levels_ |= 1u << level;
  ++placements_;
}

void TimerWheel::remove(Timer& timer) noexcept {
  timer.unlink();
  --size_;
  // The position only ever moves into the slot that is due first, which is emptied on that occasion; so every
  // other timer is still where place() would put it. (One that was collected, but not fired yet, is in no
  // slot: whatever slot this finds then is asked whether it is empty, and its bit stays right.)
  const int level = level_of(timer.deadline);
  const int slot = slot_of(timer.deadline, level);
  if (levels_[level].slots[slot].timers.empty()) vacate(level, slot);
}

Nanos TimerWheel::next_deadline() const noexcept {
  if (occupied_levels_ == 0) return kNever;
  const Level& level = levels_[std::countr_zero(occupied_levels_)];
  return level.slots[std::countr_zero(level.occupied)].earliest;
}

void TimerWheel::collect(Nanos now, List<Timer>& due) noexcept {
  // Slots are visited in order of time, and a slot's list keeps the order of insertion for equal deadlines.
  // The timers of one slot get into order as they move down: in a slot of the lowest level all deadlines are
  // equal.
  while (occupied_levels_ != 0) {
    const int level = std::countr_zero(occupied_levels_);
    const int slot_index = std::countr_zero(levels_[level].occupied);
    Slot& slot = levels_[level].slots[slot_index];
    if (slot.earliest > now) break;
    vacate(level, slot_index);
    position_ = slot.earliest;
    if (level == 0) {
      due.splice_back(slot.timers);
      continue;
    }
    List<Timer> moving;
    moving.splice_back(slot.timers);
    while (Timer* timer = moving.pop_front()) place(*timer);
  }
}

void TimerWheel::clear() noexcept {
  for (Level& level : levels_) {
    for (Slot& slot : level.slots) {
      slot.timers.clear();
      slot.earliest = kNever;
    }
    level.occupied = 0;
  }
  occupied_levels_ = 0;
  size_ = 0;
}

}  // namespace weft::engine
