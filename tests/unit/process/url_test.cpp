// URLs: taken apart, put together, and resolved.
#include "process/url.hpp"

#include "server.hpp"

namespace weft::process::test {
namespace {

TEST(Url, IsTakenApart) {
  const Url url = parse_url("HTTP://Example.COM:8080/a/b?x=1&y=%20#part");
  EXPECT_EQ(url.scheme, "http");
  EXPECT_EQ(url.host, "example.com");
  EXPECT_EQ(url.port, 8080);
  EXPECT_EQ(url.target, "/a/b?x=1&y=%20");
  EXPECT_FALSE(url.has_credentials);
  EXPECT_EQ(url.authority(), "example.com:8080");
  EXPECT_EQ(url.to_string(), "http://example.com:8080/a/b?x=1&y=%20");
}

TEST(Url, DefaultsAreFilledIn) {
  EXPECT_EQ(parse_url("http://a").port, 80);
  EXPECT_EQ(parse_url("https://a").port, 443);
  EXPECT_EQ(parse_url("https://a:").port, 443);
  EXPECT_EQ(parse_url("https://a:80").authority(), "a:80");
  EXPECT_EQ(parse_url("https://a:443").authority(), "a");
  EXPECT_EQ(parse_url("http://a").target, "/");
  EXPECT_EQ(parse_url("http://a?q").target, "/?q");
  EXPECT_EQ(parse_url("http://a#f/?").target, "/");
  EXPECT_EQ(parse_url("http://a/?q=http://b:1/@").target, "/?q=http://b:1/@");
}

TEST(Url, CredentialsAreDecodedAndNotShown) {
  const Url url = parse_url("http://me%40home:p:w%2f@h/");
  EXPECT_TRUE(url.has_credentials);
  EXPECT_EQ(url.user, "me@home");
  EXPECT_EQ(url.password, "p:w/");
  EXPECT_EQ(url.to_string(), "http://h/");
  EXPECT_EQ(parse_url("http://me@h/").user, "me");
  const std::string complaint = complaint_of([] { parse_url("http://me:secret@h:99999/"); });
  EXPECT_EQ(complaint.find("secret"), std::string::npos) << complaint;
  EXPECT_HAS(complaint, "'http://***@h:99999/'");
}

TEST(Url, Ipv6StandsInBrackets) {
  const Url url = parse_url("http://[::1]:8000/x");
  EXPECT_EQ(url.host, "::1");
  EXPECT_EQ(url.port, 8000);
  EXPECT_EQ(url.authority(), "[::1]:8000");
  EXPECT_EQ(parse_url("http://[2001:DB8::1]").authority(), "[2001:db8::1]");
  const Url zone = parse_url("http://[fe80::1%25eth0]:1/x");
  EXPECT_EQ(zone.host, "fe80::1%eth0");
  EXPECT_EQ(zone.authority(), "[fe80::1]:1");
  EXPECT_EQ(zone.to_string(), "http://[fe80::1%25eth0]:1/x");
  EXPECT_EQ(parse_url("https://[fe80::1%25eth0]/").to_string(), "https://[fe80::1%25eth0]/");
}

TEST(Url, WhatIsWrongIsSaid) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "no scheme"},
      {"localhost:8000/", "no scheme"},
      {"//localhost", "no scheme"},
      {"://localhost", "no scheme"},
      {"http:/localhost", "no scheme"},
      {"ftp://localhost/", "its scheme is 'ftp'"},
      {"http://", "no host"},
      {"http:///path", "no host"},
      {"http://:80/", "no host"},
      {"http://user@/", "no host"},
      {"http://a:0/", "its port is '0'"},
      {"http://a:65536/", "its port is '65536'"},
      {"http://a:-1/", "its port is '-1'"},
      {"http://a:8o/", "its port is '8o'"},
      {"http://a:80:80/", "its port is '80:80'"},
      {"http://::1/", "no host"},
      {"http://[::1/", "a ']' is missing"},
      {"http://[::1]80/", "after ']' comes '80'"},
      {"http://[::zz]/", "no IPv6 address"},
      {"http://[127.0.0.1]/", "no IPv6 address"},
      {"http://[]/", "no IPv6 address"},
      {"http://[fe80::1%eth0]/", "zone"},
      {"http://[fe80::1%25]/", "zone"},
      {"http://a b/", "a space at position 9"},
      {"http://a/b c", "a space at position 11"},
      {" http://a/", "a space at position 1"},
      {"http://a/\r\nX: y", "a control character"},
      {"http://a/\xc3\xa4", "beyond ASCII"},
      {"http://a/%", "hexadecimal"},
      {"http://a/%4", "hexadecimal"},
      {"http://a/%zz", "hexadecimal"},
      {"http://us%er@a/", "hexadecimal"},
      {"http://a%20b/", "is no host"},
      {"http://a\\b/", "is no host"},
      {"http://a_b<>/", "is no host"},
  };
  for (const auto& [text, wrong] : cases) {
    const std::string complaint = complaint_of([text = text] { parse_url(text); });
    EXPECT_HAS(complaint, wrong);
    EXPECT_HAS(complaint, "expected is http://HOST");
    EXPECT_EQ(complaint.find('\n'), std::string::npos);
  }
  EXPECT_HAS(complaint_of([] { parse_url("http://a\0b/"s); }), "a control character");
}

