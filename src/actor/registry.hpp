// All actors that were started and have not stopped.
#pragma once

#include <cstddef>
#include <cstdint>

#include "fiber/futex_lock.hpp"

namespace weft::detail {

class ActorCore;

struct Registry {
  static bool add(ActorCore& actor) noexcept;
  /// REQUIRES: the caller has a reference, too.
  static bool remove(ActorCore& actor) noexcept;
  static void forked() noexcept;
  static void make_uuid(uint8_t (&uuid)[16]) noexcept;

  static engine::FutexLock lock;
  // lock guards these. A list and not a table: what is looked for by name is looked for seldom.
  static ActorCore* oldest;
  static ActorCore* newest;
  static size_t count;
};

}  // namespace weft::detail
