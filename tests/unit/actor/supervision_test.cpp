// Actors that are made anew, actors that watch over others, and pools of actors.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "unit/sync/library.hpp"

namespace weft::test {
namespace {

// What the actors of these tests have done.
struct Log {
  Mutex lock;
  std::vector<std::string> entries;

  void add(std::string entry) {
    std::lock_guard guard(lock);
    entries.push_back(std::move(entry));
  }
  size_t count(const std::string& entry) {
    std::lock_guard guard(lock);
    return static_cast<size_t>(std::count(entries.begin(), entries.end(), entry));
  }
};

class Supervision : public Library {
 protected:
  void SetUp() override {
    ASSERT_EQ(detail::ActorCore::count(), 0u);
    former_ = set_unhandled_handler([](const Unhandled&) noexcept { ++reported_; });
    reported_ = 0;
  }
  void TearDown() override {
    set_unhandled_handler(former_);
    EXPECT_EQ(detail::ActorCore::count(), 0u) << "an actor was left behind";
    Library::TearDown();
  }

  static constexpr Restart kSoon{.limit = 3, .quiet = 1h, .delay = 1ms, .longest = 4ms};
  static constexpr Restart kLate{.limit = 3, .quiet = 1h, .delay = 1h, .longest = 1h};
  static inline std::atomic<int> reported_{0};
  Log log_;

 private:
  UnhandledHandler former_ = nullptr;
};

class Fragile : public Actor<Fragile> {
 public:
  Fragile(Log& log, std::string name, bool starts = true)
      : log_(&log), name_(std::move(name)), starts_(starts) {
    log_->add(name_ + " made");
  }
  ~Fragile() { log_->add(name_ + " destroyed"); }
  void on_start() {
    log_->add(name_ + " starts");
    if (!starts_) throw std::runtime_error("cannot start");
  }
  void on_stop() { log_->add(name_ + " stops"); }
  void on_failure(const std::exception_ptr&) { log_->add(name_ + " failed"); }
  void fail() { throw std::runtime_error("broken"); }
  int count() { return ++count_; }

