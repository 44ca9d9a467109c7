// Thread-specific data. Keys are libc's own; a fiber's values are in its Identity. A key that was created
// before the routing began has no destructor known here: its values are not destroyed when a fiber ends.
#include "interpose/keys.hpp"

#include <climits>

#include "interpose/calls.hpp"
#include "interpose/support.hpp"

namespace weft::interpose {

namespace {

using Destructor = void (*)(void*);
constinit std::atomic<Destructor> g_destructors[PTHREAD_KEYS_MAX];

// The fiber whose values the calling code means, or null: the OS thread's own.
Fiber* owner() noexcept {
  Fiber* self = Carrier::running_fiber();
  return self && !self->is_main() ? self : nullptr;
}

}  // namespace

int routed::pthread_key_create(pthread_key_t* key, Destructor destructor) noexcept {
  const int error = real::pthread_key_create(key, destructor);
  if (error == 0 && *key < PTHREAD_KEYS_MAX) g_destructors[*key].store(destructor, std::memory_order_release);
  return error;
}

int routed::pthread_key_delete(pthread_key_t key) noexcept {
  if (key < PTHREAD_KEYS_MAX) {
    // The number may be given out again, and must then hold null everywhere.
    g_destructors[key].store(nullptr, std::memory_order_release);
    Fiber::for_each([&](Fiber& fiber) {
      if (fiber.identity().specific(key)) fiber.identity().set_specific(key, nullptr);
    });
  }
  return real::pthread_key_delete(key);
}

void* routed::pthread_getspecific(pthread_key_t key) noexcept {
  const Fiber* self = owner();
  return self ? const_cast<Fiber*>(self)->identity().specific(key) : real::pthread_getspecific(key);
}

int routed::pthread_setspecific(pthread_key_t key, const void* value) noexcept {
  Fiber* self = owner();
  if (!self) return real::pthread_setspecific(key, value);
  if (key >= PTHREAD_KEYS_MAX) return EINVAL;
  return self->identity().set_specific(key, value);
}

void run_key_destructors(Fiber& fiber) noexcept {
  Identity& identity = fiber.identity();
  for (int round = 0; round < PTHREAD_DESTRUCTOR_ITERATIONS; ++round) {
    bool any = false;
    for (pthread_key_t key = 0; key < identity.specific_limit(); ++key) {
      void* value = identity.specific(key);
      if (!value) continue;
      identity.set_specific(key, nullptr);
      const Destructor destructor = g_destructors[key].load(std::memory_order_acquire);
      if (!destructor) continue;
      any = true;
      destructor(value);
    }
    if (!any) return;
  }
}

}  // namespace weft::interpose
