// Actors, and what they are sent: no call of theirs leaks, whatever becomes of actor and message.
#include <map>
#include <optional>
#include <stdexcept>
#include <vector>

#include "public_calls.hpp"
#include "weft/actor.hpp"
#include "weft/actor_options.hpp"
#include "weft/any_actor.hpp"
#include "weft/dispatcher.hpp"
#include "weft/mailbox.hpp"
#include "weft/methods.hpp"
#include "weft/supervision.hpp"
#include "weft/value.hpp"

namespace weft::test {
namespace {

const std::string kText(100, 'x');

// Of those that have no on_failure(), and of what fails before it is there.
const UnhandledHandler g_silence = set_unhandled_handler([](const Unhandled&) noexcept {});

class Shop : public Actor<Shop> {
 public:
  explicit Shop(std::string name = kText) : name_(std::move(name)) {
    if (name_ == "refused") throw std::invalid_argument(kText);
  }
  void on_start() {
    if (name_ == "fails to start") throw std::runtime_error(kText);
  }
  void on_stop() { name_ += kText; }
  void on_failure(const std::exception_ptr&) {}
  void on_child_failure(const std::exception_ptr&) {}
  Value on_receive(const Value& value) {
    if (value.is_none()) throw std::runtime_error(kText);
    return value;
  }

  std::string name() const { return name_; }
  std::string join_names(const std::string& left, const std::string& right) { return left + right; }
  void fail() { throw std::runtime_error(kText); }
  void wait_long() { sleep(1h); }
  Future<std::string> promised() {
    const Promise<std::string> promise;
    promise.set(kText);
    return promise.future();
  }
  ActorRef<Shop> me() const { return self(); }
  ActorRef<Shop> child(const std::string& name) { return start_child<Shop>(name); }
  ActorRef<Shop> named_child() { return start_child_with<Shop>({.name = "child"}, kText); }

  static constexpr auto weft_methods() {
    return methods(method<&Shop::name>("name"), method<&Shop::join_names>("join_names"),
                   method<&Shop::fail>("fail"), method<&Shop::promised>("promised"),
                   method<&Shop::wait_long>("wait_long"));
  }

