#include "fiber/fiber.hpp"

#include <sys/mman.h>
#include <sys/resource.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <new>

#include "fiber/assert.hpp"
#include "fiber/carrier.hpp"
#include "fiber/futex_lock.hpp"
#include "fiber/sys.hpp"

namespace weft::engine {

// All blocks stand in one reserved range of addresses, of which only what is used is ever touched. So a block
// has an index, pointers to blocks can be told from others, and all of them can be visited without a lock.
class FiberTable {
 public:
  static FiberTable& instance() noexcept {
    alignas(FiberTable) static std::byte storage[sizeof(FiberTable)];
    static FiberTable* table = new (storage) FiberTable;
    return *table;
  }

  Fiber* allocate() noexcept {
    Guard guard(lock_);
    Fiber* fiber = free_;
    if (fiber) {
      free_ = fiber->next_;
      fiber->next_ = nullptr;
    } else {
      const size_t used = used_.load(std::memory_order_relaxed);
      if (used == committed_ && !commit()) return nullptr;
      fiber = new (blocks_ + used) Fiber;
      used_.store(used + 1, std::memory_order_release);
    }
    fiber->id_ = ++last_id_;
    return fiber;
  }

  void free(Fiber& fiber) noexcept {
    // Member by member, not by a constructor: others may be looking at the atomic ones. And tickets go on
    // counting, so that one given out by the block's previous fiber never fits.
    fiber.state_.store(Fiber::State::kFree, std::memory_order_release);
    fiber.done_.store(0, std::memory_order_relaxed);
    fiber.cancelled_.store(0, std::memory_order_relaxed);
    fiber.detached.store(false, std::memory_order_relaxed);
    fiber.identity_.reset();
    fiber.stack_ = {};
    fiber.context_ = nullptr;
    fiber.signals.pending.store(0, std::memory_order_relaxed);
    fiber.signals.awaited.store(0, std::memory_order_relaxed);
    fiber.expiry_ = kNever;
    fiber.shields = 0;
    fiber.library_flags = 0;
    fiber.semaphore_wait = nullptr;
    fiber.told_cancelled_ = 0;
    fiber.told_expiry_ = kNever;
    fiber.attachment = fiber.task = fiber.argument_ = fiber.result_ = nullptr;
    fiber.set_wait_reason({});
    fiber.set_name("");
    Guard guard(lock_);
    fiber.next_ = free_;
    free_ = &fiber;
  }

  bool contains(const void* pointer) const noexcept {
    const auto offset = reinterpret_cast<uintptr_t>(pointer) - reinterpret_cast<uintptr_t>(blocks_);
    return offset < used() * sizeof(Fiber) && offset % sizeof(Fiber) == 0;
  }
  size_t used() const noexcept { return used_.load(std::memory_order_acquire); }
  Fiber& at(size_t index) noexcept { return blocks_[index]; }

  void count_created() noexcept {
    created_.fetch_add(1, std::memory_order_relaxed);
    const uint64_t alive = alive_.fetch_add(1, std::memory_order_relaxed) + 1;
    uint64_t peak = peak_.load(std::memory_order_relaxed);
    while (alive > peak && !peak_.compare_exchange_weak(peak, alive, std::memory_order_relaxed)) {
    }
  }
  void count_done() noexcept { alive_.fetch_sub(1, std::memory_order_relaxed); }
  Fiber::Counts counts() const noexcept {
    return {created_.load(std::memory_order_relaxed), alive_.load(std::memory_order_relaxed),
            peak_.load(std::memory_order_relaxed)};
  }

  void reset_after_fork(Fiber* survivor) noexcept {
    // Blocks of fibers that did not survive are left alone, stacks included: what they hold (a handle
    // somewhere, the caller's frames) may still be looked at. The child's own fibers come from new blocks,
    // since another thread may have been changing the free list, or making the block after the last.
    free_ = nullptr;
    if (const size_t used = this->used(); used < committed_) {
      new (blocks_ + used) Fiber;
      used_.store(used + 1, std::memory_order_relaxed);
    }
    alive_.store(survivor && !survivor->is_main() ? 1 : 0, std::memory_order_relaxed);
    for (size_t i = 0, n = used(); i < n; ++i) {
      Fiber& fiber = blocks_[i];
      if (&fiber == survivor || fiber.state() == Fiber::State::kFree) continue;
      fiber.state_.store(Fiber::State::kDone, std::memory_order_relaxed);
      fiber.done_.store(1, std::memory_order_relaxed);
      fiber.end_wait();  // who cancels it does not wake it
    }
    ++forks_;
  }
  uint32_t forks() const noexcept { return forks_; }

