#include "runtime/dump_snapshot.hpp"

#include <sys/mman.h>

#include <algorithm>

#include "host/python.hpp"
#include "host/python_stack.hpp"
#include "host/thread_name.hpp"
#include "host/thread_states.hpp"
#include "runtime/dump.hpp"
#include "runtime/dump_stop.hpp"
#include "runtime/dump_system_call.hpp"

namespace weft::engine::dump {

constinit Hooks hooks;

namespace {

constexpr size_t kMaxFrames = 64;
constexpr size_t kMaxText = 16 * 1024;

// Text of one fiber at most takes what a hundred Python frames need; mostly it is a tenth of that.
constexpr size_t arena_size(uint64_t fibers) noexcept {
  return (size_t{4} << 20) + fibers * 4096;
}

// A main fiber's stack has no bounds that we know.
bool is_on_stack_of(const Fiber& fiber, uintptr_t address) noexcept {
  return fiber.is_main() || address - reinterpret_cast<uintptr_t>(fiber.stack().base) < fiber.stack().size();
}

}  // namespace

Arena::Arena(size_t size) noexcept {
  for (; size >= 65536; size /= 2) {
    void* memory =
        mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) continue;
    begin_ = next_ = static_cast<std::byte*>(memory);
    end_ = begin_ + size;
    return;
  }
}

Arena::~Arena() {
  if (begin_) munmap(begin_, static_cast<size_t>(end_ - begin_));
}

void* Arena::allocate(size_t size) noexcept {
  size = (size + 15) & ~size_t{15};
  if (size > room()) return nullptr;
  void* memory = next_;
  next_ += size;
  return memory;
}

// The interpreter's threads by what they call themselves, so that a fiber's is found without walking all of
// them.
struct Snapshot::PythonThreads {
  const host::Python* python = host::Python::present();
  host::ThreadStateInfo* threads = nullptr;
  size_t count = 0;
  host::ThreadStateInfo gil_holder;
  bool gil_held = false;

  void read(Arena& arena, uint64_t expected) noexcept {
    if (!python) return;
    gil_held = host::read_gil_holder(*python, gil_holder) == host::GilHolder::kSomebody;
    const size_t limit = expected + 256;
    threads = static_cast<host::ThreadStateInfo*>(arena.allocate(limit * sizeof *threads));
    if (!threads) return;
    host::ThreadStateCursor cursor(*python);
    for (host::ThreadStateInfo info; count < limit && cursor.next(info);) threads[count++] = info;
    // Stable: of several states of one thread the newest, which comes first, is the one in use.
    // (std::stable_sort would allocate.)
    for (size_t i = 0; i < count; ++i) threads[i].native_id |= uint64_t{i} << 32;
    std::sort(threads, threads + count, [](const host::ThreadStateInfo& a, const host::ThreadStateInfo& b) {
      return a.thread_id != b.thread_id ? a.thread_id < b.thread_id : a.native_id < b.native_id;
    });
    for (size_t i = 0; i < count; ++i) threads[i].native_id &= 0xffffffff;
  }

  const host::ThreadStateInfo* find(const Fiber& fiber) const noexcept {
    const auto id = reinterpret_cast<uintptr_t>(&fiber);
    const auto* found = std::lower_bound(
        threads, threads + count, id,
        [](const host::ThreadStateInfo& info, uint64_t value) { return info.thread_id < value; });
    if (found != threads + count && found->thread_id == id) return found;
    if (!fiber.is_main()) return nullptr;
    found = std::find_if(threads, threads + count,
                         [&](const host::ThreadStateInfo& info) { return info.belongs_to(fiber); });
    return found == threads + count ? nullptr : found;
  }
};

Snapshot::Snapshot(Carrier& carrier) noexcept : arena_(arena_size(Fiber::counts().alive)) {
  carrier_thread = carrier.thread_id();
  const bool on_carrier = Carrier::current() == &carrier;
  CarrierStop& stop = CarrierStop::instance();
  stood_still = !on_carrier && stop.stop(carrier);
  now_ = monotonic_now();
  if (!on_carrier && !stood_still) look_at_busy_carrier(carrier);
  PythonThreads python;
  python.read(arena_, Fiber::counts().alive);
  gil_held_outside = python.gil_held;
  Fiber::for_each([&](Fiber& fiber) {
    if (fiber.state() != Fiber::State::kDone) add(fiber, carrier, python);
  });
  cut |= !stop.holds();
  if (!on_carrier) stop.release();
}

