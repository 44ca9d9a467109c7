// Who listens, as the kernel tells it.
#include "process/listeners.hpp"

#include <sys/resource.h>

#include "server.hpp"

namespace weft::process::test {
namespace {

using net::test::RefusingPort;

class Listeners : public ProbeTest {};

TEST_F(Listeners, NobodyIsThereUntilSomebodyListens) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  EXPECT_TRUE(nobody_listens("127.0.0.1", port));
  EXPECT_TRUE(nobody_listens("127.1.2.3", port));
  EXPECT_TRUE(nobody_listens("localhost", port));
  net::TcpListener listener(Address::loopback());
  EXPECT_FALSE(nobody_listens("127.0.0.1", listener.local_address().port()));
  EXPECT_TRUE(nobody_listens("127.1.2.3", listener.local_address().port()));
  EXPECT_FALSE(nobody_listens("localhost", listener.local_address().port()));
}

TEST_F(Listeners, OnesOfAllAddressesCount) {
  net::TcpListener four(Address::parse("0.0.0.0:0"));
  EXPECT_FALSE(nobody_listens("127.0.0.1", four.local_address().port()));
  if (!has_ipv6()) GTEST_SKIP();
  net::TcpListener both(Address::parse("[::]:0"), {.v6_only = 0});
  EXPECT_FALSE(nobody_listens("127.0.0.1", both.local_address().port()));
  EXPECT_FALSE(nobody_listens("::1", both.local_address().port()));
  net::TcpListener six(Address::loopback_v6(), {.v6_only = 1});
  EXPECT_FALSE(nobody_listens("::1", six.local_address().port()));
  EXPECT_FALSE(nobody_listens("localhost", six.local_address().port()));
  EXPECT_TRUE(nobody_listens("127.0.0.1", six.local_address().port()));
}

TEST_F(Listeners, OfOtherHostsNothingIsKnown) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  for (const char* host : {"192.0.2.1", "example.org", "0.0.0.0", "::", "2001:db8::1", "", "127.0.0.1 "})
    EXPECT_FALSE(nobody_listens(host, port)) << host;
  EXPECT_FALSE(nobody_listens("127.0.0.1", 0));
}

TEST_F(Listeners, WithoutDescriptorsNothingIsSaid) {
  const RefusingPort refusing;
  const uint16_t port = refusing.address().port();
  EXPECT_TRUE(nobody_listens("127.0.0.1", port));
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit none{3, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const bool said = nobody_listens("127.0.0.1", port);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_FALSE(said);
  EXPECT_TRUE(nobody_listens("127.0.0.1", port));
}

}  // namespace
}  // namespace weft::process::test
