#include "poll/offload_pool.hpp"

#include <cerrno>
#include <new>

#include "fiber/native_thread.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

// Lives on the stack of the fiber that waits for it: nothing of it may be touched once the fiber was
// unparked.
struct OffloadPool::Job {
  void (*work)(void*) noexcept;
  void* argument;
  Fiber* fiber;
  uint64_t ticket;
  int error_number;
  Turn turn;
  Job* next = nullptr;
};

// Lives on the stack of a pool thread.
struct OffloadPool::Worker {
  Worker* next = nullptr;
  Job* job = nullptr;
  bool idle = false;
  std::atomic<uint32_t> called{0};
};

namespace {

// Not inlined: the compiler would keep the address of errno across a switch, after which it may be another
// thread's.
[[gnu::noinline]] int error_number() noexcept {
  return errno;
}
[[gnu::noinline]] void set_error_number(int value) noexcept {
  errno = value;
}

}  // namespace

OffloadPool& OffloadPool::instance() noexcept {
  alignas(OffloadPool) static std::byte storage[sizeof(OffloadPool)];
  static OffloadPool* pool = new (storage) OffloadPool;
  return *pool;
}

void OffloadPool::enqueue(Job& job) noexcept {
  (last_queued_ ? last_queued_->next : first_queued_) = &job;
  last_queued_ = &job;
  ++queued_;
}

OffloadPool::Job* OffloadPool::dequeue() noexcept {
  Job* job = first_queued_;
  if (!job) return nullptr;
  first_queued_ = job->next;
  if (!first_queued_) last_queued_ = nullptr;
  --queued_;
  return job;
}

void OffloadPool::perform(Job& job) noexcept {
  set_error_number(job.error_number);
  job.work(job.argument);
  job.error_number = error_number();
  job.fiber->unpark(job.ticket, Wake::kReady, job.turn);
}

void OffloadPool::run_erased(const char* call, void (*work)(void*) noexcept, void* argument,
                             Turn turn) noexcept {
  const ThreadState& thread = thread_state();
  if (!thread.carrier || thread.no_switch != 0) {
    work(argument);
    return;
  }
  Fiber& self = thread.carrier->running();
  Job job{work, argument, &self, 0, error_number(), turn};

  lock_.lock();
  // One thread for each job that waits, those being started counted in.
  if (!idle_ && queued_ >= starting_ && threads() < kMaxThreads && !start_worker() && threads() == 0) {
    // None can be had and none is there. Another carrier may have counted on the one that could not be
    // started.
    Job* stranded;
    while ((stranded = dequeue())) {
      lock_.unlock();
      perform(*stranded);
      lock_.lock();
    }
    lock_.unlock();
    set_error_number(job.error_number);
    work(argument);
    return;
  }
  // Announced with the lock held: whoever gets the job has taken the lock after that.
  job.ticket = self.begin_wait(kUninterruptible, {WaitKind::kOffload, call});
  Worker* worker = idle_;
  if (worker) {
    idle_ = worker->next;
    worker->idle = false;
    worker->job = &job;
    busy_.fetch_add(1, std::memory_order_relaxed);
    worker->called.store(1, std::memory_order_release);
  } else {
    enqueue(job);
  }
  lock_.unlock();
  // The thread may have seen `called` by itself and even have ended: what stands on its stack then gets a
  // stray wake-up, which every futex must put up with.
  if (worker) sys::futex_wake(&worker->called, 1);
  Carrier::current()->park();
  set_error_number(job.error_number);
}

// REQUIRES: lock_ held. Lets go of it meanwhile.
bool OffloadPool::start_worker() noexcept {
  ++starting_;
  busy_.fetch_add(1, std::memory_order_relaxed);
  const int count = threads_.fetch_add(1, std::memory_order_relaxed) + 1;
  if (count > peak_threads()) peak_.store(count, std::memory_order_relaxed);
  lock_.unlock();
  pthread_t thread;
  const int error = start_native_thread(thread, "weft-offload", &OffloadPool::worker_main, this);
  lock_.lock();
  if (error == 0) return true;
  --starting_;
  busy_.fetch_sub(1, std::memory_order_relaxed);
  threads_.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void* OffloadPool::worker_main(void* self) noexcept {
  OffloadPool& pool = *static_cast<OffloadPool*>(self);
  Worker worker;
  pool.lock_.lock();
  --pool.starting_;
  pool.lock_.unlock();
  while (Job* job = pool.next_job(worker)) perform(*job);
  return nullptr;
}

// Waits for a job; null when the thread is to end.
OffloadPool::Job* OffloadPool::next_job(Worker& worker) noexcept {
  lock_.lock();
  if (Job* job = dequeue()) {
    lock_.unlock();
    return job;
  }
  worker.called.store(0, std::memory_order_relaxed);
  worker.idle = true;
  worker.next = idle_;
  idle_ = &worker;
  busy_.fetch_sub(1, std::memory_order_release);
  lock_.unlock();

  const Nanos deadline = later(monotonic_now(), kIdleLimit);
  while (worker.called.load(std::memory_order_acquire) == 0) {
    if (sys::futex_wait(&worker.called, 0, deadline) != -ETIMEDOUT) continue;
    lock_.lock();
    if (!worker.idle) {  // called at the last moment
      lock_.unlock();
      break;
    }
    Worker** link = &idle_;
    while (*link != &worker) link = &(*link)->next;
    *link = worker.next;
    threads_.fetch_sub(1, std::memory_order_relaxed);
    const bool join = std::exchange(has_ended_, true);
    const pthread_t former = std::exchange(ended_, pthread_self());
    lock_.unlock();
    if (join) join_native_thread(former);
    return nullptr;
  }
  return worker.job;
}

void OffloadPool::reset_after_fork() noexcept {
  threads_.store(0, std::memory_order_relaxed);
  busy_.store(0, std::memory_order_relaxed);
  idle_ = nullptr;
  first_queued_ = last_queued_ = nullptr;
  starting_ = queued_ = 0;
  has_ended_ = false;
}

}  // namespace weft::engine
