// Values, and actors that are sent them without their class being known.
#include <atomic>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "unit/sync/library.hpp"

namespace weft::test {
namespace {

template <typename F>
std::string message_of(F&& function) {
  try {
    function();
  } catch (const std::exception& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST(Values, HoldWhatTheyAreMadeFrom) {
  const std::vector<std::string> tags{"slow", "loud"};
  const std::map<std::string, double> levels{{"left", 0.5}, {"right", 1}};
  const std::vector<std::byte> raw{std::byte{0}, std::byte{255}};
  const Value song = Value::map({{"name", "Alive"},
                                 {"seconds", 322},
                                 {"live", true},
                                 {"tags", tags},
                                 {"levels", levels},
                                 {"raw", raw},
                                 {"rating", std::optional<int>()},
                                 {"more", Value::list({1, 2.5, "x", nullptr})}});
  EXPECT_EQ(song.kind(), Value::Kind::kMap);
  EXPECT_EQ(song.size(), 8u);
  EXPECT_EQ(song["name"].text(), "Alive");
  EXPECT_EQ(song["seconds"].as<uint16_t>(), 322);
  EXPECT_EQ(song["seconds"].real(), 322.0);
  EXPECT_TRUE(song["live"].boolean());
  EXPECT_EQ(song["tags"].as<std::vector<std::string>>(), tags);
  EXPECT_EQ((song["levels"].as<std::map<std::string, double>>()), levels);
  EXPECT_EQ(song["raw"].as<std::vector<std::byte>>(), raw);
  EXPECT_EQ(song["rating"].as<std::optional<int>>(), std::nullopt);
  EXPECT_EQ(song["seconds"].as<std::optional<int>>(), 322);
  EXPECT_EQ(song["more"][2].as<std::string>(), "x");
  EXPECT_TRUE(song["more"][3].is_none());
  EXPECT_EQ(song.find("nothing"), nullptr);
  EXPECT_EQ(song.map().front().key(), "levels");
  EXPECT_EQ(Value::map({{"a", 1}, {"a", 2}})["a"].integer(), 2);
  static_assert(!std::is_constructible_v<Value, std::thread>);
  static_assert(!std::is_constructible_v<Value, std::vector<std::thread>>);
}

TEST(Values, OutliveWhatTheyWereMadeFrom) {
  Value copy;
  {
    std::string text(1000, 'x');
    Value list = Value::list({text, Value::list({std::string_view(text).substr(999)})});
    text.assign(1000, 'y');
    copy = list;
    list = Value(1);
  }
  EXPECT_EQ(copy[0].text(), std::string(1000, 'x'));
  const Value inner = copy[1][0];
  copy = nullptr;
  EXPECT_EQ(inner.text(), "x");
}

TEST(Values, SayWhatIsWrong) {
  const Value map = Value::map({{"a", 1}});
  EXPECT_EQ(message_of([&] { map.text(); }), "a text is wanted, and this is a map");
  EXPECT_EQ(message_of([&] { Value(true).integer(); }), "an integer is wanted, and this is a truth value");
  EXPECT_EQ(message_of([&] { Value("1").real(); }), "a real number is wanted, and this is a text");
  EXPECT_EQ(message_of([&] { map["b"]; }), "the map has no 'b'");
  EXPECT_EQ(message_of([&] { Value::list({1})[1]; }), "item 1 is wanted of a list of 1");
  EXPECT_EQ(message_of([&] { Value(300).as<int8_t>(); }), "the integer 300 is not from -128 to 127");
  EXPECT_EQ(message_of([&] { Value(-1).as<uint64_t>(); }),
            "the integer -1 is not from 0 to 18446744073709551615");
  EXPECT_EQ(message_of([&] { Value(uint64_t{1} << 63); }),
            "the integer 9223372036854775808 needs more than 64 bits with a sign");
  EXPECT_THROW(map.text(), ValueError);
}

TEST(Values, AreEqualIfTheyHoldTheSame) {
  EXPECT_EQ(Value::list({1, "a", nullptr}), Value::list({1, "a", nullptr}));
  EXPECT_FALSE(Value::list({1}) == Value::list({1, 2}));
  EXPECT_FALSE(Value(1) == Value(1.0));
  EXPECT_FALSE(Value(1) == Value(true));
  EXPECT_FALSE(Value("a") == Value(std::vector<std::byte>{std::byte{'a'}}));
  EXPECT_EQ(Value::map({{"a", 1}, {"b", 2}}), Value::map({{"b", 2}, {"a", 1}}));
  EXPECT_FALSE(Value::map({{"a", 1}}) == Value::map({{"b", 1}}));
}

class ActorsOfAnyKind : public Library {
 protected:
  void SetUp() override { ASSERT_EQ(detail::ActorCore::count(), 0u); }
  void TearDown() override {
    EXPECT_EQ(detail::ActorCore::count(), 0u) << "an actor was left behind";
    Library::TearDown();
  }
};

class Counter : public Actor<Counter> {
 public:
  static constexpr auto weft_methods() {
    return methods(method<&Counter::add>("add"), method<&Counter::sum>("sum"), method<&Counter::join>("join"),
                   method<&Counter::fail>("fail"), method<&Counter::add_later>("add_later"),
                   method<&Counter::ask_other>("ask_other"), method<&Counter::sleep>("sleep"),
                   method<&Counter::clear>("clear"),
                   method<[](Counter& counter, int n) { return counter.sum_ * n; }>("times"));
  }

  int add(int n) { return sum_ += n; }
  int sum() const noexcept { return sum_; }
  std::string join(const std::vector<std::string>& texts, std::string_view between,
                   std::optional<std::string> end) {
    std::string all;
    for (const auto& each : texts) (all += all.empty() ? "" : between) += each;
    return all + end.value_or("");
  }
  void fail(const std::string& why) { throw std::out_of_range(why); }
  Future<int> add_later(int n) { return self().ask(&Counter::add, n); }
  Future<Value> ask_other(const AnyActorRef& other, Value message) { return other.ask(std::move(message)); }
  void sleep() { weft::sleep(1h); }
  void clear() { sum_ = 0; }

 private:
  int sum_ = 0;
};

struct Echo {
  Value on_receive(Value message) {
    if (message == Value("fail")) throw ForeignError("KeyError", "'x'");
    if (message == Value("seven")) throw 7;
    return message;
  }
};

struct Sink {
  void on_receive(const Value& message) { received = message; }
  Value received;
};

TEST_F(ActorsOfAnyKind, GetValues) {
  const AnyActorRef echo = Actor<Echo>::start(), sink = Actor<Sink>::start();
  const Value message = Value::list({1, "two", Value::map({{"three", 3.0}}), echo});
  EXPECT_EQ(echo.ask(message).get(), message);
  EXPECT_EQ(echo.ask(message).get()[3].as<AnyActorRef>(), echo);
  EXPECT_TRUE(sink.ask(message).get().is_none());
  sink.tell(message);
  EXPECT_EQ(echo.ask_urgently(5).get().as<int>(), 5);
  EXPECT_EQ(sink.statistics().failed, 0u);
  EXPECT_TRUE(echo.stop().get());
  EXPECT_TRUE(sink.stop().get());
  EXPECT_FALSE(sink.stop().get());
  EXPECT_EQ(sink.statistics().handled, 2u);
}

TEST_F(ActorsOfAnyKind, AreCalledByName) {
  const AnyActorRef counter = Counter::start();
  EXPECT_EQ(counter.call("add", 3).get().as<int>(), 3);
  counter.tell_call("add", 4);
  EXPECT_EQ(counter.call("sum").get(), Value(7));
  EXPECT_EQ(counter.call("times", 2).get(), Value(14));
  EXPECT_EQ(counter.call("join", std::vector<std::string>{"a", "b"}, "-", nullptr).get(), Value("a-b"));
  EXPECT_EQ(counter.call("join", Value::list({"a"}), "-", "!").get(), Value("a!"));
  EXPECT_EQ(counter.call("add_later", 1).get(), Value(8)) << "the actor went on, and answered itself";
  EXPECT_TRUE(counter.call("clear").get().is_none());
  EXPECT_EQ(counter.call_urgently("sum").get(), Value(0));
  counter.stop().wait();
}

TEST_F(ActorsOfAnyKind, TellWhoAskedWhatIsWrong) {
  const AnyActorRef counter = Counter::start(), echo = Actor<Echo>::start(),
                    mute = Actor<std::string>::start("mute");
  const auto error = [](const Future<Value>& future) { return message_of([&] { future.get(); }); };
  EXPECT_EQ(error(counter.call("fail", "why")), "std::out_of_range: why");
  EXPECT_EQ(error(counter.call("add")), "weft::ValueError: add() takes 1 argument, and 0 were given");
  EXPECT_EQ(error(counter.call("sum", 1)), "weft::ValueError: sum() takes 0 arguments, and 1 was given");
  EXPECT_EQ(error(counter.call("add", "3")),
            "weft::ValueError: argument 1 of add(): an integer is wanted, and this is a text");
  EXPECT_EQ(error(counter.call("add", int64_t{1} << 40)),
            "weft::ValueError: argument 1 of add(): the integer 1099511627776 is not from -2147483648 to "
            "2147483647");
  EXPECT_NE(error(counter.call("nothing")).find("has no method 'nothing'"), std::string::npos);
  EXPECT_NE(error(counter.ask(1)).find("Counter takes no values"), std::string::npos);
  EXPECT_NE(error(mute.ask(1)).find("takes no values"), std::string::npos);
  EXPECT_NE(error(mute.call("size")).find("has no method 'size'"), std::string::npos);
  EXPECT_EQ(error(echo.ask("fail")), "KeyError: 'x'");
  EXPECT_EQ(error(echo.ask("seven")), "int");
  try {
    counter.call("fail", "why").get();
  } catch (const ForeignError& e) {
    EXPECT_EQ(e.type(), "std::out_of_range");
    EXPECT_EQ(e.text(), "why");
  }
  EXPECT_TRUE(counter.alive() && mute.alive());
  for (const auto& each : {counter, echo, mute}) each.stop().wait();
}

TEST_F(ActorsOfAnyKind, FailAtWhatTheyAreTold) {
  static std::atomic<int> failures{0};
  struct Failing {
    static constexpr auto weft_methods() { return methods(method<&Failing::fail>("fail")); }
    void fail() { throw std::runtime_error("why"); }
    void on_failure(const std::exception_ptr&) noexcept { ++failures; }
  };
  failures = 0;
  const AnyActorRef failing = Actor<Failing>::start(), wrong = Actor<Failing>::start();
  failing.tell_call("fail");
  failing.join();
  wrong.tell("what it does not know");
  wrong.join();
  EXPECT_EQ(failures, 2);
  EXPECT_THROW(failing.tell_call("fail"), ActorDead);
  EXPECT_THROW(failing.call("fail").get(), ActorDead);
}

TEST_F(ActorsOfAnyKind, PassOnHowAWaitEnded) {
  const AnyActorRef counter = Counter::start(), dead = Actor<Echo>::start();
  dead.stop().wait();
  EXPECT_THROW(counter.call("ask_other", dead, 1).get(), ActorDead);
  EXPECT_THROW(counter.call_within(10ms, "sleep").get(), Timeout) << "in the handler";
  const Future<Value> slow = counter.call_within(10ms, "sleep");
  const Future<Value> late = counter.call_within(1ns, "sum");
  EXPECT_THROW(late.get(), Timeout) << "before it began";
  EXPECT_THROW(slow.get(), Timeout);
  EXPECT_EQ(counter.call("sum").get(), Value(0));
  const Future<Value> never = counter.call("sum");
  EXPECT_TRUE(counter.stop_urgently().get());
  EXPECT_THROW(never.get(), ActorDead) << "it did not come to it";
}

TEST_F(ActorsOfAnyKind, AreFoundByUrnAndByName) {
  const ActorRef<Counter> counter = Counter::start_with({.name = "counter"});
  const AnyActorRef any = counter;
  EXPECT_EQ(any.name(), "counter");
  EXPECT_EQ(any.urn().substr(0, 9), "urn:uuid:");
  EXPECT_EQ(any.urn().size(), 45u);
  EXPECT_EQ(find_actor(any.urn()), any);
  EXPECT_EQ(find_actor("counter"), any);
  EXPECT_FALSE(find_actor("counters").valid());
  EXPECT_FALSE(find_actor(std::string("urn:uuid:") + std::string(36, '0')).valid());
  std::string wrong = any.urn();
  wrong[12] = 'x';
  EXPECT_FALSE(find_actor(wrong).valid());
  EXPECT_THROW(AnyActorRef().urn(), std::logic_error);
  any.stop().wait();
  EXPECT_FALSE(find_actor(any.urn()).valid());
  EXPECT_FALSE(find_actor("counter").valid());
}

TEST_F(ActorsOfAnyKind, MayBePools) {
  const AnyActorRef pool = Counter::start_pool({.size = 2});
  for (int i = 0; i < 4; ++i) pool.call("add", 1).get();
  EXPECT_EQ(pool.call("sum").get(), Value(2));
  EXPECT_EQ(pool.call("sum").get(), Value(2));
  pool.stop().wait();
}

TEST_F(ActorsOfAnyKind, ReportDeadLetters) {
  static std::atomic<int> letters{0};
  letters = 0;
  set_dead_letter_handler([](const DeadLetter& letter) noexcept {
    if (std::string_view(letter.actor) == "sink" && std::string_view(letter.reason) == "full") ++letters;
  });
  Event go;
  struct Blocked {
    Event* go;
    void on_start() { go->wait(); }
    void on_receive(const Value&) {}
  };
  const AnyActorRef blocked = Actor<Blocked>::start_with(
      {.name = "sink", .mailbox = {.capacity = 1, .overflow = Overflow::kDrop}}, Blocked{&go});
  blocked.tell(1);
  blocked.tell(2);
  EXPECT_THROW(blocked.ask(3).get(), MailboxFull);
  EXPECT_EQ(letters, 1);
  go.set();
  blocked.stop().wait();
  set_dead_letter_handler(nullptr);
}

TEST_F(ActorsOfAnyKind, AreAskedFromManyThreads) {
  const AnyActorRef counter = Counter::start(),
                    echo = Actor<Echo>::start_with({.dispatcher = Dispatcher::threads(1)});
  const Value shared = Value::map({{"text", std::string(100, 'x')}});
  constexpr int kThreads = 4, kEach = 500;
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i)
    threads.emplace_back([&, copy = shared] {
      for (int k = 0; k < kEach; ++k) {
        counter.tell_call("add", 1);
        if (echo.ask(copy).get()["text"].text().size() == 100) ++right;
      }
    });
  until([&] { return right == kThreads * kEach; });
  for (auto& each : threads) each.join();
  EXPECT_EQ(counter.call("sum").get().as<int>(), kThreads * kEach);
  counter.stop().wait();
  echo.stop().wait();
}

}  // namespace
}  // namespace weft::test
