// select(): one case is done, and nothing of the others.
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "library.hpp"

namespace weft::test {
namespace {

class Select : public Library {};

TEST_F(Select, TakesWhatIsReady) {
  Channel<int> a(1), b(1);
  b.send(5);
  int got = 0;
  const auto chosen = select(on_receive(a), on_receive(b, [&](std::optional<int> item) { got = *item; }));
  EXPECT_EQ(chosen, 1u);
  EXPECT_EQ(got, 5);
}

TEST_F(Select, WaitsForTheFirst) {
  Channel<int> a, b;
  auto sender = spawn([&] { b.send(9); });
  int got = 0;
  EXPECT_EQ(select(on_receive(a), on_receive(b, [&](auto item) { got = *item; })), 1u);
  EXPECT_EQ(got, 9);
  sender.result();
  EXPECT_EQ(a.try_receive(), std::nullopt);
}

TEST_F(Select, SendsOnlyTheChosenItem) {
  Channel<int> a, b;
  std::optional<int> received;
  auto receiver = spawn([&] { received = b.receive(); });
  until_parked(receiver);
  bool called = false;
  EXPECT_EQ(select(on_send(a, 1), on_send(b, 2, [&] { called = true; })), 1u);
  EXPECT_TRUE(called);
  receiver.result();
  EXPECT_EQ(received, 2);
  EXPECT_EQ(a.try_receive(), std::nullopt);
}

TEST_F(Select, TimersAndOtherwise) {
  Channel<int> channel;
  EXPECT_EQ(select(on_receive(channel), otherwise()), 1u);
  EXPECT_EQ(select(on_receive(channel), after(1ms)), 1u);
  EXPECT_EQ(select(on_receive(channel), after(1h), after(1ms)), 2u);
}

TEST_F(Select, ClosedChannels) {
  Channel<int> closed;
  closed.close();
  bool nothing = false;
  EXPECT_EQ(select(on_receive(closed, [&](auto item) { nothing = !item; })), 0u);
  EXPECT_TRUE(nothing);
  EXPECT_THROW(select(on_send(closed, 1)), Closed);
  Channel<int> later;
  auto closer = spawn([&] { later.close(); });
  EXPECT_EQ(select(on_receive(later, [&](auto item) { EXPECT_FALSE(item); })), 0u);
  closer.result();
}

TEST_F(Select, DescriptorsBesideChannels) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Channel<int> channel;
  auto writer = spawn([&] { EXPECT_EQ(write(ends[1], "x", 1), 1); });
  EXPECT_EQ(select(on_receive(channel), on_readable(ends[0])), 1u);
  EXPECT_EQ(select(on_readable(ends[0]), on_receive(channel)), 0u);
  char byte;
  EXPECT_EQ(read(ends[0], &byte, 1), 1);
  auto sender = spawn([&] { channel.send(1); });
  EXPECT_EQ(select(on_readable(ends[0]), on_receive(channel)), 1u);
  EXPECT_EQ(select(on_readable(ends[0]), after(1ms)), 1u);
  EXPECT_EQ(select(on_writable(ends[1])), 0u);
  writer.result();
  sender.result();
  close(ends[0]);
  close(ends[1]);
  EXPECT_THROW(select(on_readable(ends[0])), std::system_error);
}

// Closed where the engine does not see it, while one carrier knows the former file still.
TEST_F(Select, ADescriptorWhoseNumberWasAnothersBefore) {
  Runtime runtime({.carriers = 2});
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  const int number = ends[0];
  const auto look = [number] { EXPECT_FALSE(wait_readable_for(number, 1ms)); };
  spawn(look, {.carrier = 1}).result();
  close(ends[0]);
  close(ends[1]);
  ASSERT_EQ(pipe(ends), 0);
  ASSERT_EQ(ends[0], number);
  auto waiter = spawn([number] { EXPECT_EQ(select(on_readable(number)), 0u); }, {.carrier = 0});
  until_parked(waiter);
  spawn(look, {.carrier = 1}).result();
  EXPECT_FALSE(waiter.done());
  EXPECT_EQ(write(ends[1], "x", 1), 1);
  waiter.result();
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Select, FibersAndFutures) {
  auto slow = spawn([] { sleep(1h); });
  auto quick = spawn([] { sleep(1ms); });
  Promise<int> promise;
  EXPECT_EQ(select(on_done(slow), on_done(promise.future()), on_done(quick)), 2u);
  promise.set(4);
  EXPECT_EQ(select(on_done(slow), on_done(promise.future(), [&] { EXPECT_EQ(promise.future().get(), 4); })),
            1u);
  slow.cancel();
  slow.join();
}

TEST_F(Select, SameChannelTwice) {
  Channel<int> channel;
  auto sender = spawn([&] { channel.send(3); });
  int got = 0;
  const auto take = [&](std::optional<int> item) { got = *item; };
  select(on_receive(channel, take), on_receive(channel, take));
  EXPECT_EQ(got, 3);
  sender.result();
  // A selection does not meet itself.
  EXPECT_EQ(select(on_receive(channel), on_send(channel, 1), after(1ms)), 2u);
}

TEST_F(Select, IsFair) {
  Channel<int> a(kUnbounded), b(kUnbounded);
  for (int i = 0; i < 1000; ++i) {
    a.send(i);
    b.send(i);
  }
  std::array<int, 2> counts{};
  for (int i = 0; i < 1000; ++i) ++counts[select(on_receive(a), on_receive(b))];
  EXPECT_GT(counts[0], 350);
  EXPECT_GT(counts[1], 350);
}

TEST_F(Select, TwoSelectionsMeet) {
  Runtime runtime({.carriers = 2});
  Channel<int> a, b;
  constexpr int kRounds = 3000;
  std::atomic<int> sent{0}, received{0};
  auto one = spawn(
      [&] {
        for (int i = 0; i < kRounds; ++i) {
          select(on_send(a, i), on_send(b, i));
          ++sent;
        }
      },
      {.carrier = 0});
  auto other = spawn(
      [&] {
        for (int i = 0; i < kRounds; ++i)
          select(on_receive(b, [&](auto item) { received += item == i; }),
                 on_receive(a, [&](auto item) { received += item == i; }));
      },
      {.carrier = 1});
  one.result();
  other.result();
  EXPECT_EQ(sent, kRounds);
  EXPECT_EQ(received, kRounds);
}

TEST_F(Select, NativeThreads) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  Channel<int> channel;
  std::vector<std::size_t> chosen;
  std::thread native([&] {
    chosen.push_back(select(on_receive(channel), on_readable(ends[0])));
    chosen.push_back(select(on_receive(channel), on_readable(ends[0])));
    chosen.push_back(select(on_receive(channel), after(1ms)));
  });
  auto fiber = spawn([&] {
    channel.send(1);
    EXPECT_EQ(write(ends[1], "x", 1), 1);
    offload([&] { native.join(); });
  });
  fiber.result();
  EXPECT_EQ(chosen, (std::vector<std::size_t>{0, 1, 1}));
  close(ends[0]);
  close(ends[1]);
}

