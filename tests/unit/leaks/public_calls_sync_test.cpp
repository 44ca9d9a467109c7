// Locks, channels and select(): no call of theirs leaks, whatever ends it.
#include <fcntl.h>

#include <mutex>
#include <shared_mutex>
#include <stdexcept>
#include <thread>
#include <vector>

#include "public_calls.hpp"
#include "weft/channel.hpp"
#include "weft/condition_variable.hpp"
#include "weft/event.hpp"
#include "weft/io.hpp"
#include "weft/mutex.hpp"
#include "weft/select.hpp"
#include "weft/semaphore.hpp"
#include "weft/shared_mutex.hpp"

namespace weft::test {
namespace {

const std::string kText(100, 'x');

TEST(MutexLeaks, TakenAndFree) {
  EXPECT_NO_LEAK({
    Mutex mutex;
    mutex.lock();
    EXPECT_FALSE(mutex.try_lock());
    EXPECT_FALSE(mutex.try_lock_for(10us));
    EXPECT_FALSE(mutex.try_lock_until(std::chrono::steady_clock::now() + 10us));
    const auto waiting = spawn([&] { const std::scoped_lock lock(mutex); });
    this_fiber::yield();
    mutex.unlock();
    waiting.join();
    EXPECT_TRUE(mutex.try_lock_for(1h));
    mutex.unlock();
  });
}

TEST(MutexLeaks, BetweenThreads) {
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    Mutex mutex;
    std::unique_lock lock(mutex);
    std::thread native([&] { const std::scoped_lock inner(mutex); });
    sleep(100us);
    lock.unlock();
    native.join();
  });
}

TEST(SharedMutexLeaks, ReadersAndWriters) {
  EXPECT_NO_LEAK({
    SharedMutex mutex;
    mutex.lock_shared();
    EXPECT_TRUE(mutex.try_lock_shared());
    EXPECT_FALSE(mutex.try_lock());
    EXPECT_FALSE(mutex.try_lock_for(10us));
    const auto writer = spawn([&] {
      mutex.lock();
      mutex.unlock();
    });
    this_fiber::yield();
    EXPECT_FALSE(mutex.try_lock_shared());
    EXPECT_FALSE(mutex.try_lock_shared_for(10us));
    const auto reader = spawn([&] { const std::shared_lock lock(mutex); });
    this_fiber::yield();
    mutex.unlock_shared();
    mutex.unlock_shared();
    writer.join();
    reader.join();
  });
}

TEST(ConditionVariableLeaks, NotifiedOrEnded) {
  EXPECT_NO_LEAK({
    Mutex mutex;
    ConditionVariable condition;
    bool ready = false;
    const auto waiting = spawn([&] {
      std::unique_lock lock(mutex);
      condition.wait(lock);
      condition.wait(lock, [&] { return ready; });
    });
    this_fiber::yield();
    condition.notify_one();
    this_fiber::yield();
    ready = true;
    condition.notify_all();
    waiting.join();
    const auto locked = [&](auto body) {
      std::unique_lock lock(mutex);
      return body(lock);
    };
    const auto never = [] { return false; };
    const auto time = [] { return std::chrono::steady_clock::now() + 10us; };
    locked([&](auto& lock) { EXPECT_EQ(condition.wait_for(lock, 10us), std::cv_status::timeout); });
    locked([&](auto& lock) { EXPECT_EQ(condition.wait_until(lock, time()), std::cv_status::timeout); });
    locked([&](auto& lock) { EXPECT_FALSE(condition.wait_for(lock, 10us, never)); });
    locked([&](auto& lock) { EXPECT_FALSE(condition.wait_until(lock, time(), never)); });
    expect_ended([&] { locked([&](auto& lock) { condition.wait(lock); }); });
    expect_ended([&] { locked([&](auto& lock) { condition.wait_for(lock, 1h, never); }); });
  });
}

TEST(SemaphoreLeaks, AcquiredOrNot) {
  EXPECT_NO_LEAK({
    Semaphore semaphore(1);
    semaphore.acquire();
    EXPECT_FALSE(semaphore.try_acquire());
    EXPECT_FALSE(semaphore.try_acquire_for(10us));
    EXPECT_FALSE(semaphore.try_acquire_until(std::chrono::steady_clock::now() + 10us));
    expect_ended([&] { semaphore.acquire(); });
    expect_ended([&] { semaphore.try_acquire_for(1h); });
    const auto waiting = spawn([&] { semaphore.acquire(); });
    this_fiber::yield();
    semaphore.release(2);
    waiting.join();
    EXPECT_EQ(semaphore.available(), 1u);
  });
}