 private:
  // As many as the kernel itself allows threads.
  static constexpr size_t kCapacity = size_t{1} << 22;
  // Blocks are made usable in steps, so that the reserve counts nowhere but in the size of the address space.
  static constexpr size_t kStep = 4096;

  FiberTable() noexcept {
    capacity_ = kCapacity;
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY)
      capacity_ = std::min<size_t>(capacity_, limit.rlim_cur / 16 / sizeof(Fiber));
    for (; capacity_ > 0; capacity_ /= 2) {
      void* memory = mmap(nullptr, capacity_ * sizeof(Fiber), PROT_NONE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
      if (memory == MAP_FAILED) continue;
      madvise(memory, capacity_ * sizeof(Fiber), MADV_NOHUGEPAGE);
      blocks_ = static_cast<Fiber*>(memory);
      return;
    }
  }

  bool commit() noexcept {
    const size_t step = std::min(kStep, capacity_ - committed_);
    if (step == 0) {
      errno = EAGAIN;
      return false;
    }
    // From the start: steps need not begin on a page.
    if (mprotect(blocks_, (committed_ + step) * sizeof(Fiber), PROT_READ | PROT_WRITE) != 0) {
      errno = ENOMEM;
      return false;
    }
    committed_ += step;
    return true;
  }

