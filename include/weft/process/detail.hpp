// What the headers of weft::process are made of. Promises nothing to programs.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "weft/detail/process.hpp"

namespace weft::process::detail {

using namespace weft::detail;

/// A counted reference to a run.
class ChildRef {
 public:
  ChildRef() noexcept = default;
  static ChildRef adopt(Child* child) noexcept {
    ChildRef ref;
    ref.child_ = child;
    return ref;
  }
  ChildRef(const ChildRef& other) noexcept : child_(other.child_) {
    if (child_) retain_child(child_);
  }
  ChildRef(ChildRef&& other) noexcept : child_(std::exchange(other.child_, nullptr)) {}
  ChildRef& operator=(ChildRef other) noexcept {
    std::swap(child_, other.child_);
    return *this;
  }
  ~ChildRef() {
    if (child_) release_child(child_);
  }
  Child* get() const noexcept { return child_; }
  explicit operator bool() const noexcept { return child_; }

 private:
  Child* child_ = nullptr;
};

/// A look at whatever is awaited.
struct Round {
  Nanos limit;           ///< how long it may take
  bool probe;            ///< is it time for what costs something?
  Nanos again = kNever;  ///< when to look again, though nothing has happened
};

/// One start's view of a condition.
class Watch {
 public:
  virtual ~Watch() = default;
  /// Once true it is not asked again.
  virtual bool look(Round& round) = 0;
  virtual std::string seen() const = 0;
  /// It cannot come true any more.
  virtual bool hopeless() const { return false; }
};

/// What a command is waited for.
class Condition {
 public:
  virtual ~Condition() = default;
  virtual std::string name() const = 0;
  /// What is there already, before the start; "": nothing.
  virtual std::string present() const { return {}; }
  virtual std::unique_ptr<Watch> watch(Child* child) const = 0;
  virtual bool needs_output() const { return false; }
};
using ConditionRef = std::shared_ptr<const Condition>;

/// How long a look before the start may take.
inline constexpr Nanos kFirstLook = 2'000'000'000;

/// A condition that has no state: a function is asked each time.
class ProbeCondition final : public Condition {
 public:
  struct Look {
    Nanos limit;         // how long it may take
    bool again = false;  // one of many: it may take the kernel's word for what it finds
  };
  using Probe = std::function<bool(const Look&, std::string& seen)>;
  /// `occupied`: asked before the start; what is said if it is so. Null: nothing is asked.
  ProbeCondition(std::string name, Probe probe, Probe occupied = nullptr, std::string advice = "")
      : name_(std::move(name)),
        probe_(std::move(probe)),
        occupied_(std::move(occupied)),
        advice_(std::move(advice)) {}

  std::string name() const override { return name_; }
  std::string present() const override {
    std::string seen;
    return occupied_ && occupied_({kFirstLook}, seen) ? advice_ : std::string();
  }
  std::unique_ptr<Watch> watch(Child*) const override { return std::make_unique<State>(*this); }

 private:
  struct State final : Watch {
    explicit State(const ProbeCondition& what) : condition(what) {}
    bool look(Round& round) override {
      if (!round.probe) return false;
      const Nanos time = now();
      const bool again = thorough != 0 && time - thorough < kThoroughly;
      if (!again) thorough = time;
      std::string seen_now = last;
      const bool ready = condition.probe_({round.limit, again}, seen_now);
      if (ready || round.limit >= kTelling || !looked) last = seen_now;
      looked = true;
      return ready;
    }
    std::string seen() const override { return condition.name_ + ": " + last; }
    // So often at least, a look is the first of its kind.
    static constexpr Nanos kThoroughly = 1'600'000'000;
    // What a look saw that had less time, the last one before the end of all, is of that and not of the
    // service.
    static constexpr Nanos kTelling = 10'000'000;
    const ProbeCondition& condition;
    Nanos thorough = 0;
    bool looked = false;
    std::string last = "not looked at yet";
  };

  std::string name_;
  Probe probe_, occupied_;
  std::string advice_;
};

using PatternRef = std::shared_ptr<const Pattern>;

class OutputCondition final : public Condition {
 public:
  OutputCondition(std::string text, PatternRef pattern)
      : text_(std::move(text)), pattern_(std::move(pattern)) {}
  std::string name() const override { return "output that matches /" + text_ + "/"; }
  std::unique_ptr<Watch> watch(Child* child) const override { return std::make_unique<State>(*this, child); }
  bool needs_output() const override { return true; }

 private:
  struct State final : Watch {
    State(const OutputCondition& what, Child* child)
        : condition(what), search(begin_search(child, what.pattern_.get(), {}), end_search) {
      if (!search) throw std::bad_alloc();
    }
    bool look(Round& round) override {
      OutputPositions positions;
      const Sought sought = search_on(search.get(), positions, round.again);
      if (sought == Sought::kNoMemory) throw std::bad_alloc();
      ended = sought == Sought::kEnded;
      return sought == Sought::kFound;
    }
    std::string seen() const override {
      return condition.name() + ": " + (ended ? "the output has ended without" : "none so far");
    }
    bool hopeless() const override { return ended; }
    const OutputCondition& condition;
    std::unique_ptr<OutputSearch, void (*)(OutputSearch*) noexcept> search;
    bool ended = false;
  };

  std::string text_;
  PatternRef pattern_;
};

/// All of several, or any.
class SeveralConditions final : public Condition {
 public:
  SeveralConditions(std::vector<ConditionRef> parts, bool all) : parts_(std::move(parts)), all_(all) {}
  std::string name() const override {
    std::string names;
    for (const ConditionRef& part : parts_)
      names += (names.empty() ? "" : all_ ? " and " : " or ") + part->name();
    return "(" + names + ")";
  }
  std::string present() const override {
    for (const ConditionRef& part : parts_)
      if (std::string there = part->present(); !there.empty()) return there;
    return {};
  }
  std::unique_ptr<Watch> watch(Child* child) const override {
    auto state = std::make_unique<State>(all_);
    for (const ConditionRef& part : parts_) state->parts.push_back({part->watch(child)});
    return state;
  }
  bool needs_output() const override {
    return std::any_of(parts_.begin(), parts_.end(),
                       [](const ConditionRef& part) { return part->needs_output(); });
  }

 private:
  struct Part {
    std::unique_ptr<Watch> watch;
    bool ready = false;
  };
  struct State final : Watch {
    explicit State(bool every) : all(every) {}
    bool look(Round& round) override {
      bool every = true;
      for (Part& part : parts) {
        if (!part.ready) part.ready = part.watch->look(round);
        if (part.ready && !all) return true;
        every = every && part.ready;
      }
      return every;
    }
    std::string seen() const override {
      std::string text;
      for (const Part& part : parts)
        if (!part.ready) text += (text.empty() ? "" : "; ") + part.watch->seen();
      return text;
    }
    bool hopeless() const override {
      const auto lost = [](const Part& part) { return !part.ready && part.watch->hopeless(); };
      return all ? std::any_of(parts.begin(), parts.end(), lost)
                 : std::all_of(parts.begin(), parts.end(), lost);
    }
    const bool all;
    std::vector<Part> parts;
  };

  std::vector<ConditionRef> parts_;
  bool all_;
};

}  // namespace weft::process::detail
