// OpenSsl: the functions of libssl and libcrypto, found at run time.
#pragma once

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <string>

namespace weft::process {

/// The table of what is called. Not linked, so that libweft brings no library into programs that never ask an
/// https service.
struct OpenSsl {
  /// Loads the library at the first call, for ever. std::runtime_error if it cannot be loaded: what to
  /// install. Does not suspend, but reads files. Any thread.
  static const OpenSsl& get();
  /// For get(), and for tests of what it says. `library`: the name of libssl.
  explicit OpenSsl(const char* library);

  /// The words of the calling thread's first error, or `otherwise` if there is none. Leaves no error behind.
  std::string take_error(const char* otherwise) const;

#define WEFT_OPENSSL_FUNCTIONS(each)                                                                         \
  each(BIO_new) each(BIO_read) each(BIO_s_mem) each(BIO_write) each(ERR_clear_error) each(ERR_peek_error)    \
      each(ERR_reason_error_string) each(OPENSSL_init_ssl) each(SSL_CTX_free) each(SSL_CTX_get0_param)       \
          each(SSL_CTX_load_verify_file) each(SSL_CTX_new) each(SSL_CTX_set_default_verify_paths)            \
              each(SSL_set_verify) each(SSL_ctrl) each(SSL_do_handshake) each(SSL_free) each(SSL_get0_param) \
                  each(SSL_get_error) each(SSL_get_verify_result) each(SSL_new) each(SSL_read)               \
                      each(SSL_set1_host) each(SSL_set_alpn_protos) each(SSL_set_bio)                        \
                          each(SSL_set_connect_state) each(SSL_set_hostflags) each(SSL_shutdown)             \
                              each(SSL_write) each(TLS_client_method) each(X509_VERIFY_PARAM_set1_ip_asc)    \
                                  each(X509_VERIFY_PARAM_set_flags) each(X509_verify_cert_error_string)
#define WEFT_DECLARE(name) decltype(&::name) name;
  WEFT_OPENSSL_FUNCTIONS(WEFT_DECLARE)
#undef WEFT_DECLARE
};

}  // namespace weft::process
