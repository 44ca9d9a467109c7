// The untyped core of channels, and of waiting for several of them at once.
#pragma once

#include "weft/detail/completion.hpp"

namespace weft::detail {

/// What a channel must know of its items. None of the functions may throw, wait, or use the channel.
struct ItemType {
  size_t size;
  size_t alignment;
  void (*move)(void* to, void* from) noexcept;  ///< constructs at `to`, destroys at `from`
  void (*destroy)(void* item) noexcept;
};

class ChannelCore;
struct Selection;

/// One thing that a selection waits for. Lives, unmoved, until the selection is over.
struct Case : Callback {
  enum class Kind : uint8_t { kReceive, kSend, kDescriptor, kCompletion, kNothing };
  Kind kind = Kind::kNothing;
  ChannelCore* channel = nullptr;
  /// kSend: the item, which is destroyed once it was sent. kReceive: room for one, constructed then.
  void* item = nullptr;
  int descriptor = -1;  ///< kDescriptor
  short events = 0;     ///< as for poll(2); afterwards what was seen
  Completion* completion = nullptr;
  /// Afterwards, of the one that was chosen: kReady, or kClosed: the channel is closed, nothing was moved.
  Outcome outcome = Outcome::kReady;

  // The selection's own.
  Selection* selection = nullptr;
  Case* later = nullptr;
  Case* earlier = nullptr;
  bool queued = false;
};

/// Waits until one of `cases` can go on, and has it done: of several that can, one by chance. *chosen: its
/// index. Returns kReady then, whatever its own outcome. Else: kTimeout, kCancelled, kExpired, kNoMemory;
/// nothing was moved. Deadline 0: does not wait. Fibers and native threads; from natives at most 64
/// descriptors.
WEFT_API Outcome select(Case* cases, size_t count, Nanos deadline, size_t* chosen) noexcept;

inline constexpr size_t kUnbounded = SIZE_MAX;

/// Null if there is no memory. With one reference.
WEFT_API ChannelCore* channel_create(size_t capacity, const ItemType& type) noexcept;
WEFT_API void channel_retain(ChannelCore& channel) noexcept;
WEFT_API void channel_release(ChannelCore& channel) noexcept;

/// Moves `item` in. kReady, kTimeout, kCancelled, kExpired; kClosed; kNoMemory (unbounded ones). Deadline 0:
/// does not wait.
WEFT_API Outcome channel_send(ChannelCore& channel, void* item, Nanos deadline) noexcept;
/// Moves an item out, to be constructed at `item`. kClosed: closed, and nothing is left.
WEFT_API Outcome channel_receive(ChannelCore& channel, void* item, Nanos deadline) noexcept;
/// False if it was closed.
WEFT_API bool channel_close(ChannelCore& channel) noexcept;
WEFT_API bool channel_closed(const ChannelCore& channel) noexcept;
WEFT_API size_t channel_size(const ChannelCore& channel) noexcept;
WEFT_API size_t channel_capacity(const ChannelCore& channel) noexcept;
/// Calls visit(item, argument) for each item that waits in it, until that does not return 0; returns what it
/// did. The channel is locked meanwhile: `visit` must neither use it nor wait.
WEFT_API int channel_visit(ChannelCore& channel, int (*visit)(void* item, void* argument),
                           void* argument) noexcept;

}  // namespace weft::detail
