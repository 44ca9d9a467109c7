// Readiness: when a command that was started is ready to be used.
#pragma once

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string_view>

#include "weft/process/detail.hpp"

namespace weft::process {

/// The request by which Readiness::http() asks.
struct HttpOptions {
  std::string method = "GET";
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::string status = "^2\\d\\d$";  ///< a regular expression for the three digits of the answer's status
  bool follow_redirects = false;
  bool verify = true;   ///< the certificate of an https server
  std::string ca_file;  ///< empty: the system's authorities
  /// For one answer.
  std::chrono::nanoseconds timeout = std::chrono::seconds(5);
};

/// Says when a command is ready. A value; copies share nothing that changes. The functions that make one do
/// not wait; they throw std::invalid_argument, which names what is wrong and what is expected.
///
/// tcp(), unix_socket(), http() and file() also look before the command is started: what is there by then
/// would be taken for the command's, so start() throws AlreadyRunning. A look takes some microseconds where
/// somebody answers or refuses; on a silent host, a second at most (http: HttpOptions::timeout).
class Readiness {
 public:
  /// None: ready once it is executed.
  Readiness() noexcept = default;

  /// Something accepts connections there. `port`: 1 to 65535.
  static Readiness tcp(std::string host, int port) {
    check_text("a host", host);
    if (port < 1 || port > 65535)
      throw std::invalid_argument("weft::process: port " + std::to_string(port) + "; expected 1 to 65535");
    const std::string place = host + ":" + std::to_string(port);
    return probe("TCP " + place, tcp_probe(host, static_cast<uint16_t>(port)),
                 tcp_probe(host, static_cast<uint16_t>(port)), occupied(place));
  }
  /// Something accepts connections at a Unix socket.
  static Readiness unix_socket(std::string path) {
    check_text("the path of a socket", path);
    if (path.size() > 107)
      throw std::invalid_argument("weft::process: the path of a socket '" + path + "' has " +
                                  std::to_string(path.size()) + " bytes; expected 107 at most");
    const auto look = [path](const Look& what, std::string& seen) {
      return asked(seen, [&](detail::ProbeAnswer& answer) {
        return detail::probe_unix(path.c_str(), std::min(what.limit, kOneLook), answer);
      });
    };
    return probe("Unix socket " + path, look, look, occupied(path));
  }
  /// A request is answered with a status that matches `options.status`. `url`: http:// or https://.
  static Readiness http(std::string url, HttpOptions options = {}) {
    const auto [host, port] = parse_url(url);
    if (options.timeout.count() <= 0)
      throw std::invalid_argument("weft::process: HttpOptions::timeout is " +
                                  std::to_string(options.timeout.count()) + " ns; expected more than 0");
    check_text("an HTTP method", options.method);
    const detail::PatternRef status = pattern(options.status, 0);
    const auto request = std::make_shared<const HttpOptions>(std::move(options));
    const auto look = [url, request, status](const Look& one, std::string& seen) {
      return asked(seen, [&](detail::ProbeAnswer& answer) {
        std::vector<const char*> names, values;
        for (const auto& [name, value] : request->headers) {
          names.push_back(name.c_str());
          values.push_back(value.c_str());
        }
        detail::HttpProbe what;
        what.url = url.c_str();
        what.method = request->method.c_str();
        what.body = request->body.empty() ? nullptr : request->body.data();
        what.body_size = request->body.size();
        what.header_names = names.data();
        what.header_values = values.data();
        what.header_count = names.size();
        what.status = status.get();
        what.follow_redirects = request->follow_redirects;
        what.verify = request->verify;
        what.again = one.again;
        what.ca_file = request->ca_file.empty() ? nullptr : request->ca_file.c_str();
        return detail::probe_http(what, std::min<detail::Nanos>(one.limit, request->timeout.count()), answer);
      });
    };
    return probe(request->method + " " + url, look, tcp_probe(host, port),
                 occupied(host + ":" + std::to_string(port)));
  }
  /// A line of standard output or standard error, whichever are pipes, matches; of an unfinished line, once
  /// nothing more came for 50 ms. `regex`: as Perl's. `flags`: of detail::PatternFlags.
  static Readiness output(std::string regex, uint32_t flags = 0) {
    detail::PatternRef compiled = pattern(regex, flags | detail::kMultiline);  // ^ and $: of a line
    return Readiness(std::make_shared<detail::OutputCondition>(std::move(regex), std::move(compiled)));
  }
  /// There is such a file. A path that is not absolute begins at the program's working directory.
  static Readiness file(std::string path) {
    check_text("a path", path);
    const auto look = [path](const Look&, std::string& seen) {
      struct stat status;
      if (::stat(path.c_str(), &status) == 0) return true;
      seen = std::system_category().message(errno);
      return false;
    };
    return probe(
        "file " + path, look, look,
        "the file " + path + " is there already: remove it, if it was left behind, or end who made it");
  }
  /// `ready` returns true. It is called by start(), on its thread; what it throws ends the start. It may
  /// wait.
  static Readiness custom(std::function<bool()> ready, std::string name) {
    if (!ready)
      throw std::invalid_argument("weft::process: the function of Readiness::custom is empty; expected one");
    return probe(std::move(name), [ready](const Look&, std::string& seen) {
      const bool is = ready();
      seen = is ? "true" : "false";
      return is;
    });
  }
  /// Each of them was ready once.
  static Readiness all(std::vector<Readiness> parts) { return several(std::move(parts), true); }
  /// One of them is.
  static Readiness any(std::vector<Readiness> parts) { return several(std::move(parts), false); }

