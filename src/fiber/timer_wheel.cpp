#include "fiber/timer_wheel.hpp"

#include "fiber/assert.hpp"

namespace weft {

void TimerWheel::insert(Timer& timer, Nanos deadline) noexcept {
  // A deadline before the position is due already: counting it from the position keeps the wheel's order.
  timer.deadline = deadline < position_ ? position_ : deadline;
  ++size_;
  place(timer);
}

void TimerWheel::place(Timer& timer) noexcept {
  const uint64_t difference = static_cast<uint64_t>(timer.deadline ^ position_);
  const int level = difference == 0 ? 0 : (std::bit_width(difference) - 1) / kDigitBits;
  const int slot = static_cast<int>(timer.deadline >> (level * kDigitBits)) & (kSlots - 1);
  Slot& home = levels_[level].slots[slot];
  if (home.timers.empty() || timer.deadline < home.earliest) home.earliest = timer.deadline;
  home.timers.push_back(timer);
  levels_[level].occupied |= uint64_t{1} << slot;
  occupied_levels_ |= 1u << level;
}

void TimerWheel::remove(Timer& timer) noexcept {
  // A slot that this empties keeps its bit until time reaches it; next_deadline() then is early, not wrong.
  timer.unlink();
  --size_;
}

Nanos TimerWheel::next_deadline() const noexcept {
  if (size_ == 0) return kNever;
  const Level& level = levels_[std::countr_zero(occupied_levels_)];
  return level.slots[std::countr_zero(level.occupied)].earliest;
}

void TimerWheel::collect(Nanos now, List<Timer>& due) noexcept {
  // Slots are visited in order of time, and a slot's list keeps the order of insertion for equal deadlines. The
  // timers of one slot get into order as they move down: in a slot of the lowest level all deadlines are equal.
  while (occupied_levels_ != 0) {
    const int index = std::countr_zero(occupied_levels_);
    Level& level = levels_[index];
    const int slot_index = std::countr_zero(level.occupied);
    Slot& slot = level.slots[slot_index];
    if (slot.earliest > now && !slot.timers.empty()) break;

    level.occupied &= ~(uint64_t{1} << slot_index);
    if (level.occupied == 0) occupied_levels_ &= ~(1u << index);
    if (slot.timers.empty()) continue;
    if (index == 0) {
      position_ = slot.earliest;
      due.splice_back(slot.timers);
      continue;
    }
    List<Timer> moving;
    moving.splice_back(slot.timers);
    position_ = slot.earliest;
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

}  // namespace weft
