#include "process/url.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

namespace weft::process {

namespace {

// Not those of <cctype>, which ask the locale.
bool is_digit(char c) {
  return c >= '0' && c <= '9';
}
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c;
}
std::string lower(std::string_view text) {
  std::string copy(text);
  for (char& c : copy) c = lower(c);
  return copy;
}
int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  const char small = lower(c);
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}
bool is_host_character(char c) {
  return is_letter(c) || is_digit(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

constexpr uint16_t default_port(bool tls) {
  return tls ? 443 : 80;
}

// The credentials may be a real password, and messages end in logs.
std::string without_credentials(std::string_view text) {
  size_t begin = text.find("//");
  begin = begin == text.npos ? 0 : begin + 2;
  const std::string_view authority = text.substr(begin, text.find_first_of("/?#", begin) - begin);
  const size_t at = authority.rfind('@');
  if (at == authority.npos) return std::string(text);
  return std::string(text.substr(0, begin)) + "***" + std::string(text.substr(begin + at));
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Url parse() {
    check_characters();
    const size_t colon = text_.find("://");
    if (colon == text_.npos || colon == 0) fail("it has no scheme");
    url_.scheme = lower(text_.substr(0, colon));
    if (url_.scheme != "http" && url_.scheme != "https")
      fail("its scheme is '" + std::string(text_.substr(0, colon)) + "'");
    std::string_view rest = text_.substr(colon + 3);
    rest = rest.substr(0, rest.find('#'));
    const size_t slash = rest.find_first_of("/?");
    parse_authority(rest.substr(0, slash));
    url_.target = slash == rest.npos ? "" : rest.substr(slash);
    check_percents(url_.target);
    if (!url_.target.starts_with('/')) url_.target.insert(0, 1, '/');
    return std::move(url_);
  }

 private:
  [[noreturn]] void fail(const std::string& wrong) const {
    throw std::invalid_argument("the URL '" + printable(without_credentials(text_)) + "' cannot be asked: " +
                                wrong + "; expected is http://HOST[:PORT][/PATH] or https://...");
  }

  void check_characters() const {
    for (size_t i = 0; i < text_.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text_[i]);
      if (byte > 0x20 && byte < 0x7f) continue;
      const char* kind = byte == 0x20  ? "a space"
                         : byte > 0x7f ? "a character beyond ASCII"
                                       : "a control character";
      fail(std::string("it has ") + kind + " at position " + std::to_string(i + 1) +
           ", which is to be written as %XX (in a host's name: as xn--)");
    }
  }

  void check_percents(std::string_view part) const {
    for (size_t at = part.find('%'); at != part.npos; at = part.find('%', at + 1))
      if (at + 2 >= part.size() || hex_value(part[at + 1]) < 0 || hex_value(part[at + 2]) < 0)
        fail("a '%' is not followed by two hexadecimal digits");
  }

  std::string decode(std::string_view part) const {
    check_percents(part);
    std::string decoded;
    for (size_t i = 0; i < part.size(); ++i) {
      if (part[i] != '%') {
        decoded += part[i];
        continue;
      }
      decoded += static_cast<char>(hex_value(part[i + 1]) * 16 + hex_value(part[i + 2]));
      i += 2;
    }
    return decoded;
  }

  void parse_authority(std::string_view authority) {
    if (const size_t at = authority.rfind('@'); at != authority.npos) {
      const std::string_view credentials = authority.substr(0, at);
      const size_t colon = credentials.find(':');
      url_.has_credentials = true;
      url_.user = decode(credentials.substr(0, colon));
      if (colon != credentials.npos) url_.password = decode(credentials.substr(colon + 1));
      authority.remove_prefix(at + 1);
    }
    size_t end;
    if (authority.starts_with('[')) {
      end = authority.find(']');
      if (end == authority.npos) fail("a ']' is missing");
      parse_ipv6(authority.substr(1, end - 1));
      ++end;
    } else {
      end = std::min(authority.find(':'), authority.size());
      const std::string_view host = authority.substr(0, end);
      if (host.empty()) fail("it has no host");
      if (!std::all_of(host.begin(), host.end(), is_host_character))
        fail("'" + std::string(host) + "' is no host");
      url_.host = lower(host);
    }
    parse_port(authority.substr(end));
  }

  // RFC 6874: the '%' before a zone is written as %25.
  void parse_ipv6(std::string_view text) {
    const size_t percent = text.find('%');
    url_.host = lower(text.substr(0, percent));
    if (url_.host.find(':') == std::string::npos || !is_ip_address(url_.host))
      fail("between '[' and ']' is no IPv6 address");
    if (percent == text.npos) return;
    const std::string_view zone = text.substr(percent);
    if (!zone.starts_with("%25") || zone.size() == 3 ||
        !std::all_of(zone.begin() + 3, zone.end(), is_host_character))
      fail("an IPv6 address's zone is written as '%25' and its name");
    url_.host += '%' + std::string(zone.substr(3));
  }

  void parse_port(std::string_view text) {
    url_.port = default_port(url_.is_tls());
    if (text.empty() || text == ":") return;
    if (text.front() != ':') fail("after ']' comes '" + std::string(text) + "'");
    text.remove_prefix(1);
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), url_.port);
    if (error != std::errc() || end != text.data() + text.size() || url_.port == 0)
      fail("its port is '" + std::string(text) + "', and not a number from 1 to 65535");
  }

  std::string_view text_;
  Url url_;
};

