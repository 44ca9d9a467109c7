// The fibers of one carrier that can run.
#pragma once

#include "fiber/fiber.hpp"

namespace weft {

/// First in, first out; linked through the fibers. Singly, since nothing is ever taken from its middle. Not
/// thread-safe.
class ReadyQueue {
 public:
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

  /// The fiber that was pushed first, or null.
  Fiber* pop() noexcept {
    Fiber* fiber = first_;
    if (fiber) first_ = fiber->next_;
    return fiber;
  }

  /// push(fiber), and then pop(). REQUIRES: !empty().
  Fiber& rotate(Fiber& fiber) noexcept {
    Fiber& next = *first_;
    fiber.next_ = nullptr;
    last_->next_ = &fiber;
    last_ = &fiber;
    first_ = next.next_;
    return next;
  }

  /// Forgets the fibers without touching them.
  void clear() noexcept { first_ = nullptr; }

 private:
  Fiber* first_ = nullptr;
  Fiber* last_ = nullptr;  // meaningless while empty
};

}  // namespace weft
