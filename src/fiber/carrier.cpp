#include "fiber/carrier.hpp"

#include <sched.h>

#include <csignal>
#include <cstdlib>

#include "fiber/assert.hpp"
#include "fiber/crew.hpp"
#include "fiber/monitor.hpp"
#include "fiber/native_thread.hpp"
#include "fiber/parking_lot.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

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
  census_.add(kernel_mask_);
  addresses_ = ThreadAddresses::of_this_thread();
  thread_id_ = sys::thread_id();
  main_ = running_ = main;
  now();
  alive_.store(0, std::memory_order_relaxed);
  thread.carrier = this;
  attached_.store(true, std::memory_order_release);
  if (Monitor* monitor = monitor_.load(std::memory_order_acquire)) monitor->carrier_woke();
  return true;
}

void Carrier::detach() noexcept {
  WEFT_ASSERT(thread_state().carrier == this && running_ == main_ && ready_.empty());
  drain_inbox();
  reap();
  attached_.store(false, std::memory_order_release);
  thread_state().carrier = nullptr;
  Fiber* main = main_;
  census_.clear();
  main_ = running_ = nullptr;
  main->state_.store(Fiber::State::kDone, std::memory_order_relaxed);
  main->release();
}

void Carrier::refresh_addresses() noexcept {
  void** interpreter_state = addresses_.interpreter_state;
  addresses_ = ThreadAddresses::of_this_thread();
  set_interpreter_state(interpreter_state);
}

