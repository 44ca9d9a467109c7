// OpenSSL reads and writes memory only, and what it wants to be sent or needs to read goes through the stream
// between its calls. So no fiber is ever switched inside of one, with OpenSSL's locks held or its per-thread
// error queue in use: fibers may share that with others of their carrier.
#include "process/tls.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>

#include "process/openssl.hpp"
#include "process/url.hpp"
#include "weft/offload.hpp"

namespace weft::process {

namespace {

struct Free {
  void operator()(SSL_CTX* context) const noexcept { OpenSsl::get().SSL_CTX_free(context); }
  void operator()(SSL* session) const noexcept { OpenSsl::get().SSL_free(session); }
};
using Context = std::unique_ptr<SSL_CTX, Free>;

Context make_context() {
  const OpenSsl& openssl = OpenSsl::get();
  Context context(openssl.SSL_CTX_new(openssl.TLS_client_method()));
  if (!context) throw std::bad_alloc();
  return context;
}

// Reading all the certificates takes 30 ms. Never freed: fibers and threads may outlive exit().
SSL_CTX* trusting_the_system() {
  static SSL_CTX* const context = [] {
    Context made = make_context();
    OpenSsl::get().SSL_CTX_set_default_verify_paths(made.get());
    return made.release();
  }();
  return context;
}

Context trusting(const std::string& ca_file) {
  const OpenSsl& openssl = OpenSsl::get();
  Context context = make_context();
  const bool has_nul = ca_file.find('\0') != std::string::npos;
  if (!has_nul && openssl.SSL_CTX_load_verify_file(context.get(), ca_file.c_str()) == 1) {
    // What is named there is trusted as it stands, also where it is no authority's own certificate.
    openssl.X509_VERIFY_PARAM_set_flags(openssl.SSL_CTX_get0_param(context.get()), X509_V_FLAG_PARTIAL_CHAIN);
    return context;
  }
  const unsigned long error = openssl.ERR_peek_error();
  const std::string why = openssl.take_error("it has a NUL in its name");
  const int reason = ERR_SYSTEM_ERROR(error) ? ERR_GET_REASON(error) : 0;
  if (reason == EMFILE || reason == ENFILE || reason == ENOMEM)
    detail::throw_errno(reason, ("cannot read the ca_file '" + ca_file + "'").c_str());
  throw std::invalid_argument("the ca_file '" + printable(ca_file) + "' cannot be used: " + why +
                              "; expected is a file of certificates in PEM");
}

}  // namespace

struct TlsClient::State {
  const OpenSsl& openssl = OpenSsl::get();
  std::unique_ptr<SSL, Free> session;
  // Of the session, which frees them.
  BIO* input = nullptr;
  BIO* output = nullptr;

