// Actors in C++ for test_actor_cpp.py, which loads this by ctypes.
#include <cstdio>
#include <weft/weft.hpp>

namespace {

using weft::AnyActorRef;
using weft::Value;
using namespace std::chrono_literals;

class Counter : public weft::Actor<Counter> {
 public:
  static constexpr auto weft_methods() {
    return weft::methods(weft::method<&Counter::add>("add"), weft::method<&Counter::sum>("sum"),
                         weft::method<&Counter::fail>("fail"), weft::method<&Counter::sleep>("sleep"),
                         weft::method<&Counter::me>("me"));
  }
  int add(int n) { return sum_ += n; }
  int sum() const { return sum_; }
  void fail(const std::string& why) { throw std::out_of_range(why); }
  void sleep(double seconds) { weft::sleep(std::chrono::duration<double>(seconds)); }
  AnyActorRef me() const { return self(); }

 private:
  int sum_ = 0;
};

struct Echo {
  Value on_receive(Value message) { return message; }
};

// Asks Python's actors: as a fiber that waits, and with a future as the answer.
class Asker : public weft::Actor<Asker> {
 public:
  static constexpr auto weft_methods() {
    return weft::methods(weft::method<&Asker::ask>("ask"), weft::method<&Asker::forward>("forward"),
                         weft::method<&Asker::call>("call"), weft::method<&Asker::call_within>("call_within"),
                         weft::method<&Asker::error>("error"), weft::method<&Asker::tell>("tell"),
                         weft::method<&Asker::stop_other>("stop_other"), weft::method<&Asker::many>("many"),
                         weft::method<&Asker::describe>("describe"), weft::method<&Asker::find>("find"));
  }
  Value ask(const AnyActorRef& other, Value message) { return other.ask(std::move(message)).get(); }
  weft::Future<Value> forward(const AnyActorRef& other, Value message) {
    return other.ask(std::move(message));
  }
  Value call(const AnyActorRef& other, const std::string& method, Value argument) {
    return other.call(method, argument).get();
  }
  Value call_within(const AnyActorRef& other, double seconds, const std::string& method, Value argument) {
    return other.call_within(std::chrono::duration<double>(seconds), method, argument).get();
  }
  // How C++ sees what Python raises.
  std::string error(const AnyActorRef& other, const std::string& method, Value argument) {
    try {
      other.call(method, argument).get();
    } catch (const weft::ForeignError& e) {
      return "ForeignError " + std::string(e.type()) + " " + std::string(e.text());
    } catch (const weft::ActorDead& e) {
      return "ActorDead";
    } catch (const weft::Timeout& e) {
      return "Timeout";
    } catch (const weft::Cancelled& e) {
      return "Cancelled";
    }
    return "none";
  }
  void tell(const AnyActorRef& other, Value message) { other.tell(std::move(message)); }
  bool stop_other(const AnyActorRef& other) { return other.stop().get(); }
  int64_t many(const AnyActorRef& other, const std::string& method, int count) {
    std::vector<weft::Future<Value>> all;
    for (int i = 0; i < count; ++i) all.push_back(other.call(method, i));
    int64_t sum = 0;
    for (const auto& each : all) sum += each.get().as<int64_t>();
    return sum;
  }
  std::vector<std::string> describe(const AnyActorRef& other) { return {other.name(), other.urn()}; }
  std::optional<Value> find(const std::string& name) {
    const AnyActorRef found = weft::find_actor(name);
    return found.valid() ? std::optional<Value>(found) : std::nullopt;
  }
};

AnyActorRef start(const std::string& kind, const weft::ActorOptions& options) {
  if (kind == "Counter") return Counter::start_with(options);
  if (kind == "Echo") return weft::Actor<Echo>::start_with(options);
  if (kind == "Asker") return Asker::start_with(options);
  if (kind == "Pool") return Counter::start_pool({.size = 2, .actor = options});
  throw std::invalid_argument(kind);
}

}  // namespace

// Starts an actor; its URN is written to `urn`. 0, or -1.
extern "C" [[gnu::visibility("default")]] int start_actor(const char* kind, const char* name, int on_thread,
                                                          int capacity, char* urn) {
  try {
    weft::ActorOptions options;
    options.name = name;
    if (on_thread) options.dispatcher = weft::Dispatcher::own_thread();
    if (capacity) options.mailbox = {static_cast<size_t>(capacity), weft::Overflow::kRaise};
    std::snprintf(urn, 46, "%s", start(kind, options).urn().c_str());
    return 0;
  } catch (const std::exception&) {
    return -1;
  }
}

// Asks an actor from the calling thread, without the GIL, so many times; returns how many answers were right.
extern "C" [[gnu::visibility("default")]] int ask_often(const char* urn, const char* method, int times) {
  const AnyActorRef actor = weft::find_actor(urn);
  int right = 0;
  for (int i = 0; i < times; ++i)
    if (actor.call(method, i).get() == Value(i)) ++right;
  return right;
}
