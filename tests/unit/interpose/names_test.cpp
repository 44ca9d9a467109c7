// The resolver and the databases: the same answers as natively, while others run.
#include <arpa/inet.h>

#include <thread>

#include "interpose/calls.hpp"
#include "interpose/keys.hpp"
#include "poll/offload_pool.hpp"
#include "support/poll_loop.hpp"

namespace weft::engine::interpose {
namespace {

using namespace weft::engine::test;

class NamesTest : public OnEveryBackend {
 protected:
  void SetUp() override { resolve_calls(); }
  PollLoop loop{GetParam()};
};
WEFT_ON_EVERY_BACKEND(NamesTest);

// What the end of a thread does, which these fibers are not.
struct EndOfThread {
  ~EndOfThread() { run_key_destructors(*Carrier::running_fiber()); }
};

std::string answer(decltype(&::getaddrinfo) ask, const char* node, const char* service, int flags) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_flags = flags;
  hints.ai_socktype = SOCK_STREAM;
  const int error = ask(node, service, &hints, &list);
  std::string text = std::to_string(error);
  for (const addrinfo* one = list; one; one = one->ai_next) {
    char host[64] = "", port[16] = "";
    ::getnameinfo(one->ai_addr, one->ai_addrlen, host, sizeof host, port, sizeof port,
                  NI_NUMERICHOST | NI_NUMERICSERV);
    text += std::string(" ") + host + ":" + port;
  }
  if (list) freeaddrinfo(list);
  return text;
}

TEST_P(NamesTest, AddressesAreThoseOfLibc) {
  const struct {
    const char* node;
    const char* service;
    int flags;
  } questions[] = {{"localhost", "80", 0},
                   {"127.0.0.1", "http", 0},
                   {"::1", nullptr, 0},
                   {nullptr, "80", AI_PASSIVE},
                   {nullptr, nullptr, 0},
                   {"127.1", "1", 0},
                   {"1.2.3", "x y", 0},
                   {"localhost", "nosuch", 0},
                   {"nohost.invalid", "80", 0},
                   {"host", "80", AI_NUMERICHOST},
                   {"", "", 0},
                   {"::1%lo", "80", 0}};
  for (const auto& [node, service, flags] : questions) {
    std::string natively;
    std::thread([&] { natively = answer(real::getaddrinfo, node, service, flags); }).join();
    std::string routed_answer;
    loop.run([&] { routed_answer = answer(routed::getaddrinfo, node, service, flags); });
    EXPECT_EQ(routed_answer, natively) << (node ? node : "null") << " " << (service ? service : "null");
  }
}

TEST_P(NamesTest, TwoHundredFibersAskAtOnce) {
  int done = 0;
  std::vector<Fiber*> fibers;
  for (int i = 0; i < 200; ++i)
    fibers.push_back(&loop.spawn([&, i] {
      const std::string found = answer(routed::getaddrinfo, i % 2 ? "localhost" : "127.0.0.1", "80", 0);
      EXPECT_NE(found.find("127.0.0.1:80"), std::string::npos) << found;
      ++done;
    }));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(done, 200);
  EXPECT_GE(OffloadPool::instance().peak_threads(), 1) << "the pool was not asked";
}

TEST_P(NamesTest, EachFiberHasItsOwnHostError) {
  loop.run([&] {
    const EndOfThread end;
    EXPECT_EQ(routed::gethostbyname("nohost.invalid"), nullptr);
    const int mine = *routed::__h_errno_location();
    EXPECT_NE(mine, 0);
    loop.run([&] {
      const EndOfThread inner_end;
      EXPECT_EQ(*routed::__h_errno_location(), 0);
      EXPECT_NE(routed::gethostbyname("localhost"), nullptr);
      *routed::__h_errno_location() = 77;
    });
    EXPECT_EQ(*routed::__h_errno_location(), mine);
  });
}

TEST_P(NamesTest, DatabasesAnswerAsLibcDoes) {
  loop.run([&] {
    const EndOfThread end;
    char buffer[1024], small[1];
    passwd user{}, *found_user = nullptr;
    EXPECT_EQ(routed::getpwnam_r("root", &user, buffer, sizeof buffer, &found_user), 0);
    ASSERT_NE(found_user, nullptr);
    EXPECT_EQ(user.pw_uid, 0u);
    EXPECT_EQ(routed::getpwuid_r(0, &user, small, sizeof small, &found_user), ERANGE);
    EXPECT_EQ(routed::getpwnam_r("no such user", &user, buffer, sizeof buffer, &found_user), 0);
    EXPECT_EQ(found_user, nullptr);
    EXPECT_STREQ(routed::getpwuid(0)->pw_name, "root");
    EXPECT_STREQ(routed::getgrgid(0)->gr_name, "root");
    group entry{}, *found_group = nullptr;
    EXPECT_EQ(routed::getgrnam_r("root", &entry, buffer, sizeof buffer, &found_group), 0);
    EXPECT_EQ(found_group, &entry);
    gid_t groups[64];
    int count = 64;
    EXPECT_GE(routed::getgrouplist("root", 0, groups, &count), 1);
    EXPECT_EQ(groups[0], 0u);
    errno = 0;
    EXPECT_EQ(routed::getpwnam("no such user"), nullptr);
    char host[64], service[64];
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(80);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const auto* any = reinterpret_cast<const sockaddr*>(&address);
    EXPECT_EQ(routed::getnameinfo(any, sizeof address, host, sizeof host, service, sizeof service, 0), 0);
    EXPECT_STREQ(host, "localhost");
    EXPECT_EQ(routed::getnameinfo(any, sizeof address, host, 1, service, sizeof service, 0), EAI_OVERFLOW);
    hostent named{}, *found_host = nullptr;
    int error = 0;
    EXPECT_EQ(routed::gethostbyname_r("localhost", &named, buffer, sizeof buffer, &found_host, &error), 0);
    EXPECT_EQ(found_host, &named);
  });
}

TEST_P(NamesTest, AnswersBelongToTheFiberThatAsked) {
  std::vector<Fiber*> fibers;
  const char* const names[] = {"http", "ssh", "smtp", "domain"};
  for (int i = 0; i < 40; ++i)
    fibers.push_back(&loop.spawn([&, i] {
      const EndOfThread end;
      const char* name = names[i % 4];
      for (int round = 0; round < 10; ++round) {
        const servent* service = routed::getservbyname(name, "tcp");
        ASSERT_NE(service, nullptr);
        EXPECT_NE(routed::getservbyport(service->s_port, "tcp"), nullptr);
        EXPECT_STREQ(service->s_name, name);
        const passwd* user = routed::getpwuid(i % 2 ? 0 : 1);
        ASSERT_NE(user, nullptr);
        EXPECT_STREQ(user->pw_name, i % 2 ? "root" : "daemon");
      }
    }));
  for (Fiber* fiber : fibers) loop.join(*fiber);
}

}  // namespace
}  // namespace weft::engine::interpose
