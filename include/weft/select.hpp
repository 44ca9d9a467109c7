// select(): going on with the first of several things that can.
#pragma once

#include <array>
#include <functional>
#include <tuple>

#include "weft/channel.hpp"
#include "weft/fiber.hpp"
#include "weft/future.hpp"

namespace weft {

namespace detail {

struct NoOp {
  template <typename... Args>
  void operator()(Args&&...) const noexcept {}
};

template <typename T, typename F>
struct ReceiveCase {
  Channel<T> channel;
  F then;
  Slot<T> slot{};

  Nanos prepare(Case& c) noexcept {
    c.kind = Case::Kind::kReceive;
    c.channel = &channel.core();
    c.item = slot.address();
    return kNever;
  }
  void finish(Case& c) {
    slot.set_full(c.outcome == Outcome::kReady);
    std::invoke(then, slot.take());
  }
};

template <typename T, typename F>
struct SendCase {
  Channel<T> channel;
  Slot<T> slot;
  F then;

  Nanos prepare(Case& c) {
    if (!slot.full()) throw std::logic_error("weft::select: this case has sent its item: make another");
    c.kind = Case::Kind::kSend;
    c.channel = &channel.core();
    c.item = slot.address();
    return kNever;
  }
  void finish(Case& c) {
    if (c.outcome == Outcome::kClosed) throw Closed();
    raise(c.outcome);
    slot.set_full(false);
    std::invoke(then);
  }
};

template <typename F>
struct DescriptorCase {
  int descriptor;
  short events;
  F then;

  Nanos prepare(Case& c) noexcept {
    c.kind = Case::Kind::kDescriptor;
    c.descriptor = descriptor;
    c.events = events;
    return kNever;
  }
  void finish(Case& c) {
    if (c.events & 0x20)  // POLLNVAL
      throw_errno(EBADF, "weft::select: the descriptor is not open");
    std::invoke(then);
  }
};

template <typename S, typename F>
struct DoneCase {
  S source;  // keeps the completion
  Completion& completion;
  F then;

  Nanos prepare(Case& c) noexcept {
    c.kind = Case::Kind::kCompletion;
    c.completion = &completion;
    return kNever;
  }
  void finish(Case&) { std::invoke(then); }
};

template <typename F>
struct TimerCase {
  Nanos deadline;
  F then;

  Nanos prepare(Case&) noexcept { return deadline; }
  void finish(Case&) { std::invoke(then); }
};

}  // namespace detail

/// A case of select(): receive from `channel`, then call then(std::optional<T>): nothing if it is closed and
/// empty.
template <typename T, typename F = detail::NoOp>
auto on_receive(const Channel<T>& channel, F then = {}) {
  return detail::ReceiveCase<T, F>{channel, std::move(then)};
}
/// Send `item`, then call then(). If the channel is closed, select() throws Closed.
template <typename T, typename F = detail::NoOp>
auto on_send(const Channel<T>& channel, std::type_identity_t<T> item, F then = {}) {
  return detail::SendCase<T, F>{channel, detail::Slot<T>(std::move(item)), std::move(then)};
}
/// `descriptor` can be read from, or is at its end; or written to.
template <typename F = detail::NoOp>
auto on_readable(int descriptor, F then = {}) {
  return detail::DescriptorCase<F>{descriptor, 1, std::move(then)};
}
template <typename F = detail::NoOp>
auto on_writable(int descriptor, F then = {}) {
  return detail::DescriptorCase<F>{descriptor, 4, std::move(then)};
}
/// A fiber has ended, or a future is done.
template <typename R, typename F = detail::NoOp>
auto on_done(const Fiber<R>& fiber, F then = {}) {
  return detail::DoneCase<Fiber<R>, F>{fiber, fiber.task(), std::move(then)};
}
template <typename T, typename F = detail::NoOp>
auto on_done(const Future<T>& future, F then = {}) {
  return detail::DoneCase<Future<T>, F>{future, future.state(), std::move(then)};
}
/// `span` has passed and no other case could go on.
template <typename Rep, typename Period, typename F = detail::NoOp>
auto after(std::chrono::duration<Rep, Period> span, F then = {}) {
  return detail::TimerCase<F>{detail::deadline_after(span), std::move(then)};
}
/// No other case can go on now.
template <typename F = detail::NoOp>
auto otherwise(F then = {}) {
  return detail::TimerCase<F>{0, std::move(then)};
}

/// Waits until one of the cases can go on, has it done, calls its function, and returns its number, from 0;
/// of several that can, one by chance. Nothing of the others is done: no item is taken or sent. A
/// cancellation point. The functions run after the wait: they may wait in turn, and throw.
///
/// A case is good until it was chosen, so it must be made in the call, or be passed by std::move(). One that
/// was not chosen is as it was, with its item; a send that is passed again once its item went is a
/// std::logic_error.
template <typename... Cases>
requires(sizeof...(Cases) > 0) std::size_t select(Cases&&... cases) {
  static_assert(!(std::is_lvalue_reference_v<Cases> || ...),
                "weft::select(): a case is good for one selection: make it in the call, select(on_send(...), "
                "...), or pass it by std::move()");
  std::array<detail::Case, sizeof...(Cases)> untyped{};
  detail::Nanos deadline = detail::kNever;
  std::size_t timer = SIZE_MAX, next = 0;
  const auto prepare = [&](auto& c) {
    const detail::Nanos limit = c.prepare(untyped[next]);
    if (limit < deadline) {
      deadline = limit;
      timer = next;
    }
    ++next;
  };
  (prepare(cases), ...);
  std::size_t chosen = SIZE_MAX;
  const detail::Outcome outcome = detail::select(untyped.data(), untyped.size(), deadline, &chosen);
  if (outcome == detail::Outcome::kTimeout)
    chosen = timer;
  else
    detail::raise(outcome);
  std::size_t index = 0;
  const auto finish = [&](auto& c) {
    const std::size_t mine = index++;
    if (mine == chosen) c.finish(untyped[mine]);
  };
  (finish(cases), ...);
  return chosen;
}

}  // namespace weft
