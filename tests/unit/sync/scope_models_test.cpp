// Random programs of timeouts, shields and task groups, compared with what a model says.
#include <algorithm>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "library.hpp"
#include "unit/sync/seeds.hpp"

namespace weft::test {
namespace {

class ScopeModel : public Library {};

// --- Timeouts and shields: nested around waits, and what each wait throws.
//
// Deadlines have passed already or are far away, so that the model needs no clock. A program is a tree; both
// sides write down what they come past.

struct Step {
  enum Kind { kWait, kReadyAtOnce, kLimited, kCancel, kScope, kShield, kCatch, kKinds };

  static std::vector<Step> some(std::mt19937& random, int depth) {
    std::vector<Step> steps(random() % 4 + (depth == 0));
    for (Step& step : steps) {
      step.kind = static_cast<Kind>(random() % kKinds);
      if (depth == 4 && step.kind >= kScope) step.kind = kWait;
      if (step.kind == kCancel && random() % 3 != 0) step.kind = kWait;
      step.number = static_cast<int>(random() % 7);
      if (step.kind >= kScope) step.body = some(random, depth + 1);
    }
    return steps;
  }
  /// Of a scope.
  std::chrono::hours span() const { return std::chrono::hours(number < 3 ? -number : number); }
  bool expired() const { return number < 3; }

  Kind kind;
  int number;  // which wait; which span
  std::vector<Step> body;
};

enum class What { kWaited, kCancelled, kTimeout, kCaught, kEnd };
using Log = std::vector<What>;

class Expected {
 public:
  explicit Expected(const std::vector<Step>& steps) { run(steps); }

  Log log;
  bool cancelled = false;

 private:
  // Returns what is thrown.
  std::optional<What> run(const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      std::optional<What> thrown;
      switch (step.kind) {
        case Step::kWait:
          thrown = due();
          log.push_back(thrown.value_or(What::kWaited));
          break;
        case Step::kReadyAtOnce:
          break;
        case Step::kLimited:
          thrown = due();
          log.push_back(thrown.value_or(What::kWaited));
          break;
        case Step::kCancel:
          cancelled = true;
          break;
        case Step::kScope:
          expired_.back() += step.expired();
          thrown = run(step.body);
          expired_.back() -= step.expired();
          break;
        case Step::kShield:
          expired_.push_back(0);
          thrown = run(step.body);
          expired_.pop_back();
          break;
        default:
          if (run(step.body)) log.push_back(What::kCaught);
      }
      if (thrown) return thrown;
    }
    log.push_back(What::kEnd);
    return {};
  }
  std::optional<What> due() const {
    if (cancelled && expired_.size() == 1) return What::kCancelled;
    if (expired_.back() > 0) return What::kTimeout;
    return {};
  }

  std::vector<int> expired_{0};  // scopes whose time is up, within each shield
};

class ScopeProgram {
 public:
  explicit ScopeProgram(const Expected& expected) : expected_(expected) {
    for (const What event : expected.log)
      if (event <= What::kTimeout) outcomes_.push_back(event);
    full_.send(1);
  }

  void start(const std::vector<Step>& steps, const Fiber<>& self) {
    self_ = &self;
    try {
      run(steps);
    } catch (const Cancelled&) {
    } catch (const Timeout&) {
    }
    // All scopes were left: what waits now ends by the cancellation only.
    if (expected_.cancelled)
      EXPECT_THROW(sleep(1h), Cancelled);
    else
      sleep(0s);
  }
  Log log;

 private:
  void run(const std::vector<Step>& steps) {
    for (const Step& step : steps) {
      switch (step.kind) {
        case Step::kWait:
        case Step::kLimited:
          note([&] { step.kind == Step::kWait ? wait(step.number) : limited(step.number); });
          break;
        case Step::kReadyAtOnce:
          full_.send(*full_.receive());
          break;
        case Step::kCancel:
          self_->cancel();
          break;
        case Step::kScope: {
          TimeoutScope scope(step.span());
          EXPECT_EQ(scope.expired(), step.expired());
          run(step.body);
          break;
        }
        case Step::kShield:
          shield([&] { run(step.body); });
          break;
        default:
          try {
            run(step.body);
          } catch (const Cancelled&) {
            log.push_back(What::kCaught);
          } catch (const Timeout&) {
            log.push_back(What::kCaught);
          }
      }
    }
    log.push_back(What::kEnd);
  }

  template <typename Wait>
  void note(Wait&& wait) {
    try {
      wait();
      log.push_back(What::kWaited);
    } catch (const Cancelled&) {
      log.push_back(What::kCancelled);
      throw;
    } catch (const Timeout&) {
      log.push_back(What::kTimeout);
      throw;
    }
  }

