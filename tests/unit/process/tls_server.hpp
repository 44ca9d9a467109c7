// TlsServer: an https server in fibers of the test.
#pragma once

#include "certificate.hpp"
#include "server.hpp"

namespace weft::process::test {

/// One connection's server end. Memory is between OpenSSL and the stream, so that it waits as fibers do.
class TlsPeer {
 public:
  TlsPeer(net::Stream& stream, SSL_CTX* context) : stream_(stream), session_(SSL_new(context)) {
    input_ = BIO_new(BIO_s_mem());
    output_ = BIO_new(BIO_s_mem());
    SSL_set_bio(session_.get(), input_, output_);
    SSL_set_accept_state(session_.get());
  }

  bool handshake() {
    return perform([](SSL* session) { return SSL_do_handshake(session); }) > 0;
  }
  std::string read_head() {
    std::string head;
    while (head.find("\r\n\r\n") == head.npos) {
      const std::string more = read_some();
      if (more.empty()) break;
      head += more;
    }
    return head;
  }
  /// Empty: the end.
  std::string read_some() {
    char buffer[4096];
    const int size = perform([&](SSL* session) { return SSL_read(session, buffer, sizeof buffer); });
    return {buffer, static_cast<size_t>(std::max(size, 0))};
  }
  void write(std::string_view text) {
    perform([&](SSL* session) { return SSL_write(session, text.data(), static_cast<int>(text.size())); });
  }
  /// True: the client said that no more comes.
  bool wait_for_close() {
    while (!read_some().empty()) {
    }
    return SSL_get_shutdown(session_.get()) & SSL_RECEIVED_SHUTDOWN;
  }
  std::string server_name() const {
    const char* name = SSL_get_servername(session_.get(), TLSEXT_NAMETYPE_host_name);
    return name ? name : "none";
  }

 private:
  template <typename Call>
  int perform(Call&& call) {
    for (;;) {
      ERR_clear_error();
      const int result = call(session_.get());
      const int error = result > 0 ? SSL_ERROR_NONE : SSL_get_error(session_.get(), result);
      ERR_clear_error();
      char buffer[4096];
      for (int size; (size = BIO_read(output_, buffer, sizeof buffer)) > 0;)
        stream_.write_all({buffer, static_cast<size_t>(size)});
      if (error != SSL_ERROR_WANT_READ) return result;
      const size_t size = stream_.read_some(buffer);
      if (size == 0) return 0;
      BIO_write(input_, buffer, static_cast<int>(size));
    }
  }

  net::Stream& stream_;
  Owned<SSL, &SSL_free> session_;
  BIO* input_;
  BIO* output_;
};

/// Calls `handler` for each connection, before its handshake.
class TlsServer {
 public:
  using Handler = std::function<void(TlsPeer&)>;

  TlsServer(const Certificate& certificate, Handler handler, const Address& address = Address::loopback())
      : context_(SSL_CTX_new(TLS_server_method())),
        server_(
            [this, serve = std::move(handler)](net::TcpStream& stream) {
              TlsPeer peer(stream, context_.get());
              serve(peer);
            },
            address) {
    SSL_CTX_use_certificate(context_.get(), certificate.certificate.get());
    SSL_CTX_use_PrivateKey(context_.get(), certificate.key.get());
  }

  SSL_CTX* context() { return context_.get(); }
  std::string url(std::string_view host = "localhost", std::string_view target = "/") const {
    return "https://" + std::string(host) + ":" + std::to_string(server_.port()) + std::string(target);
  }

 private:
  Owned<SSL_CTX, &SSL_CTX_free> context_;
  Server server_;
};

}  // namespace weft::process::test
