#include "runtime/stats.hpp"

#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>

namespace weft::engine {
namespace {

stats::Summary example() {
  stats::Summary summary;
  summary.pid = 42;
  summary.python = "3.12.1";
  summary.backend = Backend::kEpoll;
  summary.routing = true;
  summary.carriers = 1;
  summary.pool_threads_peak = 3;
  summary.native_threads = 4;
  summary.fibers = {.created = 5, .alive = 2, .peak = 4};
  summary.carrier = {6, {10, 11, 12, 13, 14, 15, 16}};
  summary.pins = {{"read", "/usr/lib/libpq.so.5", 7, 8'000'000, 9'000}};
  summary.preemptions = 17;
  summary.stalls = 18;
  summary.peak_rss_kib = 2048;
  return summary;
}

TEST(Stats, JsonHasExactlyTheDocumentedKeys) {
  EXPECT_EQ(nlohmann::json::parse(stats::to_json(example())), nlohmann::json::parse(R"({
    "pid": 42, "python": "3.12.1", "backend": "epoll", "routing": true, "carriers": 1, "pool_threads_peak": 3,
    "native_threads": 4, "fibers": {"created": 5, "peak": 4, "alive": 2}, "switches": 6,
    "parks": {"io": 10, "sleep": 11, "lock": 12, "join": 13, "offload": 14, "child": 15, "other": 16},
    "pins": [{"call": "read", "library": "/usr/lib/libpq.so.5", "count": 7, "total_ns": 8000000, "max_ns": 9000}],
    "preemptions": 17, "stalls": 18, "peak_rss_kib": 2048})"));
}

TEST(Stats, JsonOfARuntimeThatNeverStartedHasNulls) {
  const auto json = nlohmann::json::parse(stats::to_json({}));
  EXPECT_TRUE(json["backend"].is_null());
  EXPECT_TRUE(json["python"].is_null());
  EXPECT_EQ(json["fibers"]["created"], 0);
  EXPECT_EQ(json["pins"], nlohmann::json::array());
}

TEST(Stats, JsonSurvivesPathsThatAreNotUtf8) {
  stats::Summary summary = example();
  summary.pins[0].library = "/tmp/\xff.so";
  EXPECT_NO_THROW(nlohmann::json::parse(stats::to_json(summary)));
}

TEST(Stats, TextNamesEveryCount) {
  const std::string text = stats::to_text(example());
  for (const char* part :
       {"process 42, Python 3.12.1", "epoll", "1 carrier,", "5 created, 4 at peak, 2 alive",
        "io 10, sleep 11, lock 12, join 13, offload 14, child 15, other 16\n", "17, stalls 18",
        "read  /usr/lib/libpq.so.5", "8.0 ms", "9.0 us", "2.0 MiB"})
    EXPECT_NE(text.find(part), text.npos) << part << " in\n" << text;
}

TEST(Stats, TextSaysThatTheRuntimeNeverStarted) {
  EXPECT_NE(stats::to_text({}).find("no thread was created"), std::string::npos);
}

TEST(Stats, CollectsWithoutARuntime) {
  const stats::Summary summary = stats::collect();
  EXPECT_EQ(summary.pid, getpid());
  EXPECT_FALSE(summary.started());
  EXPECT_EQ(summary.fibers.created, 0u);
  EXPECT_GT(summary.peak_rss_kib, 1000u);
}

}  // namespace
}  // namespace weft::engine
