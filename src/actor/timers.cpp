// One OS thread sends all messages that come later. Not a fiber: a carrier may be kept by a call that really
// blocks, and actors on OS threads must get their messages all the same.
#include <cerrno>
#include <new>
#include <set>

#include "fiber/assert.hpp"
#include "fiber/fiber.hpp"
#include "fiber/futex_lock.hpp"
#include "fiber/native_thread.hpp"
#include "fiber/sys.hpp"
#include "weft/detail/actor_timer.hpp"

namespace weft::detail {

class ActorTimer {
 public:
  ActorTimer(ActorCore& whom, Nanos first, Nanos interval, const TimerSource& from) noexcept
      : at(first), period(interval), source(from), actor(Ref<ActorCore>::share(whom)) {}

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept {
    if (references_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  /// Its last message was sent, or never will be.
  void end() noexcept {
    source.release(source.argument);
    actor = {};
  }

  Nanos at;
  const Nanos period;
  const TimerSource source;
  Ref<ActorCore> actor;
  uint64_t number = 0;  // which was added earlier
  bool pending = true;  // Timers::lock guards it: in Timers::all, or about to be put there again

 private:
  ~ActorTimer() = default;
  std::atomic<uint32_t> references_{1};
};

namespace {

struct Sooner {
  bool operator()(const ActorTimer* left, const ActorTimer* right) const noexcept {
    return left->at != right->at ? left->at < right->at : left->number < right->number;
  }
};

// How long the thread stays when there is nothing to do.
constexpr Nanos kLinger = 5'000'000'000;

class Timers {
 public:
  bool add(ActorTimer& timer) noexcept {
    engine::Guard guard(lock_);
    forget_parents();
    timer.number = ++added_;
    try {
      all_.insert(&timer);
    } catch (const std::bad_alloc&) {
      errno = ENOMEM;
      return false;
    }
    timer.retain();
    if (!running_) {
      pthread_t thread;
      if (const int error = engine::start_native_thread(thread, "weft-timers", &run, this)) {
        all_.erase(&timer);
        timer.release();
        errno = error;
        return false;
      }
      pthread_detach(thread);
      running_ = true;
    } else if (*all_.begin() == &timer) {
      ring();
    }
    return true;
  }

  bool cancel(ActorTimer& timer) noexcept {
    bool listed;
    {
      engine::Guard guard(lock_);
      forget_parents();
      if (!timer.pending) return false;
      timer.pending = false;
      listed = all_.erase(&timer) != 0;
    }
    if (listed) {  // else the thread has it, and sees to its end
      timer.end();
      timer.release();
    }
    return true;
  }

 private:
  static void* run(void* self) {
    static_cast<Timers*>(self)->send();
    return nullptr;
  }

  void send() noexcept {
    lock_.lock();
    for (;;) {
      const Nanos now = detail::now();
      if (!all_.empty() && (*all_.begin())->at <= now) {
        ActorTimer& timer = **all_.begin();
        all_.erase(all_.begin());
        lock_.unlock();
        const bool again = fire(timer);
        lock_.lock();
        if (again && timer.pending && put_back(timer)) continue;
        timer.pending = false;
        lock_.unlock();
        timer.end();
        timer.release();
        lock_.lock();
        continue;
      }
      const bool idle = all_.empty();
      const Nanos until = idle ? now + kLinger : (*all_.begin())->at;
      const uint32_t seen = bell_.load(std::memory_order_relaxed);
      lock_.unlock();
      const bool late = engine::sys::futex_wait(&bell_, seen, until) == -ETIMEDOUT;
      lock_.lock();
      if (idle && late && all_.empty()) break;
    }
    running_ = false;
    lock_.unlock();
  }

  // False: it was the last time.
  static bool fire(ActorTimer& timer) noexcept {
    if (!timer.actor->alive()) return false;
    if (Message* message = timer.source.make(timer.source.argument)) {
      const Outcome outcome = timer.actor->send(*message, 0, false);
      if (outcome != Outcome::kReady)
        message->type->refuse(*message, *timer.actor,
                              outcome == Outcome::kClosed ? Refusal::kStopped : Refusal::kDropped);
      if (outcome == Outcome::kClosed) return false;
    }
    return timer.period > 0;
  }

  // REQUIRES: lock_ held.
  bool put_back(ActorTimer& timer) noexcept {
    const Nanos now = detail::now();
    timer.at += timer.period;
    if (timer.at <= now) timer.at += (now - timer.at) / timer.period * timer.period + timer.period;
    try {
      all_.insert(&timer);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  void ring() noexcept {
    bell_.fetch_add(1, std::memory_order_relaxed);
    engine::sys::futex_wake(&bell_, 1);
  }

  // In a fork child: its parent's timers are not its own, and the thread is not there.
  void forget_parents() noexcept {
    if (forks_ == engine::Fiber::forks()) return;
    forks_ = engine::Fiber::forks();
    for (ActorTimer* timer : all_) timer->pending = false;
    all_.clear();
    running_ = false;
  }

  engine::FutexLock lock_;
  std::atomic<uint32_t> bell_{0};
  // lock_ guards these.
  std::set<ActorTimer*, Sooner> all_;
  uint64_t added_ = 0;
  bool running_ = false;
  uint32_t forks_ = engine::Fiber::forks();
};

// Never destroyed: the thread may be at it when the program ends.
Timers& timers() noexcept {
  alignas(Timers) static std::byte storage[sizeof(Timers)];
  static Timers* const only = new (storage) Timers;
  return *only;
}

}  // namespace

ActorTimer* actor_timer_start(ActorCore& actor, Nanos first, Nanos period,
                              const TimerSource& source) noexcept {
  auto* timer = new (std::nothrow) ActorTimer(actor, first, period, source);
  if (!timer) {
    errno = ENOMEM;
    return nullptr;
  }
  if (timers().add(*timer)) return timer;
  const int error = errno;
  timer->release();
  errno = error;
  return nullptr;
}

bool actor_timer_cancel(ActorTimer& timer) noexcept {
  return timers().cancel(timer);
}

void actor_timer_release(ActorTimer& timer) noexcept {
  timer.release();
}

}  // namespace weft::detail