 private:
  Log* log_;
  std::string name_;
  bool starts_;
  int count_ = 0;
};

TEST_F(Supervision, AFailedActorIsMadeAnewAndKeepsItsMessages) {
  auto actor = Fragile::start_with({.restart = kSoon}, std::ref(log_), "a");
  EXPECT_EQ(actor.ask(&Fragile::count).get(), 1);
  EXPECT_EQ(actor.ask(&Fragile::count).get(), 2);
  actor.tell(&Fragile::fail);
  EXPECT_EQ(actor.ask(&Fragile::count).get(), 1) << "of another object";
  EXPECT_TRUE(actor.alive());
  EXPECT_EQ(actor.statistics().restarted, 1u);
  EXPECT_EQ(actor.statistics().failed, 1u);
  actor.stop().wait();
  actor.join();
  EXPECT_EQ(log_.entries, (std::vector<std::string>{"a made", "a starts", "a failed", "a destroyed", "a made",
                                                    "a starts", "a stops", "a destroyed"}));
}

TEST_F(Supervision, AnActorThatFailsTooOftenInARowStops) {
  auto actor = Fragile::start_with({.restart = kSoon}, std::ref(log_), "a");
  for (int i = 0; i < 4; ++i) actor.tell(&Fragile::fail);
  Future<int> after = actor.ask(&Fragile::count);
  EXPECT_THROW(after.get(), ActorDead);
  actor.join();
  EXPECT_EQ(log_.count("a made"), 4u);
  EXPECT_EQ(log_.count("a failed"), 4u);
  EXPECT_EQ(log_.count("a stops"), 0u);
}

TEST_F(Supervision, WhatRunsForLongEnoughBetweenFailsInAnotherRow) {
  Restart restart = kSoon;
  restart.limit = 1;
  restart.quiet = 0s;
  auto actor = Fragile::start_with({.restart = restart}, std::ref(log_), "a");
  for (int i = 0; i < 5; ++i) actor.tell(&Fragile::fail);
  EXPECT_EQ(actor.ask(&Fragile::count).get(), 1);
  EXPECT_EQ(log_.count("a made"), 6u);
  actor.stop().wait();
  actor.join();
}

TEST_F(Supervision, AnActorThatCannotStartIsMadeAnewToo) {
  auto actor = Fragile::start_with({.restart = kSoon}, std::ref(log_), "a", false);
  actor.join();
  EXPECT_EQ(log_.count("a starts"), 4u);
  EXPECT_EQ(reported_, 4);
  EXPECT_FALSE(actor.alive());
}

TEST_F(Supervision, StopCutsTheDelayShort) {
  for (const Dispatcher& dispatcher : {Dispatcher(), Dispatcher::threads(1)}) {
    auto actor = Fragile::start_with({.dispatcher = dispatcher, .restart = kLate}, std::ref(log_), "a");
    actor.tell(&Fragile::fail);
    Future<int> before = actor.ask(&Fragile::count);
    until([&] { return log_.count("a failed") > 0; });
    EXPECT_TRUE(actor.stop().get());
    EXPECT_EQ(before.get(), 1) << "it was sent before the stop";
    actor.join();
    log_.entries.clear();
  }
}

TEST_F(Supervision, AStoppedActorIsNotMadeAnewIfItCannotStart) {
  Restart restart = kLate;
  restart.limit = UINT32_MAX;
  auto actor = Fragile::start_with({.restart = restart}, std::ref(log_), "a", false);
  until([&] { return log_.count("a starts") > 0; });
  EXPECT_TRUE(actor.stop().get());
  actor.join();
  EXPECT_EQ(log_.count("a starts"), 2u);
}

TEST_F(Supervision, ArgumentsThatCannotBeCopiedCannotBeUsedAgain) {
  struct Owner {
    explicit Owner(std::unique_ptr<int>) {}
  };
  EXPECT_THROW(Actor<Owner>::start_with({.restart = kSoon}, std::make_unique<int>(1)), std::invalid_argument);
  Actor<Owner>::start(std::make_unique<int>(1)).stop().wait();
}

class Parent : public Actor<Parent> {
 public:
  Parent(Log& log, bool forgives) : log_(&log), forgives_(forgives) {}

  void on_start() { child_ = start_child<Fragile>(std::ref(*log_), "child"); }
  void on_stop() { log_->add("parent stops"); }
  void on_failure(const std::exception_ptr&) { log_->add("parent failed"); }
  void on_child_failure(const std::exception_ptr& failure) {
    log_->add("child's failure");
    if (!forgives_) std::rethrow_exception(failure);
    on_start();
  }
  ActorRef<Fragile> child() { return child_; }
  void fail() { throw std::runtime_error("broken"); }
  ~Parent() { log_->add("parent destroyed"); }

