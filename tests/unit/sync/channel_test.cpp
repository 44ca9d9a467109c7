// Channels: order, capacity, closing, who keeps the item.
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "library.hpp"

namespace weft::test {
namespace {

class Channels : public Library {};

TEST_F(Channels, UnbufferedSendEndsWhenReceived) {
  Channel<int> channel;
  bool sent = false;
  auto sender = spawn([&] {
    channel.send(7);
    sent = true;
  });
  until_parked(sender);
  EXPECT_FALSE(sent);
  EXPECT_EQ(channel.receive(), 7);
  sender.join();
  EXPECT_TRUE(sent);
}

TEST_F(Channels, BoundedHoldsSoMany) {
  Channel<int> channel(2);
  channel.send(1);
  EXPECT_TRUE(channel.try_send(2));
  EXPECT_FALSE(channel.try_send(3));
  EXPECT_EQ(channel.size(), 2u);
  EXPECT_EQ(channel.capacity(), 2u);
  auto sender = spawn([&] { channel.send(3); });
  until_parked(sender);
  EXPECT_EQ(channel.receive(), 1);
  sender.join();
  EXPECT_EQ(channel.receive(), 2);
  EXPECT_EQ(channel.receive(), 3);
  EXPECT_EQ(channel.try_receive(), std::nullopt);
}

TEST_F(Channels, UnboundedNeverWaits) {
  Channel<int> channel(kUnbounded);
  for (int i = 0; i < 10'000; ++i) channel.send(i);
  EXPECT_EQ(channel.size(), 10'000u);
  for (int i = 0; i < 10'000; ++i) EXPECT_EQ(channel.receive(), i);
}

TEST_F(Channels, MoveOnlyItems) {
  Channel<std::unique_ptr<std::string>> channel(1);
  channel.send(std::make_unique<std::string>("text"));
  auto item = std::make_unique<std::string>("kept");
  EXPECT_FALSE(channel.try_send(item));
  ASSERT_TRUE(item);
  EXPECT_EQ(*item, "kept");
  EXPECT_FALSE(channel.send_for(item, 1ms));
  EXPECT_TRUE(item);
  EXPECT_EQ(**channel.receive(), "text");
}

TEST_F(Channels, ClosingLetsWhatIsThereOut) {
  Channel<std::string> channel(3);
  channel.send("a");
  channel.send("b");
  EXPECT_TRUE(channel.close());
  EXPECT_FALSE(channel.close());
  EXPECT_TRUE(channel.closed());
  EXPECT_THROW(channel.send("c"), Closed);
  std::vector<std::string> all;
  for (std::string& item : channel) all.push_back(item);
  EXPECT_EQ(all, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(channel.receive(), std::nullopt);
}

TEST_F(Channels, ClosingWakesWhoWaits) {
  Channel<int> empty, full(1);
  full.send(1);
  auto receiver = spawn([&] { EXPECT_EQ(empty.receive(), std::nullopt); });
  int item = 2;
  auto sender = spawn([&] { EXPECT_THROW(full.send(std::move(item)), Closed); });
  until_parked(receiver);
  until_parked(sender);
  empty.close();
  full.close();
  receiver.result();
  sender.result();
  EXPECT_EQ(full.receive(), 1);
}

TEST_F(Channels, ReceiveForGivesUp) {
  Channel<int> channel;
  EXPECT_EQ(channel.receive_for(1ms), std::nullopt);
  EXPECT_EQ(channel.receive_for(-1s), std::nullopt);
  EXPECT_FALSE(channel.closed());
}

TEST_F(Channels, WaitersComeInOrder) {
  Channel<int> channel;
  std::vector<int> order;
  std::vector<Fiber<>> receivers;
  for (int i = 0; i < 4; ++i) {
    receivers.push_back(spawn([&, i] {
      channel.receive();
      order.push_back(i);
    }));
    until_parked(receivers.back());
  }
  for (int i = 0; i < 4; ++i) channel.send(i);
  for (auto& receiver : receivers) receiver.join();
  EXPECT_EQ(order, (std::vector{0, 1, 2, 3}));
}

TEST_F(Channels, ItemsAreDestroyedWithTheChannel) {
  auto held = std::make_shared<int>(1);
  {
    Channel<std::shared_ptr<int>> channel(kUnbounded);
    for (int i = 0; i < 40; ++i) channel.send(held);
    channel.receive();
    EXPECT_EQ(held.use_count(), 40);
  }
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(Channels, NothingIsLostBetweenCarriersAndNativeThreads) {
  Runtime runtime({.carriers = 2});
  for (const std::size_t capacity : {std::size_t{0}, std::size_t{3}, kUnbounded}) {
    constexpr int kItems = 3000, kSenders = 4;
    Channel<int> channel(capacity);
    std::atomic<long> sum{0};
    std::atomic<int> count{0};
    std::vector<Fiber<>> senders, receivers;
    for (int s = 0; s < kSenders; ++s)
      senders.push_back(spawn(
          [&, s] {
            for (int i = 0; i < kItems; ++i) channel.send(s * kItems + i);
          },
          {.carrier = s % 2}));
    const auto drain = [&] {
      for (int item : channel) {
        sum += item;
        ++count;
      }
    };
    for (int r = 0; r < 3; ++r) receivers.push_back(spawn(drain, {.carrier = r % 2}));
    std::thread native(drain);
    for (auto& sender : senders) sender.result();
    channel.close();
    for (auto& receiver : receivers) receiver.result();
    offload([&] { native.join(); });
    constexpr long kAll = kSenders * kItems;
    EXPECT_EQ(count, kAll);
    EXPECT_EQ(sum, kAll * (kAll - 1) / 2);
  }
}

}  // namespace
}  // namespace weft::test