  State(const TlsOptions& options, const std::string& host) {
    struct Cleanup {
      ~Cleanup() { OpenSsl::get().ERR_clear_error(); }
    } cleanup;
    openssl.ERR_clear_error();
    Context own;  // the session keeps what it is made of
    if (!options.ca_file.empty())
      own = trusting(options.ca_file);
    else if (!options.verify)
      own = make_context();
    session.reset(openssl.SSL_new(own ? own.get() : trusting_the_system()));
    if (!session) throw std::bad_alloc();
    openssl.SSL_set_verify(session.get(), options.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, nullptr);
    input = openssl.BIO_new(openssl.BIO_s_mem());
    output = openssl.BIO_new(openssl.BIO_s_mem());
    openssl.SSL_set_bio(session.get(), input, output);
    if (!input || !output) throw std::bad_alloc();
    expect(host);
    // Without it a server that knows HTTP/2 may speak that.
    static constexpr unsigned char kProtocols[] = {8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
    openssl.SSL_set_alpn_protos(session.get(), kProtocols, sizeof kProtocols);
    openssl.SSL_set_connect_state(session.get());
  }

  void expect(std::string host) {
    SSL* ssl = session.get();
    if (is_ip_address(host)) {
      host.resize(std::min(host.find('%'), host.size()));
      if (openssl.X509_VERIFY_PARAM_set1_ip_asc(openssl.SSL_get0_param(ssl), host.c_str()) != 1)
        throw std::bad_alloc();
      return;  // SNI has names only
    }
    if (host.ends_with('.')) host.pop_back();  // certificates have none
    openssl.SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    if (openssl.SSL_set1_host(ssl, host.c_str()) != 1 ||
        openssl.SSL_ctrl(ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name, host.data()) != 1)
      throw std::invalid_argument("'" + host +
                                  "' cannot be the name of a TLS server; at most 255 characters");
  }

  // REQUIRES: an SSL_ call has failed just now.
  std::string words_of_failure() const {
    const unsigned long error = openssl.ERR_peek_error();
    const bool is_tls = ERR_GET_LIB(error) == ERR_LIB_SSL;
    const int reason = ERR_GET_REASON(error);
    const std::string words = openssl.take_error("unknown error");
    const long verdict = openssl.SSL_get_verify_result(session.get());
    if (is_tls && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
      return std::string("certificate verify failed: ") + openssl.X509_verify_cert_error_string(verdict);
    if (is_tls && reason == SSL_R_WRONG_VERSION_NUMBER)
      return "the server does not speak TLS (" + words + ")";
    return "TLS failed: " + words;
  }
};

TlsClient::TlsClient(const TlsOptions& options, const std::string& host)
    : state_(offload([&] { return std::make_unique<State>(options, host); })) {}

TlsClient::~TlsClient() = default;

std::string TlsClient::take_output() {
  std::string bytes;
  char buffer[4096];
  for (int size; (size = state_->openssl.BIO_read(state_->output, buffer, sizeof buffer)) > 0;)
    bytes.append(buffer, static_cast<size_t>(size));
  return bytes;
}

bool TlsClient::feed(LimitedStream& stream) {
  char buffer[4096];
  const size_t size = stream.read_some(buffer);
  if (size == 0) return false;
  if (state_->openssl.BIO_write(state_->input, buffer, static_cast<int>(size)) != static_cast<int>(size))
    throw std::bad_alloc();
  return true;
}

// Makes the call until it is done. Returns what it returned, or 0 at the end of the stream.
template <typename Call>
int TlsClient::perform(LimitedStream& stream, Call&& call) {
  const OpenSsl& openssl = state_->openssl;
  SSL* session = state_->session.get();
  for (;;) {
    openssl.ERR_clear_error();
    const int result = call(session);
    const int error = result > 0 ? SSL_ERROR_NONE : openssl.SSL_get_error(session, result);
    switch (error) {
      case SSL_ERROR_NONE:
        stream.write_all(take_output());
        return result;
      case SSL_ERROR_WANT_READ:
        openssl.ERR_clear_error();
        stream.write_all(take_output());
        if (!feed(stream)) return 0;
        break;
      case SSL_ERROR_ZERO_RETURN:
        openssl.ERR_clear_error();
        return 0;
      default: {
        const Failure failure(state_->words_of_failure());
        stream.write_at_once(take_output());  // the alert, which says to the server's log what is wrong
        throw failure;
      }
    }
  }
}

void TlsClient::handshake(LimitedStream& stream) {
  if (perform(stream, [&](SSL* session) { return state_->openssl.SSL_do_handshake(session); }) == 0)
    throw Failure("the server closed the connection in the TLS handshake");
}

size_t TlsClient::read_some(LimitedStream& stream, MutableBytes buffer) {
  const int room = static_cast<int>(std::min<size_t>(buffer.size(), INT_MAX));
  return static_cast<size_t>(
      perform(stream, [&](SSL* session) { return state_->openssl.SSL_read(session, buffer.data(), room); }));
}

void TlsClient::write_all(LimitedStream& stream, Bytes bytes) {
  constexpr size_t kRecord = 16384;  // the most that is encrypted before it is sent
  while (bytes.size()) {
    const int size = static_cast<int>(std::min(bytes.size(), kRecord));
    const int written =
        perform(stream, [&](SSL* session) { return state_->openssl.SSL_write(session, bytes.data(), size); });
    if (written == 0) throw Failure("the server closed the connection before it had the request");
    bytes = bytes.from(static_cast<size_t>(written));
  }
}

void TlsClient::close(LimitedStream& stream) noexcept {
  state_->openssl.SSL_shutdown(state_->session.get());
  state_->openssl.ERR_clear_error();
  char buffer[256];
  const int size = state_->openssl.BIO_read(state_->output, buffer, sizeof buffer);
  if (size > 0) stream.write_at_once({buffer, static_cast<size_t>(size)});
}

}  // namespace weft::process
