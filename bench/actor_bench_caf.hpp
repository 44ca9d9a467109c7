// CAF's side of actor_bench.
#pragma once

#include <benchmark/benchmark.h>

#include <caf/all.hpp>
#include <cstdint>
#include <semaphore>
#include <vector>

namespace weft_bench {

enum class CafOrder : uint8_t { kHandOut, kDismiss };

}  // namespace weft_bench

CAF_ALLOW_UNSAFE_MESSAGE_TYPE(weft_bench::CafOrder)

namespace weft_bench {

using CafGate = std::counting_semaphore<>;

struct CafConfig : caf::actor_system_config {
  CafConfig(size_t cores, bool sharing) {
    set("scheduler.max-threads", cores);
    set("scheduler.policy", sharing ? caf::atom("sharing") : caf::atom("stealing"));
  }
};

struct CafCores {
  explicit CafCores(const benchmark::State& state)
      : CafCores(static_cast<size_t>(state.range(0)), state.range(1) != 0) {}
  explicit CafCores(size_t cores, bool sharing = false) : config(cores, sharing), system(config) {}
  CafConfig config;
  caf::actor_system system;
};

struct CafSum {
  int64_t value = 0;
};

inline caf::behavior caf_counter(caf::stateful_actor<CafSum>* self, CafGate* last) {
  return {[=](int n) {
    self->state.value += n;
    if (n == 0) last->release();
  }};
}

inline caf::behavior caf_sender(caf::event_based_actor* self, const caf::actor& target) {
  return {[=](int count) {
    while (count-- > 0) self->send(target, count);
  }};
}

inline caf::behavior caf_echo() {
  return {[](int n) { return n; }};
}

struct CafMissing {
  int value = 0;
};

using CafAsker = caf::stateful_actor<CafMissing>;

inline void caf_ask(CafAsker* self, const caf::actor& echo, CafGate* last) {
  self->request(echo, caf::infinite, 1).then([=](int n) {
    benchmark::DoNotOptimize(n);
    if (--self->state.value == 0)
      last->release();
    else
      caf_ask(self, echo, last);
  });
}

inline caf::behavior caf_asker(CafAsker* self, const caf::actor& echo, CafGate* last) {
  return {[=](int count) {
    self->state.value = count;
    caf_ask(self, echo, last);
  }};
}

inline caf::behavior caf_worker(caf::event_based_actor* self, const caf::actor& foreman) {
  return {[=](int n) { self->send(foreman, n); }};
}

struct CafForeman {
  std::vector<caf::actor> workers;
  size_t missing = 0;
};

inline caf::behavior caf_foreman(caf::stateful_actor<CafForeman>* self, int crowd, CafGate* last) {
  auto& state = self->state;
  for (int i = 0; i < crowd; ++i)
    state.workers.push_back(self->spawn(caf_worker, caf::actor_cast<caf::actor>(self)));
  return {[=](int n) {
            benchmark::DoNotOptimize(n);
            if (--self->state.missing == 0) last->release();
          },
          [=](CafOrder order) {
            self->state.missing = self->state.workers.size();
            for (const auto& worker : self->state.workers)
              if (order == CafOrder::kHandOut)
                self->send(worker, 1);
              else
                self->send_exit(worker, caf::exit_reason::user_shutdown);
            if (order == CafOrder::kDismiss) self->quit();
          }};
}

struct CafNext {
  caf::actor value;
};

inline caf::behavior caf_link(caf::stateful_actor<CafNext>* self, CafGate* last) {
  return {[=](int hops) {
            if (hops == 0)
              last->release();
            else
              self->send(self->state.value, hops - 1);
          },
          [=](const caf::actor& next) { self->state.value = next; }};
}

class CafRing {
 public:
  CafRing(caf::actor_system& system, int count) : system_(system) {
    links_.reserve(static_cast<size_t>(count));
    for (int i = 0; i < count; ++i) links_.push_back(system.spawn(caf_link, &last_));
    for (size_t i = 0; i < links_.size(); ++i) caf::anon_send(links_[i], links_[(i + 1) % links_.size()]);
    turn();
  }
  ~CafRing() {
    for (const auto& link : links_) caf::anon_send_exit(link, caf::exit_reason::user_shutdown);
    system_.await_all_actors_done();
  }
  void turn() {
    caf::anon_send(links_[0], static_cast<int>(links_.size()));
    last_.acquire();
  }

 private:
  caf::actor_system& system_;
  CafGate last_{0};
  std::vector<caf::actor> links_;
};

}  // namespace weft_bench
