// Thread-specific data. Keys are libc's own; a fiber's values are in its Identity. A key that was created
// before the routing began has no destructor known here: its values are not destroyed when a fiber ends.
#include "interpose/keys.hpp"

#include <climits>

#include "interpose/calls.hpp"
#include "interpose/support.hpp"

namespace weft::engine::interpose {

namespace {

using Destructor = void (*)(void*);

struct Key {
  std::atomic<Destructor> destructor;
  // Counts the deletions. Fibers keep it with each value, so that those of a deleted key are void without
  // anyone touching them: a fiber's values may be looked at and moved by the fiber alone.
  std::atomic<uint64_t> generation;

  // Relaxed: whoever uses a key has been told of it by who created it.
  uint64_t present() const noexcept { return generation.load(std::memory_order_relaxed); }
};
constinit Key g_keys[PTHREAD_KEYS_MAX];

// The fiber whose values the calling code means, or null: the OS thread's own.
Fiber* owner() noexcept {
  Fiber* self = Carrier::running_fiber();
  return self && !self->is_main() ? self : nullptr;
}

}  // namespace

int routed::pthread_key_create(pthread_key_t* key, Destructor destructor) noexcept {
  const int error = real::pthread_key_create(key, destructor);
  if (error == 0 && *key < PTHREAD_KEYS_MAX)
    g_keys[*key].destructor.store(destructor, std::memory_order_release);
  return error;
}

int routed::pthread_key_delete(pthread_key_t key) noexcept {
  if (key < PTHREAD_KEYS_MAX) {
    // The number may be given out again, and must then hold null everywhere.
    g_keys[key].destructor.store(nullptr, std::memory_order_release);
    g_keys[key].generation.fetch_add(1, std::memory_order_relaxed);
  }
  return real::pthread_key_delete(key);
}

void* routed::pthread_getspecific(pthread_key_t key) noexcept {
  Fiber* self = owner();
  if (!self) return real::pthread_getspecific(key);
  return key < PTHREAD_KEYS_MAX ? self->identity().specific(key, g_keys[key].present()) : nullptr;
}

int routed::pthread_setspecific(pthread_key_t key, const void* value) noexcept {
  Fiber* self = owner();
  if (!self) return real::pthread_setspecific(key, value);
  if (key >= PTHREAD_KEYS_MAX) return EINVAL;
  return self->identity().set_specific(key, value, g_keys[key].present());
}

void run_key_destructors(Fiber& fiber) noexcept {
  Identity& identity = fiber.identity();
  for (int round = 0; round < PTHREAD_DESTRUCTOR_ITERATIONS; ++round) {
    bool any = false;
    for (pthread_key_t key = 0; key < identity.specific_limit(); ++key) {
      void* value = identity.specific(key, g_keys[key].present());
      if (!value) continue;
      identity.set_specific(key, nullptr);
      const Destructor destructor = g_keys[key].destructor.load(std::memory_order_acquire);
      if (!destructor) continue;
      any = true;
      destructor(value);
    }
    if (!any) return;
  }
}

}  // namespace weft::engine::interpose
