#include "process/openssl.hpp"

#include <dlfcn.h>

#include <stdexcept>
#include <system_error>

namespace weft::process {

namespace {

[[noreturn]] void fail() {
  const char* why = dlerror();
  throw std::runtime_error(
      "https services cannot be asked, since OpenSSL 3 is not to be had: install Debian's package libssl3 (" +
      std::string(why ? why : "unknown error") + ")");
}

}  // namespace

const OpenSsl& OpenSsl::get() {
  // Never destroyed: fibers and threads may outlive exit().
  static const OpenSsl& table = *new OpenSsl("libssl.so.3");
  return table;
}

OpenSsl::OpenSsl(const char* library) {
  // libssl brings libcrypto with it, and dlsym() looks there, too. Its version is said all the same, in case
  // the program has another one in its global scope.
  void* ssl = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  if (!ssl) fail();
  void* crypto = dlopen("libcrypto.so.3", RTLD_NOW | RTLD_LOCAL);
  if (!crypto) fail();
  const auto find = [&](const char* name) {
    void* found = dlsym(ssl, name);
    if (!found) found = dlsym(crypto, name);
    if (!found) fail();
    return found;
  };
#define WEFT_FIND(name) name = reinterpret_cast<decltype(name)>(find(#name));
  WEFT_OPENSSL_FUNCTIONS(WEFT_FIND)
#undef WEFT_FIND
  // Without its atexit handler, which would free what fibers and threads still use then.
  if (OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, nullptr) != 1)
    throw std::runtime_error("OpenSSL cannot be initialised: " + take_error("it does not say why"));
}

std::string OpenSsl::take_error(const char* otherwise) const {
  const unsigned long error = ERR_peek_error();
  std::string words = otherwise;
  if (ERR_SYSTEM_ERROR(error)) {
    words = std::system_category().message(ERR_GET_REASON(error));
  } else if (const char* reason = error ? ERR_reason_error_string(error) : nullptr) {
    words = reason;
  }
  ERR_clear_error();
  return words;
}

}  // namespace weft::process
