// When an Executor takes a command for ready, and what it says when it never is.
#include <sys/stat.h>

#include <csignal>

#include "support/processes.hpp"

namespace weft::process::test {
namespace {

using namespace std::chrono_literals;

class ReadinessTest : public ProcessTest {};

// A server in Python: it listens when a line comes, and lives until it is ended.
std::vector<std::string> server(const std::string& family, const std::string& address) {
  return {"python3", "-c",
          "import socket, sys, time\n"
          "s = socket.socket(socket." +
              family +
              ")\n"
              "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
              "s.bind(" +
              address +
              ")\n"
              "s.listen()\n"
              "print('listening', flush=True)\n"
              "time.sleep(1000)"};
}

// Nobody gets this one while it is held: it does not listen, so nobody is accepted either.
class Port {
 public:
  Port() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int on = 1;
    setsockopt(fd_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    socklen_t size = sizeof address;
    getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &size);
    number_ = ntohs(address.sin_port);
  }
  ~Port() { close(fd_); }
  Port(const Port&) = delete;
  Port& operator=(const Port&) = delete;
  int number() const { return number_; }
  std::string in_python() const { return "('127.0.0.1', " + std::to_string(number_) + ")"; }

 private:
  int fd_;
  int number_;
};

TEST_F(ReadinessTest, TcpAndWhatListensAlready) {
  on_thread_and_in_fiber([] {
    Port port;
    TcpExecutor executor(server("AF_INET", port.in_python()), "127.0.0.1", port.number());
    executor.start();
    net::TcpStream::connect("127.0.0.1", static_cast<uint16_t>(port.number()));
    TcpExecutor second("sleep 1000", "localhost", port.number());
    EXPECT_THROW(second.start(), AlreadyRunning);
    EXPECT_EQ(second.pid(), -1);
    executor.stop();
  });
}

TEST_F(ReadinessTest, UnixSocket) {
  Folder folder;
  const std::string path = folder / "socket";
  UnixSocketExecutor executor(server("AF_UNIX", "'" + path + "'"), path);
  executor.start();
  EXPECT_THROW(UnixSocketExecutor("sleep 1000", path).start(), AlreadyRunning);
  executor.stop();
  struct stat left;
  EXPECT_EQ(stat(path.c_str(), &left), 0) << "the file is left, and nobody listens: no reason not to start";
  try {
    Options options;
    options.timeout = 50ms;
    UnixSocketExecutor("sleep 1000", path, options).start();
    FAIL() << "nobody listens";
  } catch (const StartTimeout& error) {
    EXPECT_NE(error.seen().find("refuses"), std::string::npos) << error.seen();
  }
}

TEST_F(ReadinessTest, FileAndDaemon) {
  Folder folder;
  const std::string path = folder / "pid";
  // The daemon's parents have ended when it writes its number; its descriptors are its own.
  PidExecutor executor("( setsid sh -c 'echo $$ > " + path + ".new; mv " + path + ".new " + path +
                           "; exec sleep 1000' > /dev/null 2>&1 < /dev/null & ) ; exit 0",
                       path, in_shell());
  executor.start();
  EXPECT_EQ(executor.wait(), 0);
  EXPECT_TRUE(executor.running());
  std::ifstream file(path);
  pid_t daemon = -1;
  file >> daemon;
  EXPECT_TRUE(is_alive(daemon));
  EXPECT_THROW(PidExecutor("sleep 1000", path).start(), AlreadyRunning);
  executor.stop();
  EXPECT_FALSE(is_alive(daemon));
}

TEST_F(ReadinessTest, OutputOfEitherStream) {
  on_thread_and_in_fiber([] {
    OutputExecutor("echo no; echo is ready 7 >&2; sleep 1000", "ready \\d$", in_shell()).start();
    // Without the line's end: once it stays at that.
    OutputExecutor("printf 'login: '; sleep 1000", "login: ", in_shell()).start();
  });
}

TEST_F(ReadinessTest, OutputThatEndsIsNoticedAtOnce) {
  // Its streams are closed, and it runs on.
  OutputExecutor executor("echo no; exec >&- 2>&-; sleep 1000", "ready", in_shell());
  try {
    executor.start();
    FAIL() << "it was never ready";
  } catch (const ExitedEarly& error) {
    EXPECT_EQ(error.exit_code(), std::nullopt);
    EXPECT_EQ(error.output(), "no");
  }
  EXPECT_FALSE(executor.running());
}

TEST_F(ReadinessTest, AnExitIsNoticedAtOnceWhateverTheInterval) {
  on_thread_and_in_fiber([] {
    Port port;
    Options options = in_shell();
    options.probe_interval = 1h;
    options.timeout = 1h;
    for (const Readiness& readiness :
         {Readiness::tcp("127.0.0.1", port.number()), Readiness::custom([] { return false; }, "never")}) {
      Executor executor("echo why; sleep 0.2; exit 5", options, readiness);
      try {
        executor.start();
        FAIL() << "it was never ready";
      } catch (const ExitedEarly& error) {
        EXPECT_EQ(error.exit_code(), 5);
        EXPECT_EQ(error.output(), "why");
        EXPECT_EQ(error.command(), "echo why; sleep 0.2; exit 5");
      }
    }
  });
}

TEST_F(ReadinessTest, ADaemonThatIsNeverReadyIsATimeoutThatSaysSo) {
  Options options = in_shell();
  options.timeout = 100ms;
  Executor executor("echo begun; exit 0", options, Readiness::custom([] { return false; }, "the moon"));
  try {
    executor.start();
    FAIL() << "it was never ready";
  } catch (const StartTimeout& error) {
    EXPECT_NE(std::string(error.what()).find("had exited with 0"), std::string::npos) << error.what();
    EXPECT_EQ(error.seen(), "the moon: false");
    EXPECT_EQ(error.output(), "begun");
  }
}

TEST_F(ReadinessTest, ATimeoutEndsTheTree) {
  Port port;
  Options options;
  options.timeout = 100ms;
  TcpExecutor executor("sleep 1000", "127.0.0.1", port.number(), options);
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_THROW(executor.start(), StartTimeout);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 100ms);
  EXPECT_FALSE(is_alive(executor.pid()));
}

