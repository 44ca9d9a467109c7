#include "actor/registry.hpp"

#include <pthread.h>

#include <cstring>
#include <string_view>

#include "fiber/assert.hpp"
#include "fiber/sys.hpp"
#include "weft/detail/actor.hpp"

namespace weft::detail {

constinit engine::FutexLock Registry::lock;
constinit ActorCore* Registry::oldest = nullptr;
constinit ActorCore* Registry::newest = nullptr;
constinit size_t Registry::count = 0;

// In a fork child, after the engine's own part, which was registered first.
void Registry::forked() noexcept {
  for (;;) {
    ActorCore* lost = nullptr;
    {
      engine::Guard guard(lock);
      for (ActorCore* actor = oldest; actor && !lost; actor = actor->later_)
        if (actor->type().lost_at_fork && !actor->runs_here()) lost = actor;
      if (lost) lost->retain();
    }
    if (!lost) return;
    lost->lose();
    lost->delist();  // one that had ended, and was put in again
    lost->release();
  }
}

bool Registry::add(ActorCore& actor) noexcept {
  static const int registered = pthread_atfork(nullptr, nullptr, &forked);
  static_cast<void>(registered);
  engine::Guard guard(lock);
  if (actor.listed_) return false;
  actor.retain();
  actor.listed_ = true;
  actor.later_ = nullptr;
  actor.earlier_ = newest;
  (newest ? newest->later_ : oldest) = &actor;
  newest = &actor;
  ++count;
  return true;
}

bool Registry::remove(ActorCore& actor) noexcept {
  {
    engine::Guard guard(lock);
    if (!actor.listed_) return false;
    actor.listed_ = false;
    (actor.earlier_ ? actor.earlier_->later_ : oldest) = actor.later_;
    (actor.later_ ? actor.later_->earlier_ : newest) = actor.earlier_;
    --count;
  }
  actor.release();
  return true;
}

void Registry::make_uuid(uint8_t (&uuid)[16]) noexcept {
  // Each from the kernel: a generator of our own would go on alike in a fork child.
  size_t filled = 0;
  while (filled < sizeof uuid) {
    const long got = engine::sys::call(SYS_getrandom, uuid + filled, sizeof uuid - filled, 0);
    WEFT_ASSERT((got > 0 || got == -EINTR) && "getrandom failed");
    if (got > 0) filled += static_cast<size_t>(got);
  }
  uuid[6] = static_cast<uint8_t>((uuid[6] & 0x0f) | 0x40);
  uuid[8] = static_cast<uint8_t>((uuid[8] & 0x3f) | 0x80);
}

bool ActorCore::enlist() noexcept {
  return Registry::add(*this);
}

bool ActorCore::delist() noexcept {
  return Registry::remove(*this);
}

void ActorCore::for_each(bool (*visit)(void*, ActorCore&), void* argument) noexcept {
  engine::Guard guard(Registry::lock);
  for (ActorCore* actor = Registry::oldest; actor; actor = actor->later_)
    if (!visit(argument, *actor)) return;
}

size_t ActorCore::count() noexcept {
  engine::Guard guard(Registry::lock);
  return Registry::count;
}

ActorCore* ActorCore::find(const uint8_t (&uuid)[16]) noexcept {
  engine::Guard guard(Registry::lock);
  ActorCore* actor = Registry::oldest;
  while (actor && memcmp(actor->uuid_, uuid, sizeof uuid) != 0) actor = actor->later_;
  if (actor) actor->retain();
  return actor;
}

ActorCore* ActorCore::find(const char* name, size_t size) noexcept {
  const auto has_it = [&](const ActorCore& actor) {
    return std::string_view(actor.type().name(actor)) == std::string_view(name, size);
  };
  engine::Guard guard(Registry::lock);
  ActorCore* actor = Registry::oldest;
  while (actor && !has_it(*actor)) actor = actor->later_;
  if (actor) actor->retain();
  return actor;
}

}  // namespace weft::detail

namespace weft {

namespace {

constinit std::atomic<DeadLetterHandler> g_dead_letters{nullptr};

}  // namespace

DeadLetterHandler set_dead_letter_handler(DeadLetterHandler handler) noexcept {
  return g_dead_letters.exchange(handler, std::memory_order_acq_rel);
}

void detail::report_dead_letter(const DeadLetter& letter) noexcept {
  thread_local bool reporting = false;  // nothing in between may switch
  const DeadLetterHandler handler = g_dead_letters.load(std::memory_order_acquire);
  if (!handler || reporting) return;
  reporting = true;
  handler(letter);
  reporting = false;
}

}  // namespace weft
