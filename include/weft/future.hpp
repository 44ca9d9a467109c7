// Future and Promise: a value that somebody will set.
#pragma once

#include <concepts>
#include <exception>
#include <functional>
#include <optional>
#include <system_error>
#include <type_traits>

#include "weft/detail/completion.hpp"
#include "weft/error.hpp"

namespace weft {

template <typename T>
class Future;

namespace detail {

template <typename T>
class FutureState final : public Completion {
 public:
  using Value = std::conditional_t<std::is_void_v<T>, bool, T>;
  FutureState() noexcept
      : Completion([](Completion& self) noexcept { delete static_cast<FutureState*>(&self); }) {}

  /// True for whoever may set it.
  bool claim() noexcept { return !claimed_.exchange(true, std::memory_order_acq_rel); }

  const void* asked = nullptr;  ///< the actor that will set it, if one was asked
  std::optional<Value> value;
  std::exception_ptr error;

 private:
  std::atomic<bool> claimed_{false};
};

}  // namespace detail

/// Thrown by get() when every Promise went without setting the future.
class BrokenPromise : public std::logic_error {
 public:
  BrokenPromise() : std::logic_error("the Promise of this Future was destroyed without a value") {}
};

/// Where a value will be; copies are handles to the same. Any thread. An empty one, which was
/// default-constructed: std::logic_error.
template <typename T>
class Future {
 public:
  Future() noexcept = default;

  bool valid() const noexcept { return static_cast<bool>(state_); }
  bool done() const { return state().done(); }
  /// Cancellable. In an actor, for its own answer: std::system_error(resource_deadlock_would_occur).
  void wait() const {
    if (state().asked && !done() && detail::is_running_actor(state().asked))
      throw std::system_error(std::make_error_code(std::errc::resource_deadlock_would_occur),
                              "an actor would wait for its own answer: use on_done(), or call the function");
    detail::raise(state().wait(detail::kNever, detail::kCancellable, "Future::wait"));
  }
  template <typename Rep, typename Period>
  bool wait_for(std::chrono::duration<Rep, Period> span) const {
    const detail::Outcome outcome =
        state().wait(detail::deadline_after(span), detail::kCancellable, "Future::wait");
    detail::raise(outcome);
    return outcome == detail::Outcome::kReady;
  }
  /// wait(), then the value, which stays in the future, or throws what was set.
  std::add_lvalue_reference_t<T> get() const {
    wait();
    if (state_->error) std::rethrow_exception(state_->error);
    if constexpr (!std::is_void_v<T>) return *state_->value;
  }
  /// Has `function()` called when it is done: by who sets it, or at once. It must neither wait nor throw.
  template <std::invocable F>
  void on_done(F&& function) const {
    detail::call_when_done(state(), std::forward<F>(function));
  }

  detail::FutureState<T>& state() const {
    if (!state_) throw std::logic_error("this Future is empty: get one from Promise::future()");
    return *state_;
  }

 private:
  template <typename>
  friend class Promise;
  explicit Future(detail::Ref<detail::FutureState<T>> state) noexcept : state_(std::move(state)) {}

  detail::Ref<detail::FutureState<T>> state_;
};

/// Sets a future, once; only the first to set it succeeds. Move-only. Never waits. Any thread. One that was
/// moved from: std::logic_error.
template <typename T>
class Promise {
 public:
  Promise() : state_(detail::Ref<detail::FutureState<T>>::adopt(new detail::FutureState<T>)) {}
  Promise(Promise&&) noexcept = default;
  Promise& operator=(Promise&& other) noexcept {
    if (this == &other) return *this;
    break_promise();
    state_ = std::move(other.state_);
    return *this;
  }
  ~Promise() { break_promise(); }

  Future<T> future() const {
    state();
    return Future<T>(state_);
  }

  /// False if it was set before.
  template <typename... Args>
  bool set(Args&&... value) const {
    if (!state().claim()) return false;
    try {
      if constexpr (std::is_void_v<T>)
        state_->value.emplace(true);
      else
        state_->value.emplace(std::forward<Args>(value)...);
    } catch (...) {
      state_->error = std::current_exception();
    }
    state_->complete();
    return true;
  }
  /// The same; get() throws it. std::invalid_argument if it is null.
  bool set_exception(std::exception_ptr error) const {
    if (!error) throw std::invalid_argument("weft::Promise::set_exception: null is no exception");
    if (!state().claim()) return false;
    state_->error = std::move(error);
    state_->complete();
    return true;
  }

 private:
  detail::FutureState<T>& state() const {
    if (!state_) throw std::logic_error("this Promise was moved from: use the one that it was moved to");
    return *state_;
  }
  void break_promise() noexcept {
    if (state_) set_exception(std::make_exception_ptr(BrokenPromise()));
  }

  detail::Ref<detail::FutureState<T>> state_;
};

}  // namespace weft
