// Commands that are started and ended: no call leaks, whatever the command does.
#include <sys/resource.h>

#include <stdexcept>

#include "public_calls.hpp"
#include "weft/process/command.hpp"
#include "weft/process/errors.hpp"
#include "weft/process/executor.hpp"
#include "weft/process/executors.hpp"
#include "weft/process/gtest.hpp"
#include "weft/process/options.hpp"
#include "weft/process/readiness.hpp"
#include "weft/process/streams.hpp"

namespace weft::process::test {
namespace {

using namespace weft::test;

const std::string kText(100, 'x');

Options in_shell(std::chrono::nanoseconds timeout = 1h) {
  Options options;
  options.shell = true;
  options.timeout = timeout;
  return options;
}

std::string path_of(const std::string& name) {
  return LeakTestEnvironment::folder() + "/" + name;
}

// A command that says so when it runs, so that who plays its service begins then, and not before the look at
// what is there already.
const std::string kBegun = "begun";
std::string beginning() {
  return ": > " + path_of(kBegun) + "; exec sleep 1000";
}
template <typename Serve>
void serve_once_begun(Executor&& executor, Serve&& serve) {
  const auto service = spawn([&] {
    while (!std::filesystem::exists(path_of(kBegun))) sleep(200us);
    serve();
  });
  executor.start();
  executor.kill();
  service.cancel();
  service.join();
  std::filesystem::remove(path_of(kBegun));
}

TEST(CommandLeaks, SplitAndRefused) {
  EXPECT_NO_LEAK({
    EXPECT_EQ(split_words("a 'b c' \"d\" e\\ f").size(), 4u);
    EXPECT_THROW(split_words(kText + "'"), std::invalid_argument);
    EXPECT_EQ(shell_operator("a && b"), "&&");
    EXPECT_EQ(shell_word({"cd", kText}), "cd");
    EXPECT_EQ(Command(kText).arguments(true).size(), 3u);
    EXPECT_EQ(Command({kText, "it's"}).text(), kText + " 'it'\\''s'");
    EXPECT_THROW(Command("").arguments(false), std::invalid_argument);
    EXPECT_THROW(Command(kText + "'").arguments(false), std::invalid_argument);
    EXPECT_THROW(Command({kText, kText}).arguments(true), std::invalid_argument);
  });
}

TEST(ErrorLeaks, Copies) {
  EXPECT_NO_LEAK({
    const Error error(kText, kText, kText);
    const Error copy = error;
    EXPECT_EQ(copy.command(), copy.output());
    EXPECT_THROW(throw AlreadyRunning(kText, kText), AlreadyRunning);
  });
}
TEST(NotStartedLeaks, Copies) {
  EXPECT_NO_LEAK({
    const NotStarted error(kText, kText, ENOENT, Stage::kExecute);
    EXPECT_EQ(NotStarted(error).code(), std::errc::no_such_file_or_directory);
    EXPECT_EQ(error.stage(), Stage::kExecute);
  });
}
TEST(ExitedEarlyLeaks, Copies) {
  EXPECT_NO_LEAK({ EXPECT_EQ(ExitedEarly(kText, kText, 5, kText).exit_code(), 5); });
}
TEST(StartTimeoutLeaks, Copies) {
  EXPECT_NO_LEAK({ EXPECT_EQ(StartTimeout(kText, kText, kText, kText).seen(), kText); });
}
TEST(StopErrorLeaks, Copies) {
  EXPECT_NO_LEAK({
    const StopError error(kText, kText, 5, 6, kText);
    EXPECT_EQ(error.exit_code(), 5);
    EXPECT_EQ(error.unkilled(), 6);
  });
}

TEST(ExecutorLeaks, StartedAndStopped) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Options options = in_shell();
    options.cwd = "/";
    options.environment = {{"NAME", kText}, {"HOME", std::nullopt}};
    options.standard_input = StreamTo::null();
    options.standard_error = StreamTo::merged();
    options.limits = {{RLIMIT_CORE, 0, 0}};
    Executor executor("echo $NAME; exec sleep 1000", options, Readiness::output("x+"));
    EXPECT_FALSE(executor.running());
    executor.start();
    EXPECT_TRUE(executor.running());
    EXPECT_GT(executor.pid(), 0);
    EXPECT_EQ(executor.exit_code(), std::nullopt);
    EXPECT_EQ(executor.wait_for(10us), std::nullopt);
    EXPECT_EQ(executor.last_output(), kText);
    EXPECT_EQ(executor.output().read_line(), kText);
    EXPECT_EQ(executor.errors().tail(5), "");
    executor.input().close();
    EXPECT_NE(executor.name(), "");
    EXPECT_EQ(executor.options().cwd, "/");
    expect_ended([&] { executor.wait(); });
    executor.stop();
    EXPECT_TRUE(executor.stopped());
    executor.start();
    executor.signal(SIGTERM, Scope::kGroup);
    EXPECT_EQ(executor.wait(), -SIGTERM);
    Executor other(std::move(executor));
    other.start();
    other = Executor("sleep 1000");
    other.start();
    other.kill();
    EXPECT_EQ(error_of([&] { other.signal(SIGTERM); }), ESRCH);
    EXPECT_EQ(error_of([&] { other.signal(-1); }), EINVAL);
    Executor("sleep 1000").start();  // ended with the executor
  });
}

