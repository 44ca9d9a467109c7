#include "fiber/carrier.hpp"

#include <sched.h>

#include <csignal>

#include "fiber/assert.hpp"
#include "fiber/monitor.hpp"
#include "fiber/parking_lot.hpp"
#include "fiber/sys.hpp"

namespace weft {

namespace {

constinit thread_local ThreadState t_state;

}  // namespace

// Not inlined: a compiler that saw the thread-local variable would keep its address across a switch.
[[gnu::noinline]] ThreadState& thread_state() noexcept {
  asm volatile("" ::: "memory");
  return t_state;
}

void FutexEventSource::poll(Nanos timeout) noexcept {
  if (timeout != 0 && interrupted_.load(std::memory_order_acquire) == 0)
    sys::futex_wait(&interrupted_, 0, timeout == kNever ? kNever : later(monotonic_now(), timeout));
  interrupted_.store(0, std::memory_order_relaxed);
}

void FutexEventSource::interrupt() noexcept {
  interrupted_.store(1, std::memory_order_release);
  sys::futex_wake(&interrupted_, 1);
}

bool Carrier::attach() noexcept {
  ThreadState& thread = thread_state();
  WEFT_ASSERT(thread.carrier == nullptr);
  Fiber* main = Fiber::allocate();
  if (!main) return false;
  main->references_.store(1, std::memory_order_relaxed);
  main->carrier_ = this;
  main->state_.store(Fiber::State::kRunning, std::memory_order_relaxed);
  main->set_name("main");
  pthread_attr_t attributes;
  void* stack_base = nullptr;
  size_t stack_size = 0;
  if (pthread_getattr_np(pthread_self(), &attributes) == 0) {
    pthread_attr_getstack(&attributes, &stack_base, &stack_size);
    pthread_attr_destroy(&attributes);
  }
  main->sanitizer_.adopt_thread(stack_base, stack_size);
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &kernel_mask_, sizeof kernel_mask_);
  main->identity_.signal_mask = kernel_mask_;
  addresses_ = ThreadAddresses::of_this_thread();
  thread_id_ = sys::thread_id();
  main_ = running_ = main;
  now();
  thread.carrier = this;
  attached_.store(true, std::memory_order_release);
  return true;
}

void Carrier::detach() noexcept {
  WEFT_ASSERT(thread_state().carrier == this && running_ == main_ && ready_.empty());
  drain_inbox();
  attached_.store(false, std::memory_order_release);
  thread_state().carrier = nullptr;
  Fiber* main = main_;
  main_ = running_ = nullptr;
  main->state_.store(Fiber::State::kDone, std::memory_order_relaxed);
  main->release();
}

void Carrier::refresh_addresses() noexcept {
  void** interpreter_state = addresses_.interpreter_state;
  addresses_ = ThreadAddresses::of_this_thread();
  addresses_.interpreter_state = interpreter_state;
}

