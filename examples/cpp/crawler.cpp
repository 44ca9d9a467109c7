// Fetches the pages of a site, breadth first, some at a time.
// Shows workers that take from one channel and answer through another.
//   crawler                             serves a small site itself, and crawls that
//   crawler URL [CONCURRENCY [PAGES]]   as: crawler http://localhost:8000/ 10 500
#include <cstdio>
#include <cstdlib>
#include <set>

#include "http.hpp"

struct Page {
  std::string url, outcome, text;
};

static Page fetch(const std::string& url) {
  try {
    const weft::TimeoutScope timeout(std::chrono::seconds(10));
    const std::string text = http::get(url);
    return {url, std::to_string(text.size()) + " characters", text};
  } catch (const std::exception& error) {
    return {url, error.what(), ""};
  }
}

static http::Answer demo_page(const std::string& path) {
  const int number = atoi(path.c_str() + 1);
  const std::string left = std::to_string(2 * number + 1), right = std::to_string(2 * number + 2);
  return {std::chrono::milliseconds(50), number <= 20 ? 200 : 404,
          "href=\"/" + left + "\" href=\"/" + right + "\""};
}

int main(int argc, char** argv) try {
  const std::string start = argc > 1 ? argv[1] : http::serve(demo_page) + "/";
  const std::string site = start.substr(0, start.find('/', 7));
  const size_t limit = argc > 3 ? strtoul(argv[3], nullptr, 10) : 200;
  weft::Channel<std::string> urls(weft::kUnbounded);
  weft::Channel<Page> pages;
  weft::TaskGroup workers;
  for (int i = argc > 2 ? std::max(atoi(argv[2]), 1) : 10; i > 0; --i)
    (void)workers.spawn([&] {
      for (const std::string& url : urls) pages.send(fetch(url));
    });
  std::set<std::string> seen{start};
  urls.send(start);
  for (size_t done = 0; done < seen.size(); ++done) {
    const Page page = pages.receive().value();
    printf("%s: %s\n", page.url.c_str(), page.outcome.c_str());
    for (size_t at = 0; (at = page.text.find("href=\"", at)) != page.text.npos;) {
      at += 6;
      std::string link = page.text.substr(at, page.text.find_first_of("\"#", at) - at);
      if (link.starts_with('/')) link = site + link;
      if (link.starts_with(site + "/") && seen.size() < limit && seen.insert(link).second) urls.send(link);
    }
  }
  printf("%zu pages\n", seen.size());
} catch (const std::exception& error) {
  fprintf(stderr, "crawler: %s\n", error.what());
  return 1;
}