  Fiber* blocks_ = nullptr;
  size_t capacity_ = 0;
  uint32_t forks_ = 0;
  std::atomic<size_t> used_{0};
  std::atomic<uint64_t> created_{0}, alive_{0}, peak_{0};
  FutexLock lock_;
  // lock_ guards the free list and all below.
  Fiber* free_ = nullptr;
  size_t committed_ = 0;
  uint64_t last_id_ = 0;
};

const char* to_string(WaitKind kind) noexcept {
  static constexpr const char* kNames[kWaitKinds] = {"io",      "sleep", "lock", "join",
                                                     "offload", "child", "other"};
  return kNames[static_cast<int>(kind)];
}

namespace {
constinit std::atomic<void (*)(Wake) noexcept> g_revocation_hook{nullptr};
}

void set_revocation_hook(void (*hook)(Wake) noexcept) noexcept {
  g_revocation_hook.store(hook, std::memory_order_release);
}

int revocation_error(Wake wake) noexcept {
  const int error = wake == Wake::kCancelled ? ECANCELED : wake == Wake::kExpired ? ETIMEDOUT : 0;
  if (error) [[unlikely]]
    if (const auto hook = g_revocation_hook.load(std::memory_order_acquire)) hook(wake);
  return error;
}

Fiber* Fiber::allocate() noexcept {
  return FiberTable::instance().allocate();
}
void Fiber::count_done() noexcept {
  FiberTable::instance().count_done();
}
size_t Fiber::block_count() noexcept {
  return FiberTable::instance().used();
}
Fiber& Fiber::block(size_t index) noexcept {
  return FiberTable::instance().at(index);
}
bool Fiber::is_block(const void* pointer) noexcept {
  return FiberTable::instance().contains(pointer);
}
Fiber::Counts Fiber::counts() noexcept {
  return FiberTable::instance().counts();
}
uint32_t Fiber::forks() noexcept {
  return FiberTable::instance().forks();
}
void Fiber::reset_after_fork(Fiber* survivor) noexcept {
  FiberTable::instance().reset_after_fork(survivor);
}

Fiber* Fiber::create(Carrier& carrier, Entry entry, void* argument, size_t stack_size) noexcept {
  if (Carrier* here = Carrier::current()) here->reap();  // its stack is the warmest
  const Stack stack = StackPool::instance().allocate(stack_size);
  if (!stack) return nullptr;
  Fiber* fiber = allocate();
  if (!fiber) {
    StackPool::instance().release(stack);
    return nullptr;
  }
  fiber->stack_ = stack;
  fiber->context_ = make_fcontext(stack.top, stack.size(), &Carrier::fiber_entry);
  fiber->carrier_ = &carrier;
  fiber->entry_ = entry;
  fiber->argument_ = argument;
  fiber->references_.store(1, std::memory_order_relaxed);
  // As for threads, the mask comes from whoever creates it.
  if (Fiber* creator = Carrier::running_fiber())
    fiber->identity_.signal_mask = creator->identity_.signal_mask;
  else
    sys::call(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &fiber->identity_.signal_mask, sizeof(uint64_t));
  fiber->sanitizer_.create();
  fiber->sanitizer_.set_stack(stack.base, stack.size());
  fiber->state_.store(State::kNew, std::memory_order_release);
  FiberTable::instance().count_created();
  return fiber;
}

void Fiber::release() noexcept {
  if (references_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  FiberTable& table = FiberTable::instance();
  if (stack_) {
    // Only a fiber that was never started still has its stack here.
    StackPool::instance().release(stack_);
    table.count_done();
    sanitizer_.destroy();
  }
  table.free(*this);
}

uint64_t Fiber::begin_wait(uint8_t flags, const WaitReason& reason) noexcept {
  set_wait_reason(reason);
  since_ = carrier().coarse_now();
  expirable_ = flags & kCancellable;
  bool deaf = shields > 0;
  if (flags & kUnlessTold) [[unlikely]] {
    if (expiry_ == told_expiry_) expirable_ = false;
    const uint32_t cancelled = cancelled_.load(std::memory_order_relaxed);
    deaf |= cancelled && cancelled <= told_cancelled_;
  }
  if (deaf) flags &= static_cast<uint8_t>(~kCancellable);
  const uint64_t ticket = (wait_.load(std::memory_order_relaxed) & ~uint64_t{0xff}) + kTicketStep;
  // release: who sees it parked, by state(), sees why.
  state_.store(State::kParked, std::memory_order_release);
  // seq_cst: either cancel() sees this wait, or the check below sees its request.
  wait_.store(ticket | kWaiting | ((uint64_t{flags} & kWaitFlagMask) << kFlagShift),
              std::memory_order_seq_cst);
  if ((flags & kCancellable) && cancelled_.load(std::memory_order_seq_cst)) [[unlikely]]
    unpark(ticket, Wake::kCancelled);
  return ticket;
}

bool Fiber::unpark(uint64_t ticket, Wake wake, Turn turn) noexcept {
  uint64_t seen = wait_.load(std::memory_order_relaxed);
  do {
    if ((seen & ~uint64_t{0xff}) != ticket || !(seen & kWaiting)) return false;
  } while (!wait_.compare_exchange_weak(seen, ticket | static_cast<uint64_t>(wake), std::memory_order_acq_rel,
                                        std::memory_order_relaxed));
  carrier().make_ready(*this, turn);
  return true;
}

bool Fiber::end_wait_if(WaitFlags flag, Wake wake) noexcept {
  const uint64_t seen = wait_.load(std::memory_order_seq_cst);
  if (!(seen & kWaiting) || !(seen & (uint64_t{flag} << kFlagShift))) return false;
  return unpark(seen & ~uint64_t{0xff}, wake);
}

bool Fiber::interrupt(bool restart) noexcept {
  const uint64_t seen = wait_.load(std::memory_order_seq_cst);
  if (!(seen & kWaiting) || !(seen & (uint64_t{kInterruptible} << kFlagShift))) return false;
  if (restart && (seen & (uint64_t{kRestartable} << kFlagShift))) return false;
  return unpark(seen & ~uint64_t{0xff}, Wake::kInterrupted);
}

void Fiber::cancel() noexcept {
  cancelled_.fetch_or(kCancelledItself, std::memory_order_seq_cst);
  end_wait_if(kCancellable, Wake::kCancelled);
}

void Fiber::cancel_scope() noexcept {
  cancelled_.fetch_add(kCancelledScope, std::memory_order_seq_cst);
  end_wait_if(kCancellable, Wake::kCancelled);
}

Wake Fiber::revocation() noexcept {
  if (shields == 0 && cancel_requested()) return tell(Wake::kCancelled);
  return expiry_ != kNever && expiry_ <= carrier().now() ? tell(Wake::kExpired) : Wake::kReady;
}

void Fiber::set_name(const char* name) noexcept {
  Name text{};
  strncpy(text.data(), name, text.size() - 1);
  const auto words = std::bit_cast<std::array<uint64_t, 2>>(text);
  name_[0] = words[0];
  name_[1] = words[1];
}

Fiber::Name Fiber::name() const noexcept {
  return std::bit_cast<Name>(std::array<uint64_t, 2>{name_[0], name_[1]});
}

}  // namespace weft::engine