  // Without end where the model says that it will be ended, else one that ends at once.
  void wait(int which) {
    const bool ended = next_ < outcomes_.size() && outcomes_[next_] != What::kWaited;
    ++next_;
    if (!ended) return sleep(0s);
    switch (which) {
      case 0:
        return sleep(1h);
      case 1:
        static_cast<void>(empty_.receive());
        break;
      case 2:
        return Semaphore(0).acquire();
      case 3:
        return Event().wait();
      case 4:
        static_cast<void>(Promise<int>().future().get());
        break;
      case 5: {
        std::unique_lock lock(mutex_);
        return never_.wait(lock);
      }
      default:
        select(on_receive(empty_), after(1h));
    }
  }
  // Its own time is up: that is not thrown, but what surrounds it is.
  void limited(int which) {
    ++next_;
    if (which % 2)
      EXPECT_FALSE(empty_.receive_for(-1h));
    else
      EXPECT_FALSE(Event().wait_for(-1h));
  }

  const Expected& expected_;
  const Fiber<>* self_ = nullptr;
  Log outcomes_;  // of the waits
  std::size_t next_ = 0;
  Channel<int> empty_, full_{1};
  Mutex mutex_;
  ConditionVariable never_;
};

TEST_F(ScopeModel, TimeoutsAndShields) {
  for (const int carriers : {1, 3}) {
    SCOPED_TRACE(std::to_string(carriers) + " carriers");
    Runtime runtime({.carriers = carriers});
    for_each_seed(300, [&](std::mt19937& random) {
      struct Run {
        explicit Run(std::mt19937& random)
            : steps(Step::some(random, 0)), expected(steps), program(expected) {}
        std::vector<Step> steps;
        Expected expected;
        ScopeProgram program;
        Event may_begin;
        Fiber<> fiber;
      };
      std::list<Run> runs;
      for (int i = 0; i < 2 * carriers; ++i) {
        Run& run = runs.emplace_back(random);
        run.fiber = spawn(
            [&run] {
              run.may_begin.wait();
              run.program.start(run.steps, run.fiber);
            },
            {.carrier = i % carriers});
      }
      for (Run& run : runs) run.may_begin.set();
      for (Run& run : runs) {
        run.fiber.result();
        EXPECT_EQ(run.program.log, run.expected.log);
      }
    });
  }
}

// --- Task groups: trees of them, whose members end in all sorts of ways.
//
// No member looks at another, and what fails does so whether it is cancelled or not, or only if it is. So the
// model can tell what fails of those that began; one that is cancelled before does not run.

struct Group;

struct Member {
  enum Kind {
    kReturn,
    kFail,
    kWait,
    kWaitThenFail,
    kSwallow,
    kCancelItself,
    kTimeOut,
    kCatchTimeout,
    kSpawn,
    kGroup
  };
  Kind kind;
  unsigned yields;
  std::unique_ptr<Member> spawned = nullptr;
  std::unique_ptr<Group> group = nullptr;

  const Member& innermost() const { return kind == kSpawn ? spawned->innermost() : *this; }
};

struct Group {
  enum Body { kEnd, kYield, kWait, kThrow, kCancel, kCancelItself };
  Body body;
  bool late = false;  // a scope around it has expired
  std::vector<Member> members = {};

  bool ends_at_once() const { return body == kCancel || body == kCancelItself; }
};

Member some_member(std::mt19937& random, int depth);

Group some_group(std::mt19937& random, int depth) {
  Group group{random() % 2 ? Group::kEnd : static_cast<Group::Body>(random() % 6)};
  for (unsigned count = random() % 5; count > 0; --count)
    group.members.push_back(some_member(random, depth + 1));
  return group;
}

Member some_member(std::mt19937& random, int depth) {
  Member member{static_cast<Member::Kind>(random() % 10), static_cast<unsigned>(random() % 4)};
  if (member.kind == Member::kFail && random() % 2) member.kind = Member::kWait;
  if (depth == 3 && member.kind >= Member::kSpawn) member.kind = Member::kReturn;
  if (member.kind == Member::kSpawn)
    member.spawned = std::make_unique<Member>(some_member(random, depth + 1));
  if (member.kind == Member::kGroup) member.group = std::make_unique<Group>(some_group(random, depth));
  return member;
}

// On one carrier: are its members cancelled before they begin?
bool cancels_at_once(const Group& group) {
  return group.ends_at_once() || group.body == Group::kThrow || (group.late && group.body != Group::kYield);
}

// Does it throw an error if it is left alone, on one carrier?
bool fails(const Group& group) {
  if (group.body == Group::kThrow || (group.late && group.body != Group::kCancelItself)) return true;
  return !cancels_at_once(group) &&
         std::any_of(group.members.begin(), group.members.end(), [](const Member& any) {
           const Member& member = any.innermost();
           if (member.kind == Member::kGroup) return fails(*member.group);
           return member.kind == Member::kFail || member.kind == Member::kTimeOut;
         });
}

bool ends_by_itself(const Group& group) {
  if (fails(group) || group.ends_at_once()) return true;
  return group.body != Group::kWait &&
         std::all_of(group.members.begin(), group.members.end(), [](const Member& any) {
           const Member& member = any.innermost();
           if (member.kind == Member::kGroup) return ends_by_itself(*member.group);
           return member.kind != Member::kWait && member.kind != Member::kWaitThenFail &&
                  member.kind != Member::kSwallow;
         });
}

struct Failure {
  const void* of;  // null: a Timeout
};

// The members that ran.
class Began {
 public:
  void add(const Member& member) {
    std::scoped_lock lock(mutex_);
    all_.insert(&member);
  }
  bool contains(const Member& member) const {
    std::scoped_lock lock(mutex_);
    return all_.contains(&member);
  }

