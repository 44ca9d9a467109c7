#include "runtime/settings_environment.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>

namespace weft::engine::environment {

namespace {

constexpr std::string_view kLoaderVariable = "LD_PRELOAD";
constexpr std::string_view kSeparators = ": ";  // the loader takes either

bool is_ours(std::string_view entry) noexcept {
  return entry.substr(entry.rfind('/') + 1) == kPreloadName;
}

std::string_view name_of(std::string_view variable) noexcept {
  return variable.substr(0, variable.find('='));
}

// Removes our entry from the value, in place, together with the separator that follows it. True if there was
// one.
bool remove_entry(char* value) noexcept {
  for (size_t begin = 0, length = strlen(value); begin < length;) {
    const std::string_view rest(value + begin, length - begin);
    const size_t end = begin + std::min(rest.find_first_of(kSeparators), rest.size());
    if (!is_ours({value + begin, end - begin})) {
      begin = end + 1;
      continue;
    }
    const size_t next = end < length ? end + 1 : end;
    const bool last = end == length;
    memmove(value + begin, value + next, length - next + 1);
    if (last && begin > 0) value[begin - 1] = '\0';
    return true;
  }
  return false;
}

}  // namespace

std::string read(Settings& settings) {
  for (const SettingForm& form : setting_forms()) {
    const char* value = getenv(form.variable);
    if (!value || !*value) continue;
    if (!form.parse(value, settings)) return form.complaint(form.variable, value);
  }
  return {};
}

bool is_setting(std::string_view variable) noexcept {
  for (const SettingForm& form : setting_forms())
    if (variable == form.variable) return true;
  return false;
}

std::vector<std::string> with_weft(const char* const* environment, const Settings& settings,
                                   const std::string& preload) {
  std::vector<std::string> result;
  std::string loader = std::string(kLoaderVariable) + "=" + preload;
  for (; *environment; ++environment) {
    const std::string_view variable = *environment;
    const std::string_view name = name_of(variable);
    if (is_setting(name)) continue;
    if (name != kLoaderVariable) {
      result.emplace_back(variable);
      continue;
    }
    std::string value(variable.substr(std::min(name.size() + 1, variable.size())));
    bool had_ours = false;
    while (remove_entry(value.data())) {
      value.resize(strlen(value.c_str()));
      had_ours = true;
    }
    // An empty value is kept, so that withdraw() leaves the variable as it was: set.
    if (!value.empty() || !had_ours) loader += ":" + value;
  }
  result.push_back(std::move(loader));
  for (const SettingForm& form : setting_forms())
    if (std::string value = form.format(settings); !value.empty())
      result.push_back(std::string(form.variable) + "=" + value);
  return result;
}

void withdraw() noexcept {
  for (const SettingForm& form : setting_forms()) unsetenv(form.variable);
  char* value = getenv(kLoaderVariable.data());
  if (!value) return;
  const bool alone = !strpbrk(value, kSeparators.data());
  if (remove_entry(value) && alone) unsetenv(kLoaderVariable.data());
}

}  // namespace weft::engine::environment
