// The fibers of one carrier that can run.
#pragma once

#include "fiber/fiber.hpp"

namespace weft::engine {

/// First in, first out, but for one favoured fiber; linked through the fibers. Singly, since nothing is ever
/// taken from its middle. Not thread-safe.
class ReadyQueue {
 public:
  /// So many favoured fibers may run in a row before it is the turn of one that queued.
  static constexpr int kMaxInRow = 256;

  bool empty() const noexcept { return first_ == nullptr; }

  /// REQUIRES: `fiber` is not on a queue.
  void push(Fiber& fiber) noexcept {
    fiber.next_ = nullptr;
    if (first_)
      last_->next_ = &fiber;
    else
      first_ = &fiber;
    last_ = &fiber;
  }

  /// Makes `fiber` the one to run next. As push() where there is such a one already, or where kMaxInRow have
  /// run without a queued one in between. REQUIRES: as push().
  void push_favoured(Fiber& fiber) noexcept {
    if (favoured_ || in_row_ == kMaxInRow) return push(fiber);
    favoured_ = true;
    fiber.next_ = first_;
    if (!first_) last_ = &fiber;
    first_ = &fiber;
  }

  /// Called at intervals of time. The second call within a row ends it: a favoured fiber goes to the end.
  void limit_row() noexcept {
    if (++looks_ < 2) return;
    in_row_ = kMaxInRow;
    if (!favoured_) return;
    favoured_ = false;
    Fiber& fiber = *first_;
    first_ = fiber.next_;
    push(fiber);
  }

  /// The favoured fiber, else the one that was pushed first, or null.
  Fiber* pop() noexcept {
    Fiber* fiber = first_;
    if (!fiber) return nullptr;
    first_ = fiber->next_;
    count();
    return fiber;
  }

  /// push(fiber), and then pop(). REQUIRES: !empty().
  Fiber& rotate(Fiber& fiber) noexcept {
    Fiber& next = *first_;
    fiber.next_ = nullptr;
    last_->next_ = &fiber;
    last_ = &fiber;
    first_ = next.next_;
    count();
    return next;
  }

  /// Forgets the fibers without touching them.
  void clear() noexcept {
    first_ = nullptr;
    favoured_ = false;
  }

 private:
  void count() noexcept {
    if (favoured_) [[unlikely]] {
      favoured_ = false;
      ++in_row_;
    } else {
      in_row_ = looks_ = 0;
    }
  }

  Fiber* first_ = nullptr;
  Fiber* last_ = nullptr;  // meaningless while empty
  bool favoured_ = false;  // the first one is
  int in_row_ = 0, looks_ = 0;
};

}  // namespace weft::engine