 private:
  std::string name_;
};

void end(const ActorRef<Shop>& shop) {
  shop.stop().wait();
  shop.join();
}

TEST(ActorLeaks, StartedAndStopped) {
  EXPECT_NO_LEAK({
    end(Shop::start());
    end(Shop::start(kText));
    const auto named = Shop::start_with({.name = "shop", .mailbox = {5}, .stack_size = 64 * 1024}, kText);
    EXPECT_EQ(named.ask(&Shop::me).get(), named);
    end(named);
    EXPECT_THROW(Shop::start("refused"), std::invalid_argument);
    const auto unstarted = Shop::start("fails to start");
    unstarted.join();
    EXPECT_THROW(Shop("not one yet").me(), std::logic_error);
  });
}

TEST(ActorLeaks, ThatFailsAndComesBack) {
  EXPECT_NO_LEAK({
    const auto shop = Shop::start_with({.restart = {.limit = 1, .quiet = 1h, .delay = 0ms}}, kText);
    shop.tell(&Shop::fail);
    EXPECT_EQ(shop.ask(&Shop::name).get(), kText);
    EXPECT_EQ(shop.statistics().restarted, 1u);
    shop.tell(&Shop::fail);
    shop.join();
  });
}

TEST(ActorLeaks, WithChildren) {
  EXPECT_NO_LEAK({
    const auto parent = Shop::start();
    const auto child = parent.ask(&Shop::child, kText).get();
    const auto other = parent.ask(&Shop::named_child).get();
    child.tell(&Shop::fail);
    child.join();
    EXPECT_THROW(parent.ask(&Shop::child, "refused").get(), std::invalid_argument);
    end(parent);
    EXPECT_FALSE(other.alive());
  });
}

TEST(ActorLeaks, InAPool) {
  EXPECT_NO_LEAK({
    for (const Routing routing : {Routing::kRoundRobin, Routing::kRandom, Routing::kLeastWaiting}) {
      const auto pool = Shop::start_pool({.size = 3, .routing = routing}, kText);
      for (int i = 0; i < 5; ++i) EXPECT_EQ(pool.ask(&Shop::name).get(), kText);
      EXPECT_EQ(pool.workers().size(), 3u);
      EXPECT_EQ(pool.worker(kText), pool.worker(kText));
      end(pool);
      EXPECT_THROW(pool.worker(1), ActorDead);
    }
    EXPECT_THROW(Shop::start_pool({.size = 0}, kText), std::invalid_argument);
    EXPECT_THROW(Shop::start_pool({.size = 2}, "refused"), std::invalid_argument);
  });
}

TEST(ActorRefLeaks, AsksAndTells) {
  const auto shop = Shop::start();
  EXPECT_NO_LEAK({
    EXPECT_TRUE(shop.valid());
    EXPECT_EQ(shop.ask(&Shop::join_names, kText, "").get(), kText);
    EXPECT_EQ(shop.ask_within(1h, &Shop::name).get(), kText);
    EXPECT_EQ(shop.ask_urgently([text = kText](Shop&) { return text; }).get(), kText);
    shop.tell(&Shop::join_names, kText, kText);
    shop.tell_urgently(&Shop::name);
    EXPECT_TRUE(shop.tell_after(1h, &Shop::join_names, kText, kText).cancel());
    EXPECT_TRUE(shop.tell_every(1h, &Shop::join_names, kText, kText).cancel());
    EXPECT_THROW(shop.ask(&Shop::fail).get(), std::runtime_error);
    shop.ask(&Shop::fail);  // and does not look
    EXPECT_THROW(shop.ask_within(10us, &Shop::wait_long).get(), Timeout);
    EXPECT_EQ(shop.workers().size(), 1u);
    EXPECT_EQ(shop.worker(1), shop);
    EXPECT_TRUE(shop.alive());
    EXPECT_EQ(shop.ask([](Shop& self) { return error_of([&] { self.me().join(); }); }).get(), EDEADLK);
    expect_ended([&] { shop.join(); });
    EXPECT_THROW(ActorRef<Shop>().alive(), std::logic_error);
  });
  end(shop);
}

TEST(ActorRefLeaks, OfOneThatHasStopped) {
  const DeadLetterHandler former = set_dead_letter_handler([](const DeadLetter&) noexcept {});
  const auto dead = Shop::start();
  end(dead);
  EXPECT_NO_LEAK({
    EXPECT_THROW(dead.ask(&Shop::join_names, kText, kText).get(), ActorDead);
    EXPECT_THROW(dead.tell(&Shop::join_names, kText, kText), ActorDead);
    EXPECT_FALSE(dead.stop().get());
    const auto busy = Shop::start();
    const auto held = busy.ask([](Shop&) { sleep(20us); });
    busy.tell(&Shop::join_names, kText, kText);  // before the stop, so it is handled
    const auto stopped = busy.stop_urgently();
    const auto refused = busy.ask(&Shop::join_names, kText, kText);
    stopped.wait();
    EXPECT_THROW(refused.get(), ActorDead);
    busy.join();
  });
  set_dead_letter_handler(former);
}

TEST(ActorRefLeaks, WithAFullMailbox) {
  EXPECT_NO_LEAK({
    Event go;
    const auto fill = [&](Overflow overflow) {
      const auto shop = Shop::start_with({.mailbox = {1, overflow}}, kText);
      shop.tell_urgently([&](Shop&) { go.wait(); });
      while (shop.statistics().waiting > 0) this_fiber::yield();
      shop.tell(&Shop::join_names, kText, kText);
      return shop;
    };
    const auto raising = fill(Overflow::kRaise);
    EXPECT_THROW(raising.tell(&Shop::join_names, kText, kText), MailboxFull);
    EXPECT_THROW(raising.ask(&Shop::join_names, kText, kText), MailboxFull);
    const auto dropping = fill(Overflow::kDrop);
    dropping.tell(&Shop::join_names, kText, kText);
    EXPECT_THROW(dropping.ask(&Shop::join_names, kText, kText).get(), MailboxFull);
    const auto blocking = fill(Overflow::kBlock);
    expect_ended([&] { blocking.tell(&Shop::join_names, kText, kText); });
    expect_ended([&] { blocking.ask(&Shop::join_names, kText, kText); });
    go.set();
    for (const auto& shop : {raising, dropping, blocking}) end(shop);
  });
}

TEST(MessageTimerLeaks, SentCancelledOrTooLate) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    const auto shop = Shop::start();
    const Promise<void> sent;
    shop.tell_after(10us, [&](Shop&) { sent.set(); });
    sent.future().wait();
    MessageTimer later = shop.tell_after(1h, &Shop::join_names, kText, kText);
    EXPECT_TRUE(later.cancel());
    EXPECT_FALSE(later.cancel());
    EXPECT_FALSE(MessageTimer().cancel());
    const MessageTimer again = shop.tell_every(1ms, &Shop::join_names, kText, kText);
    again.cancel();
    EXPECT_THROW(shop.tell_every(0ms, &Shop::name), std::invalid_argument);
    const MessageTimer survivor = shop.tell_every(1h, &Shop::join_names, kText, kText);
    end(shop);
    survivor.cancel();
  });
}

