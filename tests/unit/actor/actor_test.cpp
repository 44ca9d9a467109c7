// Actors: asking and telling, hooks, failures, and how they end.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "unit/sync/library.hpp"

namespace weft::test {
namespace {

class Actors : public Library {
 protected:
  void SetUp() override { ASSERT_EQ(detail::ActorCore::count(), 0u); }
  void TearDown() override {
    EXPECT_EQ(detail::ActorCore::count(), 0u) << "an actor was left behind";
    Library::TearDown();
  }
};

class Counter : public Actor<Counter> {
 public:
  explicit Counter(int sum = 0) : sum_(sum) {}

  int add(int n) { return sum_ += n; }
  void set(int n) { sum_ = n; }
  const int& sum() const { return sum_; }
  int fail(const char* why) { throw std::runtime_error(why); }
  std::unique_ptr<int> grow(std::unique_ptr<int> n) {
    *n += sum_;
    return n;
  }
  Future<int> add_later(int n) { return self().ask(&Counter::add, n); }
  void add_and_stop(int n) {
    self().tell(&Counter::add, n);
    self().stop();
  }
  ActorRef<Counter> me() { return self(); }

 private:
  int sum_;
};

TEST_F(Actors, DoNotWaitForTheirOwnAnswer) {
  struct Selfish : Actor<Selfish> {
    int one() { return 1; }
    bool itself() {
      try {
        self().ask(&Selfish::one).get();
        return false;
      } catch (const std::system_error& error) {
        return error.code() == std::errc::resource_deadlock_would_occur;
      }
    }
    bool within(std::chrono::milliseconds span) { return self().ask(&Selfish::one).wait_for(span); }
    Future<int> later() { return self().ask(&Selfish::one); }
    void stop_itself() { self().stop().wait(); }
  };
  for (const Dispatcher& dispatcher : {Dispatcher(), Dispatcher::threads(1), Dispatcher::own_thread()}) {
    auto actor = Selfish::start_with({.dispatcher = dispatcher});
    EXPECT_TRUE(actor.ask(&Selfish::itself).get());
    EXPECT_THROW(actor.ask(&Selfish::stop_itself).get(), std::system_error);
    EXPECT_THROW(actor.ask(&Selfish::one).get(), ActorDead) << "it was asked to stop all the same";
    actor.join();
    auto other = Selfish::start_with({.dispatcher = dispatcher});
    EXPECT_FALSE(other.ask(&Selfish::within, 1ms).get());
    EXPECT_EQ(other.ask(&Selfish::later).get().get(), 1);
    other.stop().wait();
    other.join();
  }
}

TEST_F(Actors, AnswerWithWhatTheMethodReturns) {
  auto counter = Counter::start(5);
  EXPECT_TRUE(counter.alive());
  Future<int> sum = counter.ask(&Counter::add, 3);
  EXPECT_EQ(sum.get(), 8);
  EXPECT_EQ(counter.ask(&Counter::sum).get(), 8);
  counter.ask(&Counter::set, 1).get();
  EXPECT_EQ(counter.ask([](Counter& c) { return c.sum() * 10; }).get(), 10);
  EXPECT_EQ(counter.ask(&Counter::me).get(), counter);
  EXPECT_TRUE(counter.stop().get());
  EXPECT_FALSE(counter.alive());
  EXPECT_FALSE(counter.stop().get());
  counter.join();
}

TEST_F(Actors, MoveOnlyArgumentsAndResults) {
  auto counter = Counter::start(40);
  auto answer = counter.ask(&Counter::grow, std::make_unique<int>(2));
  const std::unique_ptr<int> grown = std::move(answer.get());
  EXPECT_EQ(*grown, 42);
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, AnyClassCanBeOne) {
  auto text = Actor<std::string>::start("a");
  text.tell([](std::string& s) { s += "b"; });
  EXPECT_EQ(text.ask(&std::string::size).get(), 2u);
  text.stop().wait();
  text.join();
}

TEST_F(Actors, HandleMessagesInTheOrderOfTheirSending) {
  auto list = Actor<std::vector<int>>::start();
  for (int i = 0; i < 1'000; ++i) list.tell([i](std::vector<int>& all) { all.push_back(i); });
  const std::vector<int> all = list.ask([](std::vector<int>& l) { return l; }).get();
  ASSERT_EQ(all.size(), 1'000u);
  for (int i = 0; i < 1'000; ++i) ASSERT_EQ(all[static_cast<size_t>(i)], i);
  list.stop().wait();
  list.join();
}

TEST_F(Actors, MessagesToItselfComeLater) {
  auto counter = Counter::start(1);
  EXPECT_EQ(counter.ask(&Counter::add_later, 2).get().get(), 3);
  counter.ask(&Counter::add_and_stop, 4).get();
  counter.join();
  EXPECT_THROW(counter.ask(&Counter::sum).get(), ActorDead);
}

TEST_F(Actors, AnExceptionGoesToWhoAsked) {
  auto counter = Counter::start(1);
  try {
    counter.ask(&Counter::fail, "why").get();
    FAIL();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "why");
  }
  EXPECT_EQ(counter.ask(&Counter::sum).get(), 1);
  counter.stop().wait();
  counter.join();
}

struct Events {
  std::atomic<int> started{0}, stopped{0}, failed{0}, destroyed{0};
  std::string why;
};

struct Watched {
  explicit Watched(Events& e) : events(&e) {}
  Watched(Watched&&) = delete;
  ~Watched() { ++events->destroyed; }
  void on_start() { ++events->started; }
  void on_stop() { ++events->stopped; }
  void on_failure(std::exception_ptr error) {
    ++events->failed;
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& e) {
      events->why = e.what();
    }
  }
  void work() {}
  void fail() { throw std::runtime_error("told"); }
  Events* events;
};

TEST_F(Actors, HooksOfAnEndThatWasAskedFor) {
  Events events;
  auto actor = Actor<Watched>::start(events);
  actor.ask(&Watched::work).get();
  EXPECT_EQ(events.started, 1);
  actor.stop().wait();
  EXPECT_EQ(events.stopped, 1);
  actor.join();
  EXPECT_EQ(events.destroyed, 1);
  EXPECT_EQ(events.failed, 0);
}

TEST_F(Actors, WhatIsToldAndThrowsEndsTheActor) {
  Events events;
  auto actor = Actor<Watched>::start(events);
  actor.tell(&Watched::fail);
  auto late = actor.ask(&Watched::work);
  actor.join();
  EXPECT_FALSE(actor.alive());
  EXPECT_EQ(events.failed, 1);
  EXPECT_EQ(events.why, "told");
  EXPECT_EQ(events.stopped, 0);
  EXPECT_EQ(events.destroyed, 1);
  EXPECT_THROW(late.get(), ActorDead);
  EXPECT_THROW(actor.tell(&Watched::work), ActorDead);
  const ActorStatistics statistics = actor.statistics();
  EXPECT_EQ(statistics.handled, 1u);
  EXPECT_EQ(statistics.failed, 1u);
  EXPECT_EQ(statistics.refused, 1u);
  EXPECT_EQ(statistics.waiting, 0u);
}

std::atomic<int> g_reported{0};

TEST_F(Actors, AFailureWithoutAHookIsReported) {
  const UnhandledHandler former = set_unhandled_handler([](const Unhandled& failure) noexcept {
    if (failure.what == "reported" && failure.name == "the counter") ++g_reported;
  });
  ActorOptions options;
  options.name = "the counter";
  auto counter = Counter::start_with(options);
  counter.tell(&Counter::fail, "reported");
  counter.join();
  set_unhandled_handler(former);
  EXPECT_EQ(g_reported, 1);
}

struct Unstartable {
  void on_start() { throw std::runtime_error("on_start"); }
  void work() {}
};

TEST_F(Actors, AFailureInOnStartStopsIt) {
  const UnhandledHandler former = set_unhandled_handler([](const Unhandled&) noexcept {});
  auto actor = Actor<Unstartable>::start();
  auto answer = actor.ask(&Unstartable::work);
  actor.join();
  set_unhandled_handler(former);
  EXPECT_THROW(answer.get(), ActorDead);
}

struct Unmakeable {
  explicit Unmakeable(bool fail) {
    if (fail) throw std::runtime_error("constructor");
  }
};

TEST_F(Actors, AFailureInTheConstructorIsTheStarters) {
  EXPECT_THROW(Actor<Unmakeable>::start(true), std::runtime_error);
}

TEST_F(Actors, WhatIsLeftWhenItStopsIsAnswered) {
  Event go;
  auto counter = Counter::start();
  counter.tell([&](Counter&) { go.wait(); });
  auto first = counter.stop();
  auto second = counter.stop();
  auto late = counter.ask(&Counter::sum);
  go.set();
  EXPECT_TRUE(first.get());
  EXPECT_TRUE(second.get());
  EXPECT_THROW(late.get(), ActorDead);
  counter.join();
}

TEST_F(Actors, AnUrgentStopComesBeforeWhatWaits) {
  Event go, began;
  auto counter = Counter::start();
  counter.tell([&](Counter&) {
    began.set();
    go.wait();
  });
  began.wait();
  auto waiting = counter.ask(&Counter::sum);
  auto urgent = counter.ask_urgently([](Counter&) { return 7; });
  auto stopped = counter.stop_urgently();
  go.set();
  EXPECT_EQ(urgent.get(), 7);
  EXPECT_TRUE(stopped.get());
  EXPECT_THROW(waiting.get(), ActorDead);
  counter.join();
}

TEST_F(Actors, AnUrgentMessageWakesAnIdleOne) {
  auto counter = Counter::start(3);
  counter.ask(&Counter::sum).get();
  until([&] { return counter.statistics().waiting == 0; });
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(counter.ask_urgently([](Counter& c) { return c.sum(); }).get(), 3);
    for (int j = 0; j < i % 4; ++j) this_fiber::yield();
  }
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, ADeadlineEndsTheWaitsOfTheWork) {
  auto counter = Counter::start(3);
  auto late = counter.ask_within(5ms, [](Counter&) { sleep(1h); });
  EXPECT_THROW(late.get(), Timeout);
  // It was that message's only.
  EXPECT_EQ(counter
                .ask([](Counter& c) {
                  sleep(1ms);
                  return c.sum();
                })
                .get(),
            3);
  EXPECT_EQ(counter.ask_within(1h, &Counter::add, 1).get(), 4);
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, WhatIsPastItsDeadlineIsNotBegun) {
  Event go;
  auto counter = Counter::start();
  counter.tell([&](Counter&) { go.wait(); });
  auto past = counter.ask_within(0ms, &Counter::add, 1);
  go.set();
  EXPECT_THROW(past.get(), Timeout);
  EXPECT_EQ(counter.ask(&Counter::sum).get(), 0);
  EXPECT_EQ(counter.statistics().refused, 1u);
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, OneThatAlwaysFindsAMessageLetsOthersRun) {
  struct Busy : Actor<Busy> {
    uint64_t rounds = 0;
    void go() {
      ++rounds;
      self().tell(&Busy::go);
    }
  };
  auto busy = Busy::start();
  busy.tell(&Busy::go);
  auto counter = Counter::start(1);
  EXPECT_EQ(counter.ask(&Counter::sum).get(), 1);
  EXPECT_TRUE(busy.stop_urgently().get());
  busy.join();
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, InAForkChildTheyAreNoMore) {
  Event go;
  auto counter = Counter::start();
  counter.tell([&](Counter&) { go.wait(); });
  auto waiting = counter.ask(&Counter::sum);
  const pid_t child = fork();
  if (child == 0) {
    bool right = !counter.alive() && detail::ActorCore::count() == 0;
    try {
      waiting.get();
      right = false;
    } catch (const ActorDead&) {
    }
    counter.join();
    _exit(right ? 0 : 1);
  }
  int status = -1;
  until([&] { return waitpid(child, &status, WNOHANG) == child; });
  EXPECT_EQ(status, 0);
  go.set();
  EXPECT_EQ(waiting.get(), 0);
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, CannotWaitForTheirOwnEnd) {
  auto counter = Counter::start();
  auto answer = counter.ask([](Counter& c) { c.me().join(); });
  EXPECT_THROW(answer.get(), std::system_error);
  counter.stop().wait();
  counter.join();
}

TEST_F(Actors, NativeThreadsAskToo) {
  auto counter = Counter::start();
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0}, ended{0};
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 500; ++i)
        if (counter.ask(&Counter::add, 1).get() < 1) ++wrong;
      ++ended;
    });
  until([&] { return ended == 4; });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.ask(&Counter::sum).get(), 2'000);
  EXPECT_EQ(wrong, 0);
  counter.stop().wait();
  counter.join();
}

