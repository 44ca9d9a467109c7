// Service: a command of `weft exec`, and what its options are in words.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "weft/process/executor.hpp"

namespace weft::process {

/// What is started for a command's sake, and stopped after it.
struct Service {
  std::string name;
  Command command{std::vector<std::string>{}};
  Options options;
  Readiness readiness;
  std::vector<std::string> after;  ///< the names of those that are to be ready before it is started
};

/// The options of a service where nobody says otherwise: /dev/null as standard input, one pipe for both
/// outputs, so that their lines keep their order.
Options service_options();

// These throw std::invalid_argument, which says what was expected.

/// "[HOST:]PORT"; the host is 127.0.0.1 where it is left out, and in brackets if it has a colon.
Readiness port_readiness(const std::string& place);
/// `kind`: "wait-port", "wait-http", "wait-output", "wait-file" or "wait-socket".
Readiness parse_readiness(std::string_view kind, const std::string& value, const HttpOptions& http);
/// All of them, or any; one without a condition if there are none.
Readiness join_readiness(std::vector<Readiness> parts, bool any);
/// "TERM", "SIGTERM" or "15".
int parse_signal(const std::string& text);
/// A time that is not negative, and of less than some years.
std::chrono::nanoseconds parse_seconds(double seconds);
std::chrono::nanoseconds parse_seconds(const std::string& text);
/// "NAME=VALUE" and "NAME: VALUE".
std::pair<std::string, std::string> parse_variable(const std::string& text);
std::pair<std::string, std::string> parse_header(const std::string& text);

/// `text` of an exception without what only programmers know: the names of namespaces and of Options.
std::string for_users(std::string text);

}  // namespace weft::process
