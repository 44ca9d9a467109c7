// A live table of what the endpoints of an HTTP API say, asked all at once, again and again.
// Shows a deadline for each call: an endpoint that hangs costs its own row, not the table. Ctrl-C, by a
// descriptor, is one of the things that select() waits for.
//
//   dashboard                                  asks a slow API of its own; Ctrl-C ends it
//   dashboard ROUNDS SECONDS [URL...]          how often (0: until Ctrl-C), how long to wait for an answer
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

#include "http.hpp"
#include "interrupt.hpp"

static std::string poll(const std::string& url, std::chrono::duration<double> limit) {
  try {
    const weft::TimeoutScope timeout(limit);
    return http::get(url);
  } catch (const weft::Timeout&) {
    return "no answer in time";
  } catch (const std::exception& error) {
    return error.what();
  }
}

static http::Answer demo_endpoint(const std::string& path) {
  return {std::chrono::milliseconds(path == "/search" ? 60000 : 50), path == "/mail" ? 503 : 200, "fine"};
}

int main(int argc, char** argv) try {
  const weft::OwnedDescriptor interrupted = interrupt_descriptor();
  const weft::Runtime runtime;
  const int rounds = argc > 1 ? atoi(argv[1]) : 0;
  const std::chrono::duration<double> limit(argc > 2 ? atof(argv[2]) : 0.5);
  std::vector<std::string> urls(argv + std::min(argc, 3), argv + argc);
  if (urls.empty()) {
    const std::string base = http::serve(demo_endpoint);
    for (const char* path : {"/orders", "/search", "/mail", "/billing"}) urls.push_back(base + path);
  }
  for (int round = 1, ended = 0; !ended && (rounds == 0 || round <= rounds); ++round) {
    std::vector<weft::Fiber<std::string>> answers;
    for (const std::string& url : urls) answers.push_back(weft::spawn([&] { return poll(url, limit); }));
    printf("%sround %d\n", isatty(STDOUT_FILENO) ? "\x1b[H\x1b[J" : "", round);
    for (size_t i = 0; i < urls.size(); ++i)
      printf("  %-40s %s\n", urls[i].c_str(), answers[i].result().c_str());
    fflush(stdout);
    if (round != rounds)
      weft::select(weft::on_readable(interrupted.get(), [&] { ended = 1; }),
                   weft::after(std::chrono::seconds(1)));
  }
} catch (const std::exception& error) {
  fprintf(stderr, "dashboard: %s\n", error.what());
  return 1;
}