TEST(DispatcherLeaks, ActorsOnThem) {
  EXPECT_NO_LEAK_WITH(few_calls(), {
    for (const Dispatcher& on :
         {Dispatcher::fibers(2, "a name"), Dispatcher::threads(2), Dispatcher::own_thread(), Dispatcher()}) {
      const auto shop = Shop::start_with({.dispatcher = on}, kText);
      EXPECT_EQ(shop.ask(&Shop::name).get(), kText);
      EXPECT_THROW(shop.ask(&Shop::fail).get(), std::runtime_error);
      end(shop);
    }
    EXPECT_THROW(Dispatcher::threads(0), std::invalid_argument);
    EXPECT_THROW(Dispatcher::fibers(0), std::invalid_argument);
  });
}

TEST(DispatcherLeaks, Unused) {
  EXPECT_NO_LEAK({
    static_cast<void>(Dispatcher::fibers(2));
    static_cast<void>(Dispatcher::threads(2, kText));
  });
}

TEST(AnyActorRefLeaks, CalledByName) {
  const auto shop = Shop::start_with({.name = "the shop"}, kText);
  EXPECT_NO_LEAK({
    const AnyActorRef any = find_actor("the shop");
    EXPECT_TRUE(any.valid());
    EXPECT_EQ(any, AnyActorRef(shop));
    EXPECT_EQ(find_actor(any.urn()), any);
    EXPECT_FALSE(find_actor(kText).valid());
    EXPECT_EQ(any.name(), "the shop");
    EXPECT_EQ(any.ask(kText).get().text(), kText);
    EXPECT_EQ(any.ask_within(1h, kText).get().text(), kText);
    EXPECT_EQ(any.ask_urgently(kText).get().text(), kText);
    any.tell(kText);
    any.tell_urgently(kText);
    EXPECT_EQ(any.call("join_names", kText, "").get().text(), kText);
    EXPECT_EQ(any.call_within(1h, "name").get().text(), kText);
    EXPECT_EQ(any.call_urgently("promised").get().text(), kText);
    any.tell_call("join_names", kText, kText);
    EXPECT_GT(any.statistics().handled, 0u);
  });
  end(shop);
}

