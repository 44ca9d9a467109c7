#include "poll/poller.hpp"

#include "support/poll_loop.hpp"

namespace weft {
namespace {

using namespace weft::test;

class PollerTest : public OnEveryBackend {
 protected:
  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(PollerTest);

TEST_P(PollerTest, IsOfTheKindAskedFor) { EXPECT_EQ(loop.poller->backend(), GetParam()); }

TEST_P(PollerTest, WakesWhenDataArrives) {
  FdPair pair = socket_pair();
  Wake wake{};
  FdWait wait;
  wait.fd = pair.first;
  wait.events = POLLIN;
  Fiber& fiber = loop.spawn([&] { wake = loop.poller->wait({&wait, 1}, kNever, kCancellable, "recv"); });
  loop.settle();
  EXPECT_EQ(fiber.state(), Fiber::State::kParked);
  EXPECT_EQ(fiber.wait_reason().descriptor, pair.first);
  EXPECT_STREQ(fiber.wait_reason().call, "recv");
  ASSERT_EQ(::write(pair.second, "x", 1), 1);
  loop.join(fiber);
  EXPECT_EQ(wake, Wake::kReady);
  EXPECT_EQ(wait.revents, POLLIN);
}

}  // namespace
}  // namespace weft