  /// Null: there is nothing to wait for.
  const detail::Condition* condition() const noexcept { return condition_.get(); }

 private:
  using Look = detail::ProbeCondition::Look;
  static constexpr detail::Nanos kOneLook = 1'000'000'000;

  explicit Readiness(detail::ConditionRef condition) noexcept : condition_(std::move(condition)) {}

  static Readiness probe(std::string name, detail::ProbeCondition::Probe look,
                         detail::ProbeCondition::Probe before = nullptr, std::string advice = "") {
    return Readiness(std::make_shared<detail::ProbeCondition>(std::move(name), std::move(look),
                                                              std::move(before), std::move(advice)));
  }
  static Readiness several(std::vector<Readiness> parts, bool all) {
    std::vector<detail::ConditionRef> conditions;
    for (Readiness& part : parts)
      if (part.condition_) conditions.push_back(std::move(part.condition_));
    if (conditions.empty() || conditions.size() != parts.size())
      throw std::invalid_argument(std::string("weft::process: Readiness::") + (all ? "all" : "any") +
                                  " of nothing; expected one or more, none of them empty");
    return Readiness(std::make_shared<detail::SeveralConditions>(std::move(conditions), all));
  }

  static std::string occupied(const std::string& place) {
    return "something accepts connections at " + place +
           " already: end it, or choose another address for the command";
  }
  static void check_text(const char* what, const std::string& text) {
    if (text.empty())
      throw std::invalid_argument(std::string("weft::process: ") + what + " is empty; expected some text");
    if (text.find('\0') != std::string::npos)
      throw std::invalid_argument(std::string("weft::process: ") + what + ", '" + text.c_str() +
                                  "...', has a NUL in it; expected text without");
  }

  template <typename Ask>
  static bool asked(std::string& seen, Ask&& ask) {
    detail::ProbeAnswer answer;
    detail::raise(ask(answer));
    seen = answer.seen;
    return answer.ready;
  }
  static detail::ProbeCondition::Probe tcp_probe(std::string host, uint16_t port) {
    return [host = std::move(host), port](const Look& look, std::string& seen) {
      return asked(seen, [&](detail::ProbeAnswer& answer) {
        return detail::probe_tcp(host.c_str(), port, std::min(look.limit, kOneLook), answer, look.again);
      });
    };
  }

  static detail::PatternRef pattern(const std::string& text, uint32_t flags) {
    char what[256] = "";
    size_t where = 0;
    detail::Pattern* const compiled =
        detail::compile_pattern(text.data(), text.size(), flags, what, sizeof what, where);
    if (!compiled)
      throw std::invalid_argument("weft::process: the regular expression '" + text + "': " + what +
                                  ", at character " + std::to_string(where) +
                                  "; expected one of Perl's syntax");
    return detail::PatternRef(
        compiled, [](const detail::Pattern* p) { detail::free_pattern(const_cast<detail::Pattern*>(p)); });
  }

  // Only as far as it takes to look whether something listens there; the rest is for who asks.
  static std::pair<std::string, uint16_t> parse_url(const std::string& url) {
    check_text("a URL", url);
    const auto refuse = [&](const char* what) {
      throw std::invalid_argument("weft::process: the URL '" + url + "': " + what +
                                  "; expected http://HOST[:PORT][/PATH] or https://...");
    };
    const bool plain = url.starts_with("http://");
    if (!plain && !url.starts_with("https://")) refuse("unknown scheme");
    const size_t begin = plain ? 7 : 8;
    std::string place = url.substr(begin, url.find_first_of("/?#", begin) - begin);
    if (const size_t at = place.rfind('@'); at != std::string::npos) place.erase(0, at + 1);
    size_t end = place.find(':');
    if (place.starts_with('[')) {
      end = place.find(']');
      if (end == std::string::npos) refuse("a [ has no end");
      ++end;
    }
    std::string host = place.substr(0, end);
    if (host.starts_with('[')) host = host.substr(1, host.size() - 2);
    if (host.empty()) refuse("it has no host");
    unsigned long port = plain ? 80 : 443;
    if (end < place.size()) {
      const std::string digits = place.substr(end + 1);
      if (place[end] != ':' || digits.empty() || digits.size() > 5 ||
          digits.find_first_not_of("0123456789") != std::string::npos)
        refuse("its port is not a number");
      port = std::stoul(digits);
    }
    if (port < 1 || port > 65535) refuse("its port is not 1 to 65535");
    return {host, static_cast<uint16_t>(port)};
  }

  detail::ConditionRef condition_;
};

}  // namespace weft::process
