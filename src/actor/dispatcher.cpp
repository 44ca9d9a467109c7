// Workers that run actors by turns, and their queue.
//
// An actor is in the queue at most once: only who replaces its idle mark, or its last worker, puts it there.
// So the queue needs no memory: the actors are its links.
#include "weft/detail/dispatcher.hpp"

#include <cerrno>
#include <cstring>
#include <new>

#include "actor/kin.hpp"
#include "fiber/assert.hpp"
#include "fiber/fiber.hpp"
#include "fiber/futex_lock.hpp"
#include "fiber/native_thread.hpp"
#include "weft/detail/actor.hpp"
#include "weft/detail/actor_timer.hpp"
#include "weft/detail/task.hpp"

namespace weft::detail {

class Dispatcher::Impl final : public Dispatcher {
 public:
  explicit Impl(const DispatcherOptions& options) noexcept
      : type_(options.type), workers_(options.workers), on_fibers_(options.on_fibers) {
    strncpy(name_, options.name ? options.name : "weft-actors", sizeof name_ - 1);
  }

  void retain() noexcept { users_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (users_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
    bool none;
    {
      engine::Guard guard(lock_);
      forget_parents();
      closing_.store(true, std::memory_order_relaxed);
      none = started_ == 0;
    }
    if (none)
      delete this;
    else
      wake(&queued_);  // only the address: the last worker to end deletes this
  }

  void submit(ActorCore& actor) noexcept {
    retain();  // once it is in the queue, the actor may end, and be the last that needs this
    bool more;
    {
      engine::Guard guard(lock_);
      forget_parents();
      actor.queued_ = nullptr;
      (newest_ ? newest_->queued_ : oldest_) = &actor;
      newest_ = &actor;
      const uint32_t queued = queued_.load(std::memory_order_relaxed) + 1;
      queued_.store(queued, std::memory_order_seq_cst);
      // Each that sleeps, or has been woken and does not run yet, is going to take one.
      more = queued > sleeping_.load(std::memory_order_seq_cst) && started_ < workers_;
      if (more) ++started_;
    }
    if (more && start_worker() != 0) give_up_worker();
    if (sleeping_.load(std::memory_order_seq_cst)) wake(&queued_, 1);
    release();
  }

  /// Has at least one worker.
  int require_worker() noexcept {
    {
      engine::Guard guard(lock_);
      forget_parents();
      if (started_ > 0) return 0;
      ++started_;
    }
    const int error = start_worker();
    if (error) give_up_worker();
    return error;
  }

 private:
  class Fiber final : public Task {
   public:
    explicit Fiber(Impl& impl) noexcept
        : Task(&run,
               [](Completion& self) noexcept {
                 auto* task = static_cast<Fiber*>(&self);
                 task->dispose();
                 delete task;
               }),
          impl_(impl) {}

   private:
    static void run(Task& task) noexcept {
      static_cast<Fiber&>(task).impl_.work();
      task.complete();
    }
    Impl& impl_;
  };

  int start_worker() noexcept {
    if (!on_fibers_) {
      pthread_t thread;
      const int error = engine::start_native_thread(
          thread, name_,
          [](void* self) -> void* {
            static_cast<Impl*>(self)->work();
            return nullptr;
          },
          this);
      if (!error) pthread_detach(thread);
      return error;
    }
    auto* fiber = new (std::nothrow) Fiber(*this);
    if (!fiber) return ENOMEM;
    const Ref<Fiber> kept = Ref<Fiber>::adopt(fiber);
    TaskOptions options;
    options.name = name_;
    options.name_length = strlen(name_);
    return fiber->start(options);
  }

  void give_up_worker() noexcept {
    engine::Guard guard(lock_);
    --started_;
  }

  void work() noexcept {
    uint32_t forks = engine::Fiber::forks();
    void* worker = type_->begin ? type_->begin() : nullptr;
    while (ActorCore* actor = next()) {
      retain();  // in a fork child the actor may be the last that needs this
      actor->dispatch(worker);
      if (forks != engine::Fiber::forks()) {  // the actor forked, and this is the child
        forks = engine::Fiber::forks();
        engine::Guard guard(lock_);
        forget_parents();
        ++started_;
      }
      release();
    }
    if (type_->end) type_->end(worker);
    bool last;
    {
      engine::Guard guard(lock_);
      last = --started_ == 0;
    }
    if (last) delete this;
  }

  // Null: nobody needs it any more.
  ActorCore* next() noexcept {
    for (;;) {
      {
        engine::Guard guard(lock_);
        if (ActorCore* actor = oldest_) {
          oldest_ = actor->queued_;
          if (!oldest_) newest_ = nullptr;
          queued_.store(queued_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
          return actor;
        }
        if (closing_.load(std::memory_order_relaxed)) return nullptr;
      }
      sleeping_.fetch_add(1, std::memory_order_seq_cst);
      await(&queued_, kNever, kUncancellable, "actors to run", [this]() noexcept {
        return queued_.load(std::memory_order_seq_cst) > 0 || closing_.load(std::memory_order_relaxed);
      });
      sleeping_.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  // In a fork child no worker is there, and no actor that was in the queue. REQUIRES: lock_ held.
  void forget_parents() noexcept {
    if (forks_ == engine::Fiber::forks()) return;
    forks_ = engine::Fiber::forks();
    oldest_ = newest_ = nullptr;
    queued_.store(0);
    sleeping_.store(0);
    started_ = 0;
  }

  const WorkerType* const type_;
  const uint32_t workers_;
  const bool on_fibers_;
  char name_[16] = {};
  std::atomic<uint32_t> users_{1};
  std::atomic<uint32_t> queued_{0};
  std::atomic<uint32_t> sleeping_{0};
  std::atomic<bool> closing_{false};
  engine::FutexLock lock_;
  // lock_ guards these; queued_ and closing_ are written with it held.
  ActorCore* oldest_ = nullptr;
  ActorCore* newest_ = nullptr;
  uint32_t started_ = 0;  // workers that run, or are being started
  uint32_t forks_ = engine::Fiber::forks();
};

Dispatcher* Dispatcher::create(const DispatcherOptions& options) noexcept {
  WEFT_ASSERT(options.workers > 0 && "a dispatcher without workers");
  auto* made = new (std::nothrow) Impl(options);
  if (!made) errno = ENOMEM;
  return made;
}

Dispatcher::Impl& Dispatcher::impl() noexcept {
  return static_cast<Impl&>(*this);
}

void Dispatcher::retain() noexcept {
  impl().retain();
}

void Dispatcher::release() noexcept {
  impl().release();
}

void Dispatcher::submit(ActorCore& actor) noexcept {
  impl().submit(actor);
}

int Dispatcher::start(ActorCore& actor) noexcept {
  if (const int error = impl().require_worker()) return error;
  if (actor.taken_.exchange(true)) return EINVAL;
  retain();
  actor.retain();  // until its end()
  actor.dispatcher_ = this;
  submit(actor);
  return 0;
}

// After a failure, on a dispatcher: nothing waits for it meanwhile but a timer.
void ActorCore::resume_later(Nanos at) noexcept {
  const TimerSource source{[](void* self) noexcept -> Message* {
                             static_cast<ActorCore*>(self)->end_pause();
                             return nullptr;
                           },
                           [](void*) noexcept {}, this};
  ActorTimer* timer = actor_timer_start(*this, at, 0, source);
  if (!timer) return end_pause();
  kin_->timer.store(timer, std::memory_order_seq_cst);
  if (!paused_.load(std::memory_order_seq_cst)) drop_timer();
}

// It is not needed any more.
void ActorCore::drop_timer() noexcept {
  ActorTimer* timer = kin_->timer.exchange(nullptr, std::memory_order_seq_cst);
  if (!timer) return;
  actor_timer_cancel(*timer);
  actor_timer_release(*timer);
}

}  // namespace weft::detail