TEST(ExecutorLeaks, ThatCannotStart) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    EXPECT_THROW(Executor("/no such file").start(), NotStarted);
    EXPECT_THROW(Executor(""), std::invalid_argument);
    EXPECT_THROW(Executor("true", {.cwd = std::string("a\0b", 3)}), std::invalid_argument);
    EXPECT_THROW(Executor("true", {.cwd = "/no such folder"}).start(), NotStarted);
    EXPECT_THROW(Executor("true").wait(), std::logic_error);
    Options silent;
    silent.standard_output = silent.standard_error = StreamTo::inherit();
    EXPECT_THROW(Executor("true", silent, Readiness::output("x")), std::invalid_argument);
    EXPECT_THROW(Executor("echo why; exit 5", in_shell(), Readiness::output("never")).start(), ExitedEarly);
    EXPECT_THROW(Executor("sleep 1000", in_shell(1ms), Readiness::output("never")).start(), StartTimeout);
    const auto fails = []() -> bool { throw std::runtime_error(kText); };
    EXPECT_THROW(Executor("sleep 1000", {}, Readiness::custom(fails, "fails")).start(), std::runtime_error);
  });
}

TEST(ExecutorLeaks, EndedWhileItStartsOrStops) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    expect_ended([] { Executor("sleep 1000", in_shell(), Readiness::output("never")).start(); });
    expect_ended([] {
      Executor stubborn("trap '' TERM; echo ready; exec sleep 1000", in_shell(), Readiness::output("ready"));
      shield([&] { stubborn.start(); });
      stubborn.stop();
    });
    Executor wrong("trap 'exit 5' TERM; echo ready; read line", in_shell(), Readiness::output("ready"));
    wrong.start();
    EXPECT_THROW(wrong.stop(), StopError);
  });
}

TEST(TcpExecutorLeaks, ReadyOrThere) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    const HeldPort port;
    const auto address = net::Address::loopback(static_cast<uint16_t>(port.number()));
    serve_once_begun(TcpExecutor(beginning(), "127.0.0.1", port.number(), in_shell()),
                     [&] { net::TcpListener(address).accept(); });
    const net::TcpListener there(address);
    EXPECT_THROW(TcpExecutor("true", "127.0.0.1", port.number()).start(), AlreadyRunning);
    EXPECT_THROW(TcpExecutor("true", "127.0.0.1", 0), std::invalid_argument);
  });
}

TEST(UnixSocketExecutorLeaks, ReadyOrThere) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    const auto address = net::Address::unix_path(path_of("socket"));
    serve_once_begun(UnixSocketExecutor(beginning(), path_of("socket"), in_shell()),
                     [&] { net::UnixListener(address).accept(); });
    const net::UnixListener there(address);
    EXPECT_THROW(UnixSocketExecutor("true", path_of("socket")).start(), AlreadyRunning);
    EXPECT_THROW(UnixSocketExecutor("true", ""), std::invalid_argument);
  });
}

TEST(HttpExecutorLeaks, ReadyOrNot) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    const HeldPort port;
    HttpOptions request;
    request.headers = {{"X-Text", kText}};
    request.method = "POST";
    request.body = kText;
    const std::string url = "http://127.0.0.1:" + port.text() + "/path";
    const auto serve = [&] {
      net::TcpListener listener(net::Address::loopback(static_cast<uint16_t>(port.number())));
      for (const char* status : {"503 Not Yet", "200 Here"}) {
        auto stream = listener.accept();
        std::string head;
        stream.read_until(head, "\r\n\r\n");
        stream.write_all("HTTP/1.1 " + std::string(status) + "\r\nContent-Length: 0\r\n\r\n");
      }
    };
    serve_once_begun(HttpExecutor(beginning(), url, request, in_shell()), serve);
    EXPECT_THROW(HttpExecutor("sleep 1000", url, request, in_shell(1ms)).start(), StartTimeout);
    request.status = "(";
    EXPECT_THROW(HttpExecutor("true", url, request), std::invalid_argument);
    EXPECT_THROW(HttpExecutor("true", kText), std::invalid_argument);
  });
}

TEST(PidExecutorLeaks, ReadyOrThere) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    PidExecutor executor(": > " + path_of("pid") + "; exec sleep 1000", path_of("pid"), in_shell());
    executor.start();
    EXPECT_THROW(PidExecutor("true", path_of("pid")).start(), AlreadyRunning);
    executor.kill();
    std::filesystem::remove(path_of("pid"));
    EXPECT_THROW(PidExecutor("true", ""), std::invalid_argument);
  });
}

TEST(OutputExecutorLeaks, ReadyOrNot) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    OutputExecutor("echo one; echo ready 7; sleep 1000", "ready \\d$", in_shell()).start();
    EXPECT_THROW(OutputExecutor("echo one; exec >&- 2>&-; sleep 1000", "ready", in_shell()).start(),
                 ExitedEarly);
    EXPECT_THROW(OutputExecutor("true", "("), std::invalid_argument);
  });
}

