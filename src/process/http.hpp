// HTTP/1.1 as far as a probe needs it: requests as bytes, and the head of the response. Nothing here waits.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "process/tls.hpp"
#include "process/url.hpp"

namespace weft::process {

/// What to ask, and which answer is a good one. A value.
struct HttpRequest {
  Url url;
  std::string method = "HEAD";
  /// Host, User-Agent, Connection, Content-Length and (from the URL's credentials) Authorization are added
  /// unless they are among these.
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;  ///< sent as it is, also where a Transfer-Encoding is among the headers
  /// Is a status good? None: from 200 to 299. Called by the probing fiber or thread; what it throws passes.
  std::function<bool(unsigned status)> accepts;
  /// False: a redirect is a status like any other.
  bool follow_redirects = false;
  TlsOptions tls;
};

/// std::invalid_argument for what would not be a request: a method or a header's name that is no token,
/// control characters in a value, a URL that parse_url() would not take.
void check_request(const HttpRequest& request);

/// What is sent before the body. REQUIRES: check_request().
std::string format_head(const HttpRequest& request);

struct ResponseHead {
  unsigned status = 0;
  std::string reason;    ///< fit to be shown; the usual one where the server sent none
  std::string location;  ///< of a redirect; else empty

  /// "HTTP 500 Internal Server Error".
  std::string to_string() const;
};

/// The request that a redirect asks for: a browser's rules, so that 303, and 301 and 302 after a POST, are
/// followed by GET. Where it leads to another origin it bears no Authorization, Cookie and Host of `request`.
/// std::invalid_argument: the Location cannot be asked.
HttpRequest redirected(const HttpRequest& request, const ResponseHead& head);

/// Reads the head of a response, which may come in pieces. Passes over 1xx responses but 101.
class ResponseReader {
 public:
  static constexpr size_t kHeaderLimit = size_t{64} * 1024;

  ResponseReader();
  ~ResponseReader();
  ResponseReader(const ResponseReader&) = delete;
  ResponseReader& operator=(const ResponseReader&) = delete;

  /// True when the head is complete; what follows it is ignored. Throws Failure for what is no HTTP, or too
  /// long. REQUIRES: it has not been true or thrown.
  bool feed(std::string_view bytes);
  /// Did anything come?
  bool begun() const noexcept { return begun_; }
  /// REQUIRES: feed() was true.
  const ResponseHead& head() const noexcept { return head_; }

 private:
  struct Parser;

  std::unique_ptr<Parser> parser_;
  std::string pending_;  // what the parser has not taken
  size_t taken_ = 0;     // of this head
  ResponseHead head_;
  bool begun_ = false;
};

}  // namespace weft::process
