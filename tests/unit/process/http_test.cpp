// HTTP: good answers, bad answers, and none.
#include <algorithm>

#include "server.hpp"

namespace weft::process::test {
namespace {

using net::test::RefusingPort;
using net::test::SilentListener;

class HttpProbe : public ProbeTest {};

constexpr const char* kOk = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

TEST_F(HttpProbe, AGoodAnswerIsReady) {
  std::string head;
  Server server(Answering{kOk, &head});
  const auto probe = [&] { return probe_http(request_of(server.url("/health?deep=1#top")), 1min); };
  for (const ProbeResult& result : {probe(), on_thread(probe)}) {
    EXPECT_TRUE(result.ready);
    EXPECT_EQ(result.seen, "HTTP 200 OK");
    EXPECT_EQ(head, "HEAD /health?deep=1 HTTP/1.1\r\nHost: " + server.address().to_string() +
                        "\r\nUser-Agent: weft\r\nConnection: close\r\n\r\n");
  }
}

TEST_F(HttpProbe, OtherStatusesAreNot) {
  for (const auto& [line, seen] : {std::pair("500 Internal Server Error", "HTTP 500 Internal Server Error"),
                                   {"404 ", "HTTP 404 Not Found"},
                                   {"302 Found\r\nLocation: /x", "HTTP 302 Found"},
                                   {"101 Switching Protocols", "HTTP 101 Switching Protocols"},
                                   {"799 Odd\xff", "HTTP 799 Odd?"}}) {
    Server server(Answering{std::string("HTTP/1.1 ") + line + "\r\n\r\n"});
    const ProbeResult result = probe_http(request_of(server.url()), 1min);
    EXPECT_FALSE(result.ready);
    EXPECT_EQ(result.seen, seen);
  }
}

TEST_F(HttpProbe, ThePredicateDecides) {
  Server server(Answering{"HTTP/1.0 404 Not Found\r\n\r\n"});
  HttpRequest request = request_of(server.url());
  unsigned status = 0;
  request.accepts = [&](unsigned given) {
    status = given;
    return given < 500;
  };
  EXPECT_TRUE(probe_http(request, 1min).ready);
  EXPECT_EQ(status, 404u);
  request.accepts = [](unsigned) { return false; };
  EXPECT_FALSE(probe_http(request, 1min).ready);
  request.accepts = [](unsigned) -> bool {
    throw std::system_error(std::make_error_code(std::errc::io_error));
  };
  EXPECT_THROW(probe_http(request, 1min), std::system_error) << "what it throws is no news of the network";
}

TEST_F(HttpProbe, MethodHeadersAndBody) {
  std::string head, body(5, ' ');
  Server server([&](net::TcpStream& stream) {
    head = read_head(stream);
    if (head.find("Content-Length: 5") != head.npos) stream.read_exactly(body);
    stream.write_all("HTTP/1.1 204 No Content\r\n\r\n");
  });
  HttpRequest request = request_of(server.url("/x"));
  request.method = "POST";
  request.headers = {{"X-One", "1"}, {"X-Two", "a\tb \xc3\xa4"}, {"x-one", ""}};
  request.body = "hello";
  EXPECT_EQ(probe_http(request, 1min).seen, "HTTP 204 No Content");
  EXPECT_EQ(head, "POST /x HTTP/1.1\r\nHost: " + server.address().to_string() +
                      "\r\nX-One: 1\r\nx-one: \r\nX-Two: a\tb \xc3\xa4\r\nUser-Agent: weft\r\n"
                      "Content-Length: 5\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(body, "hello");
  request.body.clear();
  EXPECT_TRUE(probe_http(request, 1min).ready);
  EXPECT_HAS(head, "Content-Length: 0\r\n");
  request.method = "GET";
  EXPECT_TRUE(probe_http(request, 1min).ready);
  EXPECT_EQ(head.find("Content-Length"), head.npos);
  EXPECT_TRUE(head.starts_with("GET /x HTTP/1.1\r\n"));
  request.headers = {{"host", "other"}, {"USER-AGENT", "me"}, {"connection", "keep-alive"}};
  EXPECT_TRUE(probe_http(request, 1min).ready);
  EXPECT_EQ(head, "GET /x HTTP/1.1\r\nhost: other\r\nUSER-AGENT: me\r\nconnection: keep-alive\r\n\r\n");
}

TEST_F(HttpProbe, CredentialsBecomeBasicAuthorization) {
  std::string head;
  Server server(Answering{kOk, &head});
  for (const auto& [credentials, encoded] : {std::pair("me:pw", "bWU6cHc="),
                                             {"me", "bWU6"},
                                             {"Aladdin:open%20sesame", "QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
                                             {"%ff%fe:a", "//46YQ=="}}) {
    HttpRequest request =
        request_of("http://" + std::string(credentials) + "@" + server.address().to_string());
    EXPECT_TRUE(probe_http(request, 1min).ready);
    EXPECT_HAS(head, "\r\nAuthorization: Basic "s + encoded + "\r\n");
    request.headers = {{"authorization", "Bearer x"}};
    EXPECT_TRUE(probe_http(request, 1min).ready);
    EXPECT_HAS(head, "\r\nauthorization: Bearer x\r\n");
    EXPECT_EQ(head.find("Basic"), head.npos);
  }
}

TEST_F(HttpProbe, TheHostHeaderOfIpv6) {
  if (::access("/proc/net/if_inet6", F_OK) != 0) GTEST_SKIP();
  std::string head;
  Server server(Answering{kOk, &head}, Address::loopback_v6());
  EXPECT_TRUE(probe_http(request_of(server.url()), 1min).ready);
  EXPECT_HAS(head, "\r\nHost: [::1]:" + std::to_string(server.port()) + "\r\n");
}

TEST_F(HttpProbe, NobodyThere) {
  const RefusingPort refusing;
  const SilentListener silent;
  const HttpRequest refused = request_of("http://" + refusing.address().to_string());
  const HttpRequest ignored = request_of("http://" + silent.address().to_string());
  EXPECT_EQ(probe_http(refused, 1min).seen, refusing.address().to_string() + " refuses connections");
  EXPECT_EQ(probe_http(ignored, 5ms).seen, "no connection within 5 ms");
  EXPECT_EQ(on_thread([&] { return probe_http(ignored, 5ms); }).seen, "no connection within 5 ms");
  EXPECT_HAS(probe_http(request_of("http://no-such-host.invalid/"), 1min).seen, "cannot resolve");
}

TEST_F(HttpProbe, WhoAcceptsAndNeverAnswersEndsAtTheLimit) {
  Server server([](net::TcpStream& stream) { read_to_the_end(stream); });
  expect_the_limit("no answer", [&](auto limit) { return probe_http(request_of(server.url()), limit); });
  EXPECT_TRUE(probe_http(request_of(server.url()), 250ms).seen.ends_with(" within 250 ms"));
}

TEST_F(HttpProbe, ASlowDripEndsAtTheLimit) {
  const auto drip = [](net::TcpStream& stream) {
    stream.write_all("HTTP/1.1 200 OK\r\nX: ");
    for (;;) {
      stream.write_all("x");
      sleep(1ms);
    }
  };
  Server server(drip);
  const auto probe = [&](auto limit) { return probe_http(request_of(server.url()), limit); };
  expect_the_limit("no complete answer", probe);
  expect_timeout(probe);
}

TEST_F(HttpProbe, ADripThatEndsIsGood) {
  Server server([](net::TcpStream& stream) {
    for (const char c : std::string_view(kOk)) {
      stream.write_all({&c, 1});
      this_fiber::yield();
    }
    read_to_the_end(stream);
  });
  EXPECT_TRUE(probe_http(request_of(server.url()), 1min).ready);
}

TEST_F(HttpProbe, WhoClosesIsSaidSo) {
  for (const auto& [text, words] :
       {std::pair("", "without an answer"), {"HTTP/1.1 200 O", "within its answer"}}) {
    Server server([text = text](net::TcpStream& stream) {
      read_head(stream);
      stream.write_all(text);
    });
    const auto probe = [&] { return probe_http(request_of(server.url()), 1min); };
    for (const ProbeResult& result : {probe(), on_thread(probe)}) {
      EXPECT_FALSE(result.ready);
      EXPECT_EQ(result.seen, server.address().to_string() + " closed the connection " + words);
    }
  }
  Server at_once([](net::TcpStream&) {});
  EXPECT_FALSE(probe_http(request_of(at_once.url()), 1min).ready);
  Server breaking([](net::TcpStream& stream) {
    read_head(stream);
    const linger none{1, 0};
    ::setsockopt(stream.native_handle(), SOL_SOCKET, SO_LINGER, &none, sizeof none);
  });
  EXPECT_EQ(probe_http(request_of(breaking.url()), 1min).seen,
            breaking.address().to_string() + " broke the connection off");
}

TEST_F(HttpProbe, RubbishIsSaidSo) {
  const std::pair<const char*, const char*> cases[] = {
      {"SSH-2.0-OpenSSH_9.2\r\n", "does not speak HTTP: it sent 'SSH-2.0-OpenSSH_9.2'"},
      {"\x15\x03\x01", "does not speak HTTP: it sent '?\?\?'"},
      {"<html>", "does not speak HTTP"},
      {"HTTP/3.9 200 OK\r\n\r\n", "HTTP is wrong"},
      {"HTTP/1.1 two OK\r\n\r\n", "HTTP is wrong"},
      {"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", "HTTP is wrong"},
      {"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n", "HTTP is wrong"},
  };
  for (const auto& [text, words] : cases) {
    // Not closed: what it sent must do.
    Server server([text = text](net::TcpStream& stream) {
      stream.write_all(text);
      read_to_the_end(stream);
    });
    const ProbeResult result = probe_http(request_of(server.url()), 1min);
    EXPECT_FALSE(result.ready);
    EXPECT_HAS(result.seen, words);
  }
}

TEST_F(HttpProbe, InterimResponsesArePassedOver) {
  const std::string interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
  Server good(Answering{interim + kOk});
  EXPECT_EQ(probe_http(request_of(good.url()), 1min).seen, "HTTP 200 OK");
  Server bad(Answering{interim + interim + "HTTP/1.1 503 Service Unavailable\r\n\r\n"});
  EXPECT_EQ(probe_http(request_of(bad.url()), 1min).seen, "HTTP 503 Service Unavailable");
  Server endless([&](net::TcpStream& stream) {
    for (;;) stream.write_all(interim);
  });
  expect_the_limit("no complete answer",
                   [&](auto limit) { return probe_http(request_of(endless.url()), limit); });
  Server closing([&](net::TcpStream& stream) {
    read_head(stream);
    stream.write_all(interim);
  });
  EXPECT_HAS(probe_http(request_of(closing.url()), 1min).seen, "closed the connection within its answer");
}

TEST_F(HttpProbe, AHeaderOf64KiBIsRead) {
  const std::string start = "HTTP/1.1 200 OK\r\n";
  const auto padded = [&](size_t size) {
    std::string text = start;
    while (text.size() + 1002 < size) text += "X: " + std::string(995, 'x') + "\r\n";
    return text + "Y: " + std::string(size - text.size() - 7, 'y') + "\r\n\r\n";
  };
  Server fits(Answering{padded(65000)});
  EXPECT_EQ(probe_http(request_of(fits.url()), 1min).seen, "HTTP 200 OK");
  Server huge(Answering{padded(70000)});
  EXPECT_EQ(probe_http(request_of(huge.url()), 1min).seen, "the header of the response has more than 64 KiB");
  Server endless([&](net::TcpStream& stream) {
    stream.write_all(start);
    for (;;) stream.write_all("X: y\r\n");
  });
  EXPECT_EQ(probe_http(request_of(endless.url()), 1min).seen,
            "the header of the response has more than 64 KiB");
}

TEST_F(HttpProbe, TheBodyIsNotWaitedFor) {
  Event closed;
  Server server([&](net::TcpStream& stream) {
    read_head(stream);
    stream.write_all("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\nbegin");
    try {
      read_to_the_end(stream);
    } catch (const std::system_error&) {  // there was a body that it did not read
    }
    closed.set();
  });
  HttpRequest request = request_of(server.url());
  request.method = "GET";
  EXPECT_TRUE(probe_http(request, 1min).ready);
  closed.wait();
}

TEST_F(HttpProbe, AnAnswerBeforeTheBodyIsReadCounts) {
  Server server([](net::TcpStream& stream) {
    read_head(stream);
    stream.write_all("HTTP/1.1 413 Too Large\r\n\r\n");
    stream.shutdown_write();
    read_to_the_end(stream);
  });
  HttpRequest request = request_of(server.url());
  request.method = "PUT";
  request.body.assign(20 << 20, 'b');
  EXPECT_EQ(probe_http(request, 1min).seen, "HTTP 413 Too Large");
}

TEST_F(HttpProbe, CancellationPassesInEachStep) {
  const SilentListener silent;
  expect_cancelled("connect", [&] { probe_http(request_of("http://" + silent.address().to_string()), 1h); });
  Server waiting([](net::TcpStream& stream) {
    read_head(stream);
    stream.write_all("HTTP/1.1 200 OK\r\n");
    read_to_the_end(stream);
  });
  expect_cancelled("read_some", [&] { probe_http(request_of(waiting.url()), 1h); });
  Event go_on;
  Server deaf([&](net::TcpStream&) { go_on.wait(); });
  HttpRequest large = request_of(deaf.url());
  large.method = "POST";
  large.body.assign(64 << 20, 'b');
  expect_cancelled("write_all", [&] { probe_http(large, 1h); });
  go_on.set();
}

TEST_F(HttpProbe, TheScopeOfTheCallerPassesInEachStep) {
  const SilentListener silent;
  expect_timeout(
      [&](auto limit) { return probe_http(request_of("http://" + silent.address().to_string()), limit); });
  Server waiting([](net::TcpStream& stream) { read_to_the_end(stream); });
  expect_timeout([&](auto limit) { return probe_http(request_of(waiting.url()), limit); });
  Event go_on;
  Server deaf([&](net::TcpStream&) { go_on.wait(); });
  HttpRequest large = request_of(deaf.url());
  large.body.assign(64 << 20, 'b');
  expect_timeout([&](auto limit) { return probe_http(large, limit); });
  EXPECT_EQ(words_at_the_limit("no answer", [&](auto limit) { return probe_http(large, limit); }),
            "no answer");
  go_on.set();
}

TEST_F(HttpProbe, WhatIsNoRequestIsRefused) {
  const auto complaint = [](auto change) {
    HttpRequest request = request_of("http://127.0.0.1:1/");
    change(request);
    return complaint_of([&] { probe_http(request, 1s); });
  };
  EXPECT_HAS(complaint([](auto& r) { r.method = ""; }), "no HTTP method");
  EXPECT_HAS(complaint([](auto& r) { r.method = "GET / HTTP/1.1\r\nX:"; }), "no HTTP method");
  EXPECT_HAS(complaint([](auto& r) { r.headers = {{"", "x"}}; }), "no header's name");
  EXPECT_HAS(complaint([](auto& r) { r.headers = {{"X: y\r\nZ", "x"}}; }), "no header's name");
  EXPECT_HAS(complaint([](auto& r) { r.headers = {{"X Y", "x"}}; }), "no header's name");
  for (const auto& value : {"a\r\nb"s, "a\nb"s, "a\rb"s, "a\0b"s, "a\x7f"s}) {
    const std::string text = complaint([&](auto& r) { r.headers = {{"X", value}}; });
    EXPECT_HAS(text, "the header X has a line break or another control character");
  }
  EXPECT_HAS(complaint([](auto& r) { r.headers = {{"X", std::string(40000, 'x')}}; }), "more than 32 KiB");
  EXPECT_HAS(complaint([](auto& r) { r.url.target = "/\r\nX: y"; }), "control character");
  EXPECT_HAS(complaint([](auto& r) { r.url = Url(); }), "the URL");
}

TEST_F(HttpProbe, TenThousandLeaveNothingBehind) {
  const RefusingPort refusing;
  std::atomic<bool> rude = false;
  Server server([&](net::TcpStream& stream) {
    if (!rude) Answering{kOk}(stream);
  });
  const HttpRequest request = request_of(server.url());
  const HttpRequest refused = request_of("http://" + refusing.address().to_string());
  const int descriptors = engine::test::open_descriptors();
  int ready = 0;
  for (int i = 0; i < 2500; ++i) {
    ready += probe_http(request, 1min).ready;
    ready += probe_tcp("127.0.0.1", refusing.address().port(), 1min).ready;
    ready += probe_http(refused, 1min).ready;
  }
  EXPECT_EQ(ready, 2500);
  rude = true;
  for (int i = 0; i < 2500; ++i) ready += probe_http(request, 1min).ready;
  EXPECT_EQ(ready, 2500);
  while (server.connections() < 5000) this_fiber::yield();
  // The server may not have closed its last one.
  for (int i = 0; i < 1000 && engine::test::open_descriptors() != descriptors; ++i) sleep(1ms);
  EXPECT_EQ(engine::test::open_descriptors(), descriptors);
}

}  // namespace
}  // namespace weft::process::test
