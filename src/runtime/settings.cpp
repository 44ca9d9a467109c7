#include "runtime/settings.hpp"

#include <charconv>
#include <csignal>
#include <cstring>

#include "fiber/stack_pool.hpp"

namespace weft::engine {

namespace {

constexpr size_t kKibi = 1024, kMebi = kKibi * 1024, kGibi = kMebi * 1024;
constexpr size_t kLargestStack = kGibi;

bool parse_flag(std::string_view text, bool& flag) {
  if (text != "0" && text != "1") return false;
  flag = text == "1";
  return true;
}

std::string format_flag(bool flag) {
  return flag ? "1" : "";
}

template <typename Value>
struct Name {
  std::string_view text;
  Value value;
};

template <typename Value, size_t N>
bool parse_name(const Name<Value> (&names)[N], std::string_view text, Value& value) {
  for (const auto& name : names) {
    if (name.text != text) continue;
    value = name.value;
    return true;
  }
  return false;
}

template <typename Value, size_t N>
std::string format_name(const Name<Value> (&names)[N], Value value) {
  for (const auto& name : names)
    if (name.value == value) return std::string(name.text);
  return {};
}

constexpr Name<Backend> kBackends[] = {
    {"auto", Backend::kAuto}, {"io_uring", Backend::kIoUring}, {"epoll", Backend::kEpoll}};
constexpr Name<Threads> kThreads[] = {
    {"python", Threads::kPython}, {"all", Threads::kAll}, {"none", Threads::kNone}};
constexpr Name<bool> kSwitch[] = {{"on", true}, {"off", false}};

bool parse_size(std::string_view text, size_t& size) {
  size_t unit = 1;
  if (!text.empty()) {
    switch (text.back()) {
      case 'k':
      case 'K':
        unit = kKibi;
        break;
      case 'm':
      case 'M':
        unit = kMebi;
        break;
      case 'g':
      case 'G':
        unit = kGibi;
        break;
    }
    if (unit != 1) text.remove_suffix(1);
  }
  size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number > kLargestStack) return false;
  number *= unit;
  if (number < StackPool::kMinimumSize || number > kLargestStack) return false;
  size = number;
  return true;
}

bool parse_signal(std::string_view text, int& signal) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc{} && end == text.data() + text.size()) {
    if (number == 0) {
      signal = 0;
      return true;
    }
  } else {
    number = 0;
    if (text.starts_with("SIG")) text.remove_prefix(3);
    for (int candidate = 1; candidate < NSIG; ++candidate)
      if (const char* name = sigabbrev_np(candidate); name && text == name) number = candidate;
  }
  // 32 and 33 are glibc's own; KILL and STOP cannot be caught.
  if (number < 1 || number > SIGRTMAX || (number >= 32 && number < SIGRTMIN) || number == SIGKILL ||
      number == SIGSTOP)
    return false;
  signal = number;
  return true;
}

std::string format_signal(int signal) {
  if (signal == 0) return {};
  const char* name = sigabbrev_np(signal);
  return name ? name : std::to_string(signal);
}

constexpr SettingForm kForms[] = {
    {"--backend", "WEFT_BACKEND", "auto|io_uring|epoll", "auto, io_uring or epoll",
     "how the kernel is asked for events; auto: io_uring, or epoll where that is refused",
     [](std::string_view text, Settings& s) { return parse_name(kBackends, text, s.backend); },
     [](const Settings& s) {
       return s.backend == Backend::kAuto ? std::string() : format_name(kBackends, s.backend);
     }},
    {"--stack-size", "WEFT_STACK_SIZE", "BYTES", "bytes from 16K to 1G, as in 65536, 64K, 1M",
     "a fiber's stack unless its creator says (1M); only what is touched uses memory",
     [](std::string_view text, Settings& s) { return parse_size(text, s.stack_size); },
     [](const Settings& s) {
       return s.stack_size == Settings().stack_size ? std::string() : std::to_string(s.stack_size);
     }},
    {"--threads", "WEFT_THREADS", "python|all|none", "python, all or none",
     "whose threads become fibers: the interpreter's (default), everyone's, or nobody's",
     [](std::string_view text, Settings& s) { return parse_name(kThreads, text, s.threads); },
     [](const Settings& s) {
       return s.threads == Threads::kPython ? std::string() : format_name(kThreads, s.threads);
     }},
    {"--children", "WEFT_CHILDREN", nullptr, "1 or 0", "run under Weft what the program starts, too",
     [](std::string_view text, Settings& s) { return parse_flag(text, s.children); },
     [](const Settings& s) { return format_flag(s.children); }},
    {"--stats", "WEFT_STATS", nullptr, "1 or 0", "print at exit what was counted, on standard error",
     [](std::string_view text, Settings& s) { return parse_flag(text, s.stats); },
     [](const Settings& s) { return format_flag(s.stats); }},
    {"--stats-file", "WEFT_STATS_FILE", "FILE", "a path",
     "write the same as JSON; %p in FILE is the process id",
     [](std::string_view text, Settings& s) {
       s.stats_file = text;
       return true;
     },
     [](const Settings& s) { return s.stats_file; }},
    {"--dump-signal", "WEFT_DUMP_SIGNAL", "SIGNAL",
     "a signal that can be caught, by name or number, such as QUIT",
     "a signal, such as QUIT, that has the program dump its fibers (none)",
     [](std::string_view text, Settings& s) { return parse_signal(text, s.dump_signal); },
     [](const Settings& s) { return format_signal(s.dump_signal); }},
    {"--verbose", "WEFT_VERBOSE", nullptr, "1 or 0", "say on standard error what Weft does",
     [](std::string_view text, Settings& s) { return parse_flag(text, s.verbose); },
     [](const Settings& s) { return format_flag(s.verbose); }},
    {"--routing", "WEFT_ROUTING", "on|off", "on or off", "off: load everything, route nothing, to compare",
     [](std::string_view text, Settings& s) { return parse_name(kSwitch, text, s.routing); },
     [](const Settings& s) { return s.routing ? std::string() : format_name(kSwitch, s.routing); }},
};

}  // namespace

std::string SettingForm::complaint(std::string_view name, std::string_view text) const {
  return std::string(name) + ": '" + std::string(text) + "' is not allowed; give " + allowed;
}

std::span<const SettingForm> setting_forms() noexcept {
  return kForms;
}

}  // namespace weft::engine
