#include <algorithm>
#include <atomic>
#include <deque>
#include <set>
#include <vector>

#include "support/engine.hpp"

namespace weft::engine::interpose {
namespace {

using test::FiberThread;
using test::run_until;

class ThreadsTest : public test::EngineTest {};

TEST_F(ThreadsTest, JoinGivesTheResult) {
  pthread_t thread;
  int value = 42;
  ASSERT_EQ(routed::pthread_create(
                &thread, nullptr, [](void* argument) { return argument; }, &value),
            0);
  EXPECT_NE(fiber_of(thread), nullptr);
  void* result = nullptr;
  EXPECT_EQ(routed::pthread_join(thread, &result), 0);
  EXPECT_EQ(result, &value);
}

TEST_F(ThreadsTest, JoiningIsRefusedWhereLibcRefusesIt) {
  bool go = false;
  FiberThread thread([&] {
    EXPECT_EQ(routed::pthread_join(routed::pthread_self(), nullptr), EDEADLK);
    run_until([&] { return go; });
  });
  EXPECT_EQ(routed::pthread_tryjoin_np(thread.handle(), nullptr), EBUSY);
  timespec past{1, 0};
  EXPECT_EQ(routed::pthread_timedjoin_np(thread.handle(), nullptr, &past), ETIMEDOUT);
  FiberThread joiner([&] { thread.join(); });
  run_until([&] { return joiner.parked(); });
  EXPECT_EQ(routed::pthread_join(thread.handle(), nullptr), EINVAL) << "another joins it already";
  EXPECT_EQ(routed::pthread_detach(thread.handle()), EINVAL);
  go = true;
}

TEST_F(ThreadsTest, ADetachedThreadFreesItself) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  bool ran = false;
  pthread_t thread;
  const auto body = [](void* flag) -> void* {
    *static_cast<bool*>(flag) = true;
    return nullptr;
  };
  ASSERT_EQ(routed::pthread_create(&thread, &attributes, body, &ran), 0);
  run_until([&] { return ran && Fiber::counts().alive == 0; });
}

TEST_F(ThreadsTest, EachHasAnIdentityOfItsOwn) {
  std::set<pthread_t> handles{routed::pthread_self()};
  std::set<pid_t> ids{routed::gettid()};
  std::deque<FiberThread> threads;
  bool go = false;
  for (int i = 0; i < 50; ++i)
    threads.emplace_back([&] {
      handles.insert(routed::pthread_self());
      ids.insert(routed::gettid());
      run_until([&] { return go; });
    });
  run_until([&] { return handles.size() == 51; });
  EXPECT_EQ(ids.size(), 51u);
  go = true;
}

TEST_F(ThreadsTest, NamesAndStackBoundsAreTheFibers) {
  FiberThread([] {
    const pthread_t self = routed::pthread_self();
    EXPECT_EQ(routed::pthread_setname_np(self, "worker"), 0);
    EXPECT_EQ(routed::pthread_setname_np(self, "a name of sixteen"), ERANGE);
    char name[16] = "";
    EXPECT_EQ(routed::pthread_getname_np(self, name, sizeof name), 0);
    EXPECT_STREQ(name, "worker");
    EXPECT_EQ(routed::pthread_getname_np(self, name, 3), ERANGE);
    pthread_attr_t attributes;
    ASSERT_EQ(routed::pthread_getattr_np(self, &attributes), 0);
    void* base;
    size_t size;
    pthread_attr_getstack(&attributes, &base, &size);
    EXPECT_GE(static_cast<void*>(name), base);
    EXPECT_LT(static_cast<void*>(name), static_cast<void*>(static_cast<char*>(base) + size));
    pthread_attr_destroy(&attributes);
  }).join();
}

TEST_F(ThreadsTest, AStackSizeThatIsAskedForIsGiven) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setstacksize(&attributes, 4 << 20);
  pthread_t thread;
  const auto body = [](void*) -> void* {
    return reinterpret_cast<void*>(Carrier::running_fiber()->stack().size());
  };
  ASSERT_EQ(routed::pthread_create(&thread, &attributes, body, nullptr), 0);
  void* size = nullptr;
  routed::pthread_join(thread, &size);
  EXPECT_GE(reinterpret_cast<size_t>(size), size_t{4 << 20} - 1024);
}

TEST_F(ThreadsTest, ANameThatChangesMeanwhileFitsTheBuffer) {
  bool go = false;
  FiberThread thread([&] { run_until([&] { return go; }); });
  std::atomic<bool> stop{false};
  std::atomic<int> renamed{0};
  std::thread native([&] {
    for (; !stop; ++renamed)
      routed::pthread_setname_np(thread.handle(), renamed % 2 ? "a" : "fifteen letters");
  });
  run_until([&] { return renamed > 0; });
  for (int i = 0; i < 20'000; ++i) {
    char name[16] = "..x";
    const int error = routed::pthread_getname_np(thread.handle(), name, 2);
    EXPECT_TRUE(error == 0 || error == ERANGE);
    EXPECT_STREQ(name, error ? "..x" : "a");
    EXPECT_EQ(name[2], 'x');
  }
  stop = true;
  native.join();
  go = true;
}

