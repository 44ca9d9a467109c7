// A position in the buffers of a message.
#pragma once

#include <sys/socket.h>
#include <sys/uio.h>

#include <cstddef>

namespace weft::engine::interpose {

/// Walks through an array of buffers that belongs to the caller and is not to be changed, nor copied whole.
class BufferCursor {
 public:
  explicit BufferCursor(const msghdr& message) noexcept : next_(message.msg_iov), left_(message.msg_iovlen) {}

  /// Points `message` at what is left: the rest of a buffer that was begun, or all those that follow.
  void put_into(msghdr& message) noexcept {
    if (done_ == 0) {
      message.msg_iov = const_cast<iovec*>(next_);
      message.msg_iovlen = left_;
      return;
    }
    rest_ = {static_cast<char*>(next_->iov_base) + done_, next_->iov_len - done_};
    message.msg_iov = &rest_;
    message.msg_iovlen = 1;
  }

  void advance(size_t bytes) noexcept {
    bytes += done_;
    while (left_ > 0 && bytes >= next_->iov_len) {
      bytes -= next_->iov_len;
      ++next_;
      --left_;
    }
    done_ = bytes;
  }

  static size_t size_of(const msghdr& message) noexcept {
    size_t size = 0;
    for (size_t i = 0; i < message.msg_iovlen; ++i) size += message.msg_iov[i].iov_len;
    return size;
  }

 private:
  const iovec* next_;
  size_t left_;
  size_t done_ = 0;  // bytes of *next_
  iovec rest_{};
};

}  // namespace weft::engine::interpose
