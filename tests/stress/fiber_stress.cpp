// Fibers on several carriers and native threads do everything that they can do to each other, in random
// order. What must hold whatever the order is counted, and checked at the end; a wake that is lost shows as a
// hang, which a watchdog ends.
//
// WEFT_STRESS_SECONDS sets how long (10), WEFT_STRESS_SEED repeats the choices of a run, though not its
// timing.
#include <gtest/gtest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "fiber/parking_lot.hpp"

namespace weft::engine {
namespace {

constexpr int kCarriers = 3, kNativeThreads = 2, kFibersPerCarrier = 40;
constexpr int kSemaphores = 6, kTokens = 4, kMutexes = 3, kMeetings = 8;

ParkingLot& lot() {
  return ParkingLot::instance();
}

int64_t setting(const char* name, int64_t fallback) {
  const char* text = getenv(name);
  return text ? atoll(text) : fallback;
}

struct Semaphore {
  std::atomic<int> tokens{kTokens};

  bool try_take() {
    int have = tokens.load();
    while (have > 0)
      if (tokens.compare_exchange_weak(have, have - 1)) return true;
    return false;
  }
  bool take(Nanos deadline, uint8_t flags) {
    while (!try_take()) {
      const Wake wake = lot().park(this, deadline, flags, {WaitKind::kLock, "take", this},
                                   [&] { return tokens.load() == 0; });
      if (wake != Wake::kReady) return false;
      flags |= kFrontOfQueue;
    }
    return true;
  }
  void give() {
    ++tokens;
    lot().wake_one(this);
  }
};

struct Mutex {
  std::atomic<int> locked{0};
  int inside = 0;  // not atomic: ThreadSanitizer sees whether the mutex orders

  void lock() {
    while (locked.exchange(1) != 0)
      lot().park(this, kNever, kUninterruptible, {WaitKind::kLock, "lock", this},
                 [&] { return locked.load() != 0; });
  }
  void unlock() {
    locked.store(0);
    lot().wake_one(this);
  }
};

// A place where one fiber leaves its ticket, and whoever comes by takes it and ends that wait.
struct Meeting {
  FutexLock lock;
  Fiber* fiber = nullptr;  // with a reference
  uint64_t ticket = 0;
};

struct Message : InboxNode {
  std::atomic<int64_t>* received;
};

class World {
 public:
  explicit World(uint64_t seed) : seed_(seed) {}

  void run(Nanos length) {
    std::vector<std::thread> threads;
    for (int c = 0; c < kCarriers; ++c) threads.emplace_back([this, c] { run_carrier(c); });
    while (running_carriers_.load() < kCarriers) std::this_thread::yield();
    for (int n = 0; n < kNativeThreads; ++n)
      threads.emplace_back([this, n] {
        std::minstd_rand random(static_cast<unsigned>(seed_ + 1000 + static_cast<uint64_t>(n)));
        while (!stop_.load()) act(random, 0);
        finished(native_alive_);
      });
    std::thread watchdog([this, length] { watch(length); });
    for (auto& thread : threads) thread.join();
    over_.store(1);
    sys::futex_wake(&over_, 1);
    watchdog.join();
    check();
  }

 private:
  using Random = std::minstd_rand;

  void run_carrier(int index) {
    MonotonicClock clock;
    FutexEventSource events;
    Carrier carrier(clock, events);
    ASSERT_TRUE(carrier.attach());
    carriers_[static_cast<size_t>(index)] = &carrier;
    ++running_carriers_;
    while (running_carriers_.load() < kCarriers) std::this_thread::yield();
    for (int f = 0; f < kFibersPerCarrier; ++f)
      spawn(carrier, [this, seed = seed_ * 7919 + static_cast<uint64_t>(index * 1000 + f)] {
        Random random(static_cast<unsigned>(seed));
        while (!stop_.load()) act(random, 0);
      })->release();
    // Any carrier's fibers may wake those of any other until the last is gone, and be inside post() a little
    // longer.
    await(native_alive_);
    await(fibers_alive_);
    ++leaving_carriers_;
    while (leaving_carriers_.load() < kCarriers) carrier.yield();
    carrier.detach();
    // Nobody destroys a carrier before all have detached, with their last calls to each other returned.
    ++running_carriers_;
    while (running_carriers_.load() < 2 * kCarriers) std::this_thread::yield();
  }

