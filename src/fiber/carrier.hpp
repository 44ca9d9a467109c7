// Carrier: an OS thread that runs fibers, and their scheduler.
#pragma once

#include <atomic>
#include <cstdint>

#include "fiber/event_source.hpp"
#include "fiber/fiber.hpp"
#include "fiber/pinned_calls.hpp"
#include "fiber/ready_queue.hpp"
#include "fiber/signal_census.hpp"
#include "fiber/thread_state.hpp"

namespace weft::engine {

class Crew;
class Monitor;

/// Runs fibers on the OS thread that attached it: first in first out, except that a fiber which the running
/// one starts or hands something over to (Turn::kNext) comes before those that queue.
///
/// There is no scheduler fiber: a fiber that parks looks for the next ready one and switches to it directly;
/// when there is none, it waits for events on its own stack. However busy the carrier is, timers are looked
/// at every `kPollInterval` switches, events are polled for then too if `kPollSpacing` has passed, and both
/// as soon as the monitor asks for it.
///
/// Unless said otherwise, a function is for the carrier's own thread.
class Carrier {
 public:
  static constexpr int kPollInterval = 61;
  /// Switches take some 10 ns, a poll may cost a system call: polling more often than this would be most of
  /// the work.
  static constexpr Nanos kPollSpacing = 10 * kMicrosecond;

  struct Stats {
    uint64_t switches;
    uint64_t parks[kWaitKinds];
  };

  Carrier(Clock& clock, EventSource& events) noexcept : clock_(clock), events_(&events) {}
  Carrier(const Carrier&) = delete;
  Carrier& operator=(const Carrier&) = delete;

  /// The calling thread's carrier, or null.
  static Carrier* current() noexcept { return thread_state().carrier; }
  /// The fiber that makes the call, or null on a thread that runs none.
  static Fiber* running_fiber() noexcept {
    Carrier* carrier = current();
    return carrier ? carrier->running_ : nullptr;
  }

  /// Makes the calling thread this carrier's, its present stack the main fiber. REQUIRES: it has no carrier.
  /// False with errno set when there is no block for the main fiber.
  bool attach() noexcept;
  /// On the main fiber: returns when every fiber that was started here has ended. From then on start()
  /// refuses.
  void wait_until_alone() noexcept;
  /// For an OS thread of the engine's own: it blocks all signals while no fiber runs.
  void take_no_signals() noexcept { takes_no_signals_ = true; }
  /// The reverse of attach(). REQUIRES: called on the main fiber; no other fiber of this carrier is alive;
  /// the monitor does not watch it. Whoever destroys the carrier then makes sure that no other thread is
  /// still inside a call that woke its fibers.
  void detach() noexcept;

  Fiber& main_fiber() const noexcept { return *main_; }
  Fiber& running() const noexcept { return *running_; }

  /// Makes a new fiber ready, to run here whichever carrier it was made for. To be called once. Any thread.
  /// False if the carrier is about to end: nothing has changed then.
  bool start(Fiber& fiber) noexcept;

  /// For the crew it belongs to: `fiber`, which has not started, is to run here.
  void adopt(Fiber& fiber) noexcept;
  /// For the crew: where new fibers are to be had when nothing is ready; null: nowhere.
  void set_crew(Crew* crew) noexcept { crew_.store(crew, std::memory_order_relaxed); }

  /// Lets every fiber that is ready run before the caller goes on. Returns at once where there is none.
  void yield() noexcept;

  /// For calls that need not wait: a yield() if something came up that the carrier would look at between
  /// switches. The monitor sees to it that this is so at least every tick while others wait.
  void give_way() noexcept {
    if (attention_.load(std::memory_order_relaxed) != 0) [[unlikely]]
      tend_and_yield();
  }

  /// Suspends the running fiber, which has announced its wait with begin_wait(), until an unpark() of it or
  /// until `deadline` (absolute, of the carrier's clock).
  Wake park(Nanos deadline = kNever) noexcept;

  /// Parks until `deadline`.
  Wake sleep_until(Nanos deadline, uint8_t flags, const char* call) noexcept;

  /// Ends the running fiber. Its joiners see it done at once. The end of the main one, or of the one that a
  /// fork has made the main one, waits for all others, and is the end of the process, as with threads.
  [[noreturn]] void exit_fiber(void* result) noexcept;

  /// Puts an unparked fiber on the ready queue; from another thread, when the carrier next looks, which it is
  /// asked to do soon. Any thread.
  void make_ready(Fiber& fiber, Turn turn = Turn::kInOrder) noexcept;

  /// Has `node.run(node, *this)` called on the carrier's thread, soon. Any thread; not from a signal handler.
  void post(InboxNode& node) noexcept;

  /// From a signal handler, on any thread: the carrier will call the attention hook soon, waking up if it
  /// idles.
  void request_attention() noexcept;

  /// What the layer that handles signals wants called between switches after request_attention(). Must not
  /// switch.
  void set_attention_hook(void (*hook)(Carrier&) noexcept) noexcept { attention_hook_ = hook; }

  /// The time of the last poll: at most as old as the present fiber's run. For what need not be exact.
  Nanos coarse_now() const noexcept { return coarse_now_; }
  Nanos now() noexcept { return coarse_now_ = clock_.now(); }
  /// What now() reads. Its now() is for any thread.
  Clock& clock() const noexcept { return clock_; }

  EventSource& events() noexcept { return *events_; }
  /// REQUIRES: no fiber is parked on the present source.
  void set_events(EventSource& events) noexcept { events_ = &events; }
  size_t pending_timers() const noexcept { return timers_.size(); }
  size_t ready_count() const noexcept { return ready_count_.load(std::memory_order_relaxed); }

