// Closing what others use, on several carriers and native threads at once.
#include "fixture.hpp"

namespace weft::net::test {
namespace {

class Closing : public NetTest {
 protected:
  static void SetUpTestSuite() {
    NetTest::SetUpTestSuite();
    ASSERT_TRUE(engine::Runtime::get()->set_carriers(3));
  }
  static SpawnOptions on(int carrier) { return {.carrier = carrier}; }
};

/// The errno that ends `body`, which is called until then.
template <typename F>
int until_it_fails(F&& body) {
  for (;;)
    if (const int error = error_of(body)) return error;
}

TEST_F(Closing, ReadersAndWritersOfAllCarriersLeave) {
  for (int round = 0; round < 40; ++round) {
    Connection c;
    std::vector<Fiber<int>> users;
    for (int i = 0; i < 9; ++i)
      users.push_back(spawn(
          [&c, i] {
            char buffer[16];
            return until_it_fails(
                [&] { i % 3 == 2 ? c.server.write_all("x") : (void)c.server.read_some(buffer); });
          },
          on(i % 3)));
    auto feeder = spawn([&c] { return until_it_fails([&c] { c.client.write_all("abc"); }); }, on(1));
    auto closer = spawn(
        [&c, round] {
          for (int i = 0; i < round % 5; ++i) this_fiber::yield();
          const int fd = c.server.native_handle();
          c.server.close();
          EXPECT_EQ(c.server.native_handle(), -1);
          return fd;
        },
        on(round % 3));
    closer.join();
    for (auto& user : users) EXPECT_EQ(user.result(), EBADF);
    feeder.result();
  }
}

TEST_F(Closing, NativeThreadsAndFibersCloseAtOnce) {
  for (int round = 0; round < 50; ++round) {
    TcpListener listener(Address::loopback());
    std::vector<Fiber<int>> users;
    for (int i = 0; i < 6; ++i)
      users.push_back(spawn([&] { return until_it_fails([&] { listener.accept(); }); }, on(i % 3)));
    std::atomic<int> begun = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 2; ++i)
      threads.emplace_back([&] {
        ++begun;
        EXPECT_EQ(until_it_fails([&] { listener.accept(); }), EBADF);
      });
    threads.emplace_back([&] {
      while (begun < 2) std::this_thread::yield();
      listener.close();
    });
    auto closer = spawn([&] { listener.close(); }, on(2));
    closer.join();
    for (auto& user : users) EXPECT_EQ(user.result(), EBADF);
    for (auto& thread : threads) thread.join();
  }
}

TEST_F(Closing, CancelAndCloseTogether) {
  for (int round = 0; round < 200; ++round) {
    Connection c;
    char buffer[16];
    auto reader = spawn([&] { c.server.read_some(buffer); }, on(1));
    auto closer = spawn([&] { c.server.close(); }, on(2));
    reader.cancel();
    closer.join();
    try {
      reader.result();
      ADD_FAILURE();
    } catch (const Cancelled&) {
    } catch (const std::system_error& error) {
      EXPECT_EQ(error.code().value(), EBADF);
    }
  }
}

}  // namespace
}  // namespace weft::net::test