TEST_F(ReadinessTest, ACommandThatListensElsewhereIsSaidSo) {
  Port asked, bound;
  Options options;
  options.timeout = 3s;
  options.shell = true;
  // A process of its own, in a session of its own, with a socket that does not listen besides.
  const std::string program =
      "import socket, time\nlazy = socket.socket(); lazy.bind(('127.0.0.1', 0))\n"
      "four = socket.create_server(" +
      bound.in_python() +
      ")\n"
      "print('listens', flush=True); time.sleep(1000)";
  Executor executor(
      "setsid python3 -c \"" + program + "\" & wait", options,
      Readiness::all({Readiness::tcp("127.0.0.1", asked.number()), Readiness::output("listens")}));
  try {
    executor.start();
    FAIL() << "it was ready";
  } catch (const StartTimeout& failure) {
    const std::string text = failure.what();
    EXPECT_NE(text.find(" refuses connections; it was still running, and listened at 127.0.0.1:" +
                        std::to_string(bound.number()) + ". Raise"),
              std::string::npos)
        << text;
  }
}

// The last look, just before the time is over, has next to none.
TEST_F(ReadinessTest, WhatAHastyLookSawIsNotTold) {
  const auto probe = [](const detail::ProbeCondition::Look& look, std::string& seen) {
    seen = look.limit < 10'000'000 ? "no time" : "refuses";
    return false;
  };
  const detail::ProbeCondition condition("x", probe);
  const auto watch = condition.watch(nullptr);
  for (const detail::Nanos limit : {detail::Nanos{1'000'000'000}, detail::Nanos{1'000'000}}) {
    detail::Round round{limit, true};
    EXPECT_FALSE(watch->look(round));
    EXPECT_EQ(watch->seen(), "x: refuses");
  }
  const auto first = condition.watch(nullptr);
  detail::Round round{1'000'000, true};
  EXPECT_FALSE(first->look(round));
  EXPECT_EQ(first->seen(), "x: no time");
}

TEST_F(ReadinessTest, AllAndAny) {
  int asked = 0;
  const auto third = Readiness::custom([&] { return ++asked >= 3; }, "the third");
  const auto never = Readiness::custom([] { return false; }, "never");
  const auto printed = Readiness::output("ready");
  Executor all("echo ready; sleep 1000", in_shell(), Readiness::all({printed, third}));
  all.start();
  EXPECT_EQ(asked, 3);
  Executor any("echo ready; sleep 1000", in_shell(), Readiness::any({never, printed}));
  any.start();
  // Of any, one that cannot come true is not the end; of all, it is.
  asked = 0;
  Executor other("exec >&- 2>&-; sleep 1000", in_shell(), Readiness::any({printed, third}));
  other.start();
  EXPECT_THROW(Executor("exec >&- 2>&-; sleep 1000", in_shell(), Readiness::all({printed, never})).start(),
               ExitedEarly);
  Options options = in_shell();
  options.timeout = 50ms;
  try {
    Executor("sleep 1000", options, Readiness::all({never, printed})).start();
    FAIL() << "neither is";
  } catch (const StartTimeout& error) {
    EXPECT_EQ(error.seen(), "never: false; output that matches /ready/: none so far");
  }
}

TEST_F(ReadinessTest, ChattyCommandsAreNotProbedForEachLine) {
  int asked = 0;
  Options options = in_shell();
  options.timeout = 200ms;
  Executor executor("while :; do echo x; done", options,
                    Readiness::custom([&] { return ++asked > 1000; }, "many"));
  EXPECT_THROW(executor.start(), StartTimeout);
  EXPECT_LT(asked, 250);  // the pauses are a fortieth of the time, and half a millisecond at least
}

TEST_F(ReadinessTest, ProgressIsTold) {
  std::vector<std::string> told;
  Options options;
  options.on_progress = [&](const Progress& progress) {
    told.push_back(progress.seen);
    EXPECT_GE(progress.elapsed, 1s);
    throw std::runtime_error("enough");
  };
  Executor executor("sleep 1000", options, Readiness::custom([] { return false; }, "never"));
  EXPECT_THROW(executor.start(), std::runtime_error);
  EXPECT_EQ(told, std::vector<std::string>{"never: false"});
  EXPECT_FALSE(executor.running());
}

template <typename Make>
std::string refusal(Make&& make) {
  try {
    make();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

TEST_F(ReadinessTest, WrongValuesAreRefusedByName) {
  const auto expect = [](const std::string& text, const char* name, const char* expected) {
    EXPECT_NE(text.find(name), std::string::npos) << text;
    EXPECT_NE(text.find(expected), std::string::npos) << text;
  };
  const auto with = [](auto&& change) {
    return refusal([&] {
      Options options;
      change(options);
      Executor("sleep 1", options);
    });
  };
  expect(refusal([] { Readiness::tcp("h", 0); }), "port 0", "1 to 65535");
  expect(refusal([] { Readiness::tcp("h", 65536); }), "port 65536", "1 to 65535");
  expect(refusal([] { Readiness::tcp("", 1); }), "host", "text");
  expect(refusal([] { Readiness::http("ftp://h"); }), "ftp://h", "http://HOST");
  expect(refusal([] { Readiness::http("http://h:99999/"); }), "99999", "65535");
  expect(refusal([] { Readiness::output("a("); }), "a(", "parenthesis");
  expect(refusal([] { Readiness::all({}); }), "all", "one or more");
  expect(refusal([] { Readiness::any({Readiness()}); }), "any", "none of them empty");
  expect(refusal([] { Executor(""); }), "empty", "file to execute");
  expect(refusal([] { Executor("  ", in_shell()); }), "empty", "file to execute");
  expect(refusal([] { Executor({"a", std::string("b\0c", 3)}); }), "'b", "without");
  expect(refusal([] { Executor("a 'b"); }), "a 'b", "closing");
  expect(refusal([] { Executor("a b\\"); }), "backslash", "one more character");
  expect(refusal([] { Executor({"a", "b"}, in_shell()); }), "2 words", "a line");
  expect(with([](Options& o) { o.timeout = -1s; }), "timeout", "no negative");
  expect(with([](Options& o) { o.grace = -1s; }), "grace", "no negative");
  expect(with([](Options& o) { o.stop_signal = 0; }), "stop_signal", "SIGTERM");
  expect(with([](Options& o) { o.cwd = std::string("a\0b", 3); }), "cwd", "without");
  expect(with([](Options& o) { o.environment["a=b"] = "c"; }), "a=b", "no =");
  expect(with([](Options& o) { o.passed = {{0, 2}}; }), "passed", "3 or more");
  expect(with([](Options& o) { o.passed = {{0, 5}, {1, 5}}; }), "passed", "different");
  expect(with([](Options& o) { o.standard_output = StreamTo::merged(); }), "standard_output",
         "standard_error");
  expect(with([](Options& o) { o.standard_error = StreamTo::descriptor(-9); }), "standard_error", "open");
  expect(refusal([] {
           Options options;
           options.standard_output = options.standard_error = StreamTo::null();
           OutputExecutor("sleep 1", "x", options);
         }),
         "output", "StreamTo::pipe()");
}

TEST(Words, AreThoseOfAShell) {
  using Words = std::vector<std::string>;
  EXPECT_EQ(split_words("  a\tb\nc "), (Words{"a", "b", "c"}));
  EXPECT_EQ(split_words("a'b c'd \"e f\" '' \"\""), (Words{"ab cd", "e f", "", ""}));
  EXPECT_EQ(split_words("a\\ b \\\"c\\' 'd\\'"), (Words{"a b", "\"c'", "d\\"}));
  EXPECT_EQ(split_words("\"a\\\"b\\\\c\\d\\$\" \"it's\""), (Words{"a\"b\\c\\d$", "it's"}));
  EXPECT_EQ(split_words("a\\\nb \\\n c"), (Words{"ab", "c"}));
  EXPECT_EQ(split_words("$HOME;*"), (Words{"$HOME;*"}));
  EXPECT_TRUE(split_words(" ").empty());
}

}  // namespace
}  // namespace weft::process::test
