// https: whom a probe trusts, and what it says where it does not.
#include "process/openssl.hpp"
#include "tls_server.hpp"

namespace weft::process::test {
namespace {

constexpr const char* kOk = "HTTP/1.1 200 OK\r\n\r\n";

class TlsProbe : public ProbeTest {
 protected:
  void TearDown() override {
    EXPECT_EQ(ERR_peek_error(), 0u) << "an error was left in OpenSSL's queue";
    net::test::NetTest::TearDown();
  }

  const Certificate certificate_{"DNS:localhost,DNS:*.example.test,IP:127.0.0.1,IP:::1"};
  const CertificateFile file_{certificate_};

  void answer(TlsPeer& peer) {
    if (!peer.handshake()) return;
    head_ = peer.read_head();
    name_ = peer.server_name();
    peer.write(kOk);
    said_goodbye_ = peer.wait_for_close();
  }
  TlsServer::Handler answering() {
    return [this](TlsPeer& peer) { answer(peer); };
  }
  HttpRequest trusting(const std::string& url) const {
    HttpRequest request = request_of(url);
    request.tls.ca_file = file_.path();
    return request;
  }

  std::string head_, name_;
  bool said_goodbye_ = false;
};

TEST_F(TlsProbe, ATrustedServerIsReady) {
  TlsServer server(certificate_, answering());
  const auto probe = [&] { return probe_http(trusting(server.url()), 1min); };
  for (const ProbeResult& result : {probe(), on_thread(probe)}) {
    EXPECT_TRUE(result.ready) << result.seen;
    EXPECT_EQ(result.seen, "HTTP 200 OK");
    EXPECT_EQ(name_, "localhost");
    EXPECT_HAS(head_, "Host: localhost:");
  }
  while (!said_goodbye_) sleep(1ms);
}

TEST_F(TlsProbe, OfEitherVersion) {
  for (const int version : {TLS1_2_VERSION, TLS1_3_VERSION}) {
    TlsServer server(certificate_, answering());
    SSL_CTX_set_min_proto_version(server.context(), version);
    SSL_CTX_set_max_proto_version(server.context(), version);
    EXPECT_EQ(probe_http(trusting(server.url()), 1min).seen, "HTTP 200 OK");
  }
}

TEST_F(TlsProbe, ASelfSignedCertificateIsNot) {
  TlsServer server(certificate_, answering());
  HttpRequest request = request_of(server.url());
  const auto probe = [&] { return probe_http(request, 1min); };
  for (const ProbeResult& result : {probe(), on_thread(probe)}) {
    EXPECT_FALSE(result.ready);
    EXPECT_EQ(result.seen, "certificate verify failed: self-signed certificate");
  }
  request.tls.verify = false;
  EXPECT_TRUE(probe().ready);
  EXPECT_TRUE(on_thread(probe).ready);
}

TEST_F(TlsProbe, OnlyWhatTheFileHasIsTrusted) {
  const Certificate other("DNS:localhost");
  TlsServer server(other, answering());
  const ProbeResult result = probe_http(trusting(server.url()), 1min);
  EXPECT_FALSE(result.ready);
  EXPECT_HAS(result.seen, "certificate verify failed: ");
}

TEST_F(TlsProbe, TheNameMustBeTheHosts) {
  const Certificate other("DNS:elsewhere.test,IP:127.0.0.2");
  const CertificateFile file(other);
  TlsServer server(other, answering());
  for (const char* host : {"localhost", "127.0.0.1"}) {
    HttpRequest request = request_of(server.url(host));
    request.tls.ca_file = file.path();
    const ProbeResult result = probe_http(request, 1min);
    EXPECT_FALSE(result.ready);
    EXPECT_HAS(result.seen, "certificate verify failed: ");
    EXPECT_HAS(result.seen, "mismatch");
    request.tls.verify = false;
    EXPECT_TRUE(probe_http(request, 1min).ready);
  }
}

TEST_F(TlsProbe, AddressesAreChecked) {
  TlsServer server(certificate_, answering());
  EXPECT_TRUE(probe_http(trusting(server.url("127.0.0.1")), 1min).ready);
  EXPECT_EQ(name_, "none") << "an address is no server name";
  if (::access("/proc/net/if_inet6", F_OK) != 0) return;
  TlsServer six(certificate_, answering(), Address::loopback_v6());
  EXPECT_TRUE(probe_http(trusting(six.url("[::1]")), 1min).ready);
}

TEST_F(TlsProbe, AnExpiredCertificateIsSaidSo) {
  const Certificate old("DNS:localhost", -1);
  const CertificateFile file(old);
  TlsServer server(old, answering());
  HttpRequest request = request_of(server.url());
  request.tls.ca_file = file.path();
  EXPECT_EQ(probe_http(request, 1min).seen, "certificate verify failed: certificate has expired");
}

TEST_F(TlsProbe, PlainHttpOnItsPortIsSaidSo) {
  Server server([](net::TcpStream& stream) {
    stream.write_all("HTTP/1.1 400 Bad Request\r\n\r\n");
    read_to_the_end(stream);
  });
  const HttpRequest request = request_of("https://" + server.address().to_string());
  const ProbeResult result = probe_http(request, 1min);
  EXPECT_FALSE(result.ready);
  EXPECT_EQ(result.seen, "the server does not speak TLS (wrong version number)");
  TlsServer tls(certificate_, answering());
  HttpRequest plain = request_of(tls.url());
  plain.url.scheme = "http";
  EXPECT_FALSE(probe_http(plain, 1min).ready) << "the other way round";
}

TEST_F(TlsProbe, WhoClosesIsSaidSo) {
  Server closing([](net::TcpStream& stream) {
    char buffer[64];
    stream.read_some(buffer);
  });
  EXPECT_FALSE(probe_http(request_of("https://" + closing.address().to_string()), 1min).ready);
  Server polite([](net::TcpStream& stream) {
    stream.shutdown_write();
    read_to_the_end(stream);
  });
  EXPECT_EQ(probe_http(request_of("https://" + polite.address().to_string()), 1min).seen,
            "the server closed the connection in the TLS handshake");
  TlsServer server(certificate_, [](TlsPeer& peer) {
    peer.handshake();
    peer.read_head();
  });
  EXPECT_HAS(probe_http(trusting(server.url()), 1min).seen, "closed the connection without an answer");
}

TEST_F(TlsProbe, AServerThatWantsACertificateIsSaidSo) {
  TlsServer server(certificate_, answering());
  SSL_CTX_set_verify(server.context(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  const ProbeResult result = probe_http(trusting(server.url()), 1min);
  EXPECT_FALSE(result.ready);
  EXPECT_HAS(result.seen, "certificate required");
}

TEST_F(TlsProbe, EndsAtTheLimit) {
  Server silent([](net::TcpStream& stream) { read_to_the_end(stream); });
  const HttpRequest request = request_of("https://" + silent.address().to_string());
  expect_the_limit("no TLS handshake", [&](auto limit) { return probe_http(request, limit); });
  TlsServer deaf(certificate_, [](TlsPeer& peer) {
    peer.handshake();
    peer.wait_for_close();
  });
  expect_the_limit("no answer", [&](auto limit) { return probe_http(trusting(deaf.url()), limit); });
}

TEST_F(TlsProbe, CancellationAndTheScopeOfTheCallerPass) {
  Server silent([](net::TcpStream& stream) { read_to_the_end(stream); });
  const HttpRequest request = request_of("https://" + silent.address().to_string());
  expect_cancelled("read_some", [&] { probe_http(request, 1h); });
  expect_timeout([&](auto limit) { return probe_http(request, limit); });
  Event asked;
  TlsServer deaf(certificate_, [&](TlsPeer& peer) {
    peer.handshake();
    peer.read_head();
    asked.set();
    peer.wait_for_close();
  });
  auto fiber = spawn([&] { probe_http(trusting(deaf.url()), 1h); });
  asked.wait();
  fiber.cancel();
  EXPECT_THROW(fiber.result(), Cancelled);
}

TEST_F(TlsProbe, ABodyOfManyRecordsIsSent) {
  size_t received = 0;
  TlsServer server(certificate_, [&](TlsPeer& peer) {
    if (!peer.handshake()) return;
    const std::string head = peer.read_head();
    received = head.size() - head.find("\r\n\r\n") - 4;
    while (received < 300000) {
      const std::string more = peer.read_some();
      if (more.empty()) return;
      received += more.size();
    }
    peer.write(kOk);
  });
  HttpRequest request = trusting(server.url());
  request.method = "POST";
  request.body.assign(300000, 'b');
  EXPECT_TRUE(probe_http(request, 1min).ready);
  EXPECT_EQ(received, 300000u);
}

TEST_F(TlsProbe, RedirectsLeadFromHttpToHttps) {
  TlsServer server(certificate_, answering());
  Server plain(Answering{"HTTP/1.1 301 Moved\r\nLocation: " + server.url("localhost", "/x") + "\r\n\r\n"});
  HttpRequest request = trusting(plain.url());
  request.follow_redirects = true;
  EXPECT_EQ(probe_http(request, 1min).seen, "HTTP 200 OK at " + server.url("localhost", "/x"));
}

TEST_F(TlsProbe, ManyAtOnceDoNotMixTheirErrors) {
  TlsServer server(certificate_, answering());
  std::vector<Fiber<ProbeResult>> fibers;
  for (int i = 0; i < 40; ++i)
    fibers.push_back(spawn(
        [&, i] { return probe_http(i % 2 ? trusting(server.url()) : request_of(server.url()), 1min); }));
  for (size_t i = 0; i < fibers.size(); ++i)
    EXPECT_EQ(fibers[i].result().seen,
              i % 2 ? "HTTP 200 OK" : "certificate verify failed: self-signed certificate");
}

TEST_F(TlsProbe, ABadFileIsTheCallers) {
  const auto complaint = [](const std::string& path) {
    HttpRequest request = request_of("https://127.0.0.1:1/");
    request.tls.ca_file = path;
    return complaint_of([&] { probe_http(request, 1s); });
  };
  EXPECT_HAS(complaint("/no/such/file"),
             "the ca_file '/no/such/file' cannot be used: No such file or directory");
  EXPECT_HAS(complaint("/dev/null"), "expected is a file of certificates in PEM");
  EXPECT_HAS(complaint("/etc/passwd"), "cannot be used");
  EXPECT_HAS(complaint("a\0b"s), "NUL");
  EXPECT_HAS(complaint_of([] { probe_http(request_of("https://" + std::string(300, 'x') + "/"), 1s); }),
             "cannot be the name of a TLS server");
  const auto error_left_behind = on_thread([&] {
    complaint("/dev/null");
    complaint_of([] { probe_http(request_of("https://" + std::string(300, 'x') + "/"), 1s); });
    return ERR_peek_error();
  });
  EXPECT_EQ(error_left_behind, 0u);
}

TEST_F(TlsProbe, AMissingLibraryIsNamed) {
  try {
    OpenSsl("libssl-of-no-such-version.so");
    ADD_FAILURE();
  } catch (const std::runtime_error& error) {
    EXPECT_HAS(error.what(), "install Debian's package libssl3");
    EXPECT_HAS(error.what(), "libssl-of-no-such-version.so");
  }
}

TEST_F(TlsProbe, AThousandLeaveNothingBehind) {
  TlsServer server(certificate_, answering());
  const HttpRequest good = trusting(server.url()), bad = request_of(server.url());
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(probe_http(good, 1min).ready);
    ASSERT_FALSE(probe_http(bad, 1min).ready);
  }
}

}  // namespace
}  // namespace weft::process::test
