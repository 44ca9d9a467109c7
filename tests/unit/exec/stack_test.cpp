#include "process/stack.hpp"

#include <gtest/gtest.h>

#include <random>

namespace weft::process {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

std::vector<Service> parse(std::string_view text) {
  return parse_stack(text, "f");
}

std::string complaint_of(std::string_view text) {
  try {
    parse(text);
  } catch (const StackError& error) {
    return error.what();
  }
  return "none";
}

TEST(Stack, TakesEveryKey) {
  const auto services = parse(R"([service.db]
command = ["server", "-p", "1"]
wait-port = [7000, "localhost:7001", "[::1]:7002"]
wait-http = "https://localhost/health"
wait-output = ["a", "b"]
wait-file = "/run/pid"
wait-socket = "/run/socket"
any = true
status = "^[23]..$"
method = "HEAD"
headers = { Accept = "*/*" }
insecure = true
ca-file = "ca.pem"
follow = true
timeout = 0.5
grace = 3
stop-signal = "INT"
env = { A = "1", B = "" }
cwd = "/tmp"
after = []
)");
  ASSERT_EQ(services.size(), 1u);
  const Service& db = services[0];
  EXPECT_EQ(db.name, "db");
  EXPECT_EQ(db.command.text(), "server -p 1");
  EXPECT_EQ(db.options.timeout, 500ms);
  EXPECT_EQ(db.options.grace, 3s);
  EXPECT_EQ(db.options.stop_signal, SIGINT);
  EXPECT_EQ(db.options.environment.at("A"), "1");
  EXPECT_EQ(db.options.cwd, "/tmp");
  EXPECT_EQ(
      db.readiness.condition()->name(),
      "(file /run/pid or HEAD https://localhost/health or output that matches /a/ or output that matches "
      "/b/ or TCP 127.0.0.1:7000 or TCP localhost:7001 or TCP ::1:7002 or Unix socket /run/socket)");
}

TEST(Stack, TextsAreSplitOrGivenToAShell) {
  const auto services = parse(
      "[service.a]\ncommand = \"x 'y z'\"\n[service.b]\ncommand = \"x | y\"\nshell = true\nstop-signal = "
      "9\n");
  EXPECT_EQ(services[0].command.arguments(false), (std::vector<std::string>{"x", "y z"}));
  EXPECT_EQ(services[1].command.arguments(true), (std::vector<std::string>{"/bin/sh", "-c", "x | y"}));
  EXPECT_EQ(services[1].options.stop_signal, SIGKILL);
}

TEST(Stack, WordsForAShellMayBeQuotedOrListed) {
  const auto words = [](const char* command) {
    return parse((std::string("[service.a]\ncommand = ") + command).c_str())[0]
        .command.arguments(false)
        .back();
  };
  EXPECT_EQ(words("\"find . -exec echo {} \\\\;\""), ";");
  EXPECT_EQ(words("\"server --separator '|'\""), "|");
  EXPECT_EQ(words("\"server a=b 5\""), "5");
  EXPECT_EQ(words("['server', '&&']"), "&&");
  EXPECT_EQ(words("'server ^a$'"), "^a$");
  EXPECT_EQ(words("\"server '$PORT'\""), "$PORT");
  EXPECT_EQ(words("\"trap x\""), "x");
}

TEST(Stack, DefaultsAreForWhatIsNotSaid) {
  StackDefaults defaults;
  defaults.options.timeout = 7s;
  defaults.options.grace = 8s;
  const auto services = parse_stack("[service.a]\ncommand = 'x'\ngrace = 1", "f", defaults);
  EXPECT_EQ(services[0].options.timeout, 7s);
  EXPECT_EQ(services[0].options.grace, 1s);
}

constexpr const char* kDiamond =
    "[service.web]\ncommand='w'\nafter=['left','right']\n[service.left]\ncommand='l'\nafter='db'\n"
    "[service.right]\ncommand='r'\nafter=['db', "
    "'db']\n[service.db]\ncommand='d'\n[service.alone]\ncommand='a'\n";

TEST(Stack, ThoseThatOthersComeAfterAreFirstOtherwiseAsInTheFile) {
  EXPECT_EQ(describe_order(parse(kDiamond)),
            "db\nleft: after db\nright: after db\nweb: after left, right\nalone\n");
}

TEST(Stack, SelectionTakesWhatItComesAfter) {
  EXPECT_EQ(describe_order(select_services(parse(kDiamond), {"right"})), "db\nright: after db\n");
  EXPECT_EQ(describe_order(select_services(parse(kDiamond), {"alone", "db"})), "db\nalone\n");
  EXPECT_THROW(select_services(parse(kDiamond), {"no"}), std::invalid_argument);
}

struct Bad {
  const char* text;
  const char* complaint;  // how it begins
};

TEST(Stack, ComplaintsNameThePlaceAndWhatIsExpected) {
  const Bad table[] = {
      {"", "f:1:1: there is no service; expected [service.NAME]"},
      {"# nothing\n", "f:1:1: there is no service"},
      {"[service]\n", "f:1:1: there is no service"},
      {"service = 3", "f:1:11: service is a whole number; expected tables"},
      {"[services.db]\ncommand = 'x'", "f:1:2: 'services' is unknown here; expected [service.NAME]"},
      {"[service.db]\ncommand = 'x'\n[other]", "f:3:2: 'other' is unknown here"},
      {"[service]\ndb = 'x'", "f:2:6: service.db is text; expected a table"},
      {"[service.db]\n", "f:1:10: service.db has no command; expected command = "},
      {"[service.\"\"]\ncommand='x'", "f:1:10: a service has a name that cannot be printed"},
      {"[service.\"a\\n\"]\ncommand='x'", "f:1:10: a service has a name that cannot be printed"},
      {"[service.a]\ncommand = ''", "f:2:11: service.a: the command is empty"},
      {"[service.a]\ncommand = []", "f:2:11: service.a: the command is empty"},
      {"[service.a]\ncommand = 3", "f:2:11: command is a whole number; expected a list of words"},
      {"[service.a]\ncommand = ['a', 3]", "f:2:17: a word of command is a whole number; expected a list"},
      {"[service.a]\ncommand = \"a 'b\"", "f:2:11: service.a: `a 'b`: a ' has no end"},
      {"[service.a]\ncommand = \"a\\u0000\"", "f:2:11: command has a NUL in it"},
      {"[service.a]\ncommand = ['a', 'b']\nshell = true", "f:2:11: service.a: a shell runs one text, not 2"},
      {"[service.a]\ncommand = 'x'\nwait_port = 3",
       "f:3:1: 'wait_port' is no key of a service; expected command"},
      {"[service.a]\ncommand = 'x'\nwait-port = true", "f:3:13: wait-port is true or false; expected a port"},
      {"[service.a]\ncommand = 'x'\nwait-port = []",
       "f:3:13: wait-port is an empty list; expected one value"},
      {"[service.a]\ncommand = 'x'\nwait-port = 70000",
       "f:3:13: wait-port: '70000' is no port; expected [HOST:]"},
      {"[service.a]\ncommand = 'x'\nwait-port = -1", "f:3:13: wait-port: '-1' is no port"},
      {"[service.a]\ncommand = 'x'\nwait-port = [80, 'x:']", "f:3:18: wait-port: 'x:' is no port"},
      {"[service.a]\ncommand = 'x'\nwait-port = '::1:80'", "f:3:13: wait-port: '::1:80' is no port"},
      {"[service.a]\ncommand = 'x'\nwait-http = 'ftp://x'", "f:3:13: wait-http: the URL 'ftp://x': unknown"},
      {"[service.a]\ncommand = 'x'\nwait-http = 80", "f:3:13: wait-http is a whole number; expected text"},
      {"[service.a]\ncommand = 'x'\nwait-output = '('", "f:3:15: wait-output: the regular expression '('"},
      {"[service.a]\ncommand = 'x'\nwait-file = ''", "f:3:13: wait-file: a path is empty"},
      {"[service.a]\ncommand = 'x'\nwait-http = 'http://x'\nstatus = '['",
       "f:3:13: wait-http: the regular expression '['"},
      {"[service.a]\ncommand = 'cd x && y'", "f:2:11: command: '&&' is for a shell; expected shell = true"},
      {"[service.a]\ncommand = 'x >> y'", "f:2:11: command: '>>' is for a shell"},
      {"[service.a]\ncommand = 'x $PORT'", "f:2:11: command: '$PORT' is for a shell"},
      {"[service.a]\ncommand = 'x; y'", "f:2:11: command: 'x;' is for a shell"},
      {"[service.a]\ncommand = 'x'\nwait-port = 80\n[service.b]\ncommand = 'y'\nwait-port = [81, 80]",
       "f:6:18: TCP 127.0.0.1:80 is what service 'a' is waited for, too"},
      {"[service.a]\ncommand = 'x 2>/dev/null'", "f:2:11: command: '2>/dev/null' is for a shell"},
      {"[service.a]\ncommand = 'x'\nwait-port = 80\nstatus = '200'", "f:4:1: status is for wait-http"},
      {"[service.a]\nfollow = true\ncommand = 'x'", "f:2:1: follow is for wait-http"},
      {"[service.a]\ncommand = 'x'\nany = true", "f:3:7: any is for several wait-..., and there is none"},
      {"[service.a]\ncommand = 'x'\nany = 1", "f:3:7: any is a whole number; expected true or false"},
      {"[service.a]\ncommand = 'x'\ntimeout = '3'", "f:3:11: timeout is text; expected seconds"},
      {"[service.a]\ncommand = 'x'\ntimeout = true", "f:3:11: timeout is true or false; expected seconds"},
      {"[service.a]\ncommand = 'x'\ntimeout = -1", "f:3:11: timeout: it is no time to wait"},
      {"[service.a]\ncommand = 'x'\ngrace = inf", "f:3:9: grace: it is no time to wait"},
      {"[service.a]\ncommand = 'x'\ngrace = nan", "f:3:9: grace: it is no time to wait"},
      {"[service.a]\ncommand = 'x'\ngrace = 1979-05-27", "f:3:9: grace is a date or time; expected seconds"},
      {"[service.a]\ncommand = 'x'\nstop-signal = 'FOO'",
       "f:3:15: stop-signal: 'FOO' is no signal; expected"},
      {"[service.a]\ncommand = 'x'\nstop-signal = 0", "f:3:15: stop-signal: '0' is no signal"},
      {"[service.a]\ncommand = 'x'\nstop-signal = 1.5", "f:3:15: stop-signal is a number; expected a name"},
      {"[service.a]\ncommand = 'x'\nenv = ['A=1']", "f:3:7: env is a list; expected a table"},
      {"[service.a]\ncommand = 'x'\nenv = { A = 1 }",
       "f:3:13: env.A is a whole number; expected text, in quotes"},
      {"[service.a]\ncommand = 'x'\nenv = { \"A=B\" = '1' }", "f:2:11: service.a: environment is for 'A=B'"},
      {"[service.a]\ncommand = 'x'\nshell = 'yes'", "f:3:9: shell is text; expected true or false"},
      {"[service.a]\ncommand = 'x'\ncwd = 3", "f:3:7: cwd is a whole number; expected text"},
      {"[service.a]\ncommand = 'x'\nafter = 3", "f:3:9: after is a whole number; expected names"},
      {"[service.a]\ncommand = 'x'\nafter = ['b']",
       "f:3:10: after: there is no service 'b'; expected one of a"},
      {"[service.a]\ncommand = 'x'\nafter = ['a']", "f:3:10: the services wait for each other: a after a;"},
      {"[service.a]\ncommand='x'\nafter=['b']\n[service.b]\ncommand='x'\nafter=['c']\n[service.c]\ncommand='"
       "x'\n"
       "after=['b']",
       "f:6:8: the services wait for each other: b after c after b;"},
      {"[service.a]\ncommand = 'x'\ncommand = 'y'", "f:3:"},
      {"[service.a\ncommand = 'x'", "f:1:11: "},
      {"[service.a]\ncommand = x", "f:2:11: "},
      {"\xff\xfe", "f:1:1: "},
  };
  for (const auto& [text, complaint] : table)
    EXPECT_EQ(complaint_of(text).substr(0, strlen(complaint)), complaint) << text << "\n"
                                                                          << complaint_of(text);
}

// Whatever stands in a file, it is read or refused.
TEST(Stack, NothingElseThanStackErrorIsThrown) {
  const std::string good =
      std::string(kDiamond) +
      "[service.full]\ncommand=['a','b']\nwait-port=[1,'h:2']\nwait-output='x'\nany=true\n"
      "timeout=1.5\nenv={A='1'}\nstop-signal=9\nshell=false\n";
  std::mt19937 random(7);
  const auto below = [&](size_t limit) {
    return std::uniform_int_distribution<size_t>(0, limit - 1)(random);
  };
  const std::string_view scraps[] = {"[",
                                     "]",
                                     "'",
                                     "\"",
                                     "=",
                                     "\n",
                                     "{",
                                     "}",
                                     "[[",
                                     "1e400",
                                     "\\u0000",
                                     ".",
                                     ",",
                                     "-1",
                                     "after",
                                     "service",
                                     "#",
                                     "\xc3",
                                     "9223372036854775808",
                                     "true"};
  for (int round = 0; round < 20'000; ++round) {
    std::string text = good;
    for (size_t changes = 1 + below(4); changes > 0; --changes) {
      const size_t at = below(text.size()), size = below(6);
      if (below(2) == 0) text.erase(at, size);
      if (below(2) == 0) text.insert(std::min(at, text.size()), scraps[below(std::size(scraps))]);
    }
    try {
      parse(text);
    } catch (const StackError& error) {
      EXPECT_EQ(std::string(error.what()).substr(0, 2), "f:") << text;
    }
  }
}

TEST(Stack, AFileThatCannotBeReadIsNamed) {
  EXPECT_THROW(read_stack("/no/such/file"), StackError);
  EXPECT_THROW(read_stack("/"), StackError);
  EXPECT_THROW(read_stack("/dev/null"), StackError);
}

}  // namespace
}  // namespace weft::process