TEST(AnyActorRefLeaks, Refused) {
  const auto shop = Shop::start();
  const auto silent = Actor<std::string>::start(kText);
  EXPECT_NO_LEAK({
    const AnyActorRef any = shop;
    EXPECT_THROW(any.ask({}).get(), std::runtime_error);
    EXPECT_THROW(any.call("fail").get(), std::runtime_error);
    EXPECT_THROW(any.call("no such").get(), ForeignError);
    EXPECT_THROW(any.call("join_names", kText).get(), ForeignError);
    EXPECT_THROW(any.call("join_names", kText, 5).get(), ForeignError);
    EXPECT_THROW(any.call_within(10us, "wait_long").get(), Timeout);
    EXPECT_THROW(AnyActorRef(silent).ask(kText).get(), ForeignError);
    EXPECT_THROW(AnyActorRef(silent).call("size").get(), ForeignError);
    EXPECT_THROW(AnyActorRef().alive(), std::logic_error);
    const AnyActorRef dead = Shop::start();
    expect_ended([&] { dead.join(); });
    EXPECT_TRUE(dead.stop().get());
    dead.join();
    EXPECT_FALSE(dead.alive());
    EXPECT_FALSE(dead.stop_urgently().get());
    EXPECT_THROW(dead.ask(kText).get(), ActorDead);
    EXPECT_THROW(dead.tell(kText), ActorDead);
  });
  silent.stop().wait();
  silent.join();
  end(shop);
}

TEST(ValueLeaks, MadeCopiedAndRead) {
  const auto shop = Shop::start();
  EXPECT_NO_LEAK({
    const std::vector<std::byte> raw(100);
    const Value all = Value::map({{"name", kText},
                                  {"name", kText + kText},
                                  {"list", Value::list({1, 2.5, true, nullptr, kText})},
                                  {"numbers", std::vector<int>{1, 2, 3}},
                                  {"map", std::map<std::string, std::string>{{kText, kText}}},
                                  {"maybe", std::optional<std::string>(kText)},
                                  {"raw", raw},
                                  {"actor", shop}});
    Value copy = all;
    EXPECT_EQ(copy, all);
    copy = all["list"];
    EXPECT_EQ(copy.kind(), Value::Kind::kList);
    EXPECT_EQ(copy.size(), 5u);
    EXPECT_EQ(copy[0].integer(), 1);
    EXPECT_EQ(copy[1].real(), 2.5);
    EXPECT_TRUE(copy[2].boolean());
    EXPECT_TRUE(copy[3].is_none());
    EXPECT_EQ(copy[4].text(), kText);
    EXPECT_EQ(all["raw"].bytes().size(), 100u);
    EXPECT_EQ(all["raw"].as<std::vector<std::byte>>(), raw);
    EXPECT_EQ(all["numbers"].as<std::vector<int>>().size(), 3u);
    EXPECT_EQ((all["map"].as<std::map<std::string, std::string>>().size()), 1u);
    EXPECT_EQ(all["maybe"].as<std::optional<std::string>>(), kText);
    EXPECT_EQ(all["actor"].as<AnyActorRef>(), AnyActorRef(shop));
    EXPECT_EQ(all.find("nothing"), nullptr);
    EXPECT_EQ(all.map().size(), 7u);
    EXPECT_STREQ(Value::name_of(copy.kind()), "a list");
  });
  end(shop);
}

TEST(ValueLeaks, OfAnotherKind) {
  EXPECT_NO_LEAK({
    const Value text = kText;
    const Value mixed = Value::list({kText, 5});
    EXPECT_THROW(text.integer(), ValueError);
    EXPECT_THROW(text["key"], ValueError);
    EXPECT_THROW(mixed[2], ValueError);
    EXPECT_THROW(mixed.as<std::vector<std::string>>(), ValueError);
    EXPECT_THROW(Value(1000).as<int8_t>(), ValueError);
    EXPECT_THROW(Value(UINT64_MAX), ValueError);
    EXPECT_THROW(Value::list({kText, UINT64_MAX}), ValueError);
    EXPECT_THROW((Value(std::vector<uint64_t>{1, UINT64_MAX})), ValueError);
    EXPECT_THROW((Value(std::map<std::string, uint64_t>{{kText, 1}, {kText + kText, UINT64_MAX}})),
                 ValueError);
  });
}

TEST(ValueItemLeaks, KeysAndValues) {
  EXPECT_NO_LEAK({
    const Value map = Value::map({{kText, kText}});
    for (const ValueItem& item : map.map()) EXPECT_EQ(item.key(), item.value().text());
  });
}

}  // namespace
}  // namespace weft::test