// RFC 3986, section 5.2.4, for a path that begins with a slash.
std::string without_dots(std::string_view path) {
  std::string clean;
  while (!path.empty()) {
    const size_t next = std::min(path.find('/', 1), path.size());
    const std::string_view segment = path.substr(0, next);
    path.remove_prefix(next);
    const bool up = segment == "/..";
    if (!up && segment != "/.") {
      clean += segment;
      continue;
    }
    if (up) clean.resize(clean.empty() ? 0 : clean.rfind('/'));
    if (path.empty()) clean += '/';
  }
  return clean;
}

bool has_scheme(std::string_view reference) {
  if (reference.empty() || !is_letter(reference.front())) return false;
  const auto end = std::find_if(reference.begin(), reference.end(), [](char c) {
    return !is_letter(c) && !is_digit(c) && c != '+' && c != '-' && c != '.';
  });
  return end != reference.end() && *end == ':';
}

// Servers send them raw, and browsers put up with it.
std::string with_percents(std::string_view reference) {
  constexpr char kDigits[] = "0123456789ABCDEF";
  std::string encoded;
  for (const char c : reference) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte != ' ' && byte < 0x80) {
      encoded += c;
      continue;
    }
    encoded += {'%', kDigits[byte >> 4], kDigits[byte & 15]};
  }
  return encoded;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string copy(text);
  for (char& c : copy)
    if (const auto byte = static_cast<unsigned char>(c); byte < 0x20 || byte > 0x7e) c = '?';
  return copy;
}

std::string name_of(std::string_view host, uint16_t port) {
  const bool bracket = host.find(':') != host.npos;
  return (bracket ? "[" : "") + std::string(host) + (bracket ? "]:" : ":") + std::to_string(port);
}

bool is_ip_address(std::string_view host) noexcept {
  char text[INET6_ADDRSTRLEN];
  const size_t percent = host.find('%');
  host = host.substr(0, percent);
  if (host.size() >= sizeof text) return false;
  text[host.copy(text, sizeof text - 1)] = '\0';
  in6_addr bits;
  return inet_pton(AF_INET6, text, &bits) == 1 ||
         (percent == host.npos && inet_pton(AF_INET, text, &bits) == 1);
}

std::string Url::authority() const {
  const std::string_view plain = std::string_view(host).substr(0, host.find('%'));
  const std::string name = name_of(plain, port);
  return port == default_port(is_tls()) ? name.substr(0, name.rfind(':')) : name;
}

std::string Url::to_string() const {
  const size_t percent = host.find('%');
  std::string text = authority();
  if (percent != host.npos) text.insert(text.find(']'), "%25" + host.substr(percent + 1));
  return scheme + "://" + text + target;
}

Url parse_url(std::string_view text) {
  return Parser(text).parse();
}

Url resolve_reference(const Url& base, std::string_view reference) {
  const std::string encoded = with_percents(reference.substr(0, reference.find('#')));
  const std::string_view text = encoded;
  const bool absolute = has_scheme(text);
  if (absolute || text.starts_with("//")) {
    Url url = parse_url(absolute ? encoded : base.scheme + ":" + encoded);
    if (!url.has_credentials && url.same_origin(base)) {
      url.has_credentials = base.has_credentials;
      url.user = base.user;
      url.password = base.password;
    }
    return url;
  }
  const std::string_view base_path = std::string_view(base.target).substr(0, base.target.find('?'));
  const size_t question = text.find('?');
  std::string path(text.substr(0, question));
  if (path.empty())
    path = base_path;
  else if (!path.starts_with('/'))
    path.insert(0, base_path.substr(0, base_path.rfind('/') + 1));
  std::string target = without_dots(path);
  if (question != text.npos)
    target += text.substr(question);
  else if (text.empty())
    target = base.target;
  Url url = base;
  url.target = std::move(target);
  parse_url(url.to_string());  // throws for what is wrong in it
  return url;
}

}  // namespace weft::process
