#include "runtime/brief_stack.hpp"

namespace weft::engine::dump {

BriefStack::BriefStack(const Frame* frames, size_t count) noexcept : frames_(frames), count_(count) {
  round_.frames = 0;
  for (Item item; next_of_all(item);) ++items_;
  at_ = round_end_ = 0;
  round_.frames = 0;
}

// The shortest round that is repeated from `index` on, if telling so saves lines; else one without frames.
BriefStack::Item BriefStack::round_at(size_t index) const noexcept {
  constexpr size_t kWorthTelling = 3;
  for (size_t length = 1; length <= kLongestRound; ++length) {
    size_t same = 0;
    while (index + length + same < count_ &&
           frames_[index + same].address == frames_[index + length + same].address)
      ++same;
    const size_t times = same / length;
    if (times * length >= kWorthTelling) return {Item::Kind::kRepeats, index, length, times};
  }
  return {Item::Kind::kRepeats, index, 0, 0};
}

bool BriefStack::next_of_all(Item& item) noexcept {
  if (round_.frames > 0 && at_ == round_end_) {
    item = round_;
    at_ += round_.frames * round_.times;
    round_.frames = 0;
    return true;
  }
  if (at_ == count_) return false;
  if (round_.frames == 0) {
    round_ = round_at(at_);
    round_end_ = at_ + round_.frames;
  }
  item = {Item::Kind::kFrame, at_++, 1, 1};
  return true;
}

bool BriefStack::next(Item& item) noexcept {
  if (items_ <= kFirst + kLast || item_ < kFirst || item_ >= items_ - kLast) {
    ++item_;
    return next_of_all(item);
  }
  const size_t begin = at_;
  for (; item_ < items_ - kLast; ++item_) next_of_all(item);
  item = {Item::Kind::kSkipped, begin, at_ - begin, 1};
  return true;
}

}  // namespace weft::engine::dump
