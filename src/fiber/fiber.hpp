// The control block of a fiber.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

#include "fiber/clock.hpp"
#include "fiber/context.hpp"
#include "fiber/identity.hpp"
#include "fiber/intrusive_list.hpp"
#include "fiber/stack_pool.hpp"
#include "fiber/timer_wheel.hpp"

namespace weft::engine {

class Carrier;
class Fiber;

/// Why a parked fiber runs again.
enum class Wake : uint8_t {
  kReady = 1,    ///< what it waited for happened
  kTimeout,      ///< its deadline passed
  kInterrupted,  ///< a signal handler ran that its thread would have been interrupted by
  kCancelled,    ///< it was asked to end
  kClosed,       ///< what it waited on was closed
  kExpired,      ///< the deadline of a scope around it passed (Fiber::set_expiry)
};

/// The errno of a call whose wait was ended by what surrounds it and not by what it waits for; else 0. Tells
/// whoever asked for it with set_revocation_hook().
int revocation_error(Wake wake) noexcept;

/// Called on the fiber whose call is about to fail for that reason; may suspend it. Null: nobody.
void set_revocation_hook(void (*hook)(Wake wake) noexcept) noexcept;

/// When a fiber that has been made ready runs.
enum class Turn : uint8_t {
  kInOrder,  ///< after those that are ready already
  kNext,     ///< before them, within limits (ReadyQueue)
};

/// What a fiber waits for, as counted and shown. Keep `to_string` in step.
enum class WaitKind : uint8_t { kIo, kSleep, kLock, kJoin, kOffload, kChild, kOther };
inline constexpr int kWaitKinds = 7;
const char* to_string(WaitKind kind) noexcept;

/// What a wait's contract allows to end it early.
enum WaitFlags : uint8_t {
  kUninterruptible = 0,
  kCancellable = 1,
  kInterruptible = 2,
  kRestartable = 4,   ///< with kInterruptible: but not by a handler installed with SA_RESTART
  kFrontOfQueue = 8,  ///< ParkingLot: before those who wait already, for one that was woken and lost the race
  kUnlessTold = 16,   ///< with kCancellable: but not by what has ended a wait of the fiber before
};

/// What a fiber waits for; shown by dumps.
struct WaitReason {
  WaitKind kind = WaitKind::kOther;
  const char* call = "";         ///< static storage: the call that waits, "recv"
  const void* object = nullptr;  ///< the address waited on, or
  int descriptor = -1;           ///< the descriptor waited on
};

/// A word that other threads may look at while its owner changes it, by relaxed accesses: what is seen need
/// not fit what else is seen.
template <typename T>
class Relaxed {
 public:
  constexpr Relaxed(T value = {}) noexcept : value_(value) {}
  operator T() const noexcept { return value_.load(std::memory_order_relaxed); }
  Relaxed& operator=(T value) noexcept {
    value_.store(value, std::memory_order_relaxed);
    return *this;
  }

 private:
  std::atomic<T> value_;
};

/// Something a carrier is to do, handed over from any thread. Lives in what posts it, until run.
struct InboxNode {
  InboxNode* next = nullptr;
  void (*run)(InboxNode& node, Carrier& carrier) noexcept = nullptr;
  void* owner = nullptr;  ///< what it lives in
};

/// What the layer that handles signals keeps with a fiber; any thread. In masks a bit for each, as in
/// Identity::signal_mask.
struct FiberSignals {
  std::atomic<uint64_t> pending{0};  ///< sent to this fiber alone, and not handled yet
  std::atomic<uint64_t> awaited{0};  ///< what it waits for in sigwait() or kin
  std::atomic<uint32_t> missed{
      0};  ///< how often a handler would have interrupted it, had its wait been of that kind
  std::atomic<uint8_t> notes{0};  ///< what is to be done about it by the carrier
  Fiber* next_noted = nullptr;    ///< on the list of those with notes
};

/// A fiber's control block. Blocks are type-stable: they are recycled, never unmapped, so that reading one
/// that runs or has ended is harmless (a dump does): what it is and what it waits for. Reference-counted: one
/// reference from start to end, one for each handle.
class alignas(64) Fiber {
 public:
  using Entry = void* (*)(void* argument);

  enum class State : uint8_t { kFree, kNew, kReady, kRunning, kParked, kDone };

  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// A fiber that will run entry(argument) on a stack of at least `stack_size` bytes once Carrier::start() is
  /// called for it, with one reference for the caller. Null with errno = ENOMEM or EAGAIN when no stack or
  /// block is to be had. Any thread.
  static Fiber* create(Carrier& carrier, Entry entry, void* argument, size_t stack_size) noexcept;