  void await(std::atomic<int>& count) {
    while (count.load() > 0)
      lot().park(&count, kNever, kUninterruptible, {WaitKind::kJoin, "await", &count},
                 [&] { return count.load() > 0; });
  }
  void finished(std::atomic<int>& count) {
    if (--count == 0) lot().wake_all(&count);
  }

  Fiber* spawn(Carrier& carrier, std::function<void()> body) {
    struct Start {
      World& world;
      std::function<void()> body;
    };
    auto* start = new Start{*this, std::move(body)};
    const auto entry = [](void* argument) -> void* {
      const std::unique_ptr<Start> mine(static_cast<Start*>(argument));
      mine->body();
      mine->world.finished(mine->world.fibers_alive_);
      return nullptr;
    };
    ++fibers_alive_;
    Fiber* fiber = Fiber::create(carrier, entry, start, 64 * 1024);
    if (!fiber) abort();
    carrier.start(*fiber);
    return fiber;
  }

  // One thing that a fiber or a native thread may do.
  void act(Random& random, int depth) {
    Carrier* here = Carrier::current();
    const bool timed = random() % 3 == 0;
    const Nanos deadline =
        timed ? monotonic_now() + static_cast<Nanos>(random() % (300 * kMicrosecond)) : kNever;
    ++acts_;
    switch (random() % 9) {
      case 0:
      case 1: {
        Semaphore& from = semaphores_[random() % kSemaphores];
        // A waiter without a deadline gets its token, for whoever has one gives it back.
        if (!from.take(deadline, kCancellable)) break;
        if (here && random() % 2) here->yield();
        from.give();
        break;
      }
      case 2: {
        Mutex& mutex = mutexes_[random() % kMutexes];
        mutex.lock();
        if (mutex.inside++ != 0) ++violations_;
        if (here && random() % 4 == 0) here->yield();
        if (here && random() % 16 == 0) here->sleep_until(monotonic_now() + 1000, kUninterruptible, "inside");
        if (--mutex.inside != 0) ++violations_;
        mutex.unlock();
        break;
      }
      case 3:
        if (!here) break;
        if (here->sleep_until(timed ? deadline : monotonic_now(), kCancellable, "sleep") == Wake::kTimeout &&
            timed)
          violations_ += monotonic_now() < deadline;
        break;
      case 4:
        for (unsigned i = random() % 20; here && i > 0; --i) here->yield();
        break;
      case 5:
        if (depth < 2) have_a_child(random, depth);
        break;
      case 6:
        if (here) wait_to_be_met(random, deadline);
        break;
      case 7:
        meet(random);
        if (here) here->running().clear_cancel();
        break;
      default:
        post(random);
    }
  }

  void have_a_child(Random& random, int depth) {
    Carrier& carrier = *carriers_[random() % kCarriers];
    Fiber* child = spawn(carrier, [this, seed = random(), depth] {
      Random mine(static_cast<unsigned>(seed));
      for (unsigned i = mine() % 4; i > 0; --i) act(mine, depth + 1);
    });
    if (random() % 2) child->cancel();
    const auto& done = child->done_word();
    while (!child->done())
      lot().park(&done, kNever, kUninterruptible, {WaitKind::kJoin, "join", child},
                 [&] { return done.load() == 0; });
    child->release();
  }

  void wait_to_be_met(Random& random, Nanos deadline) {
    Fiber& self = Carrier::current()->running();
    Meeting& meeting = meetings_[random() % kMeetings];
    if (deadline == kNever) deadline = monotonic_now() + kMillisecond;  // nobody need come by
    {
      Guard guard(meeting.lock);
      if (meeting.fiber) return;
      self.retain();
      meeting.ticket = self.begin_wait(kCancellable, {WaitKind::kOther, "meet"});
      meeting.fiber = &self;
    }
    if (Carrier::current()->park(deadline) == Wake::kReady) {
      ++met_;
      return;
    }
    Guard guard(meeting.lock);
    if (meeting.fiber != &self) return;
    meeting.fiber = nullptr;
    self.release();
  }

