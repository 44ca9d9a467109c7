// The only file that sees Boost.Beast: its parser and its serializer, which work on memory.
#include "process/http.hpp"

#include <algorithm>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/serializer.hpp>
#include <stdexcept>

namespace weft::process {

namespace http = boost::beast::http;
namespace asio = boost::asio;

namespace {

using Headers = std::vector<std::pair<std::string, std::string>>;

constexpr size_t kShown = 80;
// Beast counts name and value in 16 bits.
constexpr size_t kLongestHeader = size_t{32} * 1024;

bool same_name(std::string_view a, std::string_view b) {
  return boost::beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

bool has_header(const Headers& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(),
                     [&](const auto& header) { return same_name(header.first, name); });
}

bool is_token(std::string_view text) {
  constexpr std::string_view kMarks = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::all_of(text.begin(), text.end(), [&](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           kMarks.find(c) != kMarks.npos;
  });
}

bool is_control(char c) {
  return static_cast<unsigned char>(c) < 0x20 || c == 0x7f;
}

// What a server sent, to be put into a message.
std::string shown(std::string_view text) {
  return printable(text.substr(0, kShown)) + (text.size() > kShown ? "..." : "");
}

std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const std::string_view group = bytes.substr(i, 3);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (k < group.size() ? static_cast<unsigned char>(group[k]) : 0);
    for (size_t k = 0; k < 4; ++k) text += k <= group.size() ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return text;
}

bool is_redirect(unsigned status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

}  // namespace

void check_request(const HttpRequest& request) {
  parse_url(request.url.to_string());
  if (!is_token(request.method))
    throw std::invalid_argument("'" + shown(request.method) +
                                "' is no HTTP method; expected is a word, as GET");
  for (const auto& [name, value] : request.headers) {
    if (!is_token(name))
      throw std::invalid_argument("'" + shown(name) +
                                  "' is no header's name; expected are letters, digits and hyphens");
    // Not shown: it may be a password.
    if (std::any_of(value.begin(), value.end(), [](char c) { return is_control(c) && c != '\t'; }))
      throw std::invalid_argument("the header " + name +
                                  " has a line break or another control character in its value; it must not");
    if (name.size() + value.size() > kLongestHeader)
      throw std::invalid_argument("the header " + shown(name) + " has more than 32 KiB");
  }
}

std::string format_head(const HttpRequest& request) {
  http::request<http::empty_body> message;
  message.version(11);
  message.method_string(request.method);
  message.target(request.url.target);
  const auto add = [&](const char* name, const std::string& value) {
    if (!has_header(request.headers, name)) message.insert(name, value);
  };
  add("Host", request.url.authority());
  for (const auto& [name, value] : request.headers) message.insert(name, value);
  add("User-Agent", "weft");
  if (request.url.has_credentials)
    add("Authorization", "Basic " + base64(request.url.user + ":" + request.url.password));
  const bool wants_length = !request.body.empty() || request.method == "POST" || request.method == "PUT" ||
                            request.method == "PATCH";
  if (wants_length && !has_header(request.headers, "Transfer-Encoding"))
    add("Content-Length", std::to_string(request.body.size()));
  add("Connection", "close");

  http::request_serializer<http::empty_body> serializer(message);
  std::string bytes;
  boost::beast::error_code error;
  while (!serializer.is_done()) {
    serializer.next(error, [&](boost::beast::error_code&, const auto& buffers) {
      size_t size = 0;
      for (auto it = asio::buffer_sequence_begin(buffers); it != asio::buffer_sequence_end(buffers); ++it) {
        const asio::const_buffer buffer = *it;
        bytes.append(static_cast<const char*>(buffer.data()), buffer.size());
        size += buffer.size();
      }
      serializer.consume(size);
    });
    if (error) throw std::invalid_argument("the request cannot be put into bytes: " + error.message());
  }
  return bytes;
}

std::string ResponseHead::to_string() const {
  return "HTTP " + std::to_string(status) + (reason.empty() ? "" : " " + reason);
}

HttpRequest redirected(const HttpRequest& request, const ResponseHead& head) {
  HttpRequest next = request;
  next.url = resolve_reference(request.url, head.location);
  const auto drop = [&](auto... names) {
    std::erase_if(next.headers, [&](const auto& header) { return (same_name(header.first, names) || ...); });
  };
  const bool was_post = request.method == "POST" && (head.status == 301 || head.status == 302);
  if (was_post || (head.status == 303 && request.method != "HEAD")) {
    next.method = "GET";
    next.body.clear();
    drop("Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding");
  }
  if (!next.url.same_origin(request.url)) drop("Authorization", "Cookie", "Host");
  return next;
}

struct ResponseReader::Parser : http::response_parser<http::empty_body> {
  Parser() {
    header_limit(kHeaderLimit);
    body_limit(boost::none);
    skip(true);  // the head is all there is to it
  }
};

ResponseReader::ResponseReader() : parser_(std::make_unique<Parser>()) {}
ResponseReader::~ResponseReader() = default;

bool ResponseReader::feed(std::string_view bytes) {
  begun_ = begun_ || !bytes.empty();
  pending_ += bytes;
  while (!pending_.empty()) {
    // Beast looks at nothing before the line is complete, and in other protocols it may never be.
    constexpr std::string_view kStart = "HTTP/";
    const std::string_view pending = pending_;
    if (taken_ == 0 && !pending.starts_with(kStart.substr(0, pending.size())))
      throw Failure("the server does not speak HTTP: it sent '" +
                    shown(pending.substr(0, pending.find_first_of("\r\n"))) + "'");
    boost::beast::error_code error;
    const size_t taken = parser_->put(asio::const_buffer(pending_.data(), pending_.size()), error);
    pending_.erase(0, taken);
    taken_ += taken;
    const bool is_long = taken_ + (parser_->is_header_done() ? 0 : pending_.size()) > kHeaderLimit;
    if (is_long || error == http::error::header_limit)
      throw Failure("the header of the response has more than 64 KiB");
    if (error == http::error::need_more) return false;
    if (error) throw Failure("the server's HTTP is wrong: " + error.message());
    if (!parser_->is_header_done()) continue;
    const auto& message = parser_->get();
    const unsigned status = message.result_int();
    if (status / 100 != 1 || status == 101) {
      head_.status = status;
      const auto reason =
          message.reason().empty() ? http::obsolete_reason(message.result()) : message.reason();
      head_.reason = shown({reason.data(), reason.size()});
      if (is_redirect(status)) head_.location = std::string(message[http::field::location]);
      return true;
    }
    parser_ = std::make_unique<Parser>();
    taken_ = 0;
  }
  return false;
}

}  // namespace weft::process
