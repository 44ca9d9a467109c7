// Actors on shared workers, and on OS threads of their own.
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "support/fork.hpp"
#include "unit/sync/library.hpp"

namespace weft::test {
namespace {

// OS threads of that name.
size_t threads(const std::string& name) {
  size_t count = 0;
  for (const auto& each : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(each.path() / "comm");
    std::string comm;
    if (std::getline(file, comm) && comm == name) ++count;
  }
  return count;
}

class Dispatchers : public Library {
 protected:
  void SetUp() override { ASSERT_EQ(detail::ActorCore::count(), 0u); }
  void TearDown() override {
    EXPECT_EQ(detail::ActorCore::count(), 0u) << "an actor was left behind";
    Library::TearDown();
  }
};

class Place : public Actor<Place> {
 public:
  long thread() { return syscall(SYS_gettid); }
  bool on_fiber() { return this_fiber::exists(); }
  int add(int n) { return sum_ += n; }
  int wait_for(const ActorRef<Place>& other) { return other.ask(&Place::add, 1).get(); }
  void fail() { throw std::runtime_error("broken"); }
  void on_failure(const std::exception_ptr&) {}
  ActorRef<Place> child() { return start_child_with<Place>({.dispatcher = on_}); }
  void set_dispatcher(Dispatcher on) { on_ = std::move(on); }