  void meet(Random& random) {
    Meeting& meeting = meetings_[random() % kMeetings];
    Fiber* fiber = nullptr;
    uint64_t ticket = 0;
    {
      Guard guard(meeting.lock);
      std::swap(fiber, meeting.fiber);
      ticket = meeting.ticket;
    }
    if (!fiber) return;
    if (random() % 8 == 0) fiber->cancel();
    // Twice: one at most succeeds.
    const int ended = fiber->unpark(ticket, Wake::kReady) + fiber->unpark(ticket, Wake::kReady);
    if (ended > 1) ++violations_;
    meetings_made_ += ended;
    fiber->release();
  }

  void post(Random& random) {
    auto* message = new Message;
    message->received = &received_;
    message->owner = message;
    message->run = [](InboxNode& node, Carrier&) noexcept {
      const std::unique_ptr<Message> mine(static_cast<Message*>(node.owner));
      ++*mine->received;
    };
    ++posted_;
    carriers_[random() % kCarriers]->post(*message);
  }

  void watch(Nanos length) {
    const Nanos end = monotonic_now() + length, limit = end + 60 * kSecond;
    while (over_.load() == 0 && monotonic_now() < end) sys::futex_wait(&over_, 0, end);
    stop_.store(true);
    while (over_.load() == 0 && monotonic_now() < limit) sys::futex_wait(&over_, 0, limit);
    if (over_.load() != 0) return;
    fprintf(stderr, "hang with seed %llu: %d fibers and %d native threads have not ended\n",
            static_cast<unsigned long long>(seed_), fibers_alive_.load(), native_alive_.load());
    Fiber::for_each([](Fiber& fiber) {
      fprintf(stderr, "fiber %llu: state %d, %s\n", static_cast<unsigned long long>(fiber.id()),
              static_cast<int>(fiber.state()), fiber.wait_reason().call);
    });
    abort();
  }

  void check() {
    EXPECT_EQ(violations_.load(), 0);
    for (Semaphore& semaphore : semaphores_) {
      EXPECT_EQ(semaphore.tokens.load(), kTokens);
      EXPECT_EQ(lot().wake_all(&semaphore), 0);
    }
    for (Mutex& mutex : mutexes_) EXPECT_EQ(lot().wake_all(&mutex), 0);
    for (Meeting& meeting : meetings_) EXPECT_EQ(meeting.fiber, nullptr);
    EXPECT_EQ(met_.load(), meetings_made_.load());
    EXPECT_EQ(received_.load(), posted_.load());
    EXPECT_EQ(Fiber::counts().alive, 0u);
    int blocks = 0;
    Fiber::for_each([&](Fiber&) { ++blocks; });
    EXPECT_EQ(blocks, 0);
    EXPECT_GT(met_.load(), 0);
    printf("%lld acts, %lld meetings, %lld messages, %llu fibers\n", static_cast<long long>(acts_.load()),
           static_cast<long long>(met_.load()), static_cast<long long>(received_.load()),
           static_cast<unsigned long long>(Fiber::counts().created));
  }

  const uint64_t seed_;
  std::array<Carrier*, kCarriers> carriers_{};
  std::array<Semaphore, kSemaphores> semaphores_;
  std::array<Mutex, kMutexes> mutexes_;
  std::array<Meeting, kMeetings> meetings_;
  std::atomic<int> running_carriers_{0}, leaving_carriers_{0};
  std::atomic<int> native_alive_{kNativeThreads}, fibers_alive_{0};
  std::atomic<uint32_t> over_{0};
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> acts_{0}, violations_{0}, met_{0}, meetings_made_{0}, posted_{0}, received_{0};
};

TEST(FiberStress, EverybodyDoesEverythingToEverybody) {
  const auto seed =
      static_cast<uint64_t>(setting("WEFT_STRESS_SEED", static_cast<int64_t>(std::random_device()())));
  printf("WEFT_STRESS_SEED=%llu\n", static_cast<unsigned long long>(seed));
  fflush(stdout);
  World(seed).run(setting("WEFT_STRESS_SECONDS", 10) * kSecond);
}

}  // namespace
}  // namespace weft::engine
