// Random histories of channels and selections, compared with what a model says.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <deque>
#include <list>
#include <optional>
#include <random>
#include <vector>

#include "library.hpp"
#include "unit/sync/seeds.hpp"

namespace weft::test {
namespace {

class Model : public Library {};

// One fiber at a time: each operation has the outcome that the model says, at once.
TEST_F(Model, AChannelThatNobodyWaitsForIsAQueue) {
  for_each_seed(100, [](std::mt19937& random) {
    const std::size_t capacity = random() % 6 == 5 ? kUnbounded : random() % 5;
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
  });
}

// Many fibers, and native threads, that send, receive, select, time out and are cancelled, until a channel is
// closed: every item whose send succeeded comes out once, in the order of its sender, and no other.
class Traffic {
 public:
  using Item = std::pair<int, int>;  // who sent it, and which of its items it is

  Traffic(std::mt19937& random, int carriers) : random_(random) {
    constexpr std::size_t kCapacities[] = {0, 0, 1, 2, 7, kUnbounded};
    for (int i = 0; i < kChannels; ++i) channels_.emplace_back(kCapacities[random() % 6]);
    for (int s = 0; s < kSenders; ++s)
      senders_.push_back(spawn([this, s, own = std::mt19937(random())]() mutable { send(s, own); },
                               {.carrier = s % carriers}));
    for (int r = 0; r < kReceivers; ++r)
      receivers_.push_back(spawn([this, r, own = std::mt19937(random())]() mutable { receive(r, own); },
                                 {.carrier = r % carriers}));
    for (int n = 0; n < kNatives; ++n) {
      natives_.emplace_back([this, n, own = std::mt19937(random())]() mutable { send(kSenders + n, own); });
      natives_.emplace_back(
          [this, n, own = std::mt19937(random())]() mutable { receive(kReceivers + n, own); });
    }
  }

  void run() {
    std::vector<Fiber<>> victims = senders_;
    victims.insert(victims.end(), receivers_.begin(), receivers_.end());
    for (unsigned i = random_() % 6; i > 0; --i) {
      for (unsigned yields = random_() % 60; yields > 0; --yields) this_fiber::yield();
      victims[random_() % victims.size()].cancel();
    }
    if (random_() % 2) channels_[random_() % kChannels].close();
    for (auto& sender : senders_) sender.join();
    while (native_senders_ > 0) sleep(100us);
    for (auto& channel : channels_) channel.close();
    for (auto& receiver : receivers_) receiver.join();
    offload([this] {
      for (std::thread& native : natives_) native.join();
    });
  }

  void check() {
    std::vector<std::vector<int>> of(kSenders + kNatives);
    for (const auto& list : received_) {
      std::vector<int> last(of.size(), -1);
      for (const auto& [sender, number] : list) {
        EXPECT_GT(number, last[static_cast<size_t>(sender)]) << "out of order";
        last[static_cast<size_t>(sender)] = number;
        of[static_cast<size_t>(sender)].push_back(number);
      }
    }
    for (std::size_t s = 0; s < of.size(); ++s) {
      std::sort(of[s].begin(), of[s].end());
      ASSERT_EQ(of[s].size(), static_cast<std::size_t>(sent_[s])) << "sender " << s;
      for (int i = 0; i < sent_[s]; ++i) ASSERT_EQ(of[s][static_cast<size_t>(i)], i);
    }
  }

 private:
  static constexpr int kSenders = 6, kReceivers = 5, kChannels = 3, kNatives = 2, kItems = 120;

  void send(int number, std::mt19937& random) {
    Channel<Item>& channel = channels_[static_cast<size_t>(number % kChannels)];
    try {
      for (int i = 0; i < kItems; ++i) {
        const Item item{number, sent_[static_cast<size_t>(number)]};
        const auto span = std::chrono::microseconds(random() % 100);
        bool done = true;
        switch (random() % 4) {
          case 0:
            channel.send(item);
            break;
          case 1:
            done = channel.send_for(Item(item), span);
            break;
          case 2:
            done = select(on_send(channel, item), after(span)) == 0;
            break;
          case 3:
            done = channel.try_send(Item(item));
        }
        if (done) ++sent_[static_cast<size_t>(number)];
      }
    } catch (const Closed&) {
    } catch (const Cancelled&) {
    }
    if (number >= kSenders) --native_senders_;
  }

