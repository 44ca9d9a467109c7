#include "weft/detail/group.hpp"

#include <new>
#include <utility>

#include "fiber/futex_lock.hpp"
#include "sync/wake.hpp"

namespace weft::detail {

namespace {

struct Member : Callback {
  Ref<GroupCore> group;
  Ref<Task> task;
  Member* later = nullptr;
  Member* earlier = nullptr;
};

}  // namespace

// Belongs to the handle, and to each member until that has left.
class GroupCore {
 public:
  GroupCore() noexcept : owner_(switchable_fiber()) {
    if (owner_) owner_->retain();
  }
  GroupCore(const GroupCore&) = delete;
  GroupCore& operator=(const GroupCore&) = delete;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }

  bool add(Task& task) noexcept {
    auto* member = new (std::nothrow) Member{};
    if (!member) return false;
    member->group = Ref<GroupCore>::share(*this);
    member->task = Ref<Task>::share(task);
    member->call = [](Callback& self, Completion&) noexcept {
      auto& ended = static_cast<Member&>(self);
      const Ref<GroupCore> group = std::move(ended.group);
      group->leave(ended);
    };
    bool cancelled;
    {
      engine::Guard guard(lock_);
      if (joined_) start_anew();
      forget_lost();
      member->later = members_;
      if (members_) members_->earlier = member;
      members_ = member;
      size_.fetch_add(1, std::memory_order_relaxed);
      cancelled = this->cancelled();
    }
    if (cancelled) task.cancel();
    if (!task.add(*member)) {
      const Ref<GroupCore> group = std::move(member->group);
      leave(*member);
    }
    return true;
  }

  void cancel() noexcept {
    engine::Guard guard(lock_);
    forget_lost();
    if (!joined_) cancel_locked();
  }
  bool cancelled() const noexcept { return cancelled_.load(std::memory_order_relaxed); }

  Outcome join() noexcept {
    {
      engine::Guard guard(lock_);
      forget_lost();
    }
    const auto empty = [this]() noexcept { return size_.load(std::memory_order_acquire) == 0; };
    Outcome outcome = await(&size_, kNever, kCancellable, "TaskGroup::join", empty);
    if (outcome == Outcome::kInterrupted) return outcome;  // the caller comes again
    if (outcome != Outcome::kReady) cancel();
    for (;;) {
      await(&size_, kNever, kUncancellable, "TaskGroup::join", empty);
      // The member that left last still holds the lock; and another may have come since.
      engine::Guard guard(lock_);
      if (!empty()) continue;
      end_scope();
      joined_ = true;
      // For good, or only because the group itself ended the waits within it?
      return outcome == Outcome::kExpired ? outcome : revocation();
    }
  }

  template <typename Visit>
  void failures(Visit&& visit) noexcept {
    engine::Guard guard(lock_);
    for (Member* member = failed_; member; member = member->later) visit(*member->task);
  }

  // The handle goes.
  void end() noexcept {
    {
      engine::Guard guard(lock_);
      end_scope();
      if (owner_) owner_->release();
      owner_ = nullptr;
    }
    release();
  }

 private:
  ~GroupCore() { forget_failures(); }

  void end_scope() noexcept {
    if (!scope_cancelled_) return;
    owner_->end_cancelled_scope();
    scope_cancelled_ = false;
  }
  // In a fork child the members of before are gone, and so is what they would have called.
  void forget_lost() noexcept {
    if (forks_ == engine::Fiber::forks()) return;
    forks_ = engine::Fiber::forks();
    members_ = nullptr;
    size_.store(0, std::memory_order_relaxed);
  }
  void start_anew() noexcept {
    joined_ = false;
    cancelled_.store(false, std::memory_order_relaxed);
    forget_failures();
  }
  void forget_failures() noexcept {
    while (Member* member = failed_) {
      failed_ = member->later;
      delete member;
    }
  }
  // REQUIRES: lock_ held.
  void cancel_locked() noexcept {
    if (cancelled_.exchange(true, std::memory_order_relaxed)) return;
    for (Member* member = members_; member; member = member->later) member->task->cancel();
    if (!owner_) return;
    scope_cancelled_ = true;
    owner_->cancel_scope();
  }

  void leave(Member& member) noexcept {
    {
      engine::Guard guard(lock_);
      (member.earlier ? member.earlier->later : members_) = member.later;
      if (member.later) member.later->earlier = member.earlier;
      if (member.task->end == Task::End::kThrew) {
        member.later = nullptr;
        Member** end = &failed_;
        while (*end) end = &(*end)->later;
        *end = &member;
        cancel_locked();
      }
    }
    if (member.task->end != Task::End::kThrew) delete &member;
    engine::Guard guard(lock_);
    if (size_.fetch_sub(1, std::memory_order_acq_rel) == 1) wake(&size_);
  }

  engine::FutexLock lock_;
  std::atomic<uint32_t> references_{1};
  std::atomic<uint32_t> size_{0};
  std::atomic<bool> cancelled_{false};
  // lock_ guards these.
  engine::Fiber* owner_;  // null: a native thread
  uint32_t forks_ = engine::Fiber::forks();
  bool scope_cancelled_ = false;
  bool joined_ = false;  // and not used since: its owner is outside
  Member* members_ = nullptr;
  Member* failed_ = nullptr;  // oldest first
};

GroupCore* group_create() noexcept {
  ensure_engine();
  return new (std::nothrow) GroupCore;
}
void group_destroy(GroupCore& group) noexcept {
  group.end();
}
bool group_add(GroupCore& group, Task& task) noexcept {
  return group.add(task);
}
void group_cancel(GroupCore& group) noexcept {
  group.cancel();
}
bool group_cancelled(const GroupCore& group) noexcept {
  return group.cancelled();
}
Outcome group_join(GroupCore& group) noexcept {
  return group.join();
}
void group_failures(GroupCore& group, void (*visit)(void*, Task&), void* argument) noexcept {
  group.failures([&](Task& task) { visit(argument, task); });
}

}  // namespace weft::detail
