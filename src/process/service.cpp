#include "process/service.hpp"

#include <charconv>
#include <cmath>

namespace weft::process {

Options service_options() {
  Options options;
  options.standard_input = StreamTo::null();
  options.standard_error = StreamTo::merged();
  return options;
}

Readiness port_readiness(const std::string& place) {
  const size_t colon = place.rfind(':');
  std::string host = colon == std::string::npos ? "127.0.0.1" : place.substr(0, colon);
  const std::string digits = colon == std::string::npos ? place : place.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  int port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port < 1 || port > 65535 ||
      host.empty() || (!bracketed && host.find(':') != std::string::npos))
    throw std::invalid_argument("'" + place +
                                "' is no port; expected [HOST:]PORT with a port from 1 to 65535, as in 8000, "
                                "localhost:8000 or [::1]:8000");
  return Readiness::tcp(std::move(host), port);
}

Readiness parse_readiness(std::string_view kind, const std::string& value, const HttpOptions& http) {
  if (kind == "wait-port") return port_readiness(value);
  if (kind == "wait-http") return Readiness::http(value, http);
  if (kind == "wait-output") return Readiness::output(value);
  if (kind == "wait-file") return Readiness::file(value);
  if (kind == "wait-socket") return Readiness::unix_socket(value);
  throw std::invalid_argument("there is no condition '" + std::string(kind) +
                              "'; expected wait-port and the like");
}

Readiness join_readiness(std::vector<Readiness> parts, bool any) {
  if (parts.empty()) return {};
  if (parts.size() == 1) return std::move(parts.front());
  return any ? Readiness::any(std::move(parts)) : Readiness::all(std::move(parts));
}

int parse_signal(const std::string& text) {
  int number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error == std::errc() && end == text.data() + text.size() && number >= 1 && number <= SIGRTMAX)
    return number;
  const std::string_view name = std::string_view(text).substr(text.starts_with("SIG") ? 3 : 0);
  for (int each = 1; each < NSIG; ++each)
    if (const char* const known = sigabbrev_np(each); known && name == known) return each;
  throw std::invalid_argument("'" + text +
                              "' is no signal; expected a name or number, as in TERM, SIGINT or 9");
}

std::chrono::nanoseconds parse_seconds(double seconds) {
  constexpr double kMost = 1e8;
  if (!(seconds >= 0 && seconds <= kMost))
    throw std::invalid_argument("it is no time to wait; expected seconds, from 0 to 1e8");
  return std::chrono::nanoseconds(std::llround(seconds * 1e9));
}

std::chrono::nanoseconds parse_seconds(const std::string& text) {
  double seconds = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error != std::errc() || end != text.data() + text.size()) seconds = -1;
  try {
    return parse_seconds(seconds);
  } catch (const std::invalid_argument& wrong) {
    throw std::invalid_argument("'" + text + "': " + wrong.what());
  }
}

std::pair<std::string, std::string> parse_variable(const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0)
    throw std::invalid_argument("'" + text + "' is no variable; expected NAME=VALUE");
  return {text.substr(0, at), text.substr(at + 1)};
}

std::pair<std::string, std::string> parse_header(const std::string& text) {
  const size_t at = text.find(':');
  if (at == std::string::npos || at == 0)
    throw std::invalid_argument("'" + text + "' is no header; expected 'NAME: VALUE'");
  const size_t value = text.find_first_not_of(' ', at + 1);
  return {text.substr(0, at), value == std::string::npos ? "" : text.substr(value)};
}

std::string for_users(std::string text) {
  for (const std::string_view name : {"weft::process: ", "Options::"})
    for (size_t at; (at = text.find(name)) != std::string::npos;) text.erase(at, name.size());
  return text;
}

}  // namespace weft::process
