// Every wait of the library, ended at the moment when it waits, by each of the ways a wait may be ended: what
// it waited for comes to somebody else, or stays where it was, and nobody is left on a queue.
#include <unistd.h>

#include <functional>
#include <memory>
#include <mutex>
#include <string>

#include "library.hpp"

namespace weft::test {
namespace {

struct Operation {
  std::string name;
  /// Waits without end.
  std::function<void()> wait;
  /// Called after the wait was ended: another fiber that does the same gets through, by what `satisfy` does.
  std::function<void()> satisfy;
};

class EveryWait : public Library {
 protected:
  EveryWait() {
    EXPECT_EQ(pipe(ends_), 0);
    operations_ = {
        {"sleep", [] { sleep(1h); }, nullptr},
        {"join", [this] { sleeper_.join(); }, [this] { sleeper_.cancel(); }},
        {"Event", [this] { event_.wait(); }, [this] { event_.set(); }},
        {"Latch", [this] { latch_.wait(); }, [this] { latch_.count_down(); }},
        {"Barrier", [this] { barrier_.arrive_and_wait(); },
         [this] { EXPECT_TRUE(barrier_.arrive_and_wait()); }},
        {"Semaphore", [this] { semaphore_.acquire(); }, [this] { semaphore_.release(); }},
        {"ConditionVariable",
         [this] {
           std::unique_lock lock(mutex_);
           condition_.wait(lock);
         },
         [this] { condition_.notify_one(); }},
        {"send", [this] { out_.send(1); }, [this] { EXPECT_EQ(out_.receive(), 1); }},
        {"receive", [this] { EXPECT_EQ(in_.receive(), 2); }, [this] { in_.send(2); }},
        {"select", [this] { select(on_receive(in_), on_send(out_, 3), on_readable(ends_[0])); },
         [this] { EXPECT_EQ(out_.receive(), 3); }},
        {"select of a descriptor", [this] { select(on_readable(ends_[0]), on_receive(in_)); },
         [this] { EXPECT_EQ(write(ends_[1], "x", 1), 1); }},
        {"select of a future", [this] { select(on_done(promise_.future())); }, [this] { promise_.set(1); }},
        {"wait_readable",
         [this] {
           wait_readable(stream_.first.native_handle());
           read_one(stream_.first, 'x');
         },
         [this] { stream_.second.write_all("x"); }},
        {"read", [this] { read_one(stream_.first, 'y'); }, [this] { stream_.second.write_all("y"); }},
        {"accept", [this] { listener_.accept(); },
         [this] { net::TcpStream::connect(listener_.local_address()); }},
        {"receive_from",
         [this] {
           char byte;
           EXPECT_EQ(udp_.receive_from({&byte, 1}).size, 1u);
         },
         [this] { udp_.send_to("z", udp_.local_address()); }},
        {"Future", [this] { future_.future().get(); }, [this] { future_.set(1); }},
        {"TaskGroup",
         [] {
           TaskGroup group;
           static_cast<void>(group.spawn([] { sleep(1h); }));
           group.join();
         },
         nullptr},
    };
  }
  void TearDown() override {
    sleeper_.cancel();
    sleeper_.join();
    Library::TearDown();
    close(ends_[0]);
    close(ends_[1]);
  }

  static void read_one(net::UnixStream& stream, char expected) {
    char byte = 0;
    EXPECT_EQ(stream.read_some({&byte, 1}), 1u);
    EXPECT_EQ(byte, expected);
  }

  // `end` ends the wait of the fiber; what it throws is E.
  template <typename E, typename End>
  void each(End&& end) {
    for (Operation& operation : operations_) {
      SCOPED_TRACE(operation.name);
      auto ended = end(operation);
      EXPECT_THROW(ended.result(), E);
      if (!operation.satisfy) continue;
      auto next = spawn([&] { operation.wait(); });
      until_parked(next);
      operation.satisfy();
      next.result();
    }
  }

  int ends_[2];
  Fiber<> sleeper_ = spawn([] {
    try {
      sleep(1h);
    } catch (const Cancelled&) {
    }
  });
  Event event_;
  Latch latch_{1};
  Barrier barrier_{2};
  std::pair<net::UnixStream, net::UnixStream> stream_ = net::UnixStream::pair();
  net::TcpListener listener_{net::Address::loopback()};
  net::UdpSocket udp_ = net::UdpSocket::bind(net::Address::loopback());
  Semaphore semaphore_{0};
  Mutex mutex_;
  ConditionVariable condition_;
  Channel<int> out_, in_;
  Promise<int> promise_, future_;
  std::vector<Operation> operations_;
};

TEST_F(EveryWait, EndsWhenItsFiberIsCancelled) {
  each<Cancelled>([&](Operation& operation) {
    auto fiber = spawn([&] { operation.wait(); });
    until_parked(fiber);
    fiber.cancel();
    return fiber;
  });
}

TEST_F(EveryWait, DoesNotBeginInACancelledFiber) {
  each<Cancelled>([&](Operation& operation) {
    auto begin = std::make_shared<Event>();
    auto fiber = spawn([&operation, begin] {
      shield([&] { begin->wait(); });
      operation.wait();
    });
    until_parked(fiber);
    fiber.cancel();
    begin->set();
    return fiber;
  });
}

TEST_F(EveryWait, EndsWhenAScopeAroundItExpires) {
  each<Timeout>(
      [&](Operation& operation) { return spawn([&] { timeout(1ms, [&] { operation.wait(); }); }); });
}

TEST_F(EveryWait, DoesNotBeginInAScopeThatHasExpired) {
  each<Timeout>(
      [&](Operation& operation) { return spawn([&] { timeout(-1s, [&] { operation.wait(); }); }); });
}

TEST_F(EveryWait, EndsWhenACarrierElsewhereCancelsIt) {
  Runtime runtime({.carriers = 2});
  each<Cancelled>([&](Operation& operation) {
    auto fiber = spawn([&] { operation.wait(); }, {.carrier = 1});
    until_parked(fiber);
    fiber.cancel();
    return fiber;
  });
}

// A hundred times both at once: it is either the one or the other, and nothing in between.
TEST_F(EveryWait, IsEitherSatisfiedOrCancelled) {
  Runtime runtime({.carriers = 2});
  int received = 0, cancelled = 0;
  for (int i = 0; i < 200; ++i) {
    Channel<int> channel;
    auto receiver = spawn([&] { return *channel.receive(); }, {.carrier = 1});
    until_parked(receiver);
    bool sent = false;
    auto sender = spawn(
        [&] {
          try {
            sent = channel.send_for(5, 100ms);
          } catch (const Closed&) {
          }
        },
        {.carrier = 0});
    receiver.cancel();
    try {
      EXPECT_EQ(receiver.result(), 5);
      ++received;
      sender.result();
      EXPECT_TRUE(sent);
    } catch (const Cancelled&) {
      ++cancelled;
      channel.close();
      sender.result();
      EXPECT_FALSE(sent);
    }
  }
  EXPECT_EQ(received + cancelled, 200);
}

}  // namespace
}  // namespace weft::test
