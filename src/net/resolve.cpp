// Names are looked up by libc, on a thread of the pool. The pool's calls cannot be left early: they are made
// by a fiber of their own, on copies, so that the one that asked may go.
#include "weft/net/resolve.hpp"

#include <arpa/inet.h>

#include <cstdlib>
#include <new>

#include "net/wait.hpp"
#include "poll/offload_pool.hpp"
#include "weft/detail/completion.hpp"

namespace weft::net::detail {

namespace {

// What getaddrinfo() is asked, and what it says. Belongs to who asked and who makes the call, together.
struct Request : Completion {
  const char* host = nullptr;
  const char* service = nullptr;
  addrinfo hints{};
  addrinfo* answers = nullptr;
  int error = 0;

  Request() noexcept
      : Completion([](Completion& self) noexcept {
          auto& request = static_cast<Request&>(self);
          if (request.answers) freeaddrinfo(request.answers);
          request.~Request();
          free(&request);
        }) {}

  // Null without memory.
  static Request* make(const Query& query) noexcept {
    void* memory = malloc(sizeof(Request) + query.host_size + query.service_size + 2);
    if (!memory) return nullptr;
    auto* request = new (memory) Request;
    char* text = reinterpret_cast<char*>(request + 1);
    const auto keep = [&text](const char* from, size_t size) -> const char* {
      if (size == 0) return nullptr;
      char* copy = text;
      memcpy(copy, from, size);
      copy[size] = '\0';
      text += size + 1;
      return copy;
    };
    request->host = keep(query.host, query.host_size);
    request->service = keep(query.service, query.service_size);
    addrinfo& hints = request->hints;
    hints.ai_family = query.family;
    hints.ai_socktype = SOCK_STREAM;  // else each address comes once for every kind of socket
    if (query.for_listening) hints.ai_flags |= AI_PASSIVE;
    if (query.numbers_only) hints.ai_flags |= AI_NUMERICHOST | AI_NUMERICSERV;
    return request;
  }

  // getaddrinfo() refuses to know neither.
  void run() noexcept {
    const char* port = service || host ? service : "0";
    error = getaddrinfo(host, port, &hints, &answers);
    if (error == EAI_SYSTEM) error = errno > 0 ? errno : EIO;
  }

  // True if libc has nobody to ask.
  bool is_numeric() const noexcept {
    unsigned char bits[sizeof(in6_addr)];
    const bool number = !service || strspn(service, "0123456789") == strlen(service);
    return number && (!host || hints.ai_flags & AI_NUMERICHOST || inet_pton(AF_INET, host, bits) == 1 ||
                      inet_pton(AF_INET6, host, bits) == 1);
  }
};

void* look_up(void* argument) noexcept {
  auto* request = static_cast<Request*>(argument);
  engine::OffloadPool::instance().run("getaddrinfo", [request]() noexcept { request->run(); });
  request->complete();
  request->release();
  return nullptr;
}

// getaddrinfo() runs on it where the pool has no thread to give.
constexpr size_t kStack = size_t{512} * 1024;

Outcome run_beside(Request& request, Nanos deadline) noexcept {
  engine::Carrier& carrier = *engine::Carrier::current();
  engine::Fiber* helper = engine::Fiber::create(carrier, &look_up, &request, kStack);
  if (!helper) return Outcome::kNoMemory;
  helper->set_name("weft-resolve");
  request.retain();
  carrier.start(*helper);
  helper->release();
  return request.wait(deadline, kCancellable, "resolve");
}

bool has_nul(const Query& query) noexcept {
  return (query.host_size && memchr(query.host, 0, query.host_size)) ||
         (query.service_size && memchr(query.service, 0, query.service_size));
}

}  // namespace

IoResult resolve(const Query& query, Nanos deadline, Found found, void* self) noexcept {
  if (const Outcome revoked = begin_operation(); revoked != Outcome::kReady) return {0, revoked};
  if (has_nul(query)) return {EAI_NONAME};
  Request* request = Request::make(query);
  if (!request) return {0, Outcome::kNoMemory};
  IoResult result;
  if (!switchable_fiber() || request->is_numeric())
    request->run();
  else
    result.outcome = run_beside(*request, deadline);
  if (result.outcome == Outcome::kReady) {
    result.value = request->error;
    for (const addrinfo* one = request->answers; one; one = one->ai_next)
      found(self, one->ai_addr, one->ai_addrlen);
  }
  request->release();
  return result;
}

}  // namespace weft::net::detail
