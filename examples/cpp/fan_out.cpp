// Asks several backends the same thing at the same time, and takes what came by a deadline.
// Shows a TaskGroup whose fibers answer through a channel; what is late is cancelled, and holds up nothing.
//
//   fan_out                            starts five backends itself, two of which are too slow
//   fan_out SECONDS [URL...]           as: fan_out 0.5 http://one/price http://two/price
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "http.hpp"

using Answered = std::pair<std::string, std::string>;

static std::vector<Answered> fan_out(const std::vector<std::string>& urls,
                                     std::chrono::duration<double> limit) {
  std::vector<Answered> taken;
  weft::Channel<Answered> answers(weft::kUnbounded);
  weft::TaskGroup group;
  for (const std::string& url : urls)
    (void)group.spawn([&] {
      try {
        answers.send({url, http::get(url)});
      } catch (const std::exception& error) {
        answers.send({url, std::string("failed: ") + error.what()});
      }
    });
  try {
    const weft::TimeoutScope deadline(limit);
    while (taken.size() < urls.size()) taken.push_back(answers.receive().value());
  } catch (const weft::Timeout&) {  // leaving the group cancels the others
  }
  return taken;
}

int main(int argc, char** argv) try {
  const weft::Runtime runtime;
  const std::chrono::duration<double> limit(argc > 1 ? atof(argv[1]) : 1);
  std::vector<std::string> urls(argv + std::min(argc, 2), argv + argc);
  if (urls.empty()) {
    const std::string base = http::serve([](const std::string& path) {
      const int time = atoi(path.c_str() + 1);
      return http::Answer{std::chrono::milliseconds(time), 200, "took " + std::to_string(time) + " ms"};
    });
    for (const char* time : {"/100", "/20000", "/300", "/30000", "/200"}) urls.push_back(base + time);
  }
  const auto taken = fan_out(urls, limit);
  for (const auto& [url, answer] : taken) printf("%s: %s\n", url.c_str(), answer.c_str());
  printf("%zu of %zu answers\n", taken.size(), urls.size());
  return taken.empty();
} catch (const std::exception& error) {
  fprintf(stderr, "fan_out: %s\n", error.what());
  return 1;
}