  void retain() noexcept { references_.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept;

  // --- Waiting. A wait is announced with begin_wait() on the fiber itself, which gives a ticket to hand to
  // whoever may end it; then Carrier::park() suspends. Exactly one unpark() of a ticket succeeds, whichever
  // comes first, and it makes the fiber run again; later ones find the ticket spent.

  /// On the running fiber. An unpark() may come as soon as this returns. If the fiber was cancelled already
  /// and the wait is cancellable, park() will return at once.
  uint64_t begin_wait(uint8_t flags, const WaitReason& reason) noexcept;

  /// Ends the wait `ticket` names. False if it had ended. Any thread; not from a signal handler. The caller
  /// makes sure that the block is still this fiber's (it holds a lock that the fiber must take before it goes
  /// on, or a reference).
  bool unpark(uint64_t ticket, Wake wake, Turn turn = Turn::kInOrder) noexcept;

  /// Ends the present wait if there is one that has `flag` among its flags. Any thread.
  bool end_wait_if(WaitFlags flag, Wake wake) noexcept;

  /// Ends the present wait with Wake::kInterrupted if its contract lets a signal handler do so; `restart`:
  /// the handler was installed with SA_RESTART. Any thread.
  bool interrupt(bool restart) noexcept;

  /// Asks the fiber to end: its present or next cancellable wait ends with Wake::kCancelled, as does every
  /// later one until clear_cancel(). Any thread; REQUIRES: the caller holds a reference.
  void cancel() noexcept;
  void clear_cancel() noexcept {
    cancelled_.fetch_and(~kCancelledItself, std::memory_order_relaxed);
    forget_told();
  }
  /// The same for a stretch of code that the fiber runs, as often as there are such stretches, one in
  /// another: begins or ends here.
  void cancel_scope() noexcept;
  void end_cancelled_scope() noexcept {
    cancelled_.fetch_sub(kCancelledScope, std::memory_order_relaxed);
    forget_told();
  }
  bool cancel_requested() const noexcept { return cancelled_.load(std::memory_order_relaxed) != 0; }

  // --- Scopes around waits; for the running fiber itself.

  /// From now on every cancellable wait ends with Wake::kExpired once this absolute time has come; kNever:
  /// none does. Returns what it was.
  Nanos set_expiry(Nanos expiry) noexcept { return std::exchange(expiry_, expiry); }
  Nanos expiry() const noexcept { return expiry_; }
  /// While above zero, cancel() is not seen by waits.
  uint32_t shields = 0;
  /// Flags that a cancellable wait of the C++ library has besides.
  uint8_t library_flags = 0;
  /// How a cancellable wait that begins now would end at once: kCancelled, kExpired, or kReady if it would
  /// not. The caller tells the fiber.
  Wake revocation() noexcept;
  /// While this is set, waits for that semaphore end with ETIMEDOUT where the fiber is cancelled or a scope
  /// expires, unless it was told so before; `outcome` says which it was.
  struct SemaphoreWait {
    const void* semaphore;  ///< null: any
    Wake outcome = Wake::kReady;
  };
  SemaphoreWait* semaphore_wait = nullptr;

  // --- What it is.
  uint64_t id() const noexcept { return id_; }
  Carrier& carrier() const noexcept { return *carrier_; }
  Identity& identity() noexcept { return identity_; }
  bool is_main() const noexcept { return !stack_; }
  State state() const noexcept { return state_.load(std::memory_order_acquire); }
  bool done() const noexcept { return done_.load(std::memory_order_acquire) != 0; }
  const Stack& stack() const noexcept { return stack_; }
  void* result() const noexcept { return result_; }
  void set_result(void* result) noexcept { result_ = result; }

  /// At most 15 bytes are kept, as for threads. Any thread, as all that follows.
  void set_name(const char* name) noexcept;
  using Name = std::array<char, 16>;
  Name name() const noexcept;

  /// As of the last begin_wait(); meaningful while parked.
  WaitReason wait_reason() const noexcept { return {kind_, call_, object_, descriptor_}; }
  Nanos waiting_since() const noexcept { return since_; }
  /// The saved context of a fiber that is not running; null if it never ran.
  fcontext_t context() const noexcept { return context_; }

  /// For the layers above: a pthread's detach state, and a word for what they attach to a fiber.
  std::atomic<bool> detached{false};
  void* attachment = nullptr;
  void* task = nullptr;         ///< what the C++ library keeps with a fiber that was spawned through it
  const void* actor = nullptr;  ///< the actor that it runs, at the moment
  FiberSignals signals;

  // --- The table of all blocks.

  /// True if `pointer` is the address of a block, in use or free.
  static bool is_block(const void* pointer) noexcept;
  /// Calls visit(Fiber&) for each block in use; racing fibers may be missed or seen twice. Any thread.
  template <typename Visit>
  static void for_each(Visit&& visit) {
    for (size_t i = 0, n = block_count(); i < n; ++i)
      if (Fiber& fiber = block(i); fiber.state() != State::kFree) visit(fiber);
  }
  struct Counts {
    uint64_t created, alive, peak;
  };
  /// Fibers with a stack of their own: main fibers are not counted.
  static Counts counts() noexcept;
  /// In a fork child: every fiber but `survivor` is gone. None survives where a native thread forked.
  static void reset_after_fork(Fiber& survivor) noexcept { reset_after_fork(&survivor); }
  static void reset_after_fork() noexcept { reset_after_fork(nullptr); }
  /// How many forks lie between this process and the one that started the engine.
  static uint32_t forks() noexcept;

 private:
  friend class Carrier;
  friend class Crew;
  friend class FiberTable;
  friend class ReadyQueue;

  Fiber() noexcept = default;
  ~Fiber() = default;
  static size_t block_count() noexcept;
  static Fiber& block(size_t index) noexcept;
  static Fiber* allocate() noexcept;
  static void count_done() noexcept;
  static void reset_after_fork(Fiber* survivor) noexcept;
  void forget_told() noexcept {
    told_cancelled_ = std::min(told_cancelled_, cancelled_.load(std::memory_order_relaxed));
  }
  // How the wait ended that is over; keeps what the fiber has been told.
  Wake tell(Wake wake) noexcept {
    if (wake == Wake::kCancelled) told_cancelled_ = cancelled_.load(std::memory_order_relaxed);
    if (wake == Wake::kExpired) told_expiry_ = expiry_;
    return wake;
  }
  void set_wait_reason(const WaitReason& reason) noexcept {
    kind_ = reason.kind;
    call_ = reason.call;
    object_ = reason.object;
    descriptor_ = reason.descriptor;
  }
  void end_wait() noexcept {
    wait_.store(wait_.load(std::memory_order_relaxed) & ~uint64_t{0xff}, std::memory_order_relaxed);
  }

  // wait_: the ticket in the upper 56 bits; below it 0 (no wait), a Wake (ended), or kWaiting with WaitFlags.
  static constexpr uint64_t kWaiting = 0x10, kWakeMask = 0x0f, kWaitFlagMask = 7, kFlagShift = 5,
                            kTicketStep = 0x100;

  static constexpr uint32_t kCancelledItself = 1, kCancelledScope = 2;

  // What a switch touches comes first, in two cache lines.
  fcontext_t context_ = nullptr;
  Fiber* next_ = nullptr;      // on the ready queue, or among the free blocks
  Relaxed<Carrier*> carrier_;  // where it runs; until it has started it may change
  std::atomic<uint64_t> wait_{0};
  std::atomic<State> state_{State::kFree};
  std::atomic<uint32_t> cancelled_{0};  // kCancelledItself, and kCancelledScope for each such scope
  std::atomic<uint32_t> references_{0};
  Identity identity_;
  [[no_unique_address]] SanitizerState sanitizer_;
  std::atomic<uint32_t> done_{0};  // joiners wait on its address
  Timer timer_;
  InboxNode inbox_;
  Stack stack_;
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
  void* result_ = nullptr;
  Relaxed<WaitKind> kind_{WaitKind::kOther};
  Relaxed<const char*> call_{""};
  Relaxed<const void*> object_;
  Relaxed<int> descriptor_{-1};
  Relaxed<Nanos> since_;
  Nanos expiry_ = kNever;
  bool expirable_ = false;  // the present wait is
  // The last that ended a wait: a value of cancelled_, and one of expiry_.
  uint32_t told_cancelled_ = 0;
  Nanos told_expiry_ = kNever;
  Relaxed<uint64_t> id_;
  Relaxed<uint64_t> name_[sizeof(Name) / sizeof(uint64_t)];

 public:
  /// What joiners park on. 1 once the fiber has ended.
  const std::atomic<uint32_t>& done_word() const noexcept { return done_; }
};

}  // namespace weft::engine
