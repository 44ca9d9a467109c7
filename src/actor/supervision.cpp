// Actors that are made anew, and actors that watch over others.
//
// A parent is done only when its children are. It does not wait for them, since what it runs on may be what
// they need: the last child to be done sees to its parent's end. So an actor's end may run on another's
// thread.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <new>

#include "actor/kin.hpp"
#include "actor/registry.hpp"
#include "fiber/fiber.hpp"

namespace weft::detail {

namespace {

constexpr Nanos nanos(std::chrono::nanoseconds span) noexcept {
  return std::max<Nanos>(span.count(), 0);
}

}  // namespace

constinit const MessageType ActorCore::kHalt{
    [](Message& self, ActorCore&, Refusal) noexcept { child_of(self).release(); },
    [](Message& self, ActorCore&) noexcept { child_of(self).release(); }};
constinit const MessageType ActorCore::kEscalation{
    [](Message& self, ActorCore&, Refusal) noexcept { forget(child_of(self)); }, nullptr};

ActorCore& ActorCore::child_of(Message& message) noexcept {
  return static_cast<Kin::Letter&>(message).from;
}

// Whoever was told of its failure has done with it.
void ActorCore::forget(ActorCore& child) noexcept {
  child.type_->forget_failure(child);
  child.release();
}

// Makes its Kin, if it has none. Not while another thread may.
bool ActorCore::kin() noexcept {
  if (!kin_) {
    kin_ = new (std::nothrow) Kin(*this);
    if (kin_) memcpy(&kin_->chance, uuid_, sizeof kin_->chance);
  }
  return kin_ != nullptr;
}

bool ActorCore::set_restart(const Restart& restart) noexcept {
  if (!kin()) return false;
  kin_->restart = restart;
  return true;
}

// REQUIRES: the registry's lock.
void ActorCore::enter_list(ActorCore*& first) noexcept {
  kin_->sibling = first;
  if (first) first->kin_->link = &kin_->sibling;
  kin_->link = &first;
  first = this;
}

void ActorCore::leave_list() noexcept {
  *kin_->link = kin_->sibling;
  if (kin_->sibling) kin_->sibling->kin_->link = kin_->link;
}

int ActorCore::set_parent(ActorCore& parent) noexcept {
  if (!parent.alive()) return ESRCH;
  if (parent.taken_.load() && !parent.runs_here()) return EPERM;
  if (!kin() || !parent.kin()) return ENOMEM;
  engine::Guard guard(Registry::lock);
  if (parent.pool_ && !parent.kin_->pool->add(*this)) return ENOMEM;
  parent.retain();
  kin_->parent = &parent;
  enter_list(parent.kin_->children);
  return 0;
}

ActorCore* ActorCore::parent() const noexcept {
  engine::Guard guard(Registry::lock);
  if (!kin_ || !kin_->parent) return nullptr;
  kin_->parent->retain();
  return kin_->parent;
}

// --- Being made anew.

// Begins, for the first time or after a failure.
void ActorCore::live() noexcept {
  const bool anew = broken_;
  broken_ = false;
  const bool lives = (!anew || type_->renew(*this)) && type_->begin(*this);
  if (kin_) kin_->lives_since = detail::now();
  if (anew) restarted_.store(restarted_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  if (!lives) broken_ = may_restart(false);
  if (broken_) {
    urgent_end_ = true;
    halt_children();
  }
  if (broken_ || (lives && anew))
    type_->forget_failure(*this);
  else if (!lives && mark_stopped())
    report_to_parent();
  if (!begun()) {
    begun_.store(true, std::memory_order_release);
    wake(&begun_);
  }
}

// `began`: it failed at a message, and not at its begin. Counts as a failure.
bool ActorCore::may_restart(bool began) noexcept {
  if (!kin_ || !alive()) return false;
  // Who waits for its end is not to wait for the end of all attempts.
  if (!began && stop_asked_.load(std::memory_order_relaxed)) return false;
  Kin& kin = *kin_;
  const Nanos now = detail::now();
  if (now - kin.lives_since >= nanos(kin.restart.quiet) && began) kin.in_a_row = 0;
  if (kin.in_a_row >= kin.restart.limit) return false;
  const Nanos longest = std::min(nanos(kin.restart.longest), kNever / 8);
  const Nanos first = std::min(nanos(kin.restart.delay), longest);
  const uint32_t doublings = std::min<uint32_t>(kin.in_a_row, 62);
  const Nanos delay = first > (longest >> doublings) ? longest : first << doublings;
  // A step of a linear congruential generator (D. E. Knuth, TAOCP 2, 3.3.4, table 1, line 16).
  kin.chance = kin.chance * 1664525 + 1013904223;
  kin.resume_at = now + delay + (delay / 4 / 1024) * (kin.chance >> 22);
  if (kin.in_a_row != UINT32_MAX) ++kin.in_a_row;
  return true;
}

// What it was at failed, and the type keeps why.
void ActorCore::fail() noexcept {
  failed_.store(failed_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
  urgent_end_ = true;
  broken_ = may_restart(true);
  if (!broken_) mark_stopped();
  type_->failed(*this);
  if (!broken_)
    report_to_parent();
  else
    halt_children();
}

// False: it is to go on at once. Else who makes paused_ false has it go on.
bool ActorCore::pause() noexcept {
  paused_.store(true, std::memory_order_seq_cst);
  const bool hurry = stop_asked_.load(std::memory_order_seq_cst) || !alive();
  return !(hurry && paused_.exchange(false, std::memory_order_seq_cst));
}

Nanos ActorCore::pause_end() const noexcept {
  return kin_->resume_at;
}

void ActorCore::end_pause() noexcept {
  if (!paused_.load(std::memory_order_seq_cst) || !paused_.exchange(false, std::memory_order_seq_cst)) return;
  if (!dispatcher_) {
    wake(&paused_);
    return;
  }
  drop_timer();
  rouse();
}

// --- Parents and children.

void ActorCore::report_to_parent() noexcept {
  const Ref<ActorCore> parent = Ref<ActorCore>::adopt(this->parent());
  retain();
  if (!parent || parent->send(kin_->escalation, 0, true) != Outcome::kReady) forget(*this);
}

// Asks the children to stop. True if there are any: then, if it has stopped, the last one calls end().
bool ActorCore::halt_children() noexcept {
  if (!kin_) return false;
  for (;;) {
    Ref<ActorCore> child;
    {
      engine::Guard guard(Registry::lock);
      ActorCore* next = kin_->children;
      if (!next) {
        kin_->ending = kin_->halted && !alive();
        return kin_->halted;
      }
      next->leave_list();
      next->enter_list(kin_->halted);
      child = Ref<ActorCore>::share(*next);
    }
    child->retain();  // the message's, which may be handled before send() returns
    if (child->send(child->kin_->halt, 0, urgent_end_) != Outcome::kReady) child->release();
  }
}

// Returns the parent, with a reference, if it has waited for this one to be done. `lost`: in a fork child.
Ref<ActorCore> ActorCore::leave_parent(bool lost) noexcept {
  ActorCore* parent;
  bool last, empty_pool;
  {
    engine::Guard guard(Registry::lock);
    if (!kin_ || !kin_->parent) return {};
    parent = std::exchange(kin_->parent, nullptr);
    leave_list();
    last = parent->kin_->ending && parent->kin_->childless();
    if (last) parent->kin_->ending = false;
    if (parent->pool_) parent->kin_->pool->remove(*this);
    empty_pool = parent->pool_ && parent->kin_->childless() && !lost;
  }
  if (empty_pool) parent->mark_stopped();
  Ref<ActorCore> kept = Ref<ActorCore>::adopt(parent);
  return last ? kept : Ref<ActorCore>();
}

// Something that asked it to stop, when it has. With children, it is answered when they are done.
void ActorCore::settle_stop(Message& message) noexcept {
  bool childless = !kin_;
  if (kin_) {
    engine::Guard guard(Registry::lock);
    childless = kin_->childless();
  }
  if (childless) {
    message.type->stopped(message, *this);
    return;
  }
  message.next = kin_->stops;
  kin_->stops = &message;
}

void ActorCore::answer_stops() noexcept {
  for (Message* stop = kin_ ? std::exchange(kin_->stops, nullptr) : nullptr; stop;) {
    Message& message = *stop;
    stop = message.next;
    message.type->stopped(message, *this);
  }
}

void ActorCore::finish() noexcept {
  if (!halt_children()) end();
}

// And the end of parents that have waited for it, one after the other: a tree may be deep.
void ActorCore::end() noexcept {
  for (Ref<ActorCore> ended = Ref<ActorCore>::share(*this); ended;) {
    const Ref<ActorCore> self = ended;
    self->answer_stops();
    ended = self->leave_parent(false);
    Dispatcher* dispatcher = std::exchange(self->dispatcher_, nullptr);
    self->complete();
    if (!dispatcher) continue;
    dispatcher->release();
    self->release();
  }
}

// In a fork child: what was to end it is not there.
void ActorCore::end_lost() noexcept {
  for (Ref<ActorCore> lost = Ref<ActorCore>::share(*this); lost;) {
    const Ref<ActorCore> self = lost;
    self->answer_stops();
    lost = self->leave_parent(true);
    self->Completion::lose();
  }
}

ActorCore::~ActorCore() {
  delete kin_;
}

}  // namespace weft::detail
