// Who listens, as the kernel tells it.
#include "process/listeners.hpp"

#include <sys/resource.h>

#include <thread>

#include "server.hpp"

namespace weft::process::test {
namespace {

using net::test::RefusingPort;

class Listeners : public ProbeTest {
 protected:
  static bool has_ipv6() { return ::access("/proc/net/if_inet6", F_OK) == 0; }

  // Whether it is said at last: one time in sixteen there is another answer, for 100 ms.
  static bool nobody(const char* host, uint16_t port) {
    for (int i = 0; i < 400; ++i, std::this_thread::sleep_for(1ms))
      if (nobody_listens(host, port)) return true;
    return false;
  }
  // For longer than somebody may be claimed to listen.
  static bool always_somebody(const char* host, uint16_t port) {
    for (int i = 0; i < 150; ++i, std::this_thread::sleep_for(1ms))
      if (nobody_listens(host, port)) return false;
    return true;
  }
};

TEST_F(Listeners, NobodyIsThereUntilSomebodyListens) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  EXPECT_TRUE(nobody("127.0.0.1", port));
  EXPECT_TRUE(nobody("127.1.2.3", port));
  EXPECT_TRUE(nobody("localhost", port));
  net::TcpListener listener(Address::loopback());
  EXPECT_TRUE(always_somebody("127.0.0.1", listener.local_address().port()));
  EXPECT_TRUE(nobody("127.1.2.3", listener.local_address().port()));
  EXPECT_TRUE(always_somebody("localhost", listener.local_address().port()));
}

TEST_F(Listeners, OnesOfAllAddressesCount) {
  net::TcpListener four(Address::parse("0.0.0.0:0"));
  EXPECT_TRUE(always_somebody("127.0.0.1", four.local_address().port()));
  if (!has_ipv6()) GTEST_SKIP();
  net::TcpListener both(Address::parse("[::]:0"), {.v6_only = 0});
  EXPECT_TRUE(always_somebody("127.0.0.1", both.local_address().port()));
  EXPECT_TRUE(always_somebody("::1", both.local_address().port()));
  net::TcpListener six(Address::loopback_v6(), {.v6_only = 1});
  EXPECT_TRUE(always_somebody("::1", six.local_address().port()));
  EXPECT_TRUE(always_somebody("localhost", six.local_address().port()));
  EXPECT_TRUE(nobody("127.0.0.1", six.local_address().port()));
}

TEST_F(Listeners, OfOtherHostsNothingIsKnown) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  for (const char* host : {"192.0.2.1", "example.org", "0.0.0.0", "::", "2001:db8::1", "", "127.0.0.1 "})
    EXPECT_TRUE(always_somebody(host, port)) << host;
  EXPECT_TRUE(always_somebody("127.0.0.1", 0));
}

TEST_F(Listeners, ACallerThatWaitsIsToldToTryNowAndThen) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  const auto begin = std::chrono::steady_clock::now();
  while (nobody_listens("127.0.0.1", port)) {
    ASSERT_LT(std::chrono::steady_clock::now() - begin, 10s);
    std::this_thread::sleep_for(1ms);
  }
}

TEST_F(Listeners, WithoutDescriptorsNothingIsSaid) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  EXPECT_TRUE(nobody("127.0.0.1", port));
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{3, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const bool said = always_somebody("127.0.0.1", port);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_TRUE(said);
  EXPECT_TRUE(nobody("127.0.0.1", port));
}

}  // namespace
}  // namespace weft::process::test
