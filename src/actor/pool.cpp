#include "actor/pool.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <new>

#include "actor/kin.hpp"

namespace weft::detail {

namespace {

// One number from two, each of whose bits depends on all of theirs: the finaliser of SplitMix64 (G. Steele,
// D. Lea, C. Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
constexpr uint64_t mixed(uint64_t a, uint64_t b) noexcept {
  uint64_t x = a ^ (b + 0x9e3779b97f4a7c15);
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// More than any load: who is held up gets a message only if all are.
constexpr size_t kHeldUp = SIZE_MAX / 2;

void add_to(ActorStatistics& sum, const ActorStatistics& one) noexcept {
  sum.waiting += one.waiting;
  sum.handled += one.handled;
  sum.failed += one.failed;
  sum.refused += one.refused;
  sum.busy_nanos += one.busy_nanos;
  sum.restarted += one.restarted;
}

}  // namespace

Pool::~Pool() {
  free(members_);
}

bool Pool::add(ActorCore& member) noexcept {
  engine::Guard guard(lock_);
  if (count_ == room_) {
    const size_t room = std::max<size_t>(room_ * 2, 8);
    void* more = realloc(members_, room * sizeof *members_);
    if (!more) return false;
    members_ = static_cast<ActorCore**>(more);
    room_ = room;
  }
  members_[count_++] = &member;
  return true;
}

void Pool::remove(ActorCore& member) noexcept {
  engine::Guard guard(lock_);
  ActorCore** const end = members_ + count_;
  count_ = static_cast<size_t>(std::remove(members_, end, &member) - members_);
  add_to(gone_, member.statistics());
}

ActorCore* Pool::pick() noexcept {
  engine::Guard guard(lock_);
  if (count_ == 0) return nullptr;
  if (routing_ == Routing::kRandom) {
    // xorshift32 (G. Marsaglia, "Xorshift RNGs", 2003).
    chance_ ^= chance_ << 13;
    chance_ ^= chance_ >> 17;
    chance_ ^= chance_ << 5;
    next_ = chance_ % count_;
  }
  // From the next one on, also where the least is looked for: else the first gets all while none has any.
  ActorCore* found = nullptr;
  size_t least = 0;
  for (size_t i = 0; i < count_; ++i) {
    const size_t index = (next_ + i) % count_;
    ActorCore& member = *members_[index];
    if (!member.available()) continue;
    size_t load = routing_ == Routing::kLeastWaiting ? member.load() : 0;
    if (member.held_up()) load += kHeldUp;
    if (found && load >= least) continue;
    found = &member;
    least = load;
    if (load == 0) {
      next_ = index + 1;
      break;
    }
  }
  if (found) found->retain();
  return found;
}

// The member that has the highest number together with the key: the end of one changes nothing for the keys
// of others (D. Thaler, C. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998).
ActorCore* Pool::pick(uint64_t key) noexcept {
  engine::Guard guard(lock_);
  ActorCore* found = nullptr;
  uint64_t highest = 0;
  for (size_t i = 0; i < count_; ++i) {
    if (!members_[i]->available()) continue;
    uint64_t name;
    memcpy(&name, members_[i]->uuid() + 8, sizeof name);
    const uint64_t number = mixed(key, name);
    if (found && number <= highest) continue;
    found = members_[i];
    highest = number;
  }
  if (found) found->retain();
  return found;
}

void Pool::for_each(void (*visit)(void*, ActorCore&), void* argument) noexcept {
  engine::Guard guard(lock_);
  for (size_t i = 0; i < count_; ++i)
    if (members_[i]->alive()) visit(argument, *members_[i]);
}

// --- The actor's part.

bool ActorCore::make_pool(Routing routing) noexcept {
  if (!kin()) return false;
  kin_->pool.reset(new (std::nothrow) Pool(routing, kin_->chance));
  pool_ = kin_->pool != nullptr;
  return pool_;
}

ActorCore* ActorCore::route() noexcept {
  return kin_->pool->pick();
}

ActorCore* ActorCore::route(uint64_t key) noexcept {
  return kin_->pool->pick(key);
}

void ActorCore::for_each_child(void (*visit)(void*, ActorCore&), void* argument) noexcept {
  kin_->pool->for_each(visit, argument);
}

ActorStatistics Pool::statistics() noexcept {
  engine::Guard guard(lock_);
  ActorStatistics sum = gone_;
  for (size_t i = 0; i < count_; ++i) add_to(sum, members_[i]->statistics());
  return sum;
}

ActorStatistics ActorCore::statistics() noexcept {
  return pool_ ? kin_->pool->statistics() : own_statistics();
}

}  // namespace weft::detail
