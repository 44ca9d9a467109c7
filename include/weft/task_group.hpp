// TaskGroup: fibers that end before the code goes on that began them.
#pragma once

#include <atomic>
#include <functional>
#include <type_traits>
#include <vector>

#include "weft/detail/group.hpp"
#include "weft/fiber.hpp"

namespace weft {

/// Spawns fibers that belong together; none of them outlives it. The first that fails cancels the others and
/// the owner's own waits within the group; join() then throws what it threw. A fiber that ends by Cancelled
/// is no failure.
///
///     weft::TaskGroup group;
///     auto left = group.spawn([] { return fetch("left"); });
///     auto right = group.spawn([] { return fetch("right"); });
///     group.join();
///     use(left.result(), right.result());
///
/// A failure ends the owner's wait for something else by Cancelled; where the owner waits for more than the
/// fibers, run() sees to it that what is thrown is the failure.
///
/// It is for the fiber, or native thread, that made it (its owner), but spawn() and cancel(), which its
/// fibers may call too.
class TaskGroup {
 public:
  TaskGroup() : core_(detail::group_create()) {
    if (!core_) throw std::bad_alloc();
  }
  /// Where join() was not called, because of an exception: cancels all, waits for them, and forgets how they
  /// ended.
  ~TaskGroup() {
    if (!joined_.load(std::memory_order_relaxed)) {
      cancel();
      detail::group_join(*core_);
    }
    detail::group_destroy(*core_);
  }
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  /// Calls body(group), then join(). A body that is left by Cancelled because the group was cancelled is as
  /// one that returned: what a fiber threw comes out, or after group.cancel() nothing. What else the body
  /// throws comes out once all fibers have been cancelled and have ended.
  ///
  ///     weft::TaskGroup::run([&](weft::TaskGroup& group) {
  ///       group.spawn([&] { read_all(stream, channel); });
  ///       while (auto item = channel.receive()) use(*item);
  ///     });
  template <typename F>
  requires std::is_void_v<std::invoke_result_t<F, TaskGroup&>>
  static void run(F&& body) {
    TaskGroup group;
    try {
      std::invoke(std::forward<F>(body), group);
    } catch (const Cancelled&) {
      if (!group.cancelled()) throw;
    }
    group.join();
  }

  /// As weft::spawn(). In a group that was cancelled the fiber is cancelled from its start.
  template <typename F>
  auto spawn(F&& function, const SpawnOptions& options = {},
             std::source_location where = std::source_location::current()) {
    auto fiber = weft::spawn(std::forward<F>(function), options, where);
    fiber.task().observe();
    joined_.store(false, std::memory_order_relaxed);
    if (!detail::group_add(*core_, fiber.task())) {
      fiber.cancel();
      throw std::bad_alloc();
    }
    return fiber;
  }

  /// Waits until all have ended; spawn() may be called again after that. Throws what the first that failed
  /// threw. If the owner is cancelled, or a TimeoutScope around the group expires, all are cancelled and
  /// waited for, and then Cancelled or Timeout is thrown.
  void join() {
    const detail::Outcome outcome = detail::group_join(*core_);
    joined_.store(true, std::memory_order_relaxed);
    if (const auto errors = this->errors(); !errors.empty()) std::rethrow_exception(errors.front());
    detail::raise(outcome);
  }

  /// Cancels all of them, and ends the owner's own cancellable waits within the group, by Cancelled, until it
  /// joins. Any of them may call it.
  void cancel() noexcept { detail::group_cancel(*core_); }
  bool cancelled() const noexcept { return detail::group_cancelled(*core_); }

  /// What was thrown so far, in the order in which the fibers ended.
  std::vector<std::exception_ptr> errors() const {
    std::vector<std::exception_ptr> all;
    detail::group_failures(
        *core_,
        [](void* list, detail::Task& task) {
          static_cast<std::vector<std::exception_ptr>*>(list)->push_back(
              static_cast<detail::FailingTask&>(task).error);
        },
        &all);
    return all;
  }

 private:
  detail::GroupCore* core_;
  std::atomic<bool> joined_{true};  // a member that clears it ends before join() sets it
};

}  // namespace weft
