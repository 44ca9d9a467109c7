// Scenarios played twice, by an OS thread with libc's calls and by a fiber with the routed ones: both must
// tell the same.
#pragma once

#include <signal.h>

#include <cstring>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>
#include <vector>

#include "interpose/calls.hpp"
#include "support/poll_loop.hpp"

namespace weft::engine::test {

/// The calls under test, of either kind.
struct Calls {
#define WEFT_CALL_MEMBER(call) decltype(&::call) call;
  WEFT_SOCKETS_CALLS(WEFT_CALL_MEMBER)
  WEFT_POLLING_CALLS(WEFT_CALL_MEMBER)
#undef WEFT_CALL_MEMBER
};

inline const Calls& native_calls() {
  interpose::resolve_calls();
#define WEFT_CALL_VALUE(call) interpose::real::call,
  static const Calls calls{WEFT_SOCKETS_CALLS(WEFT_CALL_VALUE) WEFT_POLLING_CALLS(WEFT_CALL_VALUE)};
#undef WEFT_CALL_VALUE
  return calls;
}

inline const Calls& routed_calls() {
  interpose::resolve_calls();
#define WEFT_CALL_VALUE(call) interpose::routed::call,
  static const Calls calls{WEFT_SOCKETS_CALLS(WEFT_CALL_VALUE) WEFT_POLLING_CALLS(WEFT_CALL_VALUE)};
#undef WEFT_CALL_VALUE
  return calls;
}

/// Where a scenario is played, and what it has to tell.
class Stage {
 public:
  explicit Stage(const Calls& calls) : call(calls) {}
  virtual ~Stage() = default;

  /// Runs `body` beside the scenario: as a fiber when the scenario first parks, or in an OS thread.
  virtual void beside(std::function<void()> body) = 0;
  /// Waits for all of those.
  virtual void join() = 0;

  /// Notes a call's result, with errno if it failed.
  ssize_t tell(const char* what, ssize_t result) {
    const int error = errno;
    story_ << what << "=" << result;
    if (result < 0) story_ << " " << strerrorname_np(error);
    story_ << "\n";
    return result;
  }
  /// The same for what happens beside the scenario, at no certain time.
  ssize_t tell_aside(const char* what, ssize_t result) {
    std::string line = std::string(what) + "=" + std::to_string(result);
    if (result < 0) line += std::string(" ") + strerrorname_np(errno);
    const std::lock_guard guard(lock_);
    asides_.insert(std::move(line));
    return result;
  }
  template <typename Value>
  void note(const char* what, const Value& value) {
    story_ << what << ": " << value << "\n";
  }
  std::string story() const {
    std::string all = story_.str();
    for (const std::string& aside : asides_) all += "beside: " + aside + "\n";
    return all;
  }

  const Calls& call;

 private:
  std::ostringstream story_;
  std::mutex lock_;
  std::multiset<std::string> asides_;  // guarded by lock_
};

class NativeStage final : public Stage {
 public:
  NativeStage() : Stage(native_calls()) {}
  void beside(std::function<void()> body) override { threads_.emplace_back(std::move(body)); }
  void join() override {
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }

 private:
  std::vector<std::thread> threads_;
};

class FiberStage final : public Stage {
 public:
  explicit FiberStage(PollLoop& loop) : Stage(routed_calls()), loop_(loop) {}
  void beside(std::function<void()> body) override { fibers_.push_back(&loop_.spawn(std::move(body))); }
  void join() override {
    for (Fiber* fiber : fibers_) loop_.join(*fiber);
    fibers_.clear();
  }

 private:
  PollLoop& loop_;
  std::vector<Fiber*> fibers_;
};

using Scenario = void (*)(Stage&);

/// The story as libc's calls make it.
inline std::string play_natively(Scenario scenario) {
  NativeStage stage;
  std::thread([&] {
    scenario(stage);
    stage.join();
  }).join();
  return stage.story();
}

/// The same with routed calls in a fiber.
inline std::string play_as_fiber(PollLoop& loop, Scenario scenario) {
  FiberStage stage(loop);
  loop.run([&] {
    scenario(stage);
    stage.join();
  });
  return stage.story();
}

struct NamedScenario {
  const char* name;
  Scenario play;
};

inline void PrintTo(const NamedScenario& scenario, std::ostream* out) {
  *out << scenario.name;
}

/// A suite whose every scenario is a test on every backend.
class SameAsNatively : public testing::TestWithParam<std::tuple<Backend, NamedScenario>> {};

inline std::string scenario_test_name(
    const testing::TestParamInfo<std::tuple<Backend, NamedScenario>>& info) {
  return std::string(to_string(std::get<0>(info.param))) + "_" + std::get<1>(info.param).name;
}

/// Compares each of `scenarios`, an array of NamedScenario, on every backend.
#define WEFT_SAME_AS_NATIVELY(test, scenarios)                                                             \
  TEST_P(SameAsNatively, test) {                                                                           \
    const auto& [backend, scenario] = GetParam();                                                          \
    const int descriptors = open_descriptors();                                                            \
    const std::string native = play_natively(scenario.play);                                               \
    EXPECT_NE(native, "");                                                                                 \
    EXPECT_EQ(open_descriptors(), descriptors);                                                            \
    PollLoop loop(backend);                                                                                \
    EXPECT_EQ(play_as_fiber(loop, scenario.play), native);                                                 \
  }                                                                                                        \
  INSTANTIATE_TEST_SUITE_P(                                                                                \
      Backends, SameAsNatively,                                                                            \
      testing::Combine(testing::Values(Backend::kEpoll, Backend::kIoUring), testing::ValuesIn(scenarios)), \
      scenario_test_name)

}  // namespace weft::engine::test
