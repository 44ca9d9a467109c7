// Names: the resolver, and the databases of users, groups, services and networks.
//
// libc asks files, servers and caches inside these calls, by calls of its own that are not routed: they
// are made whole by the offload pool. What libc keeps for each thread is h_errno, which goes back to the
// fiber, and `_res`: res_query and its kin use the pool thread's, so that a program which changes `_res`
// has to call res_nquery.
#include <arpa/inet.h>

#include <cstring>
#include <new>

#include "interpose/names_answers.hpp"

namespace weft::engine::interpose {

namespace {

// offload() for what sets h_errno.
template <typename Function, typename... Args>
auto offload_host(const CallSite& site, Function* function, Args... args) noexcept {
  if (!current_fiber()) {
    PinScope pin(site.call, site.caller);
    return function(args...);
  }
  decltype(function(args...)) result{};
  int error = *routed::__h_errno_location();
  OffloadPool::instance().run(site.call, [&]() noexcept {
    *real::__h_errno_location() = error;
    result = function(args...);
    error = *real::__h_errno_location();
  });
  *routed::__h_errno_location() = error;
  return result;
}

bool is_number(const char* text) noexcept {
  if (!*text) return false;
  for (; *text; ++text)
    if (*text < '0' || *text > '9') return false;
  return true;
}

// A name that getaddrinfo answers without asking anyone.
bool is_address(const char* text) noexcept {
  unsigned char address[sizeof(in6_addr)];
  return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

pthread_key_t answers_key() noexcept {
  static const pthread_key_t key = [] {
    pthread_key_t made;
    routed::pthread_key_create(&made, [](void* answers) { delete static_cast<NameAnswers*>(answers); });
    return made;
  }();
  return key;
}

}  // namespace

NameAnswers* NameAnswers::of_fiber() noexcept {
  if (void* own = routed::pthread_getspecific(answers_key())) return static_cast<NameAnswers*>(own);
  auto* own = new (std::nothrow) NameAnswers;
  if (own && routed::pthread_setspecific(answers_key(), own) == 0) return own;
  delete own;
  errno = ENOMEM;
  return nullptr;
}

int routed::getaddrinfo(const char* node, const char* service, const addrinfo* hints,
                        addrinfo** result) noexcept {
  if ((!node || is_address(node)) && (!service || is_number(service)))
    return real::getaddrinfo(node, service, hints, result);
  return offload(WEFT_CALL(getaddrinfo), node, service, hints, result);
}

int routed::getnameinfo(const sockaddr* address, socklen_t size, char* host, socklen_t host_size,
                        char* service, socklen_t service_size, int flags) noexcept {
  constexpr int kNumbers = NI_NUMERICHOST | NI_NUMERICSERV;
  if ((flags & kNumbers) == kNumbers)
    return real::getnameinfo(address, size, host, host_size, service, service_size, flags);
  return offload(WEFT_CALL(getnameinfo), address, size, host, host_size, service, service_size, flags);
}

int routed::gai_suspend(const gaicb* const list[], int count, const timespec* timeout) noexcept {
  return offload(WEFT_CALL(gai_suspend), list, count, timeout);
}

// Each fiber has its own; the main one its thread's.
int* routed::__h_errno_location() noexcept {
  const Fiber* self = current_fiber();
  if (!self || self->is_main()) return real::__h_errno_location();
  NameAnswers* own = NameAnswers::of_fiber();
  return own ? &own->host_error : real::__h_errno_location();
}

hostent* routed::gethostbyname(const char* name) noexcept {
  return offload_answer(WEFT_ANSWER(gethostbyname), name);
}

hostent* routed::gethostbyname2(const char* name, int family) noexcept {
  return offload_answer(WEFT_ANSWER(gethostbyname2), name, family);
}

hostent* routed::gethostbyaddr(const void* address, socklen_t size, int type) noexcept {
  return offload_answer(WEFT_ANSWER(gethostbyaddr), address, size, type);
}

int routed::gethostbyname_r(const char* name, hostent* entry, char* buffer, size_t size, hostent** result,
                            int* error) noexcept {
  return offload(WEFT_CALL(gethostbyname_r), name, entry, buffer, size, result, error);
}

int routed::gethostbyname2_r(const char* name, int family, hostent* entry, char* buffer, size_t size,
                             hostent** result, int* error) noexcept {
  return offload(WEFT_CALL(gethostbyname2_r), name, family, entry, buffer, size, result, error);
}

int routed::gethostbyaddr_r(const void* address, socklen_t length, int type, hostent* entry, char* buffer,
                            size_t size, hostent** result, int* error) noexcept {
  return offload(WEFT_CALL(gethostbyaddr_r), address, length, type, entry, buffer, size, result, error);
}

hostent* routed::gethostent() noexcept {
  return offload_answer(WEFT_ANSWER(gethostent));
}

int routed::gethostent_r(hostent* entry, char* buffer, size_t size, hostent** result, int* error) noexcept {
  return offload(WEFT_CALL(gethostent_r), entry, buffer, size, result, error);
}

netent* routed::getnetbyname(const char* name) noexcept {
  return offload_answer(WEFT_ANSWER(getnetbyname), name);
}

netent* routed::getnetbyaddr(uint32_t net, int type) noexcept {
  return offload_answer(WEFT_ANSWER(getnetbyaddr), net, type);
}

int routed::getnetbyname_r(const char* name, netent* entry, char* buffer, size_t size, netent** result,
                           int* error) noexcept {
  return offload(WEFT_CALL(getnetbyname_r), name, entry, buffer, size, result, error);
}

int routed::getnetbyaddr_r(uint32_t net, int type, netent* entry, char* buffer, size_t size, netent** result,
                           int* error) noexcept {
  return offload(WEFT_CALL(getnetbyaddr_r), net, type, entry, buffer, size, result, error);
}

servent* routed::getservbyname(const char* name, const char* protocol) noexcept {
  return offload_answer(WEFT_ANSWER(getservbyname), name, protocol);
}

servent* routed::getservbyport(int port, const char* protocol) noexcept {
  return offload_answer(WEFT_ANSWER(getservbyport), port, protocol);
}

int routed::getservbyname_r(const char* name, const char* protocol, servent* entry, char* buffer, size_t size,
                            servent** result) noexcept {
  return offload(WEFT_CALL(getservbyname_r), name, protocol, entry, buffer, size, result);
}

int routed::getservbyport_r(int port, const char* protocol, servent* entry, char* buffer, size_t size,
                            servent** result) noexcept {
  return offload(WEFT_CALL(getservbyport_r), port, protocol, entry, buffer, size, result);
}

protoent* routed::getprotobyname(const char* name) noexcept {
  return offload_answer(WEFT_ANSWER(getprotobyname), name);
}

protoent* routed::getprotobynumber(int number) noexcept {
  return offload_answer(WEFT_ANSWER(getprotobynumber), number);
}

int routed::getprotobyname_r(const char* name, protoent* entry, char* buffer, size_t size,
                             protoent** result) noexcept {
  return offload(WEFT_CALL(getprotobyname_r), name, entry, buffer, size, result);
}

int routed::getprotobynumber_r(int number, protoent* entry, char* buffer, size_t size,
                               protoent** result) noexcept {
  return offload(WEFT_CALL(getprotobynumber_r), number, entry, buffer, size, result);
}

int routed::res_nquery(__res_state* state, const char* name, int kind, int type, unsigned char* answer,
                       int size) noexcept {
  return offload_host(WEFT_CALL(res_nquery), state, name, kind, type, answer, size);
}

int routed::res_nsearch(__res_state* state, const char* name, int kind, int type, unsigned char* answer,
                        int size) noexcept {
  return offload_host(WEFT_CALL(res_nsearch), state, name, kind, type, answer, size);
}

int routed::res_nquerydomain(__res_state* state, const char* name, const char* domain, int kind, int type,
                             unsigned char* answer, int size) noexcept {
  return offload_host(WEFT_CALL(res_nquerydomain), state, name, domain, kind, type, answer, size);
}

int routed::res_nsend(__res_state* state, const unsigned char* message, int length, unsigned char* answer,
                      int size) noexcept {
  return offload_host(WEFT_CALL(res_nsend), state, message, length, answer, size);
}

int routed::res_query(const char* name, int kind, int type, unsigned char* answer, int size) noexcept {
  return offload_host(WEFT_CALL(res_query), name, kind, type, answer, size);
}

int routed::res_search(const char* name, int kind, int type, unsigned char* answer, int size) noexcept {
  return offload_host(WEFT_CALL(res_search), name, kind, type, answer, size);
}

int routed::res_querydomain(const char* name, const char* domain, int kind, int type, unsigned char* answer,
                            int size) noexcept {
  return offload_host(WEFT_CALL(res_querydomain), name, domain, kind, type, answer, size);
}

int routed::res_send(const unsigned char* message, int length, unsigned char* answer, int size) noexcept {
  return offload_host(WEFT_CALL(res_send), message, length, answer, size);
}

}  // namespace weft::engine::interpose
