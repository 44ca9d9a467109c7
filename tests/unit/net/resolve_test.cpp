// Names: what is asked of libc, and who waits for the answer. getaddrinfo() is this program's own, so that an
// answer comes when a test wants it.
#include "weft/net/resolve.hpp"

#include <dlfcn.h>

#include "fixture.hpp"

namespace {

std::atomic<uint32_t> g_let_go{0};
std::atomic<int> g_asked{0};
std::atomic<pid_t> g_asked_on{0};

int answer(const char* node, const char* service, const addrinfo* hints, addrinfo** result) {
  static const auto real = reinterpret_cast<decltype(&getaddrinfo)>(dlsym(RTLD_NEXT, "getaddrinfo"));
  return real(node, service, hints, result);
}

}  // namespace

extern "C" [[gnu::visibility("default")]] int getaddrinfo(const char* node, const char* service,
                                                          const addrinfo* hints, addrinfo** result) {
  const std::string_view name = node ? node : "";
  if (!name.ends_with(".test")) return answer(node, service, hints, result);
  g_asked_on = weft::engine::sys::thread_id();
  ++g_asked;
  if (name == "absent.test") return EAI_NONAME;
  if (name == "later.test") return EAI_AGAIN;
  if (name == "broken.test") {
    errno = EIO;
    return EAI_SYSTEM;
  }
  if (name == "slow.test")
    while (!g_let_go) weft::engine::sys::futex_wait(&g_let_go, 0);
  return answer("127.0.0.7", service, hints, result);
}

namespace weft::net::test {
namespace {

class Resolve : public NetTest {
 protected:
  void SetUp() override {
    NetTest::SetUp();
    g_let_go = 0;
    g_asked = 0;
  }
  /// Lets slow.test be answered, and waits until who looked it up has gone.
  static void let_go() {
    g_let_go = 1;
    engine::sys::futex_wake(&g_let_go, INT32_MAX);
    while (engine::Fiber::counts().alive > 0) sleep(1ms);
  }
};

int resolve_error(const char* host, const ResolveOptions& options = {}) {
  try {
    resolve(host, 80, options);
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code().category(), resolve_category());
    EXPECT_NE(std::string(error.what()).find(host), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find(error.code().message()), std::string::npos) << error.what();
    return error.code().value();
  }
  return 0;
}

TEST_F(Resolve, NumbersAreReadAtOnce) {
  EXPECT_EQ(resolve("127.0.0.1", 80), std::vector{Address::loopback(80)});
  EXPECT_EQ(resolve("::1", "443"), std::vector{Address::loopback_v6(443)});
  EXPECT_EQ(resolve("", 80, {.family = AF_INET}), std::vector{Address::loopback(80)});
  EXPECT_EQ(resolve("", 80, {.family = AF_INET, .for_listening = true}), std::vector{Address::any(80)});
  EXPECT_EQ(resolve("127.0.0.1", ""), std::vector{Address::loopback(0)});
  EXPECT_EQ(resolve("", "", {.family = AF_INET}), std::vector{Address::loopback(0)});
}

TEST_F(Resolve, NamesAreLookedUpOnAThreadOfThePool) {
  EXPECT_EQ(resolve("name.test", 80), std::vector{Address::ipv4(0x7f000007, 80)});
  EXPECT_EQ(g_asked, 1);
  EXPECT_NE(g_asked_on, engine::sys::thread_id());
  EXPECT_FALSE(resolve("localhost", "http").empty());
  EXPECT_EQ(resolve("localhost", "http").front().port(), 80);
}

TEST_F(Resolve, OthersRunMeanwhile) {
  auto fiber = spawn_until_it_waits([] { return resolve("slow.test", 80).size(); });
  bool ran = false;
  spawn([&] { ran = true; }).join();
  EXPECT_TRUE(ran);
  EXPECT_FALSE(fiber.done());
  g_let_go = 1;
  engine::sys::futex_wake(&g_let_go, INT32_MAX);
  EXPECT_EQ(fiber.result(), 1u);
}

TEST_F(Resolve, WhatIsNotFoundIsSaidSo) {
  EXPECT_EQ(resolve_error("absent.test"), EAI_NONAME);
  EXPECT_EQ(resolve_error("later.test"), EAI_AGAIN);
  EXPECT_EQ(resolve_error("no number", {.numbers_only = true}), EAI_NONAME);
  EXPECT_EQ(error_of([] { resolve("broken.test", 80); }), EIO);
  EXPECT_THROW(resolve(std::string_view("a\0b", 3), 80), std::system_error);
  EXPECT_EQ(std::error_code(EAI_AGAIN, resolve_category()), std::errc::resource_unavailable_try_again);
  for (int value = -20; value < 0; ++value) EXPECT_FALSE(resolve_category().message(value).empty());
  try {
    TcpStream::connect("absent.test", 80);
    ADD_FAILURE();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::error_code(EAI_NONAME, resolve_category()));
  }
}

TEST_F(Resolve, WhoIsCancelledLeavesAtOnce) {
  auto fiber = spawn_until_it_waits([] {
    std::string host = "slow.test";
    resolve(host, 80);
  });
  while (g_asked == 0) sleep(1ms);
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);  // nobody has let go yet
  let_go();
}

TEST_F(Resolve, TimeLimitsHold) {
  EXPECT_EQ(timeout_of([&] { resolve("slow.test", 80, {.timeout = 2ms}); }),
            "cannot resolve 'slow.test:80': the time limit has passed");
  EXPECT_THROW(TcpStream::connect("slow.test", 80, {.timeout = 2ms}), Timeout);
  auto fiber = spawn([] {
    TimeoutScope scope(2ms);
    resolve("slow.test", 80);
  });
  EXPECT_THROW(fiber.result(), Timeout);
  let_go();
}

TEST_F(Resolve, WhoIsToEndDoesNotAsk) {
  auto fiber = spawn([] { resolve("name.test", 80); });
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
  EXPECT_EQ(g_asked, 0);
}

TEST_F(Resolve, ANativeThreadAsksItself) {
  std::thread([] {
    EXPECT_EQ(resolve("name.test", 80).size(), 1u);
    EXPECT_EQ(g_asked_on, engine::sys::thread_id());
    EXPECT_EQ(resolve_error("absent.test"), EAI_NONAME);
  }).join();
}

TEST_F(Resolve, ManyAtATime) {
  std::vector<Fiber<>> fibers;
  for (int i = 0; i < 100; ++i)
    fibers.push_back(spawn([] { EXPECT_EQ(resolve("name.test", 80).size(), 1u); }));
  for (auto& fiber : fibers) fiber.result();
  EXPECT_EQ(g_asked, 100);
}

}  // namespace
}  // namespace weft::net::test