 private:
  Log* log_;
  bool forgives_;
  ActorRef<Fragile> child_;
};

TEST_F(Supervision, AParentIsDoneWhenItsChildrenAre) {
  auto parent = Parent::start(std::ref(log_), true);
  auto child = parent.ask(&Parent::child).get();
  Event hold;
  child.tell([&](Fragile&) { hold.wait(); });
  Future<int> sent_before = child.ask(&Fragile::count);
  Future<bool> stopped = parent.stop();
  until([&] { return log_.count("parent stops") > 0; });
  for (int i = 0; i < 100; ++i) this_fiber::yield();
  EXPECT_FALSE(stopped.done());
  hold.set();
  EXPECT_TRUE(stopped.get());
  EXPECT_EQ(sent_before.get(), 1);
  parent.join();
  EXPECT_TRUE(child.statistics().handled == 2);
  EXPECT_EQ(log_.entries.back(), "child destroyed");
}

TEST_F(Supervision, AChildsFailureIsTheParents) {
  auto parent = Parent::start(std::ref(log_), false);
  auto child = parent.ask(&Parent::child).get();
  child.tell(&Fragile::fail);
  parent.join();
  EXPECT_EQ(log_.count("child failed"), 1u);
  EXPECT_EQ(log_.count("child's failure"), 1u);
  EXPECT_EQ(log_.count("parent failed"), 1u);
}

TEST_F(Supervision, AParentMayForgive) {
  auto parent = Parent::start(std::ref(log_), true);
  auto child = parent.ask(&Parent::child).get();
  child.tell(&Fragile::fail);
  child.join();
  auto other = parent.ask(&Parent::child).get();
  EXPECT_FALSE(other == child);
  EXPECT_EQ(other.ask(&Fragile::count).get(), 1);
  parent.stop().wait();
  parent.join();
  EXPECT_FALSE(other.alive());
}

TEST_F(Supervision, AParentThatIsMadeAnewMakesItsChildrenAnew) {
  auto parent = Parent::start_with({.restart = kSoon}, std::ref(log_), false);
  auto child = parent.ask(&Parent::child).get();
  child.tell(&Fragile::fail);
  child.join();
  until([&] { return parent.statistics().restarted > 0; });
  auto other = parent.ask(&Parent::child).get();
  EXPECT_EQ(other.ask(&Fragile::count).get(), 1);
  parent.tell(&Parent::fail);
  other.join();
  parent.stop().wait();
  parent.join();
  EXPECT_EQ(log_.count("child made"), 3u);
  EXPECT_EQ(log_.count("child destroyed"), 3u);
}

TEST_F(Supervision, WhatAnActorStartedBeforeItCouldNotStartIsStopped) {
  static Log* log;
  log = &log_;
  struct Boss : Actor<Boss> {
    void on_start() {
      start_child<Fragile>(std::ref(*log), "child");
      if (log->count("child made") < 4) throw std::runtime_error("not yet");
    }
    int count() { return 1; }
  };
  auto boss = Boss::start_with({.restart = kSoon});
  EXPECT_EQ(boss.ask(&Boss::count).get(), 1);
  until([&] { return log_.count("child destroyed") == 3; });
  boss.stop().wait();
  boss.join();
  EXPECT_EQ(log_.count("child destroyed"), 4u);
}

TEST_F(Supervision, ADeepTreeEndsWithoutADeepStack) {
  struct Link : Actor<Link> {
    explicit Link(int depth) : depth_(depth) {}
    void on_start() {
      if (depth_ > 0)
        start_child_with<Link>({.stack_size = 32 * 1024, .dispatcher = Dispatcher()}, depth_ - 1);
    }
    int depth_;
  };
  constexpr int kDepth = 3'000;
  auto root = Link::start_with({.stack_size = 32 * 1024}, kDepth);
  until([] { return detail::ActorCore::count() == kDepth + 1; });
  root.stop().wait();
  root.join();
}

TEST_F(Supervision, ManyChildrenStopInTimeThatGrowsWithTheirNumber) {
  struct Leaf {};
  struct Root : Actor<Root> {
    void on_start() {
      for (int i = 0; i < 20'000; ++i) start_child_with<Leaf>({.dispatcher = on_});
    }
    Dispatcher on_ = Dispatcher::threads(1);
  };
  auto root = Root::start();
  until([] { return detail::ActorCore::count() == 20'001; });
  root.stop().wait();  // squared it would be longer than the test may take
  root.join();
}

TEST_F(Supervision, APoolWhoseActorsCannotStartIsGone) {
  struct Never : Actor<Never> {
    void on_start() { throw std::runtime_error("never"); }
  };
  for (int i = 0; i < 200; ++i) Never::start_pool({.actor = {.dispatcher = Dispatcher::own_thread()}}).join();
  until([] { return detail::ActorCore::count() == 0; });
}

TEST_F(Supervision, AForkChildHasTheAnswerOfWhoWasAskedToStop) {
  auto actor = Fragile::start_with({.restart = kSoon}, std::ref(log_), "a");
  Event hold;
  actor.tell([&](Fragile&) { hold.wait(); });
  Future<bool> stopped = actor.stop();
  const pid_t child = fork();
  if (child == 0) _exit(stopped.wait_for(5s) ? 0 : 1);
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  hold.set();
  EXPECT_TRUE(stopped.get());
  actor.join();
}

TEST_F(Supervision, ATreeEndsFromItsLeaves) {
  struct Node : Actor<Node> {
    Node(Log& log, int depth) : log_(&log), depth_(depth) {}
    ~Node() { log_->add(std::to_string(depth_)); }
    void on_start() {
      if (depth_ < 3)
        for (int i = 0; i < 2; ++i) start_child<Node>(std::ref(*log_), depth_ + 1);
    }
    Log* log_;
    int depth_;
  };
  auto root = Node::start(std::ref(log_), 0);
  until([&] { return detail::ActorCore::count() == 15; });
  root.stop().wait();
  root.join();
  EXPECT_EQ(log_.count("3"), 8u);
  EXPECT_EQ(log_.entries.size(), 15u);
}

class Worker : public Actor<Worker> {
 public:
  explicit Worker(Log* log = nullptr) : log_(log) {}
  uintptr_t who() { return reinterpret_cast<uintptr_t>(this); }
  uintptr_t wait(Event& event) {
    event.wait();
    return who();
  }
  void fail() { throw std::runtime_error("broken"); }
  void on_failure(const std::exception_ptr&) {
    if (log_) log_->add("failed");
  }

 private:
  Log* log_;
};

TEST_F(Supervision, APoolGivesItsMessagesInTurn) {
  auto pool = Worker::start_pool({.size = 3});
  std::vector<uintptr_t> who;
  for (int i = 0; i < 6; ++i) who.push_back(pool.ask(&Worker::who).get());
  EXPECT_EQ(std::set<uintptr_t>(who.begin(), who.end()).size(), 3u);
  EXPECT_EQ(std::vector(who.begin(), who.begin() + 3), std::vector(who.begin() + 3, who.end()));
  EXPECT_EQ(pool.workers().size(), 3u);
  EXPECT_EQ(pool.statistics().handled, 6u);
  pool.stop().wait();
  pool.join();
  EXPECT_THROW(pool.tell(&Worker::fail), ActorDead);
  EXPECT_THROW(pool.ask(&Worker::who).get(), ActorDead);
  EXPECT_THROW(pool.worker(1), ActorDead);
  EXPECT_THROW(Worker::start_pool({.size = 0}), std::invalid_argument);
}

TEST_F(Supervision, ABusyActorOfAPoolIsPassedOver) {
  auto pool = Worker::start_pool({.size = 2, .routing = Routing::kLeastWaiting});
  Event event;
  std::vector<Future<uintptr_t>> waiting;
  waiting.push_back(pool.ask(&Worker::wait, std::ref(event)));
  until([&] { return pool.statistics().waiting == 0; });
  waiting.push_back(pool.ask(&Worker::wait, std::ref(event)));
  until([&] { return pool.statistics().waiting == 0; });
  for (int i = 0; i < 4; ++i) waiting.push_back(pool.ask(&Worker::who));
  for (const auto& worker : pool.workers()) EXPECT_EQ(worker.statistics().waiting, 2u);
  event.set();
  for (auto& each : waiting) each.wait();
  pool.stop().wait();
  pool.join();
}

TEST_F(Supervision, AnActorOfAPoolThatWasAskedToStopIsPassedOver) {
  auto pool = Worker::start_pool({.size = 3});
  Event event;
  const auto workers = pool.workers();
  for (int i = 0; i < 2; ++i) workers[i].tell([&](Worker&) { event.wait(); });
  until([&] { return pool.statistics().waiting == 0; });
  Future<bool> first = workers[0].stop(), second = workers[1].stop();
  for (int i = 0; i < 10; ++i) pool.ask(&Worker::who).get();
  EXPECT_EQ(workers[2].statistics().handled, 10u);
  event.set();
  EXPECT_TRUE(first.get() && second.get());
  EXPECT_EQ(pool.statistics().handled, 12u);
  pool.stop().wait();
  pool.join();
  EXPECT_EQ(pool.statistics().handled, 12u);
}

TEST_F(Supervision, APoolOnThreadsOfTheirOwnHasNoMoreThreadsThanActors) {
  auto pool =
      Worker::start_pool({.size = 2, .actor = {.name = "own", .dispatcher = Dispatcher::own_thread()}});
  std::set<uintptr_t> who;
  for (int i = 0; i < 4; ++i) who.insert(pool.ask(&Worker::who).get());
  EXPECT_EQ(who.size(), 2u);
  pool.tell_urgently(&Worker::who);
  pool.stop().wait();
  pool.join();
}

TEST_F(Supervision, AParentCanTellItsChildrenApart) {
  struct Named : Actor<Named> {
    explicit Named(Log& log) : log_(&log) {}
    void on_child_failure(const std::exception_ptr&, std::string_view who) { log_->add(std::string(who)); }
    void begin() { start_child_with<Worker>({.name = "left"}).tell(&Worker::fail); }
    Log* log_;
  };
  auto parent = Actor<Named>::start(std::ref(log_));
  parent.tell(&Named::begin);
  until([&] { return log_.count("left") == 1; });
  parent.stop().wait();
  parent.join();
}

TEST_F(Supervision, AKeyStaysWithItsActor) {
  auto pool = Worker::start_pool({.size = 5, .routing = Routing::kRandom});
  std::vector<uintptr_t> before;
  for (int key = 0; key < 100; ++key) before.push_back(pool.worker(key).ask(&Worker::who).get());
  EXPECT_EQ(std::set<uintptr_t>(before.begin(), before.end()).size(), 5u);
  auto gone = pool.workers().front();
  const uintptr_t whose = gone.ask(&Worker::who).get();
  gone.stop().wait();
  gone.join();
  for (int key = 0; key < 100; ++key) {
    const uintptr_t now = pool.worker(key).ask(&Worker::who).get();
    EXPECT_EQ(now == before[key], before[key] != whose) << key;
  }
  pool.stop().wait();
  pool.join();
}

TEST_F(Supervision, APoolStopsWithTheLastOfItsActors) {
  auto pool = Worker::start_pool({.size = 2});
  for (const auto& worker : pool.workers()) worker.stop().wait();
  pool.join();
  EXPECT_FALSE(pool.alive());
}

TEST_F(Supervision, AnActorOfAPoolThatFailsForGoodStopsThePool) {
  auto pool = Worker::start_pool({.size = 3, .actor = {.restart = kSoon}}, &log_);
  pool.tell(&Worker::fail);
  pool.ask(&Worker::who).get();
  EXPECT_TRUE(pool.alive());
  const auto victim = pool.worker(7);
  for (int i = 0; i < 4; ++i) try {
      victim.tell(&Worker::fail);
    } catch (const ActorDead&) {
    }
  pool.join();
}

std::atomic<int> letters{0};

TEST_F(Supervision, WhatNobodyHearsOfIsADeadLetter) {
  letters = 0;
  auto former = set_dead_letter_handler([](const DeadLetter& letter) noexcept {
    if (std::string(letter.actor) == "deaf" &&
        (std::string(letter.reason) == "stopped" || std::string(letter.reason) == "full"))
      ++letters;
  });
  auto actor = Worker::start_with({.name = "deaf", .mailbox = {.capacity = 2, .overflow = Overflow::kDrop}});
  Event event;
  actor.tell([&](Worker&) { event.wait(); });
  until([&] { return actor.statistics().waiting == 0; });
  actor.tell(&Worker::who);
  Future<uintptr_t> asked = actor.ask(&Worker::who);
  actor.tell(&Worker::who);  // full
  EXPECT_EQ(letters, 1);
  Future<bool> stopped = actor.stop_urgently();
  event.set();
  stopped.wait();
  actor.join();
  EXPECT_THROW(asked.get(), ActorDead) << "and it is no dead letter";
  EXPECT_EQ(letters, 2);
  EXPECT_THROW(actor.tell(&Worker::who), ActorDead);
  EXPECT_EQ(letters, 2) << "the sender heard of it";
  set_dead_letter_handler(former);
}

}  // namespace
}  // namespace weft::test
