// Reading from stdio streams. libc reads inside itself, where nothing is routed; so a fiber waits for its
// stream to have something before it makes the call. That is enough for a line of a terminal, which comes
// whole; a call that wants more than is there waits for the rest inside libc, and pins.
#include <stdio_ext.h>
#include <sys/socket.h>

#include <cstdio>

#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "interpose/files_kind.hpp"
#include "interpose/sockets_wait.hpp"

namespace weft::engine::interpose {

namespace {

// Flags of libc's own, beside those of <bits/types/struct_FILE.h>, all of them part of its ABI: reading from
// what ungetc() put back; the stream has no lock.
constexpr int kInBackup = 0x100, kNoLock = 0x8000;

bool has_input(const FILE* stream) noexcept {
  return stream->_IO_read_ptr < stream->_IO_read_end;
}

bool is_locked(const FILE* stream) noexcept {
  return !(stream->_flags & kNoLock) && stream->_lock &&
         __atomic_load_n(static_cast<const int*>(static_cast<const void*>(stream->_lock)), __ATOMIC_RELAXED);
}

// Whether libc will go to the descriptor. It reports errors and the end without reading. Whoever has locked
// the stream, to read several times, means to keep others out, and libc's lock does not know fibers apart.
bool will_read(FILE* stream) noexcept {
  return !has_input(stream) && !feof_unlocked(stream) && __freadable(stream) &&
         !(stream->_flags & kInBackup) && !is_locked(stream);
}

// The errno that the call is to fail with, or 0.
int wait_for_input(FILE* stream, int fd, const char* call) noexcept {
  // As libc does before it reads: what was written may be the request for the input.
  if (stream->_IO_write_ptr > stream->_IO_write_base) fflush(stream);
  const FileKind kind = info_of(fd).kind;
  if (kind == FileKind::kSocket) {
    // Heeds the socket's own timeout, and takes nothing.
    char next;
    const int error = routed::recv(fd, &next, 1, MSG_PEEK) < 0 ? errno : 0;
    return error == EAGAIN || error == EINTR || error == ECANCELED ? error : 0;
  }
  if (kind != FileKind::kPipe && kind != FileKind::kTerminal && kind != FileKind::kPtyMaster) return 0;
  if (kind == FileKind::kTerminal) {
    if (terminal_gives_up(fd)) return 0;
    // As libc does before it reads from a terminal: a prompt must be seen.
    if (__flbf(stdout)) fflush(stdout);
  }
  Readiness readiness(fd, false, call);
  // Another fiber may have taken what there was.
  while (!has_input(stream) && !is_ready(fd, false)) {
    const int error = readiness.wait();
    if (error == EINTR || error == ECANCELED) return error;
    if (error != 0) return 0;
  }
  return 0;
}

// False, with errno set and the stream marked, if the call is to fail, as libc's own read inside it would.
bool await_input(FILE* stream, const char* call) noexcept {
  if (!current_fiber() || !stream || !will_read(stream)) return true;
  int error = errno;
  const int fd = fileno_unlocked(stream);
  const int failure = fd < 0 ? 0 : wait_for_input(stream, fd, call);
  if (failure) {
    stream->_flags |= _IO_ERR_SEEN;
    error = failure;
  }
  errno = error;
  return failure == 0;
}

}  // namespace

// `straight`: libc's call needs no care. It is a tail call, since pthread_cancel may end it.
#define WEFT_READ_STREAM(call, stream, straight, failed, ...)   \
  if (!may_pin() || (straight)) return real::call(__VA_ARGS__); \
  if (!await_input(stream, #call)) return failed;               \
  PinScope pin(#call, __builtin_return_address(0));             \
  return real::call(__VA_ARGS__)

char* routed::fgets(char* text, int size, FILE* stream) noexcept {
  WEFT_READ_STREAM(fgets, stream, size <= 1, nullptr, text, size, stream);
}

char* routed::__fgets_chk(char* text, size_t room, int size, FILE* stream) noexcept {
  WEFT_READ_STREAM(__fgets_chk, stream, size <= 1, nullptr, text, room, size, stream);
}

ssize_t routed::getdelim(char** text, size_t* size, int end, FILE* stream) noexcept {
  WEFT_READ_STREAM(getdelim, stream, false, -1, text, size, end, stream);
}

ssize_t routed::getline(char** text, size_t* size, FILE* stream) noexcept {
  WEFT_READ_STREAM(getline, stream, false, -1, text, size, stream);
}

int routed::fgetc(FILE* stream) noexcept {
  WEFT_READ_STREAM(fgetc, stream, has_input(stream), EOF, stream);
}

int routed::getchar() noexcept {
  WEFT_READ_STREAM(getchar, stdin, has_input(stdin), EOF);
}

}  // namespace weft::engine::interpose