 private:
  int sum_ = 0;
  Dispatcher on_;
};

TEST_F(Dispatchers, RunActorsOnTheirThreads) {
  const Dispatcher pool = Dispatcher::threads(2, "pool");
  std::vector<ActorRef<Place>> actors;
  for (int i = 0; i < 100; ++i) actors.push_back(Place::start_with({.dispatcher = pool}));
  std::set<long> seen;
  for (int round = 0; round < 10; ++round)
    for (auto& actor : actors) {
      EXPECT_FALSE(actor.ask(&Place::on_fiber).get());
      seen.insert(actor.ask(&Place::thread).get());
    }
  EXPECT_GE(seen.size(), 1u);
  EXPECT_LE(seen.size(), 2u);
  EXPECT_FALSE(seen.contains(syscall(SYS_gettid)));
  for (auto& actor : actors) EXPECT_TRUE(actor.stop().get());
  for (auto& actor : actors) actor.join();
}

TEST_F(Dispatchers, RunActorsOnTheirFibers) {
  const Dispatcher pool = Dispatcher::fibers(3);
  std::vector<ActorRef<Place>> actors;
  for (int i = 0; i < 20; ++i) actors.push_back(Place::start_with({.dispatcher = pool}));
  for (auto& actor : actors) EXPECT_TRUE(actor.ask(&Place::on_fiber).get());
  // As many wait as there are workers but one: the rest go on.
  EXPECT_EQ(actors[0].ask(&Place::wait_for, actors[1]).get(), 1);
  for (auto& actor : actors) actor.stop().wait();
  for (auto& actor : actors) actor.join();
}

TEST_F(Dispatchers, WorkersEndWithTheirLastUser) {
  {
    Dispatcher pool = Dispatcher::threads(2, "ending");
    auto actor = Place::start_with({.dispatcher = pool});
    pool = {};
    EXPECT_EQ(actor.ask(&Place::add, 1).get(), 1);
    EXPECT_GE(threads("ending"), 1u);
    actor.stop().wait();
    actor.join();
  }
  until([] { return threads("ending") == 0; });
}

TEST_F(Dispatchers, AnOwnThreadIsAnActorsAlone) {
  auto left = Place::start_with({.name = "left", .dispatcher = Dispatcher::own_thread()});
  auto right = Place::start_with({.name = "right", .dispatcher = Dispatcher::own_thread()});
  const long thread = left.ask(&Place::thread).get();
  EXPECT_EQ(left.ask(&Place::thread).get(), thread);
  EXPECT_NE(right.ask(&Place::thread).get(), thread);
  EXPECT_EQ(left.ask(&Place::wait_for, right).get(), 1);
  left.stop().wait();
  right.stop().wait();
  left.join();
  right.join();
  until([] { return threads("left") + threads("right") == 0; });
}

TEST_F(Dispatchers, EachMessageIsHandledOnceAndInOrder) {
  struct Order {
    void take(int sender, int number) {
      EXPECT_FALSE(busy.exchange(true));
      EXPECT_EQ(next[sender]++, number);
      busy = false;
    }
    std::atomic<bool> busy{false};
    int next[4] = {};
  };
  const Dispatcher pool = Dispatcher::threads(3);
  constexpr int kMessages = 5'000;
  for (int actors = 1; actors <= 3; ++actors) {
    std::vector<ActorRef<Order>> all;
    for (int i = 0; i < actors; ++i) all.push_back(Actor<Order>::start_with({.dispatcher = pool}));
    std::vector<std::thread> senders;
    for (int sender = 0; sender < 4; ++sender)
      senders.emplace_back([&, sender] {
        for (int i = 0; i < kMessages; ++i)
          for (auto& actor : all) actor.tell(&Order::take, sender, i);
      });
    for (auto& sender : senders) sender.join();
    for (auto& actor : all) {
      actor.stop().wait();
      actor.join();
      EXPECT_EQ(actor.statistics().handled, 4u * kMessages);
    }
  }
}

TEST_F(Dispatchers, AChildOnTheSameThreadDoesNotStopItsParentFromEnding) {
  const Dispatcher pool = Dispatcher::threads(1);
  auto parent = Place::start_with({.dispatcher = pool});
  parent.ask(&Place::set_dispatcher, pool).wait();
  auto child = parent.ask(&Place::child).get();
  EXPECT_EQ(child.ask(&Place::add, 1).get(), 1);
  EXPECT_TRUE(parent.stop().get());
  parent.join();
  EXPECT_FALSE(child.alive());
}

TEST_F(Dispatchers, AnActorThatFailedKeepsNoWorkerWhileItWaits) {
  const Dispatcher pool = Dispatcher::threads(1);
  const Restart restart{.limit = 5, .delay = 20ms};
  auto failing = Place::start_with({.dispatcher = pool, .restart = restart});
  auto other = Place::start_with({.dispatcher = pool});
  failing.ask(&Place::add, 5).wait();
  failing.tell(&Place::fail);
  Future<int> later = failing.ask(&Place::add, 1);
  EXPECT_EQ(other.ask(&Place::add, 1).get(), 1);
  EXPECT_EQ(later.get(), 1);
  EXPECT_EQ(failing.statistics().restarted, 1u);
  for (auto& actor : {failing, other}) {
    actor.stop().wait();
    actor.join();
  }
}

TEST_F(Dispatchers, AForkChildHasWorkersOfItsOwn) {
  const Dispatcher pool = Dispatcher::threads(2);
  auto parents = Place::start_with({.dispatcher = pool});
  EXPECT_EQ(parents.ask(&Place::add, 1).get(), 1);
  const pid_t child = fork_with_threads();
  if (child == 0) {
    auto own = Place::start_with({.dispatcher = pool});
    const bool works = own.ask(&Place::add, 2).get() == 2 && !parents.alive();
    own.stop().wait();
    _exit(works ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(parents.ask(&Place::add, 1).get(), 2);
  parents.stop().wait();
  parents.join();
}

TEST_F(Dispatchers, AnActorMayForkOnItsOwnThreadAndEndInTheChild) {
  struct Forks : Actor<Forks> {
    pid_t split() {
      const pid_t child = fork_with_threads();
      if (child == 0) self().stop_urgently().on_done([] { _exit(7); });
      return child;
    }
  };
  auto actor = Forks::start_with({.dispatcher = Dispatcher::own_thread()});
  const pid_t child = actor.ask(&Forks::split).get();
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(WEXITSTATUS(status), 7);
  actor.stop().wait();
  actor.join();
}

TEST_F(Dispatchers, NeedAWorker) {
  EXPECT_THROW(Dispatcher::threads(0), std::invalid_argument);
  EXPECT_THROW(Dispatcher::fibers(0), std::invalid_argument);
}

}  // namespace
}  // namespace weft::test
