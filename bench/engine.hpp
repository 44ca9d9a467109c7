// What every benchmark of the engine needs: a carrier on the calling thread, and fibers that are joined.
#pragma once

#include <functional>
#include <vector>

#include "fiber/parking_lot.hpp"

namespace weft::engine {

struct Engine {
  Engine() { carrier.attach(); }
  ~Engine() { carrier.detach(); }

  /// Parks until `gate` is open.
  void wait_for(const std::atomic<uint32_t>& gate) {
    ParkingLot::instance().park(&gate, kNever, kUninterruptible, {WaitKind::kLock, "wait_for", &gate},
                                [&] { return gate.load() == 0; });
  }
  void open(std::atomic<uint32_t>& gate) {
    gate.store(1);
    ParkingLot::instance().wake_all(&gate);
  }

  MonotonicClock clock;
  FutexEventSource events;
  Carrier carrier{clock, events};
};

/// `count` fibers that run `body`; joined when it goes.
class Fibers {
 public:
  Fibers(Engine& engine, int64_t count, std::function<void()> body,
         size_t stack_size = StackPool::kMinimumSize)
      : body_(std::move(body)) {
    fibers_.reserve(static_cast<size_t>(count));
    for (int64_t i = 0; i < count; ++i) {
      Fiber* fiber = Fiber::create(engine.carrier, &run, &body_, stack_size);
      if (!fiber) abort();
      engine.carrier.start(*fiber);
      fibers_.push_back(fiber);
    }
  }
  ~Fibers() {
    for (Fiber* fiber : fibers_) {
      const auto& done = fiber->done_word();
      while (!fiber->done())
        ParkingLot::instance().park(&done, kNever, kUninterruptible, {WaitKind::kJoin, "join", fiber},
                                    [&] { return done.load() == 0; });
      fiber->release();
    }
  }
  Fibers(const Fibers&) = delete;
  Fibers& operator=(const Fibers&) = delete;

  size_t size() const { return fibers_.size(); }
  Fiber& operator[](size_t index) const { return *fibers_[index]; }

 private:
  static void* run(void* body) {
    (*static_cast<std::function<void()>*>(body))();
    return nullptr;
  }

  std::function<void()> body_;
  std::vector<Fiber*> fibers_;
};

}  // namespace weft::engine