TEST(PermitLeaks, ForAScope) {
  EXPECT_NO_LEAK({
    Semaphore semaphore(1);
    const Permit permit(semaphore);
    expect_ended([&] { const Permit second(semaphore); });
  });
}

TEST(EventLeaks, SetAndNot) {
  EXPECT_NO_LEAK({
    Event event;
    EXPECT_FALSE(event.is_set());
    EXPECT_FALSE(event.wait_for(10us));
    EXPECT_FALSE(event.wait_until(std::chrono::system_clock::now() + 10us));
    expect_ended([&] { event.wait(); });
    expect_ended([&] { event.wait_for(1h); });
    const auto waiting = spawn([&] { event.wait(); });
    this_fiber::yield();
    event.set();
    waiting.join();
    event.reset();
  });
}

TEST(LatchLeaks, CountedDown) {
  EXPECT_NO_LEAK({
    Latch latch(2);
    EXPECT_FALSE(latch.try_wait());
    EXPECT_FALSE(latch.wait_for(10us));
    EXPECT_THROW(latch.count_down(3), std::logic_error);
    expect_ended([&] { latch.wait(); });
    const auto waiting = spawn([&] { latch.arrive_and_wait(); });
    this_fiber::yield();
    latch.count_down();
    waiting.join();
    latch.wait();
  });
}

TEST(BarrierLeaks, RoundsAndOnesThatLeave) {
  EXPECT_NO_LEAK({
    Barrier barrier(2);
    EXPECT_EQ(barrier.parties(), 2u);
    const auto other = spawn([&] { barrier.arrive_and_wait(); });
    barrier.arrive_and_wait();
    other.join();
    expect_ended([&] { barrier.arrive_and_wait(); });
    EXPECT_THROW(Barrier(0), std::invalid_argument);
  });
}

TEST(ChannelLeaks, SentAndReceived) {
  EXPECT_NO_LEAK({
    Channel<std::string> channel(2);
    std::string item = kText;
    channel.send(item);
    channel.send(std::string(kText));
    EXPECT_FALSE(channel.try_send(item));
    EXPECT_FALSE(channel.try_send(std::string(kText)));
    EXPECT_FALSE(channel.send_for(item, 10us));
    EXPECT_FALSE(channel.send_for(std::string(kText), 10us));
    EXPECT_EQ(item, kText);
    EXPECT_EQ(channel.size(), 2u);
    EXPECT_EQ(channel.capacity(), 2u);
    EXPECT_EQ(channel.receive(), kText);
    EXPECT_EQ(channel.try_receive(), kText);
    EXPECT_EQ(channel.try_receive(), std::nullopt);
    EXPECT_EQ(channel.receive_for(10us), std::nullopt);
    const auto sender = spawn([channel]() mutable {
      for (int i = 0; i < 5; ++i) channel.send(kText);
      EXPECT_TRUE(channel.close());
    });
    for (std::string& one : channel) EXPECT_EQ(one, kText);
    EXPECT_TRUE(channel.closed());
    EXPECT_TRUE(channel == Channel<std::string>(channel));
  });
}

TEST(ChannelLeaks, WithItemsLeft) {
  EXPECT_NO_LEAK({
    Channel<std::string> channel(kUnbounded);
    for (int i = 0; i < 10; ++i) channel.send(kText);
    Channel<std::string> other(5);
    other.send(kText);
    other = channel;
    EXPECT_TRUE(channel.close());
    EXPECT_FALSE(channel.close());
    EXPECT_EQ(*channel.begin(), kText);
    EXPECT_FALSE(channel.begin() == channel.end());
  });
}

TEST(ChannelLeaks, EndedWhileWaiting) {
  EXPECT_NO_LEAK({
    Channel<std::string> channel;
    expect_ended([&] { channel.send(kText); });
    expect_ended([&] { channel.send_for(std::string(kText), 1h); });
    expect_ended([&] { channel.receive(); });
    expect_ended([&] { channel.receive_for(1h); });
    const auto sender = spawn([&] { EXPECT_THROW(channel.send(kText), Closed); });
    this_fiber::yield();
    channel.close();
    sender.join();
    EXPECT_THROW(channel.send(kText), Closed);
    std::string item = kText;
    EXPECT_THROW(channel.try_send(item), Closed);
    EXPECT_EQ(channel.receive(), std::nullopt);
  });
}

