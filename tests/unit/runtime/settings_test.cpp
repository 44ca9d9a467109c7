#include "runtime/settings.hpp"

#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "runtime/settings_environment.hpp"

namespace weft::engine {
namespace {

const SettingForm& form(std::string_view option) {
  for (const SettingForm& candidate : setting_forms())
    if (candidate.option == option) return candidate;
  ADD_FAILURE() << "no option " << option;
  return setting_forms().front();
}

bool parse(std::string_view option, std::string_view text, Settings& settings) {
  return form(option).parse(text, settings);
}

TEST(Settings, ParsesSizes) {
  Settings settings;
  const std::pair<const char*, size_t> good[] = {{"16384", 16384}, {"16K", 16384},
                                                 {"64k", 65536},   {"2M", 2u << 20},
                                                 {"1G", 1u << 30}, {"1073741824", 1u << 30}};
  for (const auto& [text, size] : good) {
    EXPECT_TRUE(parse("--stack-size", text, settings)) << text;
    EXPECT_EQ(settings.stack_size, size) << text;
  }
}

TEST(Settings, RefusesSizesOutOfBounds) {
  for (const char* text : {"", "K", "15K", "16383", "1073741825", "2G", "1.5M", "-1", "1MB", "0x10000", " 1M",
                           "1T", "99999999999999999999", "18446744073709551615G"}) {
    Settings settings;
    EXPECT_FALSE(parse("--stack-size", text, settings)) << text;
    EXPECT_EQ(settings.stack_size, Settings().stack_size) << text;
  }
}

TEST(Settings, ParsesSignals) {
  Settings settings;
  for (const char* text : {"QUIT", "SIGQUIT", "3"}) {
    settings.dump_signal = 0;
    EXPECT_TRUE(parse("--dump-signal", text, settings)) << text;
    EXPECT_EQ(settings.dump_signal, SIGQUIT) << text;
  }
  EXPECT_TRUE(parse("--dump-signal", "0", settings));
  EXPECT_EQ(settings.dump_signal, 0);
}

TEST(Settings, RefusesSignalsThatCannotBeCaught) {
  for (const char* text :
       {"", "KILL", "SIGSTOP", "9", "19", "32", "33", "65", "-3", "quit", "SIGSIGQUIT", "3x"}) {
    Settings settings;
    EXPECT_FALSE(parse("--dump-signal", text, settings)) << text;
  }
}

TEST(Settings, RefusesWordsItDoesNotKnow) {
  Settings settings;
  for (const SettingForm& each : setting_forms()) {
    if (std::string_view(each.option) == "--stats-file") continue;
    EXPECT_FALSE(each.parse("perhaps", settings)) << each.option;
    const std::string complaint = each.complaint(each.variable, "perhaps");
    EXPECT_NE(complaint.find(each.variable), complaint.npos);
    EXPECT_NE(complaint.find("'perhaps'"), complaint.npos);
    EXPECT_NE(complaint.find(each.allowed), complaint.npos);
  }
}

// Every setting in a form other than its default, through the environment and back.
class Environment : public testing::Test {
 protected:
  Environment() { clear(); }
  ~Environment() override { clear(); }

  static void clear() {
    for (const SettingForm& each : setting_forms()) unsetenv(each.variable);
    unsetenv("LD_PRELOAD");
  }

  static void adopt(const std::vector<std::string>& variables) {
    for (const std::string& variable : variables) {
      const size_t equals = variable.find('=');
      setenv(variable.substr(0, equals).c_str(), variable.c_str() + equals + 1, 1);
    }
  }

  static std::string preload_of(std::vector<const char*> variables) {
    variables.push_back(nullptr);
    for (const std::string& variable : environment::with_weft(variables.data(), {}, "/x/libweft-preload.so"))
      if (variable.starts_with("LD_PRELOAD=")) return variable.substr(strlen("LD_PRELOAD="));
    return "none";
  }
};

TEST_F(Environment, CarriesEverySetting) {
  Settings sent;
  sent.backend = Backend::kEpoll;
  sent.stack_size = 65536;
  sent.threads = Threads::kAll;
  sent.verbose = sent.stats = sent.children = true;
  sent.stats_file = "/tmp/a b=%p";
  sent.dump_signal = SIGRTMIN + 3;
  sent.routing = false;
  const char* const none[] = {nullptr};
  adopt(environment::with_weft(none, sent, "/x/libweft-preload.so"));
  Settings got;
  EXPECT_EQ(environment::read(got), "");
  EXPECT_EQ(got.backend, sent.backend);
  EXPECT_EQ(got.stack_size, sent.stack_size);
  EXPECT_EQ(got.threads, sent.threads);
  EXPECT_TRUE(got.verbose && got.stats && got.children);
  EXPECT_EQ(got.stats_file, sent.stats_file);
  EXPECT_EQ(got.dump_signal, sent.dump_signal);
  EXPECT_FALSE(got.routing);

  environment::withdraw();
  for (const SettingForm& each : setting_forms()) EXPECT_EQ(getenv(each.variable), nullptr) << each.variable;
  EXPECT_EQ(getenv("LD_PRELOAD"), nullptr);
}

TEST_F(Environment, SaysWhichVariableIsBad) {
  setenv("WEFT_BACKEND", "kqueue", 1);
  Settings settings;
  EXPECT_EQ(environment::read(settings),
            "WEFT_BACKEND: 'kqueue' is not allowed; give auto, io_uring or epoll");
  setenv("WEFT_BACKEND", "", 1);
  EXPECT_EQ(environment::read(settings), "");
}

TEST_F(Environment, LeavesOtherVariablesAlone) {
  const char* const variables[] = {"A=1", "WEFT_BACKEND=epoll", "WEFT_OTHER=2",
                                   "B",   "LD_PRELOADED=3",     nullptr};
  const std::vector<std::string> expected = {"A=1", "WEFT_OTHER=2", "B", "LD_PRELOADED=3",
                                             "LD_PRELOAD=/x/libweft-preload.so"};
  EXPECT_EQ(environment::with_weft(variables, {}, "/x/libweft-preload.so"), expected);
}

TEST_F(Environment, KeepsOtherPreloadsInOrder) {
  EXPECT_EQ(preload_of({"LD_PRELOAD=/a.so:/b.so /c.so"}), "/x/libweft-preload.so:/a.so:/b.so /c.so");
  EXPECT_EQ(preload_of({"LD_PRELOAD=/old/libweft-preload.so:/a.so"}), "/x/libweft-preload.so:/a.so");
  EXPECT_EQ(preload_of({"LD_PRELOAD=/a.so:/old/libweft-preload.so"}), "/x/libweft-preload.so:/a.so");
  EXPECT_EQ(preload_of({"LD_PRELOAD=/old/libweft-preload.so"}), "/x/libweft-preload.so");
  EXPECT_EQ(preload_of({"LD_PRELOAD="}), "/x/libweft-preload.so:");
}

TEST_F(Environment, WithdrawsExactlyWhatWasAdded) {
  for (const char* former : {"", "/a.so", "/a.so:/b.so /c.so", "libfoo.so"}) {
    const std::string variable = std::string("LD_PRELOAD=") + former;
    setenv("LD_PRELOAD", preload_of({variable.c_str()}).c_str(), 1);
    environment::withdraw();
    EXPECT_STREQ(getenv("LD_PRELOAD"), former);
  }
}

}  // namespace
}  // namespace weft::engine
