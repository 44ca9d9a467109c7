// Reading from stdio streams. libc reads inside itself, where nothing is routed; so a fiber waits for its
// stream to have something before it makes the call. That is enough for a line of a terminal, which comes
// whole; a call that wants more than is there waits for the rest inside libc, and pins.
#include <stdio_ext.h>
#include <sys/socket.h>

#include <cstdio>

#include "interpose/calls.hpp"
#include "interpose/files.hpp"
#include "interpose/files_kind.hpp"

namespace weft::interpose {

namespace {

// False, with errno set and the stream marked, if the call is to fail, as libc's own read inside it would.
bool await_input(FILE* stream, const char* call) noexcept {
  if (!current_fiber() || !stream || stream->_IO_read_ptr < stream->_IO_read_end) return true;
  // Libc reports these without reading.
  if (feof_unlocked(stream) || !__freadable(stream)) return true;
  const int fd = fileno_unlocked(stream);
  if (fd < 0) return true;
  const int before = errno;
  const FileKind kind = info_of(fd).kind;
  int error = 0;
  if (kind == FileKind::kSocket) {
    // Heeds the socket's own timeout, and takes nothing.
    char next;
    if (routed::recv(fd, &next, 1, MSG_PEEK) < 0) error = errno;
    if (error != EAGAIN && error != EINTR && error != ECANCELED) error = 0;
  } else if (kind == FileKind::kPipe || kind == FileKind::kTerminal || kind == FileKind::kPtyMaster) {
    // As libc does before it reads from a terminal: a prompt must be seen.
    if (kind == FileKind::kTerminal && __flbf(stdout)) fflush(stdout);
    error = Readiness(fd, false, call).wait();
    if (error != EINTR && error != ECANCELED) error = 0;
  }
  errno = error ? error : before;
  if (error) stream->_flags |= _IO_ERR_SEEN;
  return error == 0;
}

}  // namespace

#define WEFT_READ_STREAM(call, stream, failed, ...) \
  if (!await_input(stream, #call)) return failed;   \
  PinScope pin(#call, __builtin_return_address(0)); \
  return real::call(__VA_ARGS__)

char* routed::fgets(char* text, int size, FILE* stream) noexcept {
  WEFT_READ_STREAM(fgets, stream, nullptr, text, size, stream);
}

char* routed::__fgets_chk(char* text, size_t room, int size, FILE* stream) noexcept {
  WEFT_READ_STREAM(__fgets_chk, stream, nullptr, text, room, size, stream);
}

ssize_t routed::getdelim(char** text, size_t* size, int end, FILE* stream) noexcept {
  WEFT_READ_STREAM(getdelim, stream, -1, text, size, end, stream);
}

ssize_t routed::getline(char** text, size_t* size, FILE* stream) noexcept {
  WEFT_READ_STREAM(getline, stream, -1, text, size, stream);
}

int routed::fgetc(FILE* stream) noexcept {
  WEFT_READ_STREAM(fgetc, stream, EOF, stream);
}

int routed::getchar() noexcept {
  WEFT_READ_STREAM(getchar, stdin, EOF);
}

}  // namespace weft::interpose
