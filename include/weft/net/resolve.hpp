// resolve(): from names to addresses.
#pragma once

#include <netdb.h>

#include <string>
#include <vector>

#include "weft/detail/io.hpp"
#include "weft/net/address.hpp"

namespace weft::net {

struct ResolveOptions {
  int family = AF_UNSPEC;               ///< AF_INET or AF_INET6: only such addresses
  bool for_listening = false;           ///< an empty host means every address of this machine, not loopback
  bool numbers_only = false;            ///< nobody is asked; what is no number is not found
  std::chrono::nanoseconds timeout{0};  ///< 0: none, but those that surround the call
};

/// The errors of getaddrinfo(3): the values are EAI_*. EAI_SYSTEM is never among them: that is thrown with
/// the errno, in std::system_category().
inline const std::error_category& resolve_category() noexcept {
  class Category final : public std::error_category {
   public:
    const char* name() const noexcept override { return "resolve"; }
    std::string message(int value) const override {
      switch (value) {
        case EAI_NONAME:
          return "there is no such host or service";
#ifdef EAI_NODATA
        case EAI_NODATA:
          return "the host exists, but has no address";
#endif
#ifdef EAI_ADDRFAMILY
        case EAI_ADDRFAMILY:
          return "the host has no address of the family asked for";
#endif
        case EAI_AGAIN:
          return "no name server answered; it may later";
        case EAI_FAIL:
          return "the name server failed";
        case EAI_SERVICE:
          return "there is no such service for this kind of socket";
        default:
          return gai_strerror(value);
      }
    }
    std::error_condition default_error_condition(int value) const noexcept override {
      if (value == EAI_MEMORY) return std::errc::not_enough_memory;
      if (value == EAI_AGAIN) return std::errc::resource_unavailable_try_again;
      return {value, *this};
    }
  };
  static const Category category;
  return category;
}

namespace detail {

struct Query {
  const char* host;
  size_t host_size;
  const char* service;
  size_t service_size;
  int family;
  bool for_listening;
  bool numbers_only;
};
/// Called for each address, in the order of preference.
using Found = void (*)(void* self, const sockaddr* address, socklen_t size) noexcept;

/// The value is 0, an EAI_* (those are negative), or an errno, which is positive, for EAI_SYSTEM.
WEFT_API IoResult resolve(const Query& query, Nanos deadline, Found found, void* self) noexcept;

inline std::vector<Address> resolve_until(std::string_view host, std::string_view service,
                                          const ResolveOptions& options, Nanos deadline) {
  struct Answer {
    std::vector<Address> addresses;
    bool no_memory = false;
  } answer;
  const IoResult result = resolve(
      {host.data(), host.size(), service.data(), service.size(), options.family, options.for_listening,
       options.numbers_only},
      deadline,
      [](void* self, const sockaddr* address, socklen_t size) noexcept {
        auto& into = *static_cast<Answer*>(self);
        Address one;
        if (!one.assign(address, size)) return;
        try {
          into.addresses.push_back(one);
        } catch (...) {
          into.no_memory = true;
        }
      },
      &answer);
  const auto what = [&] {
    return "cannot resolve '" + std::string(host) + (service.empty() ? "" : ":" + std::string(service)) + "'";
  };
  if (result.outcome == Outcome::kTimeout) throw Timeout(what().c_str());
  raise(result.outcome);
  if (answer.no_memory) throw std::bad_alloc();
  if (result.value == 0) return std::move(answer.addresses);
  const int value = static_cast<int>(result.value);
  throw std::system_error(value, value > 0 ? std::system_category() : resolve_category(), what());
}

}  // namespace detail

/// The addresses of `host` (a name, or numbers) with the port of `service` (a name, or a number; empty: 0),
/// the most promising first; never none. An empty host is loopback, or see for_listening.
///
/// libc's getaddrinfo is called on a thread of the pool, while the fiber waits; numbers are read at once. A
/// native thread blocks in it. A cancellation point: who is cancelled, or whose time is up, leaves at once,
/// and what was asked is thrown away when it is answered. Any thread. Throws std::system_error, see
/// resolve_category(); Timeout, with options.timeout, which native threads cannot keep.
inline std::vector<Address> resolve(std::string_view host, std::string_view service,
                                    const ResolveOptions& options = {}) {
  return detail::resolve_until(host, service, options,
                               detail::deadline_of(detail::limit_of(options.timeout)));
}
inline std::vector<Address> resolve(std::string_view host, uint16_t port,
                                    const ResolveOptions& options = {}) {
  return resolve(host, std::string_view(std::to_string(port)), options);
}

}  // namespace weft::net