TEST_F(ThreadsTest, KeysHoldAValueForEachFiberAndAreDestroyedWithIt) {
  static std::vector<long> destroyed;
  destroyed.clear();
  pthread_key_t key;
  ASSERT_EQ(routed::pthread_key_create(
                &key, [](void* value) { destroyed.push_back(reinterpret_cast<long>(value)); }),
            0);
  routed::pthread_setspecific(key, reinterpret_cast<void*>(99));
  {
    std::deque<FiberThread> threads;
    for (long i = 1; i <= 3; ++i)
      threads.emplace_back([&, i] {
        EXPECT_EQ(routed::pthread_getspecific(key), nullptr);
        EXPECT_EQ(routed::pthread_setspecific(key, reinterpret_cast<void*>(i)), 0);
        routed::sched_yield();
        EXPECT_EQ(routed::pthread_getspecific(key), reinterpret_cast<void*>(i));
      });
  }
  std::sort(destroyed.begin(), destroyed.end());  // they may end in any order
  EXPECT_EQ(destroyed, (std::vector<long>{1, 2, 3}));
  EXPECT_EQ(routed::pthread_getspecific(key), reinterpret_cast<void*>(99));
  EXPECT_EQ(routed::pthread_key_delete(key), 0);
}

TEST_F(ThreadsTest, ADestructorThatSetsAgainIsCalledAgain) {
  static pthread_key_t key;
  static int calls;
  calls = 0;
  ASSERT_EQ(routed::pthread_key_create(&key,
                                       [](void* value) {
                                         if (++calls < 3) routed::pthread_setspecific(key, value);
                                       }),
            0);
  FiberThread([] { routed::pthread_setspecific(key, &calls); }).join();
  EXPECT_EQ(calls, 3);
  routed::pthread_key_delete(key);
}

TEST_F(ThreadsTest, ADeletedKeyHoldsNothingWhenItsNumberComesBack) {
  pthread_key_t key;
  ASSERT_EQ(routed::pthread_key_create(&key, nullptr), 0);
  bool set = false, go = false;
  FiberThread thread([&] {
    routed::pthread_setspecific(key, &set);
    set = true;
    run_until([&] { return go; });
    EXPECT_EQ(routed::pthread_getspecific(key), nullptr);
  });
  run_until([&] { return set; });
  routed::pthread_key_delete(key);
  pthread_key_t again;
  ASSERT_EQ(routed::pthread_key_create(&again, nullptr), 0);
  EXPECT_EQ(again, key);
  go = true;
  thread.join();
  routed::pthread_key_delete(again);
}

TEST_F(ThreadsTest, OtherThreadsDeleteKeysWhileFibersSetTheirs) {
  std::atomic<bool> stop{false};
  std::atomic<int> deleted{0};
  std::thread native([&] {
    while (!stop) {
      pthread_key_t key;
      if (routed::pthread_key_create(&key, nullptr) != 0) continue;
      routed::pthread_key_delete(key);
      ++deleted;
    }
  });
  run_until([&] { return deleted > 0; });
  std::vector<pthread_key_t> keys(64);
  for (pthread_key_t& key : keys) ASSERT_EQ(routed::pthread_key_create(&key, nullptr), 0);
  for (int round = 0; round < 100; ++round)
    FiberThread([&] {
      for (pthread_key_t& key : keys) EXPECT_EQ(routed::pthread_setspecific(key, &key), 0);
      for (pthread_key_t& key : keys) EXPECT_EQ(routed::pthread_getspecific(key), &key);
    }).join();
  stop = true;
  native.join();
  for (const pthread_key_t key : keys) routed::pthread_key_delete(key);
}

TEST_F(ThreadsTest, ExitRunsDestructorsOnTheWay) {
  bool destroyed = false;
  FiberThread([&] {
    struct Guard {
      bool& flag;
      ~Guard() { flag = true; }
    } guard{destroyed};
    routed::pthread_exit(nullptr);
  }).join();
  EXPECT_TRUE(destroyed);
}

TEST_F(ThreadsTest, NativeThreadsCreateAndJoinFibers) {
  std::thread native([] {
    pthread_t thread;
    const auto body = [](void*) -> void* { return Carrier::running_fiber(); };
    ASSERT_EQ(routed::pthread_create(&thread, nullptr, body, nullptr), 0);
    void* fiber = nullptr;
    EXPECT_EQ(routed::pthread_join(thread, &fiber), 0);
    EXPECT_NE(fiber, nullptr);
  });
  std::atomic<bool> joined{false};
  std::thread watcher([&] {
    native.join();
    joined = true;
  });
  run_until([&] { return joined.load(); });
  watcher.join();
}

}  // namespace
}  // namespace weft::engine::interpose