// Whenever it stops, each that asked gets an answer or ActorDead.
TEST_F(Actors, EveryAskIsSettledWhenTheActorDies) {
  for (int round = 0; round < 200; ++round) {
    auto counter = Counter::start();
    std::vector<std::thread> threads;
    std::atomic<int> settled{0}, ended{0};
    for (int t = 0; t < 2; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < 20; ++i) {
          try {
            if (i % 5 == t)
              counter.ask_urgently([](Counter& c) { return c.sum(); }).get();
            else
              counter.ask(&Counter::add, 1).get();
          } catch (const ActorDead&) {
          }
          ++settled;
        }
        ++ended;
      });
    for (int i = 0; i < round % 17; ++i) this_fiber::yield();
    if (round % 2)
      counter.stop();
    else
      counter.stop_urgently();
    until([&] { return ended == 2; });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(settled, 40);
    counter.join();
    EXPECT_EQ(counter.statistics().waiting, 0u);
  }
}

TEST_F(Actors, EmptyReferencesSaySo) {
  ActorRef<Counter> none;
  EXPECT_FALSE(none.valid());
  EXPECT_THROW(none.alive(), std::logic_error);
  EXPECT_THROW(none.ask(&Counter::sum), std::logic_error);
}

TEST_F(Actors, FiveThousandInARing) {
  struct Link {
    ActorRef<Link> next;
    int passed = 0;
    void pass(int hops) {
      ++passed;
      if (hops > 0) next.tell(&Link::pass, hops - 1);
    }
  };
  constexpr int kLinks = 5'000;
  std::vector<ActorRef<Link>> ring;
  ActorOptions options;
  options.stack_size = 16 * 1024;
  for (int i = 0; i < kLinks; ++i) ring.push_back(Actor<Link>::start_with(options));
  for (int i = 0; i < kLinks; ++i)
    ring[static_cast<size_t>(i)].tell(
        [next = ring[static_cast<size_t>((i + 1) % kLinks)]](Link& l) { l.next = next; });
  ring[0].tell(&Link::pass, 2 * kLinks - 1);
  until([&] { return ring[kLinks - 1].ask([](Link& l) { return l.passed; }).get() == 2; });
  for (auto& link : ring) link.stop();
  for (auto& link : ring) link.join();
}

}  // namespace
}  // namespace weft::test