TEST_F(Select, ACaseThatWasNotChosenMayBePassedAgain) {
  Channel<std::string> full(1), other(1);
  full.send("first");
  other.send("x");
  auto sending = on_send(full, std::string(40, 's'));
  EXPECT_EQ(select(std::move(sending), on_receive(other)), 1u);
  EXPECT_EQ(full.receive(), "first");
  EXPECT_EQ(select(std::move(sending), otherwise()), 0u);
  EXPECT_EQ(full.receive(), std::string(40, 's'));
}

TEST_F(Select, AnItemIsSentOnce) {
  Channel<std::string> channel(4);
  auto sending = on_send(channel, std::string(40, 's'));
  EXPECT_EQ(select(std::move(sending)), 0u);
  EXPECT_THROW(select(std::move(sending)), std::logic_error);
  EXPECT_EQ(channel.size(), 1u);
}

TEST_F(Select, AReceiveThatIsPassedAgainLosesNoItem) {
  struct Counted {
    std::shared_ptr<int> count;
    explicit Counted(std::shared_ptr<int> shared) : count(std::move(shared)) { ++*count; }
    Counted(Counted&& moved) noexcept : count(moved.count) { ++*count; }
    ~Counted() { --*count; }
  };
  auto alive = std::make_shared<int>(0);
  Channel<Counted> channel(4);
  int received = 0;
  {
    auto receiving = on_receive(channel, [&](std::optional<Counted> item) { received += item.has_value(); });
    for (int i = 0; i < 3; ++i) {
      channel.send(Counted(alive));
      EXPECT_EQ(select(std::move(receiving)), 0u);
      EXPECT_EQ(*alive, 0);
    }
  }
  EXPECT_EQ(received, 3);
  EXPECT_EQ(*alive, 0);
  EXPECT_EQ(alive.use_count(), 1);
}

// On a native thread: ppoll(2) refuses more descriptors than RLIMIT_NOFILE, whose numbers may be few.
TEST_F(Select, WhereTheKernelRefusesToWaitItSaysSo) {
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  rlimit former;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &former), 0);
  std::vector<detail::Case> cases(200);
  for (detail::Case& c : cases) {
    c.kind = detail::Case::Kind::kDescriptor;
    c.descriptor = ends[0];
    c.events = POLLIN;
  }
  auto outcome = detail::Outcome::kReady;
  std::size_t chosen = SIZE_MAX;
  const rlimit few{100, former.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  std::thread native([&] { outcome = detail::select(cases.data(), cases.size(), detail::kNever, &chosen); });
  native.join();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &former), 0);
  EXPECT_EQ(outcome, detail::Outcome::kNoMemory);
  close(ends[0]);
  close(ends[1]);
}

}  // namespace
}  // namespace weft::test
