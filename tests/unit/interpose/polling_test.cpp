// How fibers' waits for many descriptors are ended by others.
#include "support/sockets.hpp"

namespace weft::engine::test {
namespace {

class PollingTest : public OnEveryBackend {
 protected:
  PollingTest() { one.fd = pair.first; }

  int error_after(std::function<ssize_t()> body, const std::function<void(Fiber&)>& act) {
    int error = -1;
    Fiber& fiber = loop.spawn([&] { error = body() < 0 ? errno : 0; });
    fiber.retain();
    loop.settle();
    EXPECT_EQ(fiber.state(), Fiber::State::kParked);
    act(fiber);
    loop.join(fiber);
    fiber.release();
    return error;
  }

  std::vector<std::pair<const char*, std::function<ssize_t()>>> parking_calls() {
    return {
        {"poll", [this] { return call.poll(&one, 1, -1); }},
        {"poll of nothing", [this] { return call.poll(nullptr, 0, -1); }},
        {"ppoll", [this] { return call.ppoll(&one, 1, nullptr, nullptr); }},
        {"select",
         [this] { return call.select(pair.first + 1, with(pair.first), nullptr, nullptr, nullptr); }},
        {"pselect", [this] { return call.pselect(0, nullptr, nullptr, nullptr, nullptr, nullptr); }},
        {"epoll_wait", [this] { return call.epoll_wait(set.fd, events, 4, -1); }},
        {"epoll_pwait", [this] { return call.epoll_pwait(set.fd, events, 4, -1, nullptr); }},
        {"epoll_pwait2", [this] { return call.epoll_pwait2(set.fd, events, 4, nullptr, nullptr); }},
    };
  }

  fd_set* with(int fd) {
    FD_ZERO(&members);
    FD_SET(fd, &members);
    return &members;
  }

  const Calls& call = routed_calls();
  PollLoop loop{GetParam()};
  FdPair pair = socket_pair();
  Fd set{epoll_create1(EPOLL_CLOEXEC)};
  pollfd one{-1, POLLIN, 0};
  fd_set members{};
  epoll_event events[4]{};
};
WEFT_ON_EVERY_BACKEND(PollingTest);

TEST_P(PollingTest, CancellingEndsEachWait) {
  for (auto& [name, body] : parking_calls()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(error_after(body, [](Fiber& fiber) { fiber.cancel(); }), ECANCELED);
  }
}

TEST_P(PollingTest, EveryHandlerInterruptsEachWait) {
  for (auto& [name, body] : parking_calls()) {
    SCOPED_TRACE(name);
    EXPECT_EQ(error_after(body, [](Fiber& fiber) { fiber.interrupt(true); }), EINTR);
  }
}

TEST_P(PollingTest, PollShowsWhatWasClosed) {
  const int error = error_after([&] { return call.poll(&one, 1, -1) - 1; },
                                [&](Fiber&) { close_routed(std::exchange(pair.first, -1)); });
  EXPECT_EQ(error, 0);
  EXPECT_EQ(one.revents, POLLNVAL);
}

TEST_P(PollingTest, PollDoesNotTakeAReusedNumberForWhatWasClosed) {
  FdPair other = socket_pair();
  ASSERT_EQ(::send(other.second, "x", 1, 0), 1);
  const int error = error_after([&] { return call.poll(&one, 1, -1) - 1; },
                                [&](Fiber&) {
                                  Poller::closing(pair.first);
                                  ASSERT_EQ(::dup2(other.first, pair.first), pair.first);
                                });
  EXPECT_EQ(error, 0);
  EXPECT_EQ(one.revents, POLLNVAL);
}

TEST_P(PollingTest, SelectAndEpollFailWhenClosed) {
  int error = error_after([&] { return call.epoll_wait(set.fd, events, 4, -1); },
                          [&](Fiber&) { close_routed(std::exchange(set.fd, -1)); });
  EXPECT_EQ(error, EBADF);
  error =
      error_after([&] { return call.select(pair.first + 1, with(pair.first), nullptr, nullptr, nullptr); },
                  [&](Fiber&) { close_routed(std::exchange(pair.first, -1)); });
  EXPECT_EQ(error, EBADF);
}

TEST_P(PollingTest, InterruptedSelectTellsTheTimeLeft) {
  timeval time{100, 0};
  const int error =
      error_after([&] { return call.select(pair.first + 1, with(pair.first), nullptr, nullptr, &time); },
                  [](Fiber& fiber) { fiber.interrupt(false); });
  EXPECT_EQ(error, EINTR);
  EXPECT_TRUE(FD_ISSET(pair.first, &members));
  EXPECT_EQ(time.tv_sec, 99);
}

TEST_P(PollingTest, ManyFibersPollOneDescriptor) {
  int woken = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 50; ++i)
    fibers.push_back(&loop.spawn([&] {
      pollfd mine{pair.first, POLLIN, 0};
      woken += call.poll(&mine, 1, -1) == 1 && mine.revents == POLLIN;
    }));
  loop.settle();
  ASSERT_EQ(::send(pair.second, "x", 1, 0), 1);
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(woken, 50);
}

}  // namespace
}  // namespace weft::engine::test
