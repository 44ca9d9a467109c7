#include "host/gil_preemptor.hpp"

#include <pthread.h>

#include <csignal>
#include <new>

#include "fiber/carrier.hpp"
#include "fiber/native_thread.hpp"
#include "fiber/sys.hpp"
#include "host/thread_states.hpp"

// How the helper and the end of the interpreter get on.
//
// Once an interpreter finalises, a thread that asks for the GIL is ended inside PyEval_RestoreThread (up
// to 3.13 by pthread_exit, later by an endless pause), and its thread state is freed. The helper is such a
// thread, a daemon so to speak, and relies on what CPython guarantees to daemons: between the moment from
// which finalizing() is true and the next initialisation, asking for the GIL with a freed state is harmless,
// because the request is refused before the state is looked at. Therefore:
//
// - It asks finalizing() before each contention. It stays at work until then, not just until the atexit
//   handlers: these may wait, and a daemon fiber that computes must still give way to them.
// - It may be ended in the middle of serve(), by unwinding: that function and its caller must not be
//   noexcept, have nothing to clean up, and leave nothing locked. The request it was working on is
//   abandoned after kPatience.
// - A thread state must not outlive its interpreter, since a program may initialise another one. A
//   callback of Py_AtExit, which is the last thing a finalising interpreter does, retires the helper; the
//   next request starts a new one. A helper that stands between its asking finalizing() and its being
//   refused is waited for.

namespace weft::engine::host {

namespace {

// The state of a request. It belongs to the monitor in the first two, and to the helper in the others.
enum Request : uint32_t { kGaveWay, kRefused, kAsked, kHolding, kAbandoned };

// With the GIL taken, how long the fiber may need to notice that it must wait for it.
constexpr Nanos kHold = kMillisecond, kHoldStep = 20 * kMicrosecond;
// Out of a monitor's tick of 5 ms. OS threads that want the GIL have to wait so long.
constexpr Nanos kAwait = 4 * kMillisecond;
// A fiber that does not come back for so many ticks may not want the GIL at all, or not for long: from then
// on it is waited for at some ticks only.
constexpr int kEagerWaits = 64, kLaterEach = 8;

// A registration with Py_AtExit is due: there are only 32 places for them. Survives a fork, as the
// registration does.
constinit std::atomic<bool> g_registered{false};
constinit std::atomic<GilPreemptor*> g_preemptor{nullptr};

void sleep_for(Nanos length) noexcept {
  const sys::Timespec time{length / kSecond, length % kSecond};
  sys::call(SYS_nanosleep, &time, nullptr);
}

bool is_free(uint32_t request) noexcept {
  return request == kGaveWay || request == kRefused;
}

}  // namespace

struct GilPreemptor::Helper {
  GilPreemptor* owner;
  const Python* python;
  std::atomic<uint32_t> request{kRefused};  // waited on by both sides
  // Written before the request is made. Not to be used once it was abandoned: the carrier may be gone.
  Carrier* carrier = nullptr;
  uint64_t switches = 0;
  bool awaits = false;

  std::atomic<bool> retired{false};
  std::atomic<bool> inside{false};    // from before it asks for the GIL until it has let go of it
  std::atomic<bool> entering{false};  // between asking finalizing() and having the GIL
  std::atomic<int> thread_id{0};
  ThreadStatePointer state = nullptr;