  /// Adopts the mask for the running fiber and the kernel thread. Returns the former one.
  uint64_t set_signal_mask(uint64_t mask) noexcept;

  /// The same, but leaves the kernel thread's mask to libc, which is about to set it.
  void assume_signal_mask(uint64_t mask) noexcept;

  /// For the attention hook: sets the kernel thread's mask alone, and returns the former one, to be set
  /// again.
  uint64_t open_signal_mask(uint64_t mask) noexcept;
  /// The signals that no fiber of this carrier would take.
  uint64_t signals_blocked_by_all() const noexcept { return census_.blocked_by_all(); }

  /// A C++ runtime may have been loaded: look again for what a switch must save.
  void refresh_addresses() noexcept;
  /// See ThreadAddresses::interpreter_state.
  void set_interpreter_state(void** slot) noexcept {
    addresses_.interpreter_state = slot;
    addresses_.has_more = slot || addresses_.exceptions[1];
  }

  /// The calls that block it now.
  PinnedCalls& pinned_calls() noexcept { return pinned_calls_; }

  /// In a fork child, on the thread that forked: only the running fiber lives on, as the new main thread.
  void reset_after_fork() noexcept;

  // --- For the monitor; any thread.
  void set_monitor(Monitor* monitor) noexcept { monitor_.store(monitor, std::memory_order_release); }
  uint64_t switch_count() const noexcept { return switches_.load(std::memory_order_relaxed); }
  bool idle() const noexcept { return sleeping_.load(std::memory_order_relaxed) || !attached_; }
  /// Could another fiber than the running one do something?
  bool has_work(Nanos now) noexcept;
  int thread_id() const noexcept { return thread_id_; }
  /// The running fiber as another thread sees it: it may have changed by the time the caller looks.
  Fiber* running_racy() const noexcept { return __atomic_load_n(&running_, __ATOMIC_RELAXED); }
  /// Makes a busy carrier poll at its next switch, and a fiber that does I/O without ever waiting give way.
  void ask_for_poll() noexcept { attention_.fetch_or(kPollAsked, std::memory_order_relaxed); }
  Stats stats() const noexcept;

 private:
  friend class Fiber;

  // What attention_ is made of: something was posted, or a signal handler ran; the monitor wants events
  // polled for, which is no reason for it to take the carrier for one with work to do.
  static constexpr uint8_t kRequested = 1, kPollAsked = 2;

  void suspend() noexcept;
  Fiber& next_ready() noexcept;
  Fiber* wait_for_ready() noexcept;
  uint8_t attend() noexcept;
  bool take_new(bool steal) noexcept;
  void tend() noexcept;
  bool count_switch() noexcept;
  void rotate() noexcept;
  void tend_and_yield() noexcept;
  void poll(Nanos timeout) noexcept;
  void drain_inbox() noexcept;
  void expire_timers(Nanos now) noexcept;
  void switch_to(Fiber& next, bool dying) noexcept;
  void mask_and_jump_to(Fiber& next, bool dying) noexcept;
  void jump_to(Fiber& next, bool dying) noexcept;
  void reap() noexcept;
  [[noreturn]] static void end_process(Fiber& main) noexcept;
  static void fiber_entry(transfer_t from) noexcept;
  void apply_signal_mask(uint64_t mask) noexcept;
  uint64_t exchange_signal_mask(uint64_t mask) noexcept;
  void let_signals_in() noexcept;
  void enqueue(Fiber& fiber, Turn turn) noexcept;
  template <Turn turn>
  static void enqueue_posted(InboxNode& node, Carrier& carrier) noexcept;

  // What a switch touches comes first.
  std::atomic<uint64_t> switches_{0};
  Fiber* running_ = nullptr;
  ReadyQueue ready_;
  uint64_t tend_at_ = kPollInterval;  // the switch to look at timers and events after
  uint64_t kernel_mask_ = 0;          // the OS thread's signal mask as last set
  ThreadAddresses addresses_;

  Clock& clock_;
  EventSource* events_;
  void (*attention_hook_)(Carrier&) noexcept = nullptr;
  Fiber* main_ = nullptr;
  Fiber* zombie_ = nullptr;  // has ended; its stack can go now that another fiber runs
  SignalCensus census_;
  TimerWheel timers_;
  Nanos coarse_now_ = 0;
  Nanos last_poll_ = 0, last_tended_ = 0;
  int polls_skipped_ = 0;
  int thread_id_ = 0;
  // Fibers that are this carrier's and have not ended; kClosed: no more are taken. Parked on by who waits for
  // the last.
  std::atomic<uint32_t> alive_{0};
  static constexpr uint32_t kClosed = uint32_t{1} << 31;
  bool takes_no_signals_ = false;

  // Written by the carrier, read by others.
  std::atomic<size_t> ready_count_{0};
  std::atomic<Nanos> next_timer_{kNever};
  std::atomic<bool> attached_{false};
  std::atomic<uint64_t> parks_[kWaitKinds] = {};

  PinnedCalls pinned_calls_;

  // Written by others. inbox_: a stack of posted nodes, newest first.
  std::atomic<Monitor*> monitor_{nullptr};
  std::atomic<Crew*> crew_{nullptr};
  alignas(64) std::atomic<InboxNode*> inbox_{nullptr};
  std::atomic<uint8_t> attention_{0};
  std::atomic<bool> sleeping_{false};
};

}  // namespace weft::engine
