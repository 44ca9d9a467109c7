// Redirects: followed, not followed, and without an end.
#include <map>

#include "server.hpp"

namespace weft::process::test {
namespace {

/// Answers each target by what `pages` has for it; keeps the heads.
struct Site {
  std::map<std::string, std::string> pages;
  std::vector<std::string> heads;
  Server server;

  explicit Site(std::map<std::string, std::string> answers)
      : pages(std::move(answers)), server([this](net::TcpStream& stream) {
          const std::string head = read_head(stream);
          heads.push_back(head);
          const size_t begin = head.find(' ') + 1;
          const auto page = pages.find(head.substr(begin, head.find(' ', begin) - begin));
          stream.write_all(page == pages.end() ? "HTTP/1.1 404 Not Found\r\n\r\n" : page->second);
          read_to_the_end(stream);
        }) {}
};

std::string redirect(const std::string& location, const std::string& line = "302 Found") {
  return "HTTP/1.1 " + line + "\r\nLocation: " + location + "\r\n\r\n";
}

class RedirectProbe : public ProbeTest {
 protected:
  static HttpRequest following(const Site& site, const std::string& target) {
    HttpRequest request = request_of(site.server.url(target));
    request.follow_redirects = true;
    return request;
  }
};

const std::string kOk = "HTTP/1.1 200 OK\r\n\r\n";

TEST_F(RedirectProbe, IsFollowedWhereItLeads) {
  Site other({{"/there", kOk}});
  const std::string port = std::to_string(other.server.port());
  Site site({{"/x/relative", redirect("good?1")},
             {"/x/up", redirect("../good", "308 Permanent Redirect")},
             {"/path", redirect("/good", "301 Moved Permanently")},
             {"/scheme", redirect("//127.0.0.1:" + port + "/there")},
             {"/absolute", redirect("http://127.0.0.1:" + port + "/there", "307 Temporary Redirect")},
             {"/twice", redirect("/path")},
             {"/lost", redirect("/nowhere")},
             {"/x/good?1", kOk},
             {"/good", kOk}});
  for (const char* target : {"/x/relative", "/x/up", "/path", "/scheme", "/absolute", "/twice"}) {
    const auto probe = [&] { return probe_http(following(site, target), 1min); };
    for (const ProbeResult& result : {probe(), on_thread(probe)}) {
      EXPECT_TRUE(result.ready) << target << result.seen;
      EXPECT_HAS(result.seen, "HTTP 200 OK at http://127.0.0.1:");
    }
  }
  EXPECT_EQ(other.heads.size(), 4u);
  EXPECT_EQ(probe_http(following(site, "/lost"), 1min).seen,
            "HTTP 404 Not Found at " + site.server.url("/nowhere"));
}

TEST_F(RedirectProbe, IsAStatusWhereItIsNotFollowed) {
  Site site({{"/", redirect("/good")},
             {"/none", "HTTP/1.1 302 Found\r\n\r\n"},
             {"/300", redirect("/", "300 Many")}});
  HttpRequest request = request_of(site.server.url());
  EXPECT_EQ(probe_http(request, 1min).seen, "HTTP 302 Found");
  EXPECT_FALSE(probe_http(request, 1min).ready);
  request.accepts = [](unsigned status) { return status == 302; };
  EXPECT_TRUE(probe_http(request, 1min).ready);
  EXPECT_EQ(probe_http(following(site, "/none"), 1min).seen, "HTTP 302 Found");
  EXPECT_EQ(probe_http(following(site, "/300"), 1min).seen, "HTTP 300 Many");
}

TEST_F(RedirectProbe, LoopsAndTooManyAreSaidSo) {
  std::map<std::string, std::string> pages{
      {"/self", redirect("/self")}, {"/a", redirect("b")}, {"/b", redirect("a")}};
  for (int i = 0; i < 20; ++i) pages["/" + std::to_string(i)] = redirect("/" + std::to_string(i + 1));
  pages["/20"] = kOk;
  Site site(std::move(pages));
  EXPECT_EQ(probe_http(following(site, "/self"), 1min).seen,
            "redirects go round in a circle, by way of " + site.server.url("/self"));
  EXPECT_EQ(probe_http(following(site, "/a"), 1min).seen,
            "redirects go round in a circle, by way of " + site.server.url("/a"));
  EXPECT_EQ(probe_http(following(site, "/0"), 1min).seen,
            "more than 10 redirects, the last to " + site.server.url("/11"));
  EXPECT_FALSE(probe_http(following(site, "/9"), 1min).ready);
  EXPECT_TRUE(probe_http(following(site, "/10"), 1min).ready) << "ten are followed";
}

TEST_F(RedirectProbe, WhereItCannotGoIsSaid) {
  const net::test::RefusingPort refusing;
  Site site({{"/ftp", redirect("ftp://x/")},
             {"/bad", redirect("http://a b:99999/")},
             {"/refused", redirect("http://" + refusing.address().to_string())}});
  EXPECT_HAS(probe_http(following(site, "/ftp"), 1min).seen,
             "HTTP 302 Found, but where it leads cannot be asked");
  EXPECT_HAS(probe_http(following(site, "/bad"), 1min).seen,
             "HTTP 302 Found, but where it leads cannot be asked");
  EXPECT_EQ(probe_http(following(site, "/refused"), 1min).seen,
            refusing.address().to_string() + " refuses connections");
}

TEST_F(RedirectProbe, MethodAndBodyGoOnAsInABrowser) {
  Site site({{"/301", redirect("/x", "301 Moved Permanently")},
             {"/303", redirect("/x", "303 See Other")},
             {"/307", redirect("/x", "307 Temporary Redirect")}});
  const auto second_request = [&](const char* target, const char* method) {
    HttpRequest request = following(site, target);
    request.method = method;
    request.headers = {{"Content-Type", "text/plain"}};
    site.heads.clear();
    probe_http(request, 1min);
    return site.heads.size() == 2 ? site.heads[1] : "";
  };
  EXPECT_TRUE(second_request("/301", "POST").starts_with("GET /x "));
  EXPECT_EQ(second_request("/301", "POST").find("Content-"), std::string::npos);
  EXPECT_TRUE(second_request("/301", "HEAD").starts_with("HEAD /x "));
  EXPECT_TRUE(second_request("/303", "PUT").starts_with("GET /x "));
  EXPECT_TRUE(second_request("/303", "HEAD").starts_with("HEAD /x "));
  EXPECT_TRUE(second_request("/307", "POST").starts_with("POST /x "));
  EXPECT_HAS(second_request("/307", "POST"), "Content-Type: text/plain");
}

TEST_F(RedirectProbe, SecretsStayWithTheirOrigin) {
  Site other({{"/there", kOk}});
  Site site({{"/here", redirect("/good")}, {"/away", redirect(other.server.url("/there"))}, {"/good", kOk}});
  HttpRequest request = following(site, "/here");
  request.url.has_credentials = true;
  request.url.user = "me";
  request.headers = {{"Cookie", "secret"}};
  EXPECT_TRUE(probe_http(request, 1min).ready);
  ASSERT_EQ(site.heads.size(), 2u);
  EXPECT_HAS(site.heads[1], "Authorization: Basic bWU6");
  EXPECT_HAS(site.heads[1], "Cookie: secret");
  request.url.target = "/away";
  request.headers.emplace_back("Authorization", "Bearer x");
  EXPECT_TRUE(probe_http(request, 1min).ready);
  ASSERT_EQ(other.heads.size(), 1u);
  EXPECT_EQ(other.heads[0].find("Authorization"), std::string::npos) << other.heads[0];
  EXPECT_EQ(other.heads[0].find("Cookie"), std::string::npos) << other.heads[0];
}

TEST_F(RedirectProbe, AllOfThemShareTheLimit) {
  Site site({{"/", redirect("/slow")}});
  Server silent([](net::TcpStream& stream) { read_to_the_end(stream); });
  site.pages["/"] = redirect(silent.url());
  expect_the_limit("no answer", [&](auto limit) { return probe_http(following(site, "/"), limit); });
  EXPECT_GT(silent.connections(), 0);
}

}  // namespace
}  // namespace weft::process::test