 private:
  mutable Mutex mutex_;
  std::set<const Member*> all_;
};

// Whose failure it threw, if any: one of these. Of what has ended: those that waited were cancelled.
std::set<const void*> failures(const Group& group, const Began& began);
std::set<const void*> failures(const Member& any, const Began& began) {
  const Member& member = any.innermost();
  if (!began.contains(member)) return {};
  if (member.kind == Member::kTimeOut) return {nullptr};
  if (member.kind == Member::kGroup) return failures(*member.group, began);
  if (member.kind == Member::kFail || member.kind == Member::kWaitThenFail) return {&member};
  return {};
}
std::set<const void*> failures(const Group& group, const Began& began) {
  if (group.body == Group::kThrow) return {&group};
  std::set<const void*> all;
  for (const Member& member : group.members) all.merge(failures(member, began));
  if (group.late && all.empty() && group.body != Group::kCancelItself) all.insert(nullptr);
  return all;
}

/// Keeps exceptions whose contents are looked at until all carriers have let go of them: ThreadSanitizer does
/// not see how libstdc++ counts references to them.
class Kept {
 public:
  std::exception_ptr add(std::exception_ptr error) {
    std::scoped_lock lock(mutex_);
    return errors_.emplace_back(std::move(error));
  }

 private:
  Mutex mutex_;
  std::list<std::exception_ptr> errors_;
};

class GroupRun {
 public:
  GroupRun(const Group& group, int carriers, Fiber<>* self, Kept& kept, Began& began)
      : model_(group), carriers_(carriers), self_(self), kept_(kept), began_(began) {}

  // Throws Failure, Timeout or Cancelled.
  void run() {
    std::optional<TimeoutScope> late;
    if (model_.late) late.emplace(-1h);
    try {
      TaskGroup group;
      group_ = &group;
      for (const Member& member : model_.members) spawn_one(member);
      try {
        body();
      } catch (const Cancelled&) {
      } catch (const Timeout&) {
      }
      try {
        group.join();
      } catch (...) {
        check();
        throw;
      }
      check();
    } catch (...) {
      EXPECT_EQ(running_, 0) << "a member outlived its group";
      throw;
    }
    EXPECT_EQ(running_, 0) << "a member outlived its group";
  }
  bool began() const { return group_.load(); }
  void cancel() { group_.load()->cancel(); }

 private:
  void spawn_one(const Member& member) {
    ++running_;
    auto self = std::make_shared<Fiber<>>();
    auto known = std::make_shared<Event>();
    // Goes with the function, whether that was called or not.
    const std::shared_ptr<void> leaving(nullptr, [this](void*) { --running_; });
    *self = group_.load()->spawn(
        [this, &member, self, known, leaving] {
          began_.add(member);
          shield([&] { known->wait(); });
          for (unsigned i = 0; i < member.yields; ++i) this_fiber::yield();
          act(member, *self);
        },
        {.carrier = static_cast<int>(next_++ % static_cast<unsigned>(carriers_))});
    known->set();
  }

  void body() {
    switch (model_.body) {
      case Group::kEnd:
        break;
      case Group::kYield:
        this_fiber::yield();
        break;
      case Group::kWait:
        sleep(1h);
        break;
      case Group::kThrow:
        throw Failure{&model_};
      case Group::kCancel:
        group_.load()->cancel();
        sleep(1h);
        break;
      case Group::kCancelItself:
        self_->cancel();
    }
  }

