#include "weft/net/address.hpp"

#include <gtest/gtest.h>
#include <net/if.h>

#include <unordered_set>

namespace weft::net {
namespace {

TEST(Address, WhatIsParsedIsWrittenTheSame) {
  for (const char* text : {"127.0.0.1:80", "0.0.0.0:0", "[::1]:65535", "[2001:db8::7]:1",
                           "unix:/run/a b.sock", "unix:relative", "unix:@name", "unix:@a:b@c"}) {
    const Address address = Address::parse(text);
    EXPECT_EQ(address.to_string(), text);
    EXPECT_EQ(Address(address.data(), address.size()), address);
  }
}

TEST(Address, AScopeIsANameOrANumber) {
  const Address address = Address::parse("[fe80::1%lo]:9");
  EXPECT_EQ(address.scope(), if_nametoindex("lo"));
  EXPECT_EQ(address.to_string(), "[fe80::1%lo]:9");
  EXPECT_EQ(Address::parse("[fe80::1%4000000]:9").to_string(), "[fe80::1%4000000]:9");
  EXPECT_FALSE(Address::try_parse("[fe80::1%nosuchinterface]:9"));
}

TEST(Address, WhatIsNoneIsRefusedWithAReason) {
  for (const char* text : {"",
                           ":",
                           ":80",
                           "80",
                           "127.0.0.1",
                           "127.0.0.1:",
                           "127.0.0.1:-1",
                           "127.0.0.1:65536",
                           "127.0.0.1:8x",
                           "127.0.0:80",
                           "::1:80",
                           "[::1]",
                           "[::1:80",
                           "[]:80",
                           "[:80",
                           "[127.0.0.1]:80",
                           "localhost:80",
                           "unix:",
                           "unix:@",
                           "256.0.0.1:1",
                           "[::1%]:5",
                           "]:5"}) {
    EXPECT_FALSE(Address::try_parse(text)) << text;
    EXPECT_THROW(Address::parse(text), std::invalid_argument) << text;
  }
  EXPECT_FALSE(Address::try_parse(std::string("unix:/a\0b", 9)));
  EXPECT_FALSE(Address::try_parse(std::string("127.0.0.1\0:80", 13)));
  try {
    Address::parse("localhost:80");
  } catch (const std::invalid_argument& error) {
    EXPECT_NE(std::string(error.what()).find("resolve()"), std::string::npos) << error.what();
  }
}

TEST(Address, NamesOfUnixSocketsHaveUpTo107Bytes) {
  const std::string longest(107, 'x');
  EXPECT_EQ(Address::unix_path(longest).unix_name(), longest);
  EXPECT_EQ(Address::unix_abstract(longest).unix_name(), longest);
  EXPECT_EQ(Address::parse("unix:" + longest).to_string(), "unix:" + longest);
  EXPECT_FALSE(Address::try_parse("unix:" + longest + "x"));
  EXPECT_THROW(Address::unix_path(longest + "x"), std::invalid_argument);
  EXPECT_THROW(Address::unix_abstract(longest + "x"), std::invalid_argument);
  EXPECT_THROW(Address::unix_path(""), std::invalid_argument);
}

TEST(Address, TellsWhatItIs) {
  const Address none;
  EXPECT_FALSE(none);
  EXPECT_EQ(none.family(), AF_UNSPEC);
  EXPECT_EQ(none.to_string(), "none");
  const Address v4 = Address::ipv4(0x7f000001, 80);
  EXPECT_TRUE(v4 && v4.is_ip() && !v4.is_unix());
  EXPECT_EQ(v4, Address::loopback(80));
  EXPECT_EQ(v4.port(), 80);
  EXPECT_EQ(v4.with_port(81).to_string(), "127.0.0.1:81");
  EXPECT_EQ(Address::loopback_v6(7).with_port(8).port(), 8);
  EXPECT_TRUE(Address::unix_abstract("n").is_abstract());
  EXPECT_FALSE(Address::unix_path("n").is_abstract());
  EXPECT_EQ(Address::unix_path("n").port(), 0);
  EXPECT_EQ(Address::unix_abstract("").to_string(), "unix:");
}

TEST(Address, EqualsWhatIsTheSamePlace) {
  EXPECT_NE(Address::loopback(1), Address::loopback(2));
  EXPECT_NE(Address::loopback(1), Address::loopback_v6(1));
  EXPECT_NE(Address::unix_path("n"), Address::unix_abstract("n"));
  EXPECT_EQ(Address::unix_path("n"), Address::parse("unix:n"));
  EXPECT_NE(Address::parse("[fe80::1%1]:5"), Address::parse("[fe80::1%2]:5"));
  sockaddr_in6 flow{};
  flow.sin6_family = AF_INET6;
  flow.sin6_addr = in6addr_loopback;
  flow.sin6_flowinfo = 7;
  EXPECT_EQ(Address(reinterpret_cast<sockaddr*>(&flow), sizeof flow), Address::loopback_v6());
  const std::unordered_set<Address> set{Address::loopback(1), Address::loopback(1), Address::loopback(2)};
  EXPECT_EQ(set.size(), 2u);
}

TEST(Address, RefusesOtherFamiliesAndShortOnes) {
  sockaddr_storage storage{};
  storage.ss_family = AF_NETLINK;
  EXPECT_THROW(Address(reinterpret_cast<sockaddr*>(&storage), 12), std::invalid_argument);
  storage.ss_family = AF_INET6;
  EXPECT_THROW(Address(reinterpret_cast<sockaddr*>(&storage), sizeof(sockaddr_in)), std::invalid_argument);
  EXPECT_THROW(Address(reinterpret_cast<sockaddr*>(&storage), sizeof storage), std::invalid_argument);
}

}  // namespace
}  // namespace weft::net
