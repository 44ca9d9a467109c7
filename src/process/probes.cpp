#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "process/listeners.hpp"
#include "process/pattern.hpp"
#include "process/probe.hpp"
#include "weft/error.hpp"

namespace weft::detail {

namespace {

void say(ProbeAnswer& answer, bool ready, int error, const char* text) noexcept {
  answer.ready = ready;
  answer.error = error;
  snprintf(answer.seen, sizeof answer.seen, "%s", text);
}

// Nothing that `probe` throws leaves the library.
template <typename Probe>
Outcome answer_by(ProbeAnswer& answer, Probe&& probe) noexcept {
  try {
    const process::ProbeResult result = probe();
    say(answer, result.ready, 0, result.seen.c_str());
  } catch (const Cancelled&) {
    return Outcome::kCancelled;
  } catch (const Timeout&) {
    return Outcome::kExpired;  // of a scope around the probe: its own limit is a result
  } catch (const std::bad_alloc&) {
    return Outcome::kNoMemory;
  } catch (const std::invalid_argument& error) {
    say(answer, false, EINVAL, error.what());
  } catch (const std::system_error& error) {
    say(answer, false, error.code().value(), error.what());
  } catch (const std::exception& error) {
    say(answer, false, ENOTSUP, error.what());  // there is no TLS here
  }
  return Outcome::kReady;
}

bool matches(const Pattern& pattern, unsigned status) {
  const std::string digits = std::to_string(status);
  size_t begin = 0, end = 0;
  return pattern.search(digits.data(), digits.size(), begin, end) == Pattern::Found::kYes;
}

process::HttpRequest request_of(const HttpProbe& probe) {
  process::HttpRequest request;
  request.url = process::parse_url(probe.url);
  request.method = probe.method;
  if (probe.body) request.body.assign(probe.body, probe.body_size);
  for (size_t i = 0; i < probe.header_count; ++i)
    request.headers.emplace_back(probe.header_names[i], probe.header_values[i]);
  if (probe.status) request.accepts = [&](unsigned status) { return matches(*probe.status, status); };
  request.follow_redirects = probe.follow_redirects;
  request.tls.verify = probe.verify;
  if (probe.ca_file) request.tls.ca_file = probe.ca_file;
  return request;
}

std::chrono::nanoseconds span_of(Nanos limit) noexcept {
  return std::chrono::nanoseconds(std::max<Nanos>(limit, 0));
}

}  // namespace

Outcome probe_tcp(const char* host, uint16_t port, Nanos limit, ProbeAnswer& answer, bool again) noexcept {
  return answer_by(answer, [&] { return process::probe_tcp(host, port, span_of(limit), again); });
}

Outcome await_listener(Child* child, const char* host, uint16_t port, Nanos begin, Nanos longest, Nanos& next,
                       Nanos deadline) noexcept {
  for (;;) {
    const uint32_t seen = child_changes(child);
    const Nanos time = now();
    const ChildState state = child_state(child);
    if (state.exited || state.foreign || time >= deadline) return Outcome::kReady;
    if (time >= next) {
      if (!process::nobody_listens(host, port)) return Outcome::kReady;
      next = now() + probe_pause(time - begin, longest);
    }
    const Outcome outcome = await_child(child, seen, std::min(next, deadline), kCancellable);
    if (outcome != Outcome::kReady && outcome != Outcome::kTimeout) return outcome;
  }
}

Outcome probe_unix(const char* path, Nanos limit, ProbeAnswer& answer) noexcept {
  return answer_by(answer, [&] { return process::probe_unix(path, span_of(limit)); });
}

Outcome probe_http(const HttpProbe& probe, Nanos limit, ProbeAnswer& answer) noexcept {
  return answer_by(answer,
                   [&] { return process::probe_http(request_of(probe), span_of(limit), probe.again); });
}

}  // namespace weft::detail