  void act(const Member& member, Fiber<>& self) {
    switch (member.kind) {
      case Member::kReturn:
        break;
      case Member::kFail:
        throw Failure{&member};
      case Member::kWait:
        sleep(1h);
        break;
      case Member::kWaitThenFail:
      case Member::kSwallow:
        try {
          sleep(1h);
        } catch (const Cancelled&) {
        }
        if (member.kind == Member::kWaitThenFail) throw Failure{&member};
        shield([] { sleep(0s); });
        break;
      case Member::kCancelItself:
        self.cancel();
        sleep(1h);
        break;
      case Member::kTimeOut:
        shield([] { timeout(-1h, [] { sleep(1h); }); });
        break;
      case Member::kCatchTimeout:
        try {
          timeout(-1h, [] { sleep(1h); });
        } catch (const Timeout&) {
        }
        break;
      case Member::kSpawn:
        spawn_one(*member.spawned);
        break;
      case Member::kGroup:
        GroupRun(*member.group, carriers_, &self, kept_, began_).run();
    }
  }

  // errors() has one of each member that failed, and nothing else.
  void check() {
    std::multiset<const void*> told;
    for (const std::exception_ptr& error : group_.load()->errors()) {
      try {
        std::rethrow_exception(kept_.add(error));
      } catch (const Failure& failure) {
        told.insert(failure.of);
      } catch (const Timeout&) {
        told.insert(nullptr);
      }
    }
    // Timeouts are not told apart, so who may have had one takes another where there is another.
    for (const bool only : {true, false})
      for (const Member& member : model_.members) {
        const std::set<const void*> its = failures(member, began_);
        if (its.empty() || (its.size() == 1) != only) continue;
        auto found = std::find_if(told.begin(), told.end(),
                                  [&](const void* failure) { return failure && its.contains(failure); });
        if (found == told.end() && its.contains(nullptr)) found = told.find(nullptr);
        ASSERT_NE(found, told.end()) << "a failure was lost";
        told.erase(found);
      }
    EXPECT_TRUE(told.empty());
  }

  const Group& model_;
  const int carriers_;
  Fiber<>* self_;
  Kept& kept_;
  Began& began_;
  std::atomic<TaskGroup*> group_{nullptr};
  std::atomic<unsigned> next_{0};
  std::atomic<int> running_{0};
};

TEST_F(ScopeModel, TaskGroups) {
  for (const int carriers : {1, 3}) {
    SCOPED_TRACE(std::to_string(carriers) + " carriers");
    Kept kept;  // outlives the carriers
    Runtime runtime({.carriers = carriers});
    for_each_seed(800, [&](std::mt19937& random) {
      Group group = some_group(random, 0);
      group.late = random() % 6 == 0;
      const bool by_its_fiber = random() % 2 || carriers > 1;  // its group may be gone any moment there
      Fiber<> owner;
      Event may_begin;
      Began members;
      GroupRun run(group, carriers, &owner, kept, members);
      bool went_on = false;
      owner = spawn(
          [&] {
            may_begin.wait();
            run.run();
            sleep(0s);  // its cancellation is over with the group
            went_on = true;
          },
          {.carrier = static_cast<int>(random() % static_cast<unsigned>(carriers))});
      may_begin.set();
      until([&] { return run.began(); });
      for (int i = 0; i < 20; ++i) this_fiber::yield();
      const bool helped = !owner.done();
      // On several carriers it depends on who is first.
      if (carriers == 1) {
        EXPECT_EQ(helped, !ends_by_itself(group));
      }
      if (helped && by_its_fiber) owner.cancel();
      if (helped && !by_its_fiber) run.cancel();
      until([&] { return owner.done(); });
      const std::set<const void*> possible = failures(group, members);
      const bool cancelled = group.body == Group::kCancelItself || (helped && by_its_fiber);
      try {
        if (const std::exception_ptr error = owner.exception()) std::rethrow_exception(kept.add(error));
        EXPECT_TRUE(possible.empty());
        EXPECT_TRUE(!cancelled || carriers > 1);
      } catch (const Failure& failure) {
        EXPECT_TRUE(possible.contains(failure.of));
      } catch (const Timeout&) {
        EXPECT_TRUE(possible.contains(nullptr));
      } catch (const Cancelled&) {
        // Where the time was up, too, it depends on what is seen first.
        EXPECT_TRUE(cancelled && (possible.empty() || group.late));
      }
      if (carriers == 1) {
        EXPECT_EQ(went_on, possible.empty() && !cancelled);
      }
    });
  }
}

}  // namespace
}  // namespace weft::test