TEST(ReadinessLeaks, MadeAndRefused) {
  EXPECT_NO_LEAK({
    EXPECT_EQ(Readiness().condition(), nullptr);
    const Readiness all = Readiness::all(
        {Readiness::tcp("localhost", 1), Readiness::unix_socket("/x"), Readiness::http("https://[::1]/")});
    const Readiness any = Readiness::any({all, Readiness::output(kText), Readiness::file(kText),
                                          Readiness::custom([text = kText] { return true; }, kText)});
    EXPECT_NE(any.condition(), all.condition());
    EXPECT_THROW(Readiness::tcp("", 1), std::invalid_argument);
    EXPECT_THROW(Readiness::unix_socket(kText + kText), std::invalid_argument);
    EXPECT_THROW(Readiness::http("http://x:y"), std::invalid_argument);
    EXPECT_THROW(Readiness::output("(" + kText), std::invalid_argument);
    EXPECT_THROW(Readiness::file(""), std::invalid_argument);
    EXPECT_THROW(Readiness::custom(nullptr, kText), std::invalid_argument);
    EXPECT_THROW(Readiness::all({all, Readiness()}), std::invalid_argument);
    EXPECT_THROW(Readiness::any({}), std::invalid_argument);
  });
}

TEST(ReadinessLeaks, OfSeveralThings) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    int asked = 0;
    const auto later = [&asked] { return ++asked > 2; };
    Executor("echo one; sleep 1000", in_shell(),
             Readiness::all({Readiness::output("one"), Readiness::custom(later, "later")}))
        .start();
    Executor("sleep 1000", in_shell(),
             Readiness::any({Readiness::output("one"), Readiness::custom(later, "l")}))
        .start();
  });
}

TEST(OutputReaderLeaks, LinesAndRest) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Options options = in_shell();
    options.kept_output = 4096;
    Executor executor("read line; echo $line; echo two; echo three >&2; read line; head -c 10000 /dev/zero",
                      options);
    executor.start();
    OutputReader early = executor.output();
    expect_ended([&] { early.read_line(); });
    expect_ended([&] { early.read_some(); });
    executor.input().write(kText + "\n");
    EXPECT_EQ(early.read_line(), kText);
    EXPECT_NE(early.read_some(), "");
    EXPECT_EQ(executor.errors().read_line(), "three");
    executor.input().close();
    executor.wait();
    early.read_all();
    EXPECT_EQ(executor.errors().tail(1), "three\n");
    executor.output().read_all();
    EXPECT_GT(executor.output().bytes_lost(), 0u);
    EXPECT_EQ(OutputReader().read_line(), std::nullopt);
  });
}

TEST(InputWriterLeaks, WritesOrNot) {
  const std::string much(1 << 20, 'x');
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Executor executor("sleep 1000");
    executor.start();
    expect_ended([&] { executor.input().write(much); });
    executor.input().close();
    EXPECT_EQ(error_of([&] { executor.input().write(much); }), EPIPE);
    EXPECT_EQ(error_of([] { InputWriter().write("x"); }), EPIPE);
  });
}

TEST(StreamToLeaks, EachKind) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Options options;
    options.standard_input = StreamTo::inherit();
    options.standard_output = StreamTo::descriptor(2);
    options.standard_error = StreamTo::null();
    options.passed = {{2, 5}};
    EXPECT_EQ(options.standard_output.value(), 2);
    EXPECT_NE(StreamTo::pipe().value(), StreamTo::merged().value());
    Executor("true", options).start().wait();
    options.standard_output = StreamTo::descriptor(900);
    EXPECT_THROW(Executor("true", options).start(), NotStarted);
    options.passed = {{900, 5}};
    EXPECT_THROW(Executor("true", options).start(), NotStarted);
  });
}

TEST(HeldPortLeaks, HeldAndReleased) {
  EXPECT_NO_LEAK({
    HeldPort port;
    EXPECT_EQ(port.text(), std::to_string(port.number()));
    HeldPort moved(std::move(port));
    moved.release();
    moved = HeldPort();
  });
}

TEST(ListeningSocketLeaks, Passed) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    ListeningSocket socket;
    EXPECT_GT(socket.port(), 0);
    Options options;
    socket.pass(options);
    Executor executor(ListeningSocket::with_listen_pid("true"), options);
    EXPECT_EQ(executor.start().wait(), 0);
    socket.close();
  });
}

// A test within the test: each is set up, run, and torn down.
class Inner : public ProcessTest {
 public:
  void TestBody() override {
    free_port();
    listening_socket();
    start(Executor("sleep 1000"));
    EXPECT_THROW(start(Executor("/no such file")), NotStarted);
  }
  void run() {
    SetUp();
    TestBody();
    TearDown();
  }
};
TEST(ProcessTestLeaks, ServicesOfATestAndOfItsSuite) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    Inner::start_for_suite(Executor("sleep 1000"));
    Inner().run();
    Inner::TearDownTestSuite();
  });
}

}  // namespace
}  // namespace weft::process::test
