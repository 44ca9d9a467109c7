// OffloadPool: OS threads that make the calls which can only block.
#pragma once

#include <pthread.h>

#include <atomic>
#include <type_traits>
#include <utility>

#include "fiber/carrier.hpp"
#include "fiber/futex_lock.hpp"

namespace weft::engine {

/// Grows with demand, up to a limit, and shrinks when idle. Its threads block all signals.
class OffloadPool {
 public:
  static constexpr int kMaxThreads = 512;
  /// A thread that had nothing to do for so long ends.
  static constexpr Nanos kIdleLimit = 10 * kSecond;

  /// The process's pool, made at first use and never destroyed.
  static OffloadPool& instance() noexcept;

  /// Runs work() on a pool thread while the calling fiber is parked, uninterruptibly; `errno` as work() left
  /// it is the caller's afterwards. `turn`: when it goes on after that; kNext for what natively does not wait
  /// and is no work to speak of, so that only the detour takes its turn away. On a thread that runs no fiber,
  /// or may not switch now, or when no pool thread can be had, work() runs right here. work() must not throw,
  /// switch, or use thread-local state of the caller. Any thread.
  template <typename Work>
  void run(const char* call, Work&& work, Turn turn = Turn::kInOrder) noexcept {
    run_erased(
        call, [](void* self) noexcept { (*static_cast<std::remove_reference_t<Work>*>(self))(); }, &work,
        turn);
  }

  int threads() const noexcept { return threads_.load(std::memory_order_relaxed); }
  int peak_threads() const noexcept { return peak_.load(std::memory_order_relaxed); }
  /// Threads that are not waiting for work. Once it is 0, no pool thread touches a carrier any more.
  int busy_threads() const noexcept { return busy_.load(std::memory_order_acquire); }

  /// In a fork child, where the threads are gone.
  void reset_after_fork() noexcept;

 private:
  struct Job;
  struct Worker;

  OffloadPool() noexcept = default;
  void run_erased(const char* call, void (*work)(void*) noexcept, void* argument, Turn turn) noexcept;
  bool start_worker() noexcept;
  static void* worker_main(void* self) noexcept;
  Job* next_job(Worker& worker) noexcept;
  void enqueue(Job& job) noexcept;
  Job* dequeue() noexcept;
  static void perform(Job& job) noexcept;

  // Written with lock_ held.
  std::atomic<int> threads_{0}, peak_{0}, busy_{0};
  FutexLock lock_;
  // lock_ guards these, and the members of every Worker and Job on their lists. idle_: last in, first out, so
  // that surplus threads stay idle until their time is up.
  Worker* idle_ = nullptr;
  Job* first_queued_ = nullptr;
  Job* last_queued_ = nullptr;
  int queued_ = 0;
  int starting_ = 0;  // threads that were started and have not asked for work yet
  // The thread that ended last: the next one to end joins it, so that none needs to be detached.
  pthread_t ended_{};
  bool has_ended_ = false;
};

}  // namespace weft::engine
