// Mailboxes that are full.
#include <atomic>
#include <vector>

#include "unit/sync/library.hpp"

namespace weft::test {
namespace {

struct Slow {
  Event* go;
  std::atomic<int>* handled;
  void work() {
    go->wait();
    ++*handled;
  }
};

class Mailboxes : public Library {
 protected:
  ActorRef<Slow> start(size_t capacity, Overflow overflow) {
    ActorOptions options;
    options.mailbox = {capacity, overflow};
    auto actor = Actor<Slow>::start_with(options, Slow{&go_, &handled_});
    actor.tell(&Slow::work);
    until([&] { return actor.statistics().waiting == 0; });  // it handles it
    return actor;
  }
  void end(ActorRef<Slow>& actor) {
    go_.set();
    actor.stop().wait();
    actor.join();
  }

  Event go_;
  std::atomic<int> handled_{0};
};

TEST_F(Mailboxes, RaiseWhenFull) {
  auto actor = start(2, Overflow::kRaise);
  actor.tell(&Slow::work);
  auto asked = actor.ask(&Slow::work);
  EXPECT_THROW(actor.tell(&Slow::work), MailboxFull);
  EXPECT_THROW(actor.ask(&Slow::work), MailboxFull);
  auto urgent = actor.stop_urgently();
  go_.set();
  EXPECT_TRUE(urgent.get());
  EXPECT_THROW(asked.get(), ActorDead);
  actor.join();
  EXPECT_EQ(handled_, 1);
}

TEST_F(Mailboxes, DropWhenFull) {
  auto actor = start(1, Overflow::kDrop);
  actor.tell(&Slow::work);
  actor.tell(&Slow::work);
  EXPECT_THROW(actor.ask(&Slow::work).get(), MailboxFull);
  EXPECT_EQ(actor.statistics().refused, 2u);
  go_.set();
  until([&] { return handled_ == 2; });
  end(actor);
  EXPECT_EQ(handled_, 2);
}

TEST_F(Mailboxes, AlwaysHaveRoomForAStop) {
  for (const Overflow overflow : {Overflow::kBlock, Overflow::kDrop, Overflow::kRaise}) {
    go_.reset();
    auto actor = start(1, overflow);
    actor.tell(&Slow::work);
    auto stopped = actor.stop();
    go_.set();
    EXPECT_TRUE(stopped.get());
    actor.join();
    EXPECT_FALSE(actor.alive());
    EXPECT_EQ(actor.statistics().refused, 0u);
  }
}

// A sender that waits, is woken, and finds the room taken by another that never waits.
TEST_F(Mailboxes, AWaiterThatWasOvertakenIsWokenAgain) {
  auto actor = start(1, Overflow::kBlock);
  actor.tell(&Slow::work);
  bool sent = false;
  auto waiter = spawn([&] {
    actor.tell(&Slow::work);
    sent = true;
  });
  until_parked(waiter);
  // The handler that runs lets the next be taken; before the waiter runs this fills the room anew.
  go_.set();
  for (int i = 0; i < 50; ++i) actor.tell([](Slow&) {});
  waiter.join();
  EXPECT_TRUE(sent);
  until([&] { return handled_ == 3; });
  end(actor);
}

TEST_F(Mailboxes, BlockUntilThereIsRoom) {
  auto actor = start(1, Overflow::kBlock);
  actor.tell(&Slow::work);
  bool sent = false;
  auto sender = spawn([&] {
    actor.tell(&Slow::work);
    sent = true;
  });
  until_parked(sender);
  EXPECT_FALSE(sent);
  go_.set();
  sender.join();
  EXPECT_TRUE(sent);
  until([&] { return handled_ == 3; });
  end(actor);
}

TEST_F(Mailboxes, ASenderThatWaitsCanBeCancelledAndTimed) {
  auto actor = start(1, Overflow::kBlock);
  actor.tell(&Slow::work);
  auto cancelled = spawn([&] { actor.tell(&Slow::work); });
  until_parked(cancelled);
  cancelled.cancel();
  EXPECT_THROW(cancelled.result(), Cancelled);
  EXPECT_THROW(timeout(1ms, [&] { actor.tell(&Slow::work); }), Timeout);
  EXPECT_EQ(actor.statistics().waiting, 1u);
  go_.set();
  until([&] { return handled_ == 2; });
  end(actor);
  EXPECT_EQ(handled_, 2);
}

TEST_F(Mailboxes, ASenderThatWaitsIsToldOfTheEnd) {
  auto actor = start(1, Overflow::kBlock);
  actor.tell(&Slow::work);
  auto sender = spawn([&] { EXPECT_THROW(actor.tell(&Slow::work), ActorDead); });
  until_parked(sender);
  auto stopped = actor.stop_urgently();
  go_.set();
  stopped.wait();
  sender.join();
  actor.join();
}

TEST_F(Mailboxes, AnActorDoesNotWaitForRoomInItsOwn) {
  ActorOptions options;
  options.mailbox = {1, Overflow::kBlock};
  struct Self : Actor<Self> {
    void fill() {
      self().tell([](Self&) {});
      self().tell([](Self&) {});
    }
  };
  auto actor = Self::start_with(options);
  try {
    actor.ask(&Self::fill).get();
    FAIL();
  } catch (const std::system_error& error) {
    EXPECT_EQ(error.code(), std::errc::resource_deadlock_would_occur);
  }
  actor.stop().wait();
  actor.join();
}

TEST_F(Mailboxes, NothingIsLostWhenManyWaitForRoom) {
  go_.set();
  auto actor = start(3, Overflow::kBlock);
  std::vector<Fiber<>> senders;
  for (int s = 0; s < 20; ++s)
    senders.push_back(spawn([&] {
      for (int i = 0; i < 50; ++i) actor.tell(&Slow::work);
    }));
  std::thread native([&] {
    for (int i = 0; i < 50; ++i) actor.tell(&Slow::work);
  });
  for (auto& sender : senders) sender.join();
  until([&] { return handled_ == 1 + 20 * 50 + 50; });
  native.join();
  end(actor);
  EXPECT_EQ(handled_, 1 + 20 * 50 + 50);
}

}  // namespace
}  // namespace weft::test
