// Weft's side of actor_bench.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>
#include <thread>
#include <utility>
#include <vector>

#include "weft/weft.hpp"

namespace weft_bench {

using WeftGate = weft::Semaphore;

struct WeftCores {
  explicit WeftCores(const benchmark::State& state) : WeftCores(static_cast<int>(state.range(0))) {}
  explicit WeftCores(int cores) : runtime({.carriers = cores}) {}
  weft::Runtime runtime;
};

// Runs it in a thread that is no carrier, while the caller runs fibers.
inline void outside(const std::function<void()>& function) {
  WeftGate done(0);
  std::thread thread([&] {
    function();
    done.release();
  });
  done.acquire();
  thread.join();
}

struct WeftCounter : weft::Actor<WeftCounter> {
  explicit WeftCounter(WeftGate& last) : last_(last) {}
  void add(int n) {
    sum_ += n;
    if (n == 0) last_.release();
  }

 private:
  WeftGate& last_;
  int64_t sum_ = 0;
};

struct WeftEcho : weft::Actor<WeftEcho> {
  int echo(int n) { return n; }
};

struct WeftWorker;

struct WeftForeman : weft::Actor<WeftForeman> {
  explicit WeftForeman(WeftGate& last) : last_(last) {}
  void hire(int count);
  void hand_out();
  void take_back(int n) {
    benchmark::DoNotOptimize(n);
    if (--missing_ == 0) last_.release();
  }
  void dismiss();

 private:
  WeftGate& last_;
  std::vector<weft::ActorRef<WeftWorker>> workers_;
  size_t missing_ = 0;
};

struct WeftWorker : weft::Actor<WeftWorker> {
  explicit WeftWorker(weft::ActorRef<WeftForeman> foreman) : foreman_(std::move(foreman)) {}
  void work(int n) { foreman_.tell(&WeftForeman::take_back, n); }

 private:
  weft::ActorRef<WeftForeman> foreman_;
};

inline void WeftForeman::hire(int count) {
  for (int i = 0; i < count; ++i) workers_.push_back(WeftWorker::start(self()));
}
inline void WeftForeman::hand_out() {
  missing_ = workers_.size();
  for (const auto& worker : workers_) worker.tell(&WeftWorker::work, 1);
}
inline void WeftForeman::dismiss() {
  for (const auto& worker : workers_) worker.stop().wait();
}

struct WeftLink : weft::Actor<WeftLink> {
  explicit WeftLink(WeftGate& last) : last_(last) {}
  void join(weft::ActorRef<WeftLink> next) { next_ = std::move(next); }
  void pass(int hops) {
    if (hops == 0)
      last_.release();
    else
      next_.tell(&WeftLink::pass, hops - 1);
  }

 private:
  WeftGate& last_;
  weft::ActorRef<WeftLink> next_;
};

class WeftRing {
 public:
  explicit WeftRing(int count, size_t stack_size = 0) {
    links_.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i)
      links_.push_back(WeftLink::start_with({.stack_size = stack_size}, std::ref(last_)));
    for (size_t i = 0; i < links_.size(); ++i)
      links_[i].tell(&WeftLink::join, links_[(i + 1) % links_.size()]);
    turn();
  }
  ~WeftRing() {
    std::vector<weft::Future<bool>> ends;
    for (const auto& link : links_) ends.push_back(link.stop());
    for (const auto& end : ends) end.wait();
  }
  void turn() {
    links_[0].tell(&WeftLink::pass, static_cast<int>(links_.size()));
    last_.acquire();
  }

 private:
  WeftGate last_{0};
  std::vector<weft::ActorRef<WeftLink>> links_;
};

}  // namespace weft_bench
