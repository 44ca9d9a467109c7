// What the examples need of HTTP: asking for one page, and a server to ask when they are given no other.
#pragma once

#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <weft/weft.hpp>

namespace http {

struct Url {
  std::string host, port, path;

  /// "http://host[:port][/path]"; std::invalid_argument for all else.
  static Url parse(std::string_view text) {
    constexpr std::string_view kScheme = "http://";
    if (!text.starts_with(kScheme)) throw std::invalid_argument("no http:// address: " + std::string(text));
    text.remove_prefix(kScheme.size());
    const size_t slash = std::min(text.find('/'), text.size());
    const std::string_view authority = text.substr(0, slash);
    const size_t colon = std::min(authority.rfind(':'), authority.size());
    const std::string_view port = authority.substr(std::min(colon + 1, authority.size()));
    return {std::string(authority.substr(0, colon)), port.empty() ? "80" : std::string(port),
            slash == text.size() ? "/" : std::string(text.substr(slash))};
  }
};

/// The page; std::runtime_error unless the status is 200.
inline std::string get(std::string_view address) {
  const Url url = Url::parse(address);
  auto stream = weft::net::TcpStream::connect(url.host, std::string_view(url.port));
  stream.write_all("GET " + url.path + " HTTP/1.0\r\nHost: " + url.host + "\r\n\r\n");
  std::string answer;
  char buffer[4096];
  while (const size_t size = stream.read_some(buffer)) answer.append(buffer, size);
  const size_t body = answer.find("\r\n\r\n");
  if (body == answer.npos || answer.size() < 13) throw std::runtime_error("no answer of HTTP");
  if (answer.substr(9, 3) != "200") throw std::runtime_error("status " + answer.substr(9, 3));
  return answer.substr(body + 4);
}

struct Answer {
  std::chrono::milliseconds time;  ///< to take
  int status;
  std::string text;
};

/// Serves what `answer` says for a path, in fibers, until the program ends; returns "http://HOST:PORT".
inline std::string serve(std::function<Answer(const std::string& path)> answer) {
  weft::net::TcpListener listener(weft::net::Address::loopback());
  const std::string base = "http://" + listener.local_address().to_string();
  (void)weft::spawn([listener = std::move(listener), answer = std::move(answer)]() mutable {
    for (;;) {
      (void)weft::spawn([stream = listener.accept(), &answer]() mutable {
        try {
          std::string request;
          if (!stream.read_until(request, "\r\n\r\n")) return;
          const Answer what = answer(request.substr(4, request.find(' ', 4) - 4));
          weft::sleep(what.time);
          stream.write_all("HTTP/1.0 " + std::to_string(what.status) + " \r\n\r\n" + what.text);
        } catch (const std::system_error&) {  // a client that did not wait for its answer
        }
      });
    }
  });
  return base;
}

}  // namespace http
