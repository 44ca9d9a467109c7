// Crew: carriers that share the fibers which have not started yet.
#pragma once

#include <span>

#include "fiber/carrier.hpp"
#include "fiber/futex_lock.hpp"

namespace weft::engine {

/// A fiber that ran once stays on its carrier, since it borrows that thread's thread-local storage; one that
/// never ran can go anywhere. So each carrier of a crew has a queue of new fibers, first in first out, beside
/// its ready queue, and a carrier that has nothing else to do takes from the longest of the others' half of
/// what is there (R. Blumofe, C. Leiserson, "Scheduling Multithreaded Computations by Work Stealing", 1999,
/// for whom to ask; here everybody is asked, there are at most kMax).
///
/// Any thread, unless said otherwise. No function suspends.
class Crew {
 public:
  static constexpr int kMax = 64;

  constexpr Crew() noexcept = default;
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  /// On `carrier`'s own thread. False if there are kMax already.
  bool join(Carrier& carrier) noexcept;
  /// On `carrier`'s own thread; what stood on its queue goes to another's. REQUIRES: it is not the last one.
  void leave(Carrier& carrier) noexcept;

  /// Hands a new fiber to the crew: to the calling thread's carrier if that is of it, else to the one with
  /// the fewest; one that idles is woken for it. To be called once. REQUIRES: the crew has carriers.
  void start(Fiber& fiber) noexcept;

  /// A fiber for `carrier`, on whose thread this is called, or null: of its own queue, or of another's if
  /// `steal`. It belongs to `carrier` now.
  Fiber* take(Carrier& carrier, bool steal) noexcept;

  /// New fibers that were taken from another carrier's queue.
  uint64_t stolen() const noexcept { return stolen_.load(std::memory_order_relaxed); }

  /// In a fork child: `survivor` (null: none) is all there is.
  void reset_after_fork(Carrier* survivor) noexcept;

 private:
  struct alignas(64) Place {
    std::atomic<Carrier*> carrier{nullptr};
    std::atomic<uint32_t> waiting{0};  // the length of the queue; written with the lock held
    FutexLock lock;                    // guards the queue
    Fiber* first = nullptr;
    Fiber* last = nullptr;
  };

  std::span<Place> places() noexcept { return {places_, static_cast<size_t>(used_.load())}; }
  Place* place_of(const Carrier* carrier) noexcept;
  void place_somewhere(Fiber& fiber) noexcept;
  static void push(Place& place, Fiber& fiber) noexcept;
  static Fiber* pop(Place& place) noexcept;
  void wake_an_idle_one(const Carrier* except) noexcept;

  std::atomic<int> used_{0};  // no carrier was ever at or after this place
  std::atomic<uint64_t> stolen_{0};
  Place places_[kMax];
};

}  // namespace weft::engine
