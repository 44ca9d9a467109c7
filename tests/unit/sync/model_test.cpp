// Random histories of a channel, compared with a queue; the seed is printed, and WEFT_SEED repeats one.
#include <algorithm>
#include <cstdlib>
#include <deque>
#include <random>
#include <vector>

#include "library.hpp"

namespace weft::test {
namespace {

class Model : public Library {};

unsigned seed() {
  const char* given = std::getenv("WEFT_SEED");
  return given ? static_cast<unsigned>(std::strtoul(given, nullptr, 10)) : std::random_device()();
}

// One fiber at a time: each operation has the outcome that the model says, at once.
TEST_F(Model, AChannelThatNobodyWaitsForIsAQueue) {
  const unsigned first = seed();
  for (unsigned round = 0; round < 100; ++round) {
    SCOPED_TRACE("WEFT_SEED=" + std::to_string(first + round));
    std::mt19937 random(first + round);
    const std::size_t capacity = random() % 5;
    Channel<int> channel(capacity);
    std::deque<int> model;
    bool closed = false;
    for (int step = 0; step < 200; ++step) {
      switch (random() % 8) {
        case 0:
          if (random() % 20 == 0) {
            EXPECT_EQ(channel.close(), !closed);
            closed = true;
          }
          break;
        case 1:
        case 2:
        case 3:
          if (closed) {
            EXPECT_THROW(channel.try_send(step), Closed);
          } else {
            const bool fits = model.size() < capacity;
            EXPECT_EQ(channel.try_send(step), fits);
            if (fits) model.push_back(step);
          }
          break;
        default: {
          const auto item = random() % 2 ? channel.try_receive() : channel.receive_for(0ms);
          EXPECT_EQ(item, model.empty() ? std::nullopt : std::optional<int>(model.front()));
          if (!model.empty()) model.pop_front();
        }
      }
      ASSERT_EQ(channel.size(), model.size());
    }
  }
}

// Many fibers that send, receive, select, time out and are cancelled: every item that was sent comes out
// once, in the order of its sender.
TEST_F(Model, NothingIsLostDoubledOrReordered) {
  Runtime runtime({.carriers = 2});
  const unsigned first = seed();
  for (unsigned round = 0; round < 20; ++round) {
    SCOPED_TRACE("WEFT_SEED=" + std::to_string(first + round));
    std::mt19937 random(first + round);
    constexpr int kSenders = 6, kReceivers = 5, kChannels = 3;
    std::vector<Channel<std::pair<int, int>>> channels;
    for (int i = 0; i < kChannels; ++i) channels.emplace_back(random() % 3);
    std::vector<std::vector<std::pair<int, int>>> received(kReceivers);
    std::vector<int> sent(kSenders);
    std::vector<Fiber<>> senders, receivers;
    for (int s = 0; s < kSenders; ++s)
      senders.push_back(spawn(
          [&, s, mine = std::mt19937(random())]() mutable {
            auto& channel = channels[s % kChannels];
            for (int i = 0; i < 150; ++i) {
              const std::pair<int, int> item{s, sent[s]};
              bool done = true;
              switch (mine() % 3) {
                case 0:
                  channel.send(item);
                  break;
                case 1:
                  done = channel.send_for(std::pair(item), std::chrono::microseconds(mine() % 100));
                  break;
                case 2:
                  done = select(on_send(channel, item), after(std::chrono::microseconds(mine() % 100))) == 0;
              }
              if (done) ++sent[s];
            }
          },
          {.carrier = s % 2}));
    for (int r = 0; r < kReceivers; ++r)
      receivers.push_back(spawn(
          [&, r, mine = std::mt19937(random())]() mutable {
            const auto take = [&](std::optional<std::pair<int, int>> item) {
              if (item) received[r].push_back(*item);
            };
            for (;;) {
              if (mine() % 4 == 0) this_fiber::yield();
              if (mine() % 2)
                take(channels[mine() % kChannels].receive_for(std::chrono::microseconds(mine() % 50)));
              else
                select(on_receive(channels[0], take), on_receive(channels[1], take),
                       on_receive(channels[2], take), after(20us));
              bool over = true;
              for (auto& channel : channels) over = over && channel.closed() && channel.size() == 0;
              if (over) return;
            }
          },
          {.carrier = r % 2}));
    for (auto& sender : senders) sender.result();
    for (auto& channel : channels) channel.close();
    for (auto& receiver : receivers) receiver.result();
    std::vector<std::vector<int>> of(kSenders);
    for (const auto& list : received) {
      std::vector<int> last(kSenders, -1);
      for (const auto& [sender, number] : list) {
        EXPECT_GT(number, last[sender]) << "out of order";
        last[sender] = number;
        of[sender].push_back(number);
      }
    }
    for (int s = 0; s < kSenders; ++s) {
      std::sort(of[s].begin(), of[s].end());
      ASSERT_EQ(of[s].size(), static_cast<std::size_t>(sent[s]));
      for (int i = 0; i < sent[s]; ++i) ASSERT_EQ(of[s][i], i);
    }
  }
}

}  // namespace
}  // namespace weft::test
