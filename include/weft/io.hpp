// Waiting for descriptors of the program's own, and what calls that transfer bytes take.
#pragma once

#include <poll.h>

#include <cstring>
#include <ranges>
#include <type_traits>
#include <utility>

#include "weft/detail/io.hpp"

namespace weft {

namespace detail {

template <typename T>
concept Byte = sizeof(T) == 1 && std::is_trivially_copyable_v<T>;
template <typename R>
concept ByteRange =
    std::ranges::contiguous_range<R> && std::ranges::sized_range<R> && Byte<std::ranges::range_value_t<R>>;
/// A literal has a NUL that is not meant.
template <typename R>
concept Literal = std::is_array_v<std::remove_cvref_t<R>> &&
                  std::is_same_v < std::remove_cv_t<std::remove_all_extents_t<std::remove_cvref_t<R>>>,
char > ;

}  // namespace detail

/// Bytes to be sent: of a span, string, vector or array of any type of one byte. A view, as those are. Of a
/// C string, or array of char, what comes before its NUL.
class Bytes {
 public:
  constexpr Bytes(const void* data, size_t size) noexcept : data_(data), size_(size) {}
  Bytes(const char* text) noexcept : data_(text), size_(strlen(text)) {}
  template <detail::ByteRange R>
  requires(!detail::Literal<R>) constexpr Bytes(R&& range) noexcept
      : data_(std::ranges::data(range)), size_(std::ranges::size(range)) {}

  const char* data() const noexcept { return static_cast<const char*>(data_); }
  size_t size() const noexcept { return size_; }
  Bytes from(size_t offset) const noexcept { return {data() + offset, size_ - offset}; }

 private:
  const void* data_;
  size_t size_;
};

/// Memory to be filled, likewise.
class MutableBytes {
 public:
  constexpr MutableBytes(void* data, size_t size) noexcept : data_(data), size_(size) {}
  template <detail::ByteRange R>
  requires(!std::is_const_v<std::remove_reference_t<
               std::ranges::range_reference_t<R>>>) constexpr MutableBytes(R&& range) noexcept
      : data_(std::ranges::data(range)), size_(std::ranges::size(range)) {}

  char* data() const noexcept { return static_cast<char*>(data_); }
  size_t size() const noexcept { return size_; }
  MutableBytes from(size_t offset) const noexcept { return {data() + offset, size_ - offset}; }

 private:
  void* data_;
  size_t size_;
};

/// Owns a descriptor of any kind. Not for use by two at a time.
class OwnedDescriptor {
 public:
  OwnedDescriptor() noexcept = default;
  explicit OwnedDescriptor(int fd) noexcept : fd_(fd) {}
  OwnedDescriptor(OwnedDescriptor&& other) noexcept : fd_(other.release()) {}
  OwnedDescriptor& operator=(OwnedDescriptor&& other) noexcept {
    if (this != &other) {
      close();
      fd_ = other.release();
    }
    return *this;
  }
  ~OwnedDescriptor() { close(); }

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept { return std::exchange(fd_, -1); }
  /// Those who wait for it in weft fail with EBADF.
  void close() noexcept {
    if (fd_ >= 0) detail::close_descriptor(release());
  }

 private:
  int fd_ = -1;
};

/// Waits until reading from `fd`, which may be of any kind that poll(2) takes, would not block, or would fail
/// or tell the end. A hint: who else reads from it may be faster, so make the descriptor non-blocking, and
/// wait again on EAGAIN. A cancellation point. Any thread; a native one blocks in ppoll(2), and is not woken
/// when the descriptor is closed. std::system_error with EBADF: it is not open, or was closed meanwhile.
inline void wait_readable(int fd) {
  detail::checked(detail::wait_for_descriptor(fd, POLLIN, detail::kNever, "wait_readable"), "wait_readable");
}
/// The same for writing.
inline void wait_writable(int fd) {
  detail::checked(detail::wait_for_descriptor(fd, POLLOUT, detail::kNever, "wait_writable"), "wait_writable");
}

/// False if it is not so after `span`; with a span of zero or less, as of now.
template <typename Rep, typename Period>
bool wait_readable_for(int fd, std::chrono::duration<Rep, Period> span) {
  const auto result =
      detail::wait_for_descriptor(fd, POLLIN, detail::deadline_after(span), "wait_readable_for");
  if (result.outcome == detail::Outcome::kTimeout) return false;
  detail::checked(result, "wait_readable_for");
  return true;
}
template <typename Rep, typename Period>
bool wait_writable_for(int fd, std::chrono::duration<Rep, Period> span) {
  const auto result =
      detail::wait_for_descriptor(fd, POLLOUT, detail::deadline_after(span), "wait_writable_for");
  if (result.outcome == detail::Outcome::kTimeout) return false;
  detail::checked(result, "wait_writable_for");
  return true;
}

}  // namespace weft
