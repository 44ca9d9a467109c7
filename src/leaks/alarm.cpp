// The alarm of a function that does not return.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>

#include "fiber/native_thread.hpp"
#include "weft/detail/leaks.hpp"

namespace weft::detail {

// Looks a few times in each limit whether there was a touch meanwhile, so that a touch is but an increment.
class LeakAlarm {
 public:
  LeakAlarm(Nanos limit, void (*late)(void*), void* who) noexcept
      : look_(limit / kLooks), late_(late), who_(who) {}

  /// Returns 0 or an errno.
  int start() noexcept { return engine::start_native_thread(thread_, "weft-alarm", &LeakAlarm::main, this); }
  void stop() {
    {
      const std::lock_guard guard(lock_);
      stopped_ = true;
    }
    changed_.notify_one();
    engine::join_native_thread(thread_);
  }
  void touch() noexcept { touches_.fetch_add(1, std::memory_order_relaxed); }

 private:
  static constexpr int kLooks = 4;

  static void* main(void* self) {
    static_cast<LeakAlarm*>(self)->watch();
    return nullptr;
  }
  void watch() {
    std::unique_lock lock(lock_);
    uint64_t seen = 0;
    for (int quiet = 0; quiet <= kLooks; ++quiet) {
      if (changed_.wait_for(lock, std::chrono::nanoseconds(look_), [this] { return stopped_; })) return;
      const uint64_t touches = touches_.load(std::memory_order_relaxed);
      if (touches != seen || touches % 2 == 0) quiet = 0;  // no call runs where the number is even
      seen = touches;
    }
    lock.unlock();
    late_(who_);
  }

  const Nanos look_;
  void (*const late_)(void*);
  void* const who_;
  std::atomic<uint64_t> touches_{0};
  std::mutex lock_;
  std::condition_variable changed_;
  bool stopped_ = false;  // guarded by lock_
  pthread_t thread_{};
};

LeakAlarm* start_leak_alarm(Nanos limit, void (*late)(void*), void* who) noexcept {
  try {
    auto alarm = std::make_unique<LeakAlarm>(limit, late, who);
    return alarm->start() == 0 ? alarm.release() : nullptr;
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

void touch_leak_alarm(LeakAlarm* alarm) noexcept {
  if (alarm) alarm->touch();
}

void stop_leak_alarm(LeakAlarm* alarm) noexcept {
  if (!alarm) return;
  alarm->stop();
  delete alarm;
}

}  // namespace weft::detail