TEST(ChannelLeaks, BetweenThreads) {
  EXPECT_NO_LEAK_WITH(few_calls(50), {
    Channel<std::string> channel;
    std::thread native([&] {
      for (int i = 0; i < 10; ++i) channel.send(kText);
      channel.close();
    });
    int count = 0;
    for (std::string& one : channel) count += one == kText;
    EXPECT_EQ(count, 10);
    native.join();
  });
}

TEST(SelectLeaks, EachKindOfCase) {
  EXPECT_NO_LEAK({
    Channel<std::string> empty, full(1);
    full.send(kText);
    const auto nothing = [text = kText](auto&&...) {};
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    EXPECT_EQ(select(on_receive(empty, nothing), on_receive(full, nothing)), 1u);
    EXPECT_EQ(select(on_receive(empty), on_send(full, kText, nothing)), 1u);
    EXPECT_EQ(select(on_send(full, kText), on_readable(ends[0]), on_writable(ends[1], nothing)), 2u);
    EXPECT_EQ(select(on_send(full, kText), on_readable(ends[0]), after(10us, nothing)), 2u);
    EXPECT_EQ(select(on_send(full, kText), otherwise(nothing)), 1u);
    const Promise<std::string> promise;
    EXPECT_EQ(select(on_done(promise.future()), after(10us)), 1u);
    EXPECT_EQ(select(on_done(promise.future()), on_done(spawn([] {}), nothing)), 1u);
    promise.set(kText);
    EXPECT_EQ(select(on_done(promise.future(), nothing)), 0u);
    close(ends[0]);
    close(ends[1]);
  });
}

TEST(SelectLeaks, EndedOrRefused) {
  EXPECT_NO_LEAK({
    Channel<std::string> channel;
    const Promise<void> promise;
    expect_ended([&] { select(on_receive(channel), on_send(Channel<std::string>(), kText)); });
    expect_ended([&] { select(on_done(promise.future()), on_receive(channel), after(1h)); });
    channel.close();
    EXPECT_THROW(select(on_send(channel, kText)), Closed);
    EXPECT_EQ(error_of([] { select(on_readable(900)); }), EBADF);
    EXPECT_THROW(select(otherwise([] { throw std::runtime_error(kText); })), std::runtime_error);
    Channel<std::string> room(kUnbounded);
    auto once = on_send(room, kText);
    select(std::move(once));
    EXPECT_THROW(select(std::move(once)), std::logic_error);
  });
}

TEST(IoLeaks, WaitsForDescriptors) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
  EXPECT_NO_LEAK({
    wait_writable(ends[1]);
    EXPECT_TRUE(wait_writable_for(ends[1], 1h));
    EXPECT_FALSE(wait_readable_for(ends[0], 10us));
    EXPECT_FALSE(wait_readable_for(ends[0], 0s));
    expect_ended([&] { wait_readable(ends[0]); });
    expect_ended([&] { wait_readable_for(ends[0], 1h); });
    EXPECT_EQ(error_of([] { wait_readable(900); }), EBADF);
    EXPECT_EQ(error_of([] { wait_writable(900); }), EBADF);
  });
  close(ends[0]);
  close(ends[1]);
}

TEST(OwnedDescriptorLeaks, ClosesWhatItOwns) {
  EXPECT_NO_LEAK({
    int ends[2];
    EXPECT_EQ(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    OwnedDescriptor reader(ends[0]), writer(ends[1]);
    EXPECT_TRUE(static_cast<bool>(reader));
    const auto waiting = spawn([&] { EXPECT_EQ(error_of([&] { wait_readable(reader.get()); }), EBADF); });
    this_fiber::yield();
    OwnedDescriptor moved(std::move(reader));
    moved.close();
    waiting.join();
    writer = OwnedDescriptor(writer.release());
  });
}

TEST(BytesLeaks, Views) {
  EXPECT_NO_LEAK({
    const Bytes bytes(kText);
    EXPECT_EQ(bytes.from(10).data(), bytes.data() + 10);
    EXPECT_EQ(Bytes("text").size(), 4u);
  });
}
TEST(MutableBytesLeaks, Views) {
  EXPECT_NO_LEAK({
    std::vector<char> room(100);
    const MutableBytes bytes(room);
    EXPECT_EQ(bytes.from(10).data(), bytes.data() + 10);
    EXPECT_EQ(bytes.size(), 100u);
  });
}

}  // namespace
}  // namespace weft::test