void Carrier::enqueue(Fiber& fiber) noexcept {
  if (fiber.timer_.pending()) timers_.remove(fiber.timer_);
  fiber.state_.store(Fiber::State::kReady, std::memory_order_relaxed);
  ready_.push_back(fiber);
  ready_count_.store(ready_count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Carrier::start(Fiber& fiber) noexcept { make_ready(fiber); }

void Carrier::make_ready(Fiber& fiber) noexcept {
  if (Carrier::current() == this) {
    enqueue(fiber);
    return;
  }
  // The fiber's own node is free: it is posted at most once, until it has run.
  fiber.inbox_.owner = &fiber;
  fiber.inbox_.run = [](InboxNode& node, Carrier& carrier) noexcept {
    carrier.enqueue(*static_cast<Fiber*>(node.owner));
  };
  post(fiber.inbox_);
}

void Carrier::post(InboxNode& node) noexcept {
  InboxNode* head = inbox_.load(std::memory_order_relaxed);
  do node.next = head;
  while (!inbox_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
  request_attention();
}

void Carrier::request_attention() noexcept {
  // seq_cst on both sides (see wait_for_ready): either the carrier sees the request before it sleeps, or we see that
  // it is about to sleep.
  attention_.store(true, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false, std::memory_order_seq_cst))
    events_->interrupt();
}

void Carrier::drain_inbox() noexcept {
  InboxNode* node = inbox_.exchange(nullptr, std::memory_order_acquire);
  InboxNode* oldest_first = nullptr;
  while (node) {
    InboxNode* next = node->next;
    node->next = oldest_first;
    oldest_first = node;
    node = next;
  }
  while (oldest_first) {
    InboxNode* next = oldest_first->next;  // run() may free the node
    oldest_first->run(*oldest_first, *this);
    oldest_first = next;
  }
}

void Carrier::expire_timers(Nanos now) noexcept {
  timers_.expire(now, [](Timer& timer) {
    Fiber& fiber = *static_cast<Fiber*>(timer.owner);
    fiber.unpark(fiber.wait_.load(std::memory_order_relaxed) & ~uint64_t{0xff}, Wake::kTimeout);
  });
  next_timer_.store(timers_.next_deadline(), std::memory_order_relaxed);
}

void Carrier::attend() noexcept {
  if (!attention_.load(std::memory_order_relaxed)) return;
  attention_.store(false, std::memory_order_seq_cst);
  drain_inbox();
  if (attention_hook_) attention_hook_(*this);
}

// What a busy carrier does every kPollInterval switches.
void Carrier::tend() noexcept {
  poll_budget_ = kPollInterval;
  attend();
  expire_timers(now());
  events_->poll(0);
}

void Carrier::yield() noexcept {
  enqueue(*running_);
  suspend();
}

// Switches from the running fiber, which is parked, on the ready queue or dying, to the next ready one.
void Carrier::suspend() noexcept {
  if (--poll_budget_ <= 0 || attention_.load(std::memory_order_relaxed)) [[unlikely]]
    tend();
  Fiber* next = ready_.pop_front();
  if (!next) [[unlikely]]
    next = wait_for_ready();
  ready_count_.store(ready_count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  if (next == running_) {
    next->state_.store(Fiber::State::kRunning, std::memory_order_relaxed);
    apply_signal_mask(next->identity_.signal_mask);
    return;
  }
  switch_to(*next, false);
}

Fiber* Carrier::wait_for_ready() noexcept {
  // While all are parked the OS thread takes the signals that its main thread would.
  apply_signal_mask(main_->identity_.signal_mask);
  for (;;) {
    poll_budget_ = kPollInterval;
    attend();
    expire_timers(now());
    if (Fiber* next = ready_.pop_front()) return next;
    sleeping_.store(true, std::memory_order_seq_cst);
    if (attention_.load(std::memory_order_seq_cst)) {
      sleeping_.store(false, std::memory_order_relaxed);
      continue;
    }
    const Nanos deadline = timers_.next_deadline();
    events_->poll(deadline == kNever ? kNever : deadline > coarse_now_ ? deadline - coarse_now_ : 0);
    sleeping_.store(false, std::memory_order_relaxed);
    if (monitor_) monitor_->carrier_woke();
  }
}

void Carrier::apply_signal_mask(uint64_t mask) noexcept {
  if (mask == kernel_mask_) return;
  kernel_mask_ = mask;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &kernel_mask_, nullptr, sizeof kernel_mask_);
}

uint64_t Carrier::set_signal_mask(uint64_t mask) noexcept {
  const uint64_t former = running_->identity_.signal_mask;
  running_->identity_.signal_mask = mask;
  apply_signal_mask(mask);
  return former;
}

void Carrier::switch_to(Fiber& next, bool dying) noexcept {
  Fiber& self = *running_;
  switches_.store(switches_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  self.identity_.leave(addresses_);
  __atomic_store_n(&running_, &next, __ATOMIC_RELAXED);
  if (next.identity_.signal_mask != kernel_mask_) [[unlikely]]
    apply_signal_mask(next.identity_.signal_mask);
  self.sanitizer_.leave(next.sanitizer_, dying);
  arrive(jump_fcontext(next.context_, &self));
}

// Runs first on the stack of the fiber that was switched to. Everything is looked up anew: the fiber may have left
// another carrier.
void Carrier::arrive(transfer_t from) noexcept {
  static_cast<Fiber*>(from.data)->context_ = from.fctx;
  Carrier& here = *Carrier::current();
  Fiber& self = *here.running_;
  self.sanitizer_.enter();
  self.state_.store(Fiber::State::kRunning, std::memory_order_relaxed);
  self.identity_.enter(here.addresses_);
  if (Fiber* zombie = here.zombie_) [[unlikely]] {
    here.zombie_ = nullptr;
    StackPool::instance().release(zombie->stack_);
    zombie->stack_ = {};
    zombie->context_ = nullptr;
    zombie->sanitizer_.destroy();
    zombie->release();
  }
}

void Carrier::fiber_entry(transfer_t from) noexcept {
  arrive(from);
  Fiber& self = *Carrier::running_fiber();
  void* result = self.entry_(self.argument_);
  Carrier::current()->exit_fiber(result);
}

void Carrier::exit_fiber(void* result) noexcept {
  Fiber& self = *running_;
  WEFT_ASSERT(!self.is_main());
  self.result_ = result;
  Fiber::count_done();
  self.state_.store(Fiber::State::kDone, std::memory_order_release);
  self.done_.store(1, std::memory_order_release);
  ParkingLot::instance().wake_all(&self.done_);
  if (--poll_budget_ <= 0 || attention_.load(std::memory_order_relaxed)) tend();
  Fiber* next = ready_.pop_front();
  if (!next) next = wait_for_ready();
  ready_count_.store(ready_count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  zombie_ = &self;
  switch_to(*next, true);
  WEFT_ASSERT(false);  // nobody switches to a fiber that has ended
  __builtin_unreachable();
}

Wake Carrier::park(Nanos deadline) noexcept {
  Fiber& self = *running_;
  ++parks_[static_cast<int>(self.reason_.kind)];
  // A wait may have ended already (cancelled before it began; its event found while arming): enqueue(), which takes the
  // timer out, is behind it, and a timer set now would strike a later wait.
  if (deadline != kNever && (self.wait_.load(std::memory_order_relaxed) & Fiber::kWaiting)) {
    self.timer_.owner = &self;
    timers_.insert(self.timer_, deadline);
    next_timer_.store(timers_.next_deadline(), std::memory_order_relaxed);
  }
  suspend();
  const auto wake = static_cast<Wake>(self.wait_.load(std::memory_order_acquire) & Fiber::kWakeMask);
  self.end_wait();
  return wake;
}

Wake Carrier::sleep_until(Nanos deadline, uint8_t flags, const char* call) noexcept {
  running_->begin_wait(flags, {WaitKind::kSleep, call});
  return park(deadline);
}

bool Carrier::has_work(Nanos now) noexcept {
  return ready_count() > 0 || next_timer_.load(std::memory_order_relaxed) <= now ||
         inbox_.load(std::memory_order_relaxed) != nullptr || attention_.load(std::memory_order_relaxed) ||
         events_->has_events();
}

Carrier::Stats Carrier::stats() const noexcept {
  Stats stats{switch_count(), {}};
  for (int i = 0; i < kWaitKinds; ++i) stats.parks[i] = parks_[i];
  return stats;
}

void Carrier::reset_after_fork() noexcept {
  Fiber& survivor = *running_;
  ready_.clear();
  ready_count_.store(0, std::memory_order_relaxed);
  timers_.clear();
  survivor.timer_.next = survivor.timer_.previous = nullptr;
  next_timer_.store(kNever, std::memory_order_relaxed);
  inbox_.store(nullptr, std::memory_order_relaxed);
  attention_.store(false, std::memory_order_relaxed);
  sleeping_.store(false, std::memory_order_relaxed);
  zombie_ = nullptr;
  thread_id_ = sys::thread_id();
  main_ = &survivor;  // to signals, the thread that forked is the child's main thread
  events_->reset_after_fork();
}

}  // namespace weft