  void answer(uint32_t result) {
    request.store(result, std::memory_order_release);
    sys::futex_wake(&request, 1);
  }
};

bool GilPreemptor::preempt(Carrier& carrier) noexcept {
  Python* python = Python::present();
  if (!python || !python->usable()) return false;
  const Aim aim = aim_at(*python, carrier);
  if (aim == Aim::kNone) return false;
  Helper* helper = this->helper(*python);
  // Still busy: the GIL has been kept since an earlier request. It is being asked for already.
  if (!helper || !is_free(helper->request.load(std::memory_order_acquire))) return false;

  helper->carrier = &carrier;
  helper->switches = carrier.switch_count();
  helper->awaits = aim == Aim::kAwait;
  helper->request.store(kAsked, std::memory_order_release);
  sys::futex_wake(&helper->request, 1);

  const Nanos deadline = monotonic_now() + kPatience;
  for (;;) {
    uint32_t now = helper->request.load(std::memory_order_acquire);
    if (is_free(now)) return now == kGaveWay;
    // While it holds the GIL it uses the carrier, but not for long.
    const Nanos until = now == kHolding ? kNever : deadline;
    if (sys::futex_wait(&helper->request, now, until) != -ETIMEDOUT) continue;
    now = kAsked;
    if (helper->request.compare_exchange_strong(now, kAbandoned)) return false;
  }
}

GilPreemptor::Aim GilPreemptor::aim_at(const Python& python, Carrier& carrier) noexcept {
  if (python.free_threaded()) return Aim::kNone;
  if (!holder_is_known_.load(std::memory_order_acquire)) return Aim::kTake;
  ThreadStateInfo holder;
  switch (read_gil_holder(python, holder)) {
    case GilHolder::kSomebody: {
      const Fiber* running = carrier.running_racy();
      return running && holder.belongs_to(*running) ? Aim::kTake : Aim::kNone;
    }
    case GilHolder::kNobody:
      return is_worth_awaiting(carrier.switch_count()) ? Aim::kAwait : Aim::kNone;
    case GilHolder::kUnknown:
      break;
  }
  return Aim::kNone;
}

bool GilPreemptor::is_worth_awaiting(uint64_t switches) noexcept {
  if (awaited_ != switches) waits_ = 0;
  awaited_ = switches;
  return ++waits_ <= kEagerWaits || waits_ % kLaterEach == 0;
}

GilPreemptor::Helper* GilPreemptor::helper(const Python& python) noexcept {
  if (Helper* running = helper_.load(std::memory_order_acquire)) return running;
  auto* fresh = new (std::nothrow) Helper{.owner = this, .python = &python};
  if (!fresh) return nullptr;
  g_preemptor.store(this);
  pthread_t thread;
  if (start_native_thread(thread, "weft-gil", &GilPreemptor::run, fresh) != 0) {
    delete fresh;
    return nullptr;
  }
  pthread_detach(thread);
  helper_.store(fresh, std::memory_order_release);
  return fresh;
}

void* GilPreemptor::run(void* argument) {
  Helper& helper = *static_cast<Helper*>(argument);
  helper.thread_id.store(sys::thread_id());
  for (;;) {
    const uint32_t request = helper.request.load(std::memory_order_acquire);
    if (helper.retired.load()) return nullptr;
    if (request == kAsked)
      serve(helper);
    else if (request == kAbandoned)  // before it was seen here
      helper.answer(kRefused);
    else
      sys::futex_wait(&helper.request, request);
  }
}

// May not return.
void GilPreemptor::serve(Helper& helper) {
  const PythonApi& api = helper.python->api();
  helper.entering.store(true);
  helper.inside.store(true);
  // seq_cst, as in before_fork(): one of the two sees the other.
  if (helper.retired.load() || !helper.python->usable() || helper.owner->forks_.load() != 0) {
    helper.inside.store(false);
    helper.entering.store(false);
    return helper.answer(kRefused);
  }
  if (helper.state)
    api.restore_thread(helper.state);
  else
    api.gilstate_ensure();
  helper.entering.store(false);

  GilPreemptor& owner = *helper.owner;
  if (!helper.state) {
    helper.state = api.current_state();
    ThreadStateInfo holder;
    owner.holder_is_known_.store(read_gil_holder(*helper.python, holder) == GilHolder::kSomebody &&
                                 holder.thread_id == api.thread_ident() &&
                                 holder.native_id == static_cast<uint64_t>(helper.thread_id.load()));
    if (!g_registered.exchange(true)) api.at_exit(&GilPreemptor::interpreter_ended);
  }
  owner.contentions_.fetch_add(1, std::memory_order_relaxed);
  uint32_t request = kAsked;
  if (helper.request.compare_exchange_strong(request, kHolding)) {
    const bool switched = hold_until_switch(helper, helper.awaits ? kAwait : kHold);
    request = switched || !helper.awaits ? kGaveWay : kRefused;
  } else {
    request = kRefused;
  }
  // The awaited fiber was the first to ask for the GIL; others have come to it since, and it has had its
  // turn.
  thread_state().wakes_newest = request == kGaveWay && helper.awaits;
  // The answer comes first: if somebody has asked for the GIL meanwhile, dropping it waits until he has it.
  helper.answer(request);
  api.save_thread();
  helper.inside.store(false);
  thread_state().wakes_newest = false;
}

// The fiber may be on its way from dropping the GIL to asking for it again. If it found it free it would go
// on as if nothing had happened.
bool GilPreemptor::hold_until_switch(Helper& helper, Nanos longest) {
  const Nanos deadline = monotonic_now() + longest;
  while (helper.carrier->switch_count() == helper.switches) {
    if (monotonic_now() >= deadline || helper.owner->forks_.load() != 0) return false;
    sleep_for(kHoldStep);
  }
  return true;
}

void GilPreemptor::interpreter_ended() {
  g_registered.store(false);
  GilPreemptor* preemptor = g_preemptor.load();
  Helper* helper = preemptor ? preemptor->helper_.exchange(nullptr) : nullptr;
  if (!helper) return;
  helper->retired.store(true);
  preemptor->holder_is_known_.store(false);
  sys::futex_wake(&helper->request, INT32_MAX);
  // If it is about to be refused the GIL, that ends it. It is not freed: nobody says when it has ended.
  const long process = sys::call(SYS_getpid);
  for (int i = 0; i < 50 && helper->entering.load(); ++i) {
    const int thread = helper->thread_id.load();
    if (sys::call(SYS_tgkill, process, thread, 0) == -ESRCH) break;
    sleep_for(kMillisecond);
  }
}

void GilPreemptor::before_fork() noexcept {
  forks_.fetch_add(1);
  Helper* helper = helper_.load();
  const Python* python = Python::present();
  if (!helper || !python || !python->usable() || python->running_fiber_holds_gil()) return;
  // Where somebody else holds the GIL, the helper may be waiting for it for long.
  const Nanos deadline = monotonic_now() + kPatience;
  while (helper->inside.load() && monotonic_now() < deadline) sleep_for(kHoldStep);
}

void GilPreemptor::reset_after_fork() noexcept {
  forks_.store(0);
  // The interpreter forgets the states of threads that did not survive.
  delete helper_.exchange(nullptr);
}

}  // namespace weft::engine::host
