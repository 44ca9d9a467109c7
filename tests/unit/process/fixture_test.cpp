// The fixture for users' tests: what it starts, and what it fails a test for.
#include <fcntl.h>
#include <gtest/gtest-spi.h>

#include <csignal>

#include "support/processes.hpp"
#include "weft/process/gtest.hpp"
#include "weft/weft.hpp"

namespace weft::process {
namespace {

class FixtureTest : public ProcessTest {
 public:
  static void SetUpTestSuite() {
    service = &start_for_suite(
        Executor("echo served; exec sleep 1000", test::in_shell(), Readiness::output("served")));
  }
  static inline Executor* service = nullptr;
};

TEST_F(FixtureTest, ServicesOfTheSuiteAndOfTheTest) {
  EXPECT_TRUE(service->running());
  Executor& own = start(Executor("sleep 1000"));
  Executor& other = start(Executor("sleep 1000"));
  EXPECT_TRUE(own.running() && other.running());
  other.stop();  // is no failure
}

TEST_F(FixtureTest, TheServiceOfTheSuiteIsTheSame) {
  static const pid_t pid = service->pid();
  EXPECT_EQ(service->pid(), pid);
  EXPECT_TRUE(service->running());
}

TEST_F(FixtureTest, APortIsHeldUntilItIsReleased) {
  HeldPort& port = free_port();
  HeldPort& other = free_port();
  EXPECT_NE(port.number(), other.number());
  const auto address = net::Address::loopback(static_cast<uint16_t>(port.number()));
  net::ListenOptions options;
  options.reuse_address = false;
  EXPECT_THROW(net::TcpListener(address, options), std::system_error);
  port.release();
  EXPECT_NO_THROW(net::TcpListener(address, options));
}

TEST_F(FixtureTest, AServerThatReusesAddressesMayHaveAPortThatIsHeld) {
  HeldPort& port = free_port();
  EXPECT_NO_THROW(net::TcpListener(net::Address::loopback(static_cast<uint16_t>(port.number()))));
}

TEST_F(FixtureTest, AListeningSocketIsTheServicesDescriptor3) {
  ListeningSocket& socket = listening_socket();
  Options options;
  socket.pass(options);
  start(
      Executor(ListeningSocket::with_listen_pid(Command{
                   "python3", "-c",
                   "import os, socket\n"
                   "assert os.environ['LISTEN_FDS'] == '1' and os.environ['LISTEN_PID'] == str(os.getpid())\n"
                   "c, _ = socket.socket(fileno=3).accept()\n"
                   "c.sendall(b'served')\n"
                   "c.recv(1)\n"
                   "import time; time.sleep(1000)"}),
               options));
  auto stream = net::TcpStream::connect("127.0.0.1", static_cast<uint16_t>(socket.port()));
  char text[6];
  stream.read_exactly(weft::MutableBytes(text, sizeof text));
  EXPECT_EQ(std::string(text, sizeof text), "served");
}

// A test within the test, whose failures are looked at.
class Inner : public ProcessTest {
 public:
  void TestBody() override {}
  template <typename Body>
  std::string failures(Body&& body) {
    ::testing::TestPartResultArray results;
    {
      ::testing::ScopedFakeTestPartResultReporter reporter(
          ::testing::ScopedFakeTestPartResultReporter::INTERCEPT_ONLY_CURRENT_THREAD, &results);
      SetUp();
      body(*this);
      TearDown();
    }
    std::string all;
    for (int i = 0; i < results.size(); ++i) all += results.GetTestPartResult(i).message();
    return all;
  }
  using ProcessTest::start;
};

TEST_F(FixtureTest, AServiceThatDiesFailsTheTestWithItsOutput) {
  const std::string said = Inner().failures([](Inner& inner) {
    Executor& dying = inner.start(Executor("echo the reason; exit 6", test::in_shell()));
    dying.wait();
  });
  EXPECT_NE(said.find("exited with 6 during the test"), std::string::npos) << said;
  EXPECT_NE(said.find("the reason"), std::string::npos) << said;
}

TEST_F(FixtureTest, ADescriptorThatIsLeftFailsTheTest) {
  int left = -1;
  const std::string said = Inner().failures([&](Inner&) { left = open("/dev/null", O_RDONLY | O_CLOEXEC); });
  EXPECT_NE(said.find("descriptor " + std::to_string(left) + " open: /dev/null"), std::string::npos) << said;
  close(left);
}

TEST_F(FixtureTest, AChildThatIsLeftFailsTheTest) {
  std::optional<Executor> left;
  const std::string said = Inner().failures([&](Inner&) { left.emplace("sleep 1000").start(); });
  EXPECT_NE(said.find("leaves a child process"), std::string::npos) << said;
}

TEST_F(FixtureTest, NothingLeftIsNoFailure) {
  EXPECT_EQ(Inner().failures([](Inner& inner) { inner.start(Executor("sleep 1000")); }), "");
}

}  // namespace
}  // namespace weft::process