  void receive(int number, std::mt19937& random) {
    const auto take = [&](std::optional<Item> item) {
      if (item) received_[static_cast<size_t>(number)].push_back(*item);
    };
    const auto over = [](Channel<Item>& channel) { return channel.closed() && channel.size() == 0; };
    try {
      while (!std::all_of(channels_.begin(), channels_.end(), over)) {
        if (random() % 4 == 0) this_fiber::yield();
        if (random() % 2)
          take(channels_[random() % kChannels].receive_for(std::chrono::microseconds(random() % 50)));
        else
          select(on_receive(channels_[0], take), on_receive(channels_[1], take),
                 on_receive(channels_[2], take), after(20us));
      }
    } catch (const Cancelled&) {
    }
  }

  std::mt19937& random_;
  std::vector<Channel<Item>> channels_;
  std::vector<int> sent_ = std::vector<int>(kSenders + kNatives);
  std::vector<std::vector<Item>> received_ = std::vector<std::vector<Item>>(kReceivers + kNatives);
  std::vector<Fiber<>> senders_, receivers_;
  std::vector<std::thread> natives_;
  std::atomic<int> native_senders_{kNatives};
};

TEST_F(Model, NothingIsLostDoubledOrReordered) {
  for (const int carriers : {1, 3}) {
    SCOPED_TRACE(std::to_string(carriers) + " carriers");
    Runtime runtime({.carriers = carriers});
    for_each_seed(25, [&](std::mt19937& random) {
      Traffic traffic(random, carriers);
      traffic.run();
      traffic.check();
    });
  }
}

// Fibers that each wait for one of several cases. One thing is done at a time, and the model says who goes on
// by that, and with what. Where several cases can go on at once, the one that was taken must be among them.
class Selections {
 public:
  Selections(std::mt19937& random, int carriers) : random_(random), carriers_(carriers) {
    constexpr std::size_t kCapacities[] = {0, 0, 1, 2, kUnbounded};
    for (int i = 0; i < 3; ++i) channels_.emplace_back(kCapacities[random() % 5]);
    EXPECT_EQ(pipe2(pipe_, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(quiet_, O_CLOEXEC), 0);
  }
  ~Selections() {
    for (const int end : {pipe_[0], pipe_[1], quiet_[0], quiet_[1]}) close(end);
  }

  template <typename Until, typename UntilParked>
  void run(Until&& until, UntilParked&& until_parked) {
    for (int step = 0; step < 60 && !testing::Test::HasFailure(); ++step) {
      Waiter* begun = nullptr;
      switch (random_() % 12) {
        default:
          begun = &wait();
          break;
        case 0:
          if (!waiters_.empty())
            cancel(*std::next(waiters_.begin(), static_cast<int>(random_() % waiters_.size())));
          break;
        case 1:
          if (random_() % 8 == 0) close_one();
          break;
        case 2:
          write_or_read();
          break;
        case 3:
          end_the_gated();
      }
      if (begun && begun->ended) until([&] { return begun->fiber.done(); });
      if (begun && !begun->ended) until_parked(begun->fiber);
      until([&] {
        return std::all_of(waiters_.begin(), waiters_.end(),
                           [](Waiter& waiter) { return !waiter.ended || waiter.fiber.done(); });
      });
      this_fiber::yield();
      compare();
    }
    for (Waiter& waiter : waiters_) waiter.fiber.cancel();
    for (Waiter& waiter : waiters_) waiter.fiber.join();
    gate_.set();
    gated_.join();
    never_ends_.cancel();
    never_ends_.join();
    // Nobody is left on a queue.
    for (ModelChannel& channel : channels_) {
      if (channel.closed) continue;
      EXPECT_EQ(channel.real.try_send(-1), channel.items.size() < channel.capacity);
      channel.real.close();
      for (const int item : channel.items) EXPECT_EQ(channel.real.receive(), item);
    }
  }

 private:
  // What select() is called with, always of this shape: cases that are not wanted wait for what never comes.
  enum Number : std::size_t { kReceiveA, kReceiveB, kSendA, kSendB, kReadable, kDone, kAfter, kCases };

  struct Outcome {
    std::size_t chosen;            // kCases: it was cancelled, or the channel to be sent to is closed
    std::optional<int> item = {};  // that was received
    bool operator==(const Outcome&) const = default;
  };
  struct Waiter;
  struct ModelChannel {
    explicit ModelChannel(std::size_t size) : real(size), capacity(size) {}
    Channel<int> real;
    std::size_t capacity;
    std::deque<int> items = {};
    bool closed = false;
    std::list<std::pair<Waiter*, std::size_t>> receivers = {}, senders = {};  // with the number of the case
  };
  struct Waiter {
    ModelChannel* channels[4] = {};  // of the first four cases; null: none
    int items[4] = {};
    bool readable = false, done = false, past = false;
    std::optional<Outcome> ended = {};  // what the model says
    Fiber<Outcome> fiber = {};
  };

  Outcome select_for(Waiter& waiter) {
    Channel<int> nobodys;
    const auto real = [&](Number number) {
      return waiter.channels[number] ? waiter.channels[number]->real : nobodys;
    };
    Outcome outcome{kCases};
    const auto take = [&](std::optional<int> item) { outcome.item = item; };
    try {
      outcome.chosen = select(
          on_receive(real(kReceiveA), take), on_receive(real(kReceiveB), take),
          on_send(real(kSendA), waiter.items[kSendA]), on_send(real(kSendB), waiter.items[kSendB]),
          on_readable((waiter.readable ? pipe_ : quiet_)[0]), on_done(waiter.done ? gated_ : never_ends_),
          after(waiter.past ? std::chrono::hours(-1) : std::chrono::hours(1)));
    } catch (const Cancelled&) {
    } catch (const Closed&) {
    }
    return outcome;
  }

  bool can_go_on(const Waiter& waiter, std::size_t number) const {
    if (number == kReadable) return waiter.readable && written_;
    if (number == kDone) return waiter.done && gate_open_;
    if (number == kAfter) return false;
    const ModelChannel* channel = waiter.channels[number];
    if (!channel) return false;
    if (channel->closed) return true;
    if (number < kSendA) return !channel->items.empty() || !channel->senders.empty();
    return channel->items.size() < channel->capacity || !channel->receivers.empty();
  }

  void end(Waiter& waiter, const Outcome& outcome) {
    waiter.ended = outcome;
    for (ModelChannel& channel : channels_) {
      const auto is_its = [&](const auto& entry) { return entry.first == &waiter; };
      channel.receivers.remove_if(is_its);
      channel.senders.remove_if(is_its);
    }
  }

  /// A case that can go on does; and who waited for that.
  Outcome go_on(Waiter& waiter, std::size_t number) {
    if (number >= kReadable) return {number};
    ModelChannel& channel = *waiter.channels[number];
    if (number >= kSendA) {
      if (channel.closed) return {kCases};
      if (channel.receivers.empty()) {
        channel.items.push_back(waiter.items[number]);
      } else {
        const auto [receiver, its] = channel.receivers.front();
        end(*receiver, {its, waiter.items[number]});
      }
      return {number};
    }
    if (!channel.senders.empty()) {
      const auto [sender, its] = channel.senders.front();
      channel.items.push_back(sender->items[its]);
      end(*sender, {its});
    }
    if (channel.items.empty()) return {number};  // closed
    const int item = channel.items.front();
    channel.items.pop_front();
    return {number, item};
  }

  Waiter& wait() {
    Waiter& waiter = waiters_.emplace_back();
    for (std::size_t number = 0; number < 4; ++number) {
      if (random_() % 3 == 0) waiter.channels[number] = &channels_[random_() % channels_.size()];
      waiter.items[number] = ++items_;
    }
    waiter.readable = random_() % 6 == 0;
    waiter.done = random_() % 6 == 0;
    waiter.past = random_() % 10 == 0;
    std::vector<std::size_t> able;
    for (std::size_t number = 0; number < kCases; ++number)
      if (can_go_on(waiter, number)) able.push_back(number);
    const int carrier = static_cast<int>(random_() % static_cast<unsigned>(carriers_));
    waiter.fiber = spawn([this, &waiter] { return select_for(waiter); }, {.carrier = carrier});
    if (!able.empty()) {
      // Which one, only the fiber can tell; but not of which channel it was that is closed.
      Outcome taken = waiter.fiber.result();
      if (taken.chosen == kCases) {
        const auto closed = std::find_if(able.begin(), able.end(), [&](std::size_t number) {
          return (number == kSendA || number == kSendB) && waiter.channels[number]->closed;
        });
        EXPECT_NE(closed, able.end()) << "none of its channels is closed";
      } else {
        EXPECT_NE(std::find(able.begin(), able.end(), taken.chosen), able.end())
            << "case " << taken.chosen << " could not go on";
        if (!testing::Test::HasFailure()) taken = go_on(waiter, taken.chosen);
      }
      waiter.ended = taken;
    } else if (waiter.past) {
      waiter.ended = Outcome{kAfter};
    } else {
      for (std::size_t number = 0; number < 4; ++number) {
        if (!waiter.channels[number]) continue;
        auto& queue = number < kSendA ? waiter.channels[number]->receivers : waiter.channels[number]->senders;
        queue.emplace_back(&waiter, number);
      }
    }
    return waiter;
  }

  void cancel(Waiter& waiter) {
    waiter.fiber.cancel();
    end(waiter, {kCases});
  }

  void close_one() {
    ModelChannel& channel = channels_[random_() % channels_.size()];
    EXPECT_EQ(channel.real.close(), !channel.closed);
    channel.closed = true;
    while (!channel.receivers.empty())
      end(*channel.receivers.front().first, {channel.receivers.front().second});
    while (!channel.senders.empty()) end(*channel.senders.front().first, {kCases});
  }

  void write_or_read() {
    char byte = 'x';
    written_ = !written_;
    EXPECT_EQ(written_ ? write(pipe_[1], &byte, 1) : read(pipe_[0], &byte, 1), 1);
    for (Waiter& waiter : waiters_)
      if (written_ && waiter.readable) end(waiter, {kReadable});
  }

  void end_the_gated() {
    if (gate_open_) return;
    gate_open_ = true;
    gate_.set();
    gated_.join();
    for (Waiter& waiter : waiters_)
      if (waiter.done) end(waiter, {kDone});
  }

  void compare() {
    for (auto waiter = waiters_.begin(); waiter != waiters_.end();) {
      ASSERT_EQ(waiter->fiber.done(), waiter->ended.has_value());
      if (waiter->ended) {
        const Outcome& outcome = waiter->fiber.result();
        EXPECT_EQ(outcome.chosen, waiter->ended->chosen);
        EXPECT_EQ(outcome.item, waiter->ended->item);
      }
      waiter = waiter->ended ? waiters_.erase(waiter) : std::next(waiter);
    }
    for (ModelChannel& channel : channels_) ASSERT_EQ(channel.real.size(), channel.items.size());
  }

  std::mt19937& random_;
  int carriers_;
  std::list<Waiter> waiters_;
  std::deque<ModelChannel> channels_;
  int pipe_[2], quiet_[2];
  bool written_ = false, gate_open_ = false;
  int items_ = 0;
  Event gate_;
  Fiber<> gated_ = spawn([this] { gate_.wait(); });
  Fiber<> never_ends_ = spawn([] {
    try {
      sleep(1h);
    } catch (const Cancelled&) {
    }
  });
};

TEST_F(Model, OneCaseOfASelectionIsDoneAndNothingOfTheOthers) {
  for (const int carriers : {1, 3}) {
    SCOPED_TRACE(std::to_string(carriers) + " carriers");
    Runtime runtime({.carriers = carriers});
    for_each_seed(200, [&](std::mt19937& random) {
      Selections selections(random, carriers);
      selections.run([](auto&& condition) { until(condition); }, [](auto& fiber) { until_parked(fiber); });
    });
  }
}

}  // namespace
}  // namespace weft::test