TEST(Url, AReferenceIsResolved) {
  const Url base = parse_url("http://me:pw@host:8000/a/b/c?q");
  const std::pair<const char*, const char*> cases[] = {
      {"https://other/x", "https://other/x"},
      {"HTTP://Other", "http://other/"},
      {"//other:1/x", "http://other:1/x"},
      {"/x/y?z", "http://host:8000/x/y?z"},
      {"d", "http://host:8000/a/b/d"},
      {"./d", "http://host:8000/a/b/d"},
      {"../d", "http://host:8000/a/d"},
      {"../../../d", "http://host:8000/d"},
      {"..", "http://host:8000/a/"},
      {".", "http://host:8000/a/b/"},
      {"d/../e?../f", "http://host:8000/a/b/e?../f"},
      {"?p", "http://host:8000/a/b/c?p"},
      {"", "http://host:8000/a/b/c?q"},
      {"#part", "http://host:8000/a/b/c?q"},
      {"/x#part", "http://host:8000/x"},
      {"/a b", "http://host:8000/a%20b"},
      {"/\xc3\xa4", "http://host:8000/%C3%A4"},
      {"d:e/f?x:y", nullptr},
      {"ftp://x/", nullptr},
      {"http://", nullptr},
      {"/%zz", nullptr},
      {"/a\rb", nullptr},
  };
  for (const auto& [reference, expected] : cases) {
    if (expected)
      EXPECT_EQ(resolve_reference(base, reference).to_string(), expected) << reference;
    else
      EXPECT_THROW(resolve_reference(base, reference), std::invalid_argument) << reference;
  }
}

TEST(Url, CredentialsStayWithTheirOrigin) {
  const Url base = parse_url("http://me:pw@host:8000/");
  EXPECT_EQ(resolve_reference(base, "/x").password, "pw");
  EXPECT_EQ(resolve_reference(base, "http://HOST:8000/x").password, "pw");
  EXPECT_EQ(resolve_reference(base, "http://you:pv@host:8000/x").password, "pv");
  for (const char* other : {"http://host:8001/", "https://host:8000/", "http://host2:8000/", "//host/"})
    EXPECT_FALSE(resolve_reference(base, other).has_credentials) << other;
}

TEST(Url, KnowsAddressesFromNames) {
  for (const char* address : {"127.0.0.1", "::1", "fe80::1%eth0"}) EXPECT_TRUE(is_ip_address(address));
  for (const char* name : {"localhost", "127.0.0.1%lo", "1.2.3", "", "::g"})
    EXPECT_FALSE(is_ip_address(name));
}

}  // namespace
}  // namespace weft::process::test
