// A fiber whose calls never have to wait does not keep the others waiting: the monitor sees to it.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "support/engine.hpp"

namespace weft::engine::interpose {
namespace {

using test::FiberThread;

class FairnessTest : public test::EngineTest {
 protected:
  void SetUp() override {
    ASSERT_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets), 0);
    ASSERT_EQ(pipe(ends), 0);
    ASSERT_EQ(write(ends[1], "x", 1), 1);
    ASSERT_EQ(write(sockets[1], "x", 1), 1);
    set = epoll_create1(EPOLL_CLOEXEC);
    epoll_event event{.events = EPOLLIN, .data = {}};
    ASSERT_EQ(epoll_ctl(set, EPOLL_CTL_ADD, ends[0], &event), 0);
  }
  void TearDown() override {
    for (int fd : {sockets[0], sockets[1], ends[0], ends[1], set}) close(fd);
    EngineTest::TearDown();
  }

  // Makes `call` over and over until another fiber has had its turn.
  template <typename Call>
  static void expect_turns(const char* what, Call&& call) {
    bool turn = false;
    FiberThread other([&] { turn = true; });
    const Nanos limit = monotonic_now() + 5 * kSecond;
    while (!turn && monotonic_now() < limit) call();
    EXPECT_TRUE(turn) << what;
  }

  int sockets[2], ends[2], set = -1;
  char byte = 'x';
};

TEST_F(FairnessTest, OthersHaveTheirTurnBesideCallsThatNeverWait) {
  expect_turns("send, recv", [&] {
    ASSERT_EQ(routed::send(sockets[0], &byte, 1, 0), 1);
    ASSERT_EQ(routed::recv(sockets[1], &byte, 1, 0), 1);
  });
  expect_turns("write, read", [&] {
    ASSERT_EQ(routed::write(ends[1], &byte, 1), 1);
    ASSERT_EQ(routed::read(ends[0], &byte, 1), 1);
  });
  pollfd one{ends[0], POLLIN, 0};
  expect_turns("poll", [&] { ASSERT_EQ(routed::poll(&one, 1, -1), 1); });
  expect_turns("poll at once", [&] { ASSERT_EQ(routed::poll(&one, 1, 0), 1); });
  epoll_event event;
  expect_turns("epoll_wait", [&] { ASSERT_EQ(routed::epoll_wait(set, &event, 1, -1), 1); });
  expect_turns("epoll_wait at once", [&] { ASSERT_EQ(routed::epoll_wait(set, &event, 1, 0), 1); });
  expect_turns("select", [&] {
    fd_set descriptors;
    FD_ZERO(&descriptors);
    FD_SET(ends[0], &descriptors);
    timeval time{0, 0};
    ASSERT_EQ(routed::select(ends[0] + 1, &descriptors, nullptr, nullptr, &time), 1);
  });
}

// A thread that computes in Python is made to drop the GIL, and waits in a condition until another has it:
// waking it must not bring it back before those that have waited for longer.
TEST_F(FairnessTest, WhoIsWokenFromAConditionQueues) {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
  for (const bool all : {false, true}) {
    std::string order;
    bool waits = false;
    FiberThread waiter([&] {
      routed::pthread_mutex_lock(&mutex);
      waits = true;
      routed::pthread_cond_wait(&condition, &mutex);
      order += "w";
      routed::pthread_mutex_unlock(&mutex);
    });
    while (!waits) routed::sched_yield();
    const auto ready = [&] {
      routed::sched_yield();
      order += "r";
    };
    FiberThread first(ready), second(ready);
    routed::sched_yield();
    all ? routed::pthread_cond_broadcast(&condition) : routed::pthread_cond_signal(&condition);
    waiter.join();
    EXPECT_EQ(order, "rrw");
  }
}

}  // namespace
}  // namespace weft::engine::interpose
