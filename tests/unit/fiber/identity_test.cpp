// What each fiber has of its own although all share an OS thread: errno, exceptions being handled, signal
// mask, rounding mode, thread-specific data.
#include <cerrno>
#include <cfenv>
#include <csignal>
#include <exception>
#include <stdexcept>

#include "fixture.hpp"

namespace weft::engine::test {
namespace {

class IdentityTest : public FiberTest {
 protected:
  void both(const std::function<void(int)>& body) {
    std::vector<Fiber*> fibers{spawn([&] { body(1); }), spawn([&] { body(2); })};
    Engine::join(fibers);
  }
};

TEST_F(IdentityTest, ErrnoIsPreservedAcrossSwitches) {
  both([&](int self) {
    for (int i = 0; i < 10; ++i) {
      errno = self * 1000 + i;
      carrier.yield();
      EXPECT_EQ(errno, self * 1000 + i);
      carrier.sleep_until(carrier.now() + 1, kUninterruptible, "sleep");
      EXPECT_EQ(errno, self * 1000 + i);
    }
  });
}

TEST_F(IdentityTest, CaughtExceptionsStayWithTheirFiber) {
  both([&](int self) {
    try {
      throw std::runtime_error(std::to_string(self));
    } catch (const std::exception& outer) {
      carrier.yield();
      try {
        throw self;
      } catch (int inner) {
        carrier.yield();
        EXPECT_EQ(inner, self);
        EXPECT_TRUE(std::current_exception());
      }
      carrier.yield();
      EXPECT_EQ(outer.what(), std::to_string(self));
      try {
        std::rethrow_exception(std::current_exception());
      } catch (const std::runtime_error& again) {
        EXPECT_EQ(again.what(), std::to_string(self));
      }
    }
    carrier.yield();
    EXPECT_FALSE(std::current_exception());
  });
}

TEST_F(IdentityTest, RethrowAfterASwitchThrowsTheFibersOwnException) {
  both([&](int self) {
    try {
      try {
        throw self;
      } catch (...) {
        carrier.yield();
        throw;
      }
    } catch (int caught) {
      EXPECT_EQ(caught, self);
    }
  });
}

TEST_F(IdentityTest, UncaughtCountStaysWithItsFiber) {
  struct YieldsWhileUnwinding {
    Carrier& carrier;
    ~YieldsWhileUnwinding() {
      EXPECT_EQ(std::uncaught_exceptions(), 1);
      carrier.yield();
      EXPECT_EQ(std::uncaught_exceptions(), 1);
    }
  };
  Fiber* unwinding = spawn([&] {
    try {
      YieldsWhileUnwinding guard{carrier};
      throw 1;
    } catch (int) {
    }
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
  Fiber* other = spawn([&] {
    EXPECT_EQ(std::uncaught_exceptions(), 0);
    carrier.yield();
    EXPECT_EQ(std::uncaught_exceptions(), 0);
  });
  Engine::join({unwinding, other});
}

TEST_F(IdentityTest, InterpreterStateStaysWithItsFiberOnceASlotIsNamed) {
  void* slot = nullptr;
  carrier.set_interpreter_state(&slot);
  both([&](int self) {
    slot = reinterpret_cast<void*>(static_cast<uintptr_t>(self));
    carrier.refresh_addresses();  // keeps the slot
    carrier.yield();
    EXPECT_EQ(slot, reinterpret_cast<void*>(static_cast<uintptr_t>(self)));
  });
  carrier.set_interpreter_state(nullptr);
}

uint64_t bit(int signal) {
  return uint64_t{1} << (signal - 1);
}

uint64_t kernel_mask() {
  uint64_t mask = 0;
  sys::call(SYS_rt_sigprocmask, SIG_SETMASK, nullptr, &mask, sizeof mask);
  return mask;
}

TEST_F(IdentityTest, SignalMaskStaysWithItsFiberInTheKernelToo) {
  const uint64_t before = kernel_mask();
  both([&](int self) {
    const uint64_t mine = self == 1 ? bit(SIGUSR1) : bit(SIGUSR2);
    EXPECT_EQ(carrier.set_signal_mask(before | mine), before);
    for (int i = 0; i < 3; ++i) {
      carrier.yield();
      EXPECT_EQ(kernel_mask(), before | mine);
      carrier.sleep_until(carrier.now() + 1, kUninterruptible, "sleep");
      EXPECT_EQ(kernel_mask(), before | mine);
    }
    // As a thread's, a new fiber's mask is its creator's.
    Fiber* child = spawn([&] { EXPECT_EQ(kernel_mask(), before | mine); });
    Engine::join(child);
    EXPECT_EQ(carrier.set_signal_mask(before), before | mine);
  });
  EXPECT_EQ(kernel_mask(), before);
}

TEST_F(IdentityTest, WhileAllWaitTheMainFibersMaskIsInForce) {
  const uint64_t before = kernel_mask();
  uint64_t seen = 0;
  Fiber* fiber = spawn([&] {
    carrier.set_signal_mask(before | bit(SIGUSR1));
    engine.events.on_poll = [&] {
      seen = kernel_mask();
      return false;
    };
    carrier.sleep_until(carrier.now() + 1, kUninterruptible, "sleep");
    EXPECT_EQ(kernel_mask(), before | bit(SIGUSR1));
  });
  Engine::join(fiber);
  EXPECT_EQ(seen, before);
}

TEST_F(IdentityTest, RoundingModeStaysWithItsFiber) {
  both([&](int self) {
    const int mode = self == 1 ? FE_UPWARD : FE_DOWNWARD;
    fesetround(mode);
    for (int i = 0; i < 3; ++i) {
      carrier.yield();
      EXPECT_EQ(fegetround(), mode);
      volatile double one = 1, three = 3;
      volatile float third = static_cast<float>(one / three);
      EXPECT_EQ(third * 3 > 1, self == 1);
    }
  });
  EXPECT_EQ(fegetround(), FE_TONEAREST);
}

TEST(Identities, SpecificDataGrowsAndIsNullUntilSet) {
  Identity identity;
  int value = 0;
  EXPECT_EQ(identity.specific(0), nullptr);
  EXPECT_EQ(identity.set_specific(500, nullptr), 0);
  EXPECT_EQ(identity.specific_limit(), 0u);
  for (const pthread_key_t key : {3u, 4u, 1023u}) {
    EXPECT_EQ(identity.set_specific(key, &value), 0);
    EXPECT_EQ(identity.specific(key), &value);
    EXPECT_GT(identity.specific_limit(), key);
  }
  EXPECT_EQ(identity.specific(5), nullptr);
  EXPECT_EQ(identity.specific(5000), nullptr);
  EXPECT_EQ(identity.set_specific(4, nullptr), 0);
  EXPECT_EQ(identity.specific(4), nullptr);
  identity.reset();
  EXPECT_EQ(identity.specific(3), nullptr);
  EXPECT_EQ(identity.specific_limit(), 0u);
}

}  // namespace
}  // namespace weft::engine::test
