#include "fiber/crew.hpp"

#include "fiber/assert.hpp"

namespace weft::engine {

Crew::Place* Crew::place_of(const Carrier* carrier) noexcept {
  for (Place& place : places())
    if (place.carrier.load(std::memory_order_acquire) == carrier) return &place;
  return nullptr;
}

bool Crew::join(Carrier& carrier) noexcept {
  for (int i = 0; i < kMax; ++i) {
    Carrier* none = nullptr;
    if (!places_[i].carrier.compare_exchange_strong(none, &carrier)) continue;
    int used = used_.load();
    while (used <= i && !used_.compare_exchange_weak(used, i + 1)) {
    }
    carrier.set_crew(this);
    return true;
  }
  return false;
}

void Crew::leave(Carrier& carrier) noexcept {
  carrier.set_crew(nullptr);
  Place* place = place_of(&carrier);
  WEFT_ASSERT(place);
  place->carrier.store(nullptr);
  // start() looks whether the carrier is still there with the lock held: nothing is pushed after this.
  for (;;) {
    place->lock.lock();
    Fiber* fiber = pop(*place);
    place->lock.unlock();
    if (!fiber) return;
    place_somewhere(*fiber);
  }
}

void Crew::push(Place& place, Fiber& fiber) noexcept {
  fiber.next_ = nullptr;
  (place.first ? place.last->next_ : place.first) = &fiber;
  place.last = &fiber;
  place.waiting.fetch_add(1);
}

Fiber* Crew::pop(Place& place) noexcept {
  Fiber* fiber = place.first;
  if (!fiber) return nullptr;
  place.first = fiber->next_;
  place.waiting.fetch_sub(1);
  return fiber;
}

void Crew::start(Fiber& fiber) noexcept {
  fiber.retain();
  place_somewhere(fiber);
}

void Crew::place_somewhere(Fiber& fiber) noexcept {
  Carrier* here = Carrier::current();
  for (;;) {
    Place* chosen = here ? place_of(here) : nullptr;
    if (!chosen)
      for (Place& place : places()) {
        if (!place.carrier.load(std::memory_order_relaxed)) continue;
        if (!chosen ||
            place.waiting.load(std::memory_order_relaxed) < chosen->waiting.load(std::memory_order_relaxed))
          chosen = &place;
      }
    WEFT_ASSERT(chosen);
    Guard guard(chosen->lock);
    Carrier* carrier = chosen->carrier.load();
    if (!carrier) continue;  // it has just left
    carrier->adopt(fiber);
    push(*chosen, fiber);
    break;
  }
  wake_an_idle_one(nullptr);
}

// A carrier that sleeps after this has looked at all queues in between: see Carrier::wait_for_ready(), which
// looks after it has said that it sleeps.
void Crew::wake_an_idle_one(const Carrier* except) noexcept {
  std::atomic_thread_fence(std::memory_order_seq_cst);
  for (Place& place : places()) {
    Carrier* carrier = place.carrier.load(std::memory_order_acquire);
    if (carrier && carrier != except && carrier->idle()) return carrier->request_attention();
  }
}

Fiber* Crew::take(Carrier& carrier, bool steal) noexcept {
  Place* own = place_of(&carrier);
  if (!own) return nullptr;
  if (own->waiting.load(std::memory_order_relaxed) > 0) {
    Guard guard(own->lock);
    if (Fiber* fiber = pop(*own)) return fiber;
  }
  if (!steal) return nullptr;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  Place* richest = nullptr;
  for (Place& place : places()) {
    const uint32_t waiting = place.waiting.load(std::memory_order_relaxed);
    if (waiting > 0 && (!richest || waiting > richest->waiting.load(std::memory_order_relaxed)))
      richest = &place;
  }
  if (!richest || richest == own) return nullptr;
  Fiber* taken = nullptr;
  {
    Guard guard(richest->lock);
    const uint32_t half = (richest->waiting.load(std::memory_order_relaxed) + 1) / 2;
    Fiber** end = &taken;
    for (uint32_t i = 0; i < half; ++i) {
      Fiber* fiber = pop(*richest);
      *end = fiber;
      end = &fiber->next_;
    }
    *end = nullptr;
  }
  if (!taken) return nullptr;
  Fiber* rest = taken->next_;
  stolen_.fetch_add(1, std::memory_order_relaxed);
  carrier.adopt(*taken);
  if (rest) {
    {
      Guard guard(own->lock);
      while (rest) {
        Fiber* next = rest->next_;
        carrier.adopt(*rest);
        push(*own, *rest);
        rest = next;
        stolen_.fetch_add(1, std::memory_order_relaxed);
      }
    }
    wake_an_idle_one(&carrier);
  }
  return taken;
}

void Crew::reset_after_fork(Carrier* survivor) noexcept {
  used_.store(0, std::memory_order_relaxed);
  for (Place& place : places_) {
    place.carrier.store(nullptr, std::memory_order_relaxed);
    place.waiting.store(0, std::memory_order_relaxed);
    place.first = nullptr;
  }
  if (survivor) join(*survivor);
}

}  // namespace weft::engine