template <typename Write>
std::string_view Snapshot::write_text(Write&& write) noexcept {
  const size_t room = std::min(arena_.room(), kMaxText);
  if (room < 256) {
    cut = true;
    return {};
  }
  host::BufferSink sink(arena_.next(), room);
  write(sink);
  if (sink.size() == 0) return {};
  const size_t size = sink.size();
  return {static_cast<const char*>(arena_.allocate(size + 1)), size};
}

void Snapshot::add(Fiber& fiber, Carrier& carrier, PythonThreads& python) noexcept {
  void* memory = arena_.allocate(sizeof(FiberRecord));
  if (!memory) {
    cut = true;
    return;
  }
  FiberRecord& record = *new (memory) FiberRecord;
  *last_ = &record;
  last_ = &record.next;
  const bool on_carrier = carrier.running_racy() == &fiber;
  record.id = fiber.id();
  record.name = fiber.name();
  record.state = fiber.state();
  record.running = record.state == Fiber::State::kRunning;
  if (record.state == Fiber::State::kParked) {
    record.reason = fiber.wait_reason();
    record.waiting = std::max<Nanos>(now_ - fiber.waiting_since(), 0);
  }

  keep_stack_of(fiber, on_carrier, record);
  if (record.reason.descriptor >= 0)
    record.target =
        write_text([&](host::TextSink& sink) { describe_descriptor(record.reason.descriptor, sink); });
  if (record.state == Fiber::State::kParked && hooks.describe_holder)
    record.holder = write_text([&](host::TextSink& sink) { hooks.describe_holder(record.reason, sink); });
  const host::ThreadStateInfo* thread = python.find(fiber);
  if (!thread) return;
  if (python.gil_held && python.gil_holder.state == thread->state) {
    record.holds_gil = true;
    gil_held_outside = false;
  }
  record.python_name =
      write_text([&](host::TextSink& sink) { host::write_thread_name(*python.python, *thread, sink); });
  record.python = write_text([&](host::TextSink& sink) {
    host::write_python_stack(*python.python, *thread, sink, host::kBriefPythonStack);
  });
}

void Snapshot::keep_stack(const StackContext& start, FrameList& kept) noexcept {
  Frame frames[kMaxFrames];
  const size_t count = walk_stack(start, frames, kMaxFrames);
  auto* addresses = static_cast<uintptr_t*>(arena_.allocate(count * sizeof(uintptr_t)));
  if (!addresses) return;
  for (size_t i = 0; i < count; ++i) addresses[i] = frames[i].address;
  kept = {addresses, count};
}

// A parked fiber's stack stays as it is while the stop holds; the running one's is known if its carrier
// stands, or stays in a call that blocks it.
void Snapshot::keep_stack_of(const Fiber& fiber, bool on_carrier, FiberRecord& record) noexcept {
  CarrierStop& stop = CarrierStop::instance();
  if (!on_carrier) {
    if (record.state != Fiber::State::kNew && fiber.context() && stop.holds())
      keep_stack(StackContext::of_parked(fiber.context()), record.frames);
  } else if (stood_still || (interrupted_ && is_on_stack_of(fiber, stop.running_context().rsp))) {
    if (stop.holds()) keep_stack(stop.running_context(), record.frames);
  } else {
    record.frames = pinned_frames_;
  }
}

bool Snapshot::look_at_pin(Carrier& carrier, const SystemCall& call) noexcept {
  carrier.pinned_calls().look([&](const PinnedCall& pinned) {
    // A call that was left by a jump which nobody saw does not stand in the way of the one being made.
    constexpr uintptr_t kDeepest = 256 * 1024;
    if (pinned.fiber != carrier.running_racy() || pinned.site.rsp - call.stack_pointer > kDeepest) return;
    pin = {pinned.name, pinned.caller, std::max<Nanos>(now_ - pinned.since, 0)};
    keep_stack(StackContext::of_call(pinned.site), pinned_frames_);
  });
  return pin.call;
}

void Snapshot::look_at_busy_carrier(Carrier& carrier) noexcept {
  const SystemCall call = SystemCall::of_thread(carrier_thread);
  if (call.known && call.number >= 0) {
    system_call = static_cast<int>(call.number);
    system_call_address = call.address;
    if (look_at_pin(carrier, call) || !call.goes_on_after_handler()) return;
  } else if (!call.running) {
    return;
  }
  interrupted_ = CarrierStop::instance().interrupt(carrier);
}

}  // namespace weft::engine::dump