inline void Carrier::enqueue(Fiber& fiber, Turn turn) noexcept {
  fiber.state_.store(Fiber::State::kReady, std::memory_order_relaxed);
  if (turn == Turn::kNext)
    ready_.push_favoured(fiber);
  else
    ready_.push(fiber);
  ready_count_.store(ready_count_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
}

void Carrier::adopt(Fiber& fiber) noexcept {
  fiber.carrier_ = this;
}

bool Carrier::start(Fiber& fiber) noexcept {
  uint32_t alive = alive_.load(std::memory_order_relaxed);
  do {
    if (alive & kClosed) return false;
  } while (
      !alive_.compare_exchange_weak(alive, alive + 1, std::memory_order_acq_rel, std::memory_order_relaxed));
  if (&fiber.carrier() != this) adopt(fiber);
  fiber.retain();
  make_ready(fiber, Turn::kNext);
  return true;
}

template <Turn turn>
void Carrier::enqueue_posted(InboxNode& node, Carrier& carrier) noexcept {
  carrier.enqueue(*static_cast<Fiber*>(node.owner), turn);
}

void Carrier::make_ready(Fiber& fiber, Turn turn) noexcept {
  if (Carrier::current() == this) {
    // Of many fibers that wait most stacks are in no cache; there is something to do until it runs.
    if (fiber.context_) __builtin_prefetch(fiber.context_);
    enqueue(fiber, turn);
    return;
  }
  // The fiber's own node is free: it is posted at most once, until it has run.
  fiber.inbox_.owner = &fiber;
  fiber.inbox_.run = turn == Turn::kNext ? &enqueue_posted<Turn::kNext> : &enqueue_posted<Turn::kInOrder>;
  post(fiber.inbox_);
}

void Carrier::post(InboxNode& node) noexcept {
  InboxNode* head = inbox_.load(std::memory_order_relaxed);
  do node.next = head;
  while (!inbox_.compare_exchange_weak(head, &node, std::memory_order_seq_cst, std::memory_order_relaxed));
  request_attention();
}

void Carrier::request_attention() noexcept {
  // seq_cst on both sides (see wait_for_ready): either the carrier sees the request before it sleeps, or we
  // see that it is about to sleep.
  attention_.fetch_or(kRequested, std::memory_order_seq_cst);
  if (sleeping_.load(std::memory_order_seq_cst) && sleeping_.exchange(false, std::memory_order_seq_cst))
    events_->interrupt();
}

void Carrier::drain_inbox() noexcept {
  // seq_cst: a post() whose node this does not see sets attention_ after attend() has taken it back.
  InboxNode* oldest_first = reversed(inbox_.exchange(nullptr, std::memory_order_seq_cst));
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

// Returns what was asked for.
uint8_t Carrier::attend() noexcept {
  if (attention_.load(std::memory_order_relaxed) == 0) return 0;
  const uint8_t asked = attention_.exchange(0, std::memory_order_seq_cst);
  drain_inbox();
  if (attention_hook_ && (asked & kRequested)) attention_hook_(*this);
  return asked;
}

// Counts a switch. True if something else is due before it.
inline bool Carrier::count_switch() noexcept {
  const uint64_t count = switches_.load(std::memory_order_relaxed) + 1;
  switches_.store(count, std::memory_order_relaxed);
  return count >= tend_at_ || attention_.load(std::memory_order_relaxed) != 0;
}

// Makes a new fiber of the crew's ready. False if there was none.
bool Carrier::take_new(bool steal) noexcept {
  Crew* crew = crew_.load(std::memory_order_relaxed);
  Fiber* fiber = crew ? crew->take(*this, steal) : nullptr;
  if (!fiber) return false;
  alive_.fetch_add(1, std::memory_order_relaxed);
  enqueue(*fiber, Turn::kInOrder);
  return true;
}

// What a busy carrier does every kPollInterval switches, and in part whenever attention is asked for.
void Carrier::tend() noexcept {
  constexpr int kMaxSkipped = 4;  // should the clock stand still
  const bool asked = attend() & kPollAsked;
  if (asked) ready_.limit_row();
  const uint64_t count = switches_.load(std::memory_order_relaxed);
  if (count < tend_at_ && !asked) return;
  reap();
  let_signals_in();
  expire_timers(now());
  // While switches are quick, reading the clock would be much of the work.
  tend_at_ = count + (coarse_now_ - last_tended_ < kPollSpacing ? 4 * kPollInterval : kPollInterval);
  last_tended_ = coarse_now_;
  take_new(false);
  if (!asked && coarse_now_ - last_poll_ < kPollSpacing && ++polls_skipped_ < kMaxSkipped) return;
  poll(0);
}

void Carrier::poll(Nanos timeout) noexcept {
  polls_skipped_ = 0;
  last_poll_ = coarse_now_;
  events_->poll(timeout);
}

// The fiber to run next: taken off the ready queue, waited for if need be.
inline Fiber& Carrier::next_ready() noexcept {
  if (count_switch()) [[unlikely]]
    tend();
  Fiber* next = ready_.pop();
  if (!next) [[unlikely]]
    next = wait_for_ready();
  ready_count_.store(ready_count_.load(std::memory_order_relaxed) - 1, std::memory_order_relaxed);
  return *next;
}

// Here and in switch_to() the rare things are apart, so that the frequent ones need no stack frame.
void Carrier::yield() noexcept {
  if (count_switch()) [[unlikely]]
    return tend_and_yield();
  rotate();
}

[[gnu::noinline]] void Carrier::tend_and_yield() noexcept {
  tend();
  rotate();
}

inline void Carrier::rotate() noexcept {
  if (ready_.empty()) return;
  Fiber& self = *running_;
  self.state_.store(Fiber::State::kReady, std::memory_order_relaxed);
  switch_to(ready_.rotate(self), false);
}

// Switches from the running fiber, whose wait is announced, to the next ready one.
void Carrier::suspend() noexcept {
  Fiber& next = next_ready();
  if (&next != running_) {
    switch_to(next, false);
    return;
  }
  next.state_.store(Fiber::State::kRunning, std::memory_order_relaxed);
  apply_signal_mask(next.identity_.signal_mask);
}

Fiber* Carrier::wait_for_ready() noexcept {
  reap();
  // While all are parked the OS thread takes each signal that one of them would. An engine's own takes none.
  apply_signal_mask(takes_no_signals_ ? kAllSignals : census_.blocked_by_all());
  for (;;) {
    tend_at_ = switches_.load(std::memory_order_relaxed) + kPollInterval;
    attend();
    expire_timers(now());
    if (Fiber* next = ready_.pop()) return next;
    if (take_new(true)) return ready_.pop();
    sleeping_.store(true, std::memory_order_seq_cst);
    // Once more: who starts a fiber from now on sees that this carrier sleeps.
    if (take_new(true) || attention_.load(std::memory_order_seq_cst) != 0) {
      sleeping_.store(false, std::memory_order_relaxed);
      continue;
    }
    if (Monitor* monitor = monitor_.load(std::memory_order_acquire)) monitor->carrier_sleeps(coarse_now_);
    const Nanos deadline = timers_.next_deadline();
    poll(deadline == kNever ? kNever : deadline > coarse_now_ ? deadline - coarse_now_ : 0);
    sleeping_.store(false, std::memory_order_relaxed);
    if (Monitor* monitor = monitor_.load(std::memory_order_acquire)) monitor->carrier_woke();
  }
}

void Carrier::apply_signal_mask(uint64_t mask) noexcept {
  if (mask == kernel_mask_) return;
  kernel_mask_ = mask;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, &kernel_mask_, nullptr, sizeof kernel_mask_);
}

uint64_t Carrier::set_signal_mask(uint64_t mask) noexcept {
  const uint64_t former = exchange_signal_mask(mask);
  apply_signal_mask(mask);
  return former;
}

void Carrier::assume_signal_mask(uint64_t mask) noexcept {
  exchange_signal_mask(mask);
  kernel_mask_ = mask;
}

uint64_t Carrier::exchange_signal_mask(uint64_t mask) noexcept {
  const uint64_t former = running_->identity_.signal_mask;
  if (mask == former) return former;
  census_.remove(former);
  census_.add(mask);
  __atomic_store_n(&running_->identity_.signal_mask, mask, __ATOMIC_SEQ_CST);
  return former;
}

uint64_t Carrier::open_signal_mask(uint64_t mask) noexcept {
  const uint64_t former = kernel_mask_;
  apply_signal_mask(mask);
  return former;
}

// A busy carrier takes now and then what the running fiber blocks and another would take.
void Carrier::let_signals_in() noexcept {
  if (takes_no_signals_) return;
  if (census_.blocked_by_all() == kernel_mask_) [[likely]]
    return;
  apply_signal_mask(census_.blocked_by_all());
  apply_signal_mask(running_->identity_.signal_mask);
}

inline void Carrier::switch_to(Fiber& next, bool dying) noexcept {
  if (next.identity_.signal_mask != kernel_mask_) [[unlikely]]
    return mask_and_jump_to(next, dying);
  jump_to(next, dying);
}

[[gnu::noinline]] void Carrier::mask_and_jump_to(Fiber& next, bool dying) noexcept {
  apply_signal_mask(next.identity_.signal_mask);
  jump_to(next, dying);
}

// All that can be done beforehand is, so that a switch ends where the next fiber's stack is found. What lies
// at addresses of the OS thread is the next fiber's before it runs: from then on nothing may look at errno.
[[gnu::always_inline]] inline void Carrier::jump_to(Fiber& next, bool dying) noexcept {
  Fiber& self = *running_;
  __atomic_store_n(&running_, &next, __ATOMIC_RELAXED);
  next.state_.store(Fiber::State::kRunning, std::memory_order_relaxed);
  Identity::exchange(self.identity_, next.identity_, addresses_);
  self.sanitizer_.leave(next.sanitizer_, dying);
  weft_switch_stack(next.context_, &self.context_);
  // Not `this`: the fiber may have left another carrier.
  self.sanitizer_.enter();
}

void Carrier::fiber_entry(transfer_t) noexcept {
  Carrier& carrier = *Carrier::current();
  Fiber& self = *carrier.running_;
  self.sanitizer_.enter();
  carrier.census_.add(self.identity_.signal_mask);
  void* result = self.entry_(self.argument_);
  Carrier::current()->exit_fiber(result);
}

// Natively a process lives until its last thread is gone.
void Carrier::end_process(Fiber& main) noexcept {
  for (;;) {
    Fiber* other = nullptr;
    Fiber::for_each([&](Fiber& fiber) {
      if (&fiber != &main && !fiber.is_main() && !fiber.done()) other = &fiber;
    });
    if (!other) exit(0);
    ParkingLot::instance().park(&other->done_word(), kNever, kUninterruptible,
                                {WaitKind::kJoin, "pthread_exit", other},
                                [&]() noexcept { return !other->done(); });
  }
}

void Carrier::exit_fiber(void* result) noexcept {
  Fiber& self = *running_;
  if (&self == main_) end_process(self);
  census_.remove(self.identity_.signal_mask);
  if (alive_.fetch_sub(1, std::memory_order_acq_rel) == 1) ParkingLot::instance().wake_all(&alive_);
  self.result_ = result;
  Fiber::count_done();
  self.state_.store(Fiber::State::kDone, std::memory_order_release);
  self.done_.store(1, std::memory_order_release);
  ParkingLot::instance().wake_all(&self.done_);
  Fiber& next = next_ready();
  reap();
  zombie_ = &self;
  switch_to(next, true);
  WEFT_ASSERT(false);  // nobody switches to a fiber that has ended
  __builtin_unreachable();
}

// Frees what the fiber that ended last still held. Not done by the fiber that is switched to: each switch
// would have to look.
void Carrier::reap() noexcept {
  Fiber* zombie = zombie_;
  if (!zombie) return;
  zombie_ = nullptr;
  StackPool::instance().release(zombie->stack_);
  zombie->stack_ = {};
  zombie->context_ = nullptr;
  zombie->sanitizer_.destroy();
  zombie->release();
}

Wake Carrier::park(Nanos deadline) noexcept {
  Fiber& self = *running_;
  auto& parks = parks_[static_cast<int>(WaitKind{self.kind_})];
  parks.store(parks.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  const bool scoped = self.expirable_ && self.expiry_ < deadline;
  if (scoped) deadline = self.expiry_;
  // No timer for a wait that has ended already (cancelled before it began; its event found while arming).
  if (deadline != kNever && (self.wait_.load(std::memory_order_relaxed) & Fiber::kWaiting)) {
    self.timer_.owner = &self;
    timers_.insert(self.timer_, deadline);
    next_timer_.store(timers_.next_deadline(), std::memory_order_relaxed);
  }
  suspend();
  // The fiber itself takes its timer out, and not who wakes it: that may be another thread, before the timer
  // is set.
  if (self.timer_.pending()) {
    timers_.remove(self.timer_);
    next_timer_.store(timers_.next_deadline(), std::memory_order_relaxed);
  }
  const auto wake = static_cast<Wake>(self.wait_.load(std::memory_order_acquire) & Fiber::kWakeMask);
  self.end_wait();
  if (wake == Wake::kReady) [[likely]]
    return wake;
  return self.tell(wake == Wake::kTimeout && scoped ? Wake::kExpired : wake);
}

void Carrier::wait_until_alone() noexcept {
  uint32_t none = 0;
  while (!alive_.compare_exchange_strong(none, kClosed, std::memory_order_acq_rel)) {
    ParkingLot::instance().park(&alive_, kNever, kUninterruptible, {WaitKind::kJoin, "the carrier's end"},
                                [this]() noexcept { return alive_.load() > 0; });
    none = 0;
  }
}

Wake Carrier::sleep_until(Nanos deadline, uint8_t flags, const char* call) noexcept {
  running_->begin_wait(flags, {WaitKind::kSleep, call});
  return park(deadline);
}

bool Carrier::has_work(Nanos now) noexcept {
  return ready_count() > 0 || next_timer_.load(std::memory_order_relaxed) <= now ||
         inbox_.load(std::memory_order_relaxed) != nullptr ||
         (attention_.load(std::memory_order_relaxed) & kRequested) || events_->has_events();
}

Carrier::Stats Carrier::stats() const noexcept {
  Stats stats{switch_count(), {}};
  for (int i = 0; i < kWaitKinds; ++i) stats.parks[i] = parks_[i].load(std::memory_order_relaxed);
  return stats;
}

void Carrier::reset_after_fork() noexcept {
  Fiber& survivor = *running_;
  // A signal handler may fork too, while the fiber that it interrupted waits for the next to be ready.
  const bool timed = survivor.timer_.pending();
  timers_.clear();
  survivor.timer_.next = survivor.timer_.previous = nullptr;
  if (timed) timers_.insert(survivor.timer_, survivor.timer_.deadline);
  next_timer_.store(timers_.next_deadline(), std::memory_order_relaxed);
  ready_.clear();
  ready_count_.store(0, std::memory_order_relaxed);
  if (survivor.state() == Fiber::State::kReady) enqueue(survivor, Turn::kInOrder);
  inbox_.store(nullptr, std::memory_order_relaxed);
  attention_.store(0, std::memory_order_relaxed);
  sleeping_.store(false, std::memory_order_relaxed);
  zombie_ = nullptr;
  pinned_calls_.reset_after_fork();
  alive_.store(survivor.is_main() ? 0 : 1, std::memory_order_relaxed);
  takes_no_signals_ = false;
  survivor.signals.pending.store(0, std::memory_order_relaxed);
  census_.clear();
  census_.add(survivor.identity_.signal_mask);
  thread_id_ = sys::thread_id();
  main_ = &survivor;  // to signals, the thread that forked is the child's main thread
  events_->reset_after_fork();
}

}  // namespace weft::engine
