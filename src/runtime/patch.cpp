#include "weft/patch.hpp"

#include <cerrno>

#include "interpose/interpose.hpp"
#include "interpose/scope.hpp"
#include "runtime/runtime.hpp"
#include "sync/wake.hpp"

namespace weft::detail {

namespace {

using engine::Fiber;
using engine::interpose::bit;

// In the order of weft::Family's bits.
constexpr engine::interpose::Family kFamilies[] = {
    engine::interpose::Family::kSockets,  engine::interpose::Family::kPolling,
    engine::interpose::Family::kSleeping, engine::interpose::Family::kLocks,
    engine::interpose::Family::kThreads,  engine::interpose::Family::kNames,
    engine::interpose::Family::kFiles,    engine::interpose::Family::kChildren};

bool is_thread(const Fiber& fiber) noexcept {
  return !fiber.is_main() && !fiber.task && fiber.attachment && fiber.state() != Fiber::State::kFree;
}
bool stands_for_thread(const Fiber& fiber) noexcept {
  return is_thread(fiber) && !fiber.done();
}

// Its pthread_t is a fiber's still, and is yet to be joined or detached.
bool any_unjoined() noexcept {
  bool any = false;
  Fiber::for_each([&](Fiber& fiber) { any = any || (is_thread(fiber) && !fiber.detached.load()); });
  return any;
}

// The number of one; 0: there is none. The block may be another's at any time.
uint64_t some_thread(Fiber** block) noexcept {
  uint64_t found = 0;
  Fiber::for_each([&](Fiber& fiber) {
    if (found || !stands_for_thread(fiber)) return;
    found = fiber.id();
    *block = &fiber;
  });
  return found;
}

}  // namespace

int patch(const RawPatchOptions& options, std::uint64_t* id) noexcept try {
  engine::interpose::Scope scope;
  scope.families = 0;
  for (int i = 0; i < 8; ++i)
    if (options.families & (1u << i)) scope.families |= bit(kFamilies[i]);
  for (size_t i = 0; i < options.library_count; ++i) scope.excluded.emplace_back(options.libraries[i]);
  scope.threads = options.threads == 0   ? engine::Threads::kNone
                  : options.threads == 1 ? engine::Threads::kPython
                                         : engine::Threads::kAll;
  return engine::interpose::enter(std::move(scope), id);
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

int unpatch(std::uint64_t id, Nanos deadline) noexcept try {
  if (engine::interpose::scopes() == 1) {
    const engine::Fiber* self = switchable_fiber();
    const uint8_t flags = self ? self->library_flags : uint8_t{engine::kUninterruptible};
    Fiber* thread = nullptr;
    while (const uint64_t number = some_thread(&thread)) {
      const Outcome outcome = outcome_of(engine::ParkingLot::instance().park(
          &thread->done_word(), deadline, flags, {engine::WaitKind::kJoin, "unpatch", thread},
          [&]() noexcept { return thread->id() == number && stands_for_thread(*thread); }));
      if (outcome == Outcome::kInterrupted) return EINTR;
      if (outcome == Outcome::kTimeout && some_thread(&thread)) return ETIMEDOUT;
    }
  }
  // What knows such numbers then stays routed, for good: nobody can tell when the last of them is used.
  if (engine::interpose::scopes() == 1 && any_unjoined()) engine::interpose::hold();
  return engine::interpose::leave(id);
} catch (const std::bad_alloc&) {
  return ENOMEM;
}

int patches() noexcept {
  return engine::interpose::scopes();
}
bool runs_under_weft() noexcept {
  return engine::interpose::permanent();
}
bool routed() noexcept {
  return engine::interpose::installed();
}

void visit_thread_fibers(void (*visit)(void*, std::uint64_t, const char*), void* argument) noexcept {
  Fiber::for_each([&](Fiber& fiber) {
    if (stands_for_thread(fiber)) visit(argument, fiber.id(), fiber.name().data());
  });
}

}  // namespace weft::detail
