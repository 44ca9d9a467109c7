// What weft::process is made of.
#pragma once

#include <sys/types.h>

#include "weft/detail/io.hpp"

namespace weft::detail {

/// What a stream of a command is connected to, where it is no descriptor of the caller's.
enum StreamTo : int {
  kToPipe = -1,    ///< a pipe: what is written to it is kept, what is to be read comes from write_child()
  kToCaller = -2,  ///< the caller's own
  kToNull = -3,    ///< /dev/null
  kToOutput = -4,  ///< for standard error: where standard output goes
};

struct ChildLimit {
  int resource;  ///< as in setrlimit(2)
  uint64_t soft, hard;
};

/// How a command is started. Borrowed for the call.
struct ChildRequest {
  const char* file = nullptr;                ///< searched for in PATH of `environment` unless it has a slash
  const char* const* arguments = nullptr;    ///< with a null at the end, the name first
  const char* const* environment = nullptr;  ///< with a null at the end; null: the caller's
  const char* folder = nullptr;              ///< working directory; null: the caller's
  int streams[3] = {kToPipe, kToPipe, kToCaller};
  const int* passed = nullptr;   ///< descriptors of the caller's that the command inherits; at most 200
  const int* targets = nullptr;  ///< under which numbers, 3 or more; null: the same
  size_t passed_count = 0;
  const ChildLimit* limits = nullptr;  ///< at most 16
  size_t limit_count = 0;
  const gid_t* groups = nullptr;  ///< supplementary, at most 64; null: the caller's
  size_t group_count = 0;
  int64_t user = -1, group = -1, mask = -1;  ///< -1: the caller's
  int nice = 0;
  bool keep_ignored_signals = false;  ///< leave SIGPIPE and SIGXFSZ ignored where they are
  uint64_t blocked_signals = 0;       ///< bit n - 1 is signal n
  size_t kept_output = 1 << 20;       ///< bytes of each stream that are kept: the last ones
};

enum class ChildStage : uint32_t {
  kNone,
  kKeeper,
  kOrder,
  kDescriptors,
  kIdentity,
  kLimits,
  kFolder,
  kExecute
};

struct ChildFailure {
  int error = 0;  ///< an errno
  ChildStage stage = ChildStage::kNone;
};

enum class ChildScope : uint32_t { kCommand, kGroup, kTree };

/// One run of a command, with all that descends from it. Reference-counted: who gives up the last handle
/// calls end_child() first. However the process ends, the whole tree is killed. Any thread. In a fork child
/// of the process that started it, it is `foreign`: nothing is done to it, and there is no output.
class Child;

/// Starts a command. Null, with `failure`, if it could not be executed; nothing is left behind then.
/// `outcome` is not kReady if the caller was cancelled, or `deadline` passed. Waits some milliseconds.
WEFT_API Child* start_child(const ChildRequest& request, Nanos deadline, ChildFailure& failure,
                            Outcome& outcome) noexcept;
WEFT_API void retain_child(Child* child) noexcept;
WEFT_API void release_child(Child* child) noexcept;

struct ChildState {
  pid_t pid = -1;
  bool exited = false;   ///< the command itself
  int status = 0;        ///< then: as waitpid(2) has it
  bool gone = false;     ///< nothing of its tree is left
  bool forced = false;   ///< then: SIGKILL was needed
  int stuck = 0;         ///< then: how many processes could not be killed
  int stuck_error = 0;   ///< then: why
  pid_t stuck_pid = -1;  ///< then: one of them
  bool lost = false;     ///< then: the keeper was killed, so what the command left behind is not known
  bool foreign = false;  ///< it is a child of another process, of which this one is a fork
};
WEFT_API ChildState child_state(const Child* child) noexcept;

/// Counts all that happens: output, the end of a stream, of the command, of the tree. Read before looking at
/// anything else, given to await_child() after.
WEFT_API uint32_t child_changes(const Child* child) noexcept;
/// Waits until something has happened since `seen`.
WEFT_API Outcome await_child(Child* child, uint32_t seen, Nanos deadline, uint8_t flags) noexcept;

/// Where its processes accept TCP connections, as "127.0.0.1:8000, [::]:8001"; "": nowhere, or it is gone.
/// Cut off at `size`, which counts the NUL. Reads /proc: some milliseconds.
WEFT_API void child_places(const Child* child, char* text, size_t size) noexcept;

/// 0 or an errno; ESRCH: there is nothing to be signalled any more; EAGAIN: too many signals wait to be sent.
WEFT_API int signal_child(Child* child, int signal, ChildScope scope) noexcept;
/// Sends `signal` to the group and then to what the command leaves behind; after `grace` nanoseconds SIGKILL
/// to all that is left. Returns at once; may be called again, with less grace. `gone` tells when it is done.
WEFT_API void end_child(Child* child, int signal, Nanos grace) noexcept;

/// Copies what stream 1 or 2 has written from `position` on, and moves that; if some of it is kept no more,
/// goes on with the first byte that is. Returns how many bytes; 0 with `ended`: that was all.
WEFT_API size_t read_child(const Child* child, int stream, uint64_t& position, char* buffer, size_t size,
                           bool& ended) noexcept;
/// Where a stream ends, as of now; `first`: where what is kept begins.
WEFT_API uint64_t child_output_end(const Child* child, int stream, uint64_t& first) noexcept;
/// Is there a pipe?
WEFT_API bool child_has_stream(const Child* child, int stream) noexcept;
/// The descriptor to be written to for the standard input of the command, non-blocking; -1: there is none, or
/// no more.
WEFT_API int child_input(const Child* child) noexcept;
WEFT_API void close_child_input(Child* child) noexcept;
/// Writes all of it, unless the wait ends before; the value is how much was written, or -EPIPE: nobody reads
/// it any more, or it was closed. SIGPIPE is not raised. A cancellation point.
WEFT_API IoResult write_child(Child* child, const char* data, size_t size, Nanos deadline) noexcept;

/// A regular expression, of PCRE2's syntax, which is that of Perl and nearly that of Python's re.
class Pattern;
enum PatternFlags : uint32_t { kIgnoreCase = 1, kMultiline = 2, kDotAll = 4, kVerbose = 8, kBytes = 16 };
/// Null if it is wrong: then what, as text, and where, are told.
WEFT_API Pattern* compile_pattern(const char* text, size_t size, uint32_t flags, char* what, size_t what_size,
                                  size_t& where) noexcept;
WEFT_API void free_pattern(Pattern* pattern) noexcept;

/// Where reading from both streams goes on.
struct OutputPositions {
  uint64_t at[2] = {0, 0};
};
enum class Sought : uint8_t {
  kFound,  ///< positions: that of its stream is behind the line
  kEnded,  ///< all streams have ended without it
  kNoMemory,
  kElsewise,  ///< not yet; of await_output(): see the outcome
};
/// A search that goes on where it was, for who awaits other things as well.
class OutputSearch;
/// Null: no memory. REQUIRES: both outlive it.
WEFT_API OutputSearch* begin_search(Child* child, const Pattern* pattern,
                                    const OutputPositions& from) noexcept;
/// What await_output() looks at; does not wait. `again` becomes less if it is to be called by then although
/// nothing has happened.
WEFT_API Sought search_on(OutputSearch* search, OutputPositions& positions, Nanos& again) noexcept;
WEFT_API void end_search(OutputSearch* search) noexcept;
/// `pattern` is to have kMultiline, since `^` and `$` are of a line then.
/// Waits until stdout or stderr, whichever are pipes, have written what matches. Lines before it are skipped;
/// a match in an unfinished line counts when nothing more came for 50 ms.
WEFT_API Sought await_output(Child* child, const Pattern* pattern, OutputPositions& positions, Nanos deadline,
                             uint8_t flags, Outcome& outcome) noexcept;

/// How long to wait between two looks at something that is awaited for `waited` nanoseconds: a sixteenth of
/// that, so that it is noticed soon in proportion, but from 1 ms to `longest`; give or take a fifth. In ten
/// seconds that is 185 looks, with a `longest` of 100 ms.
WEFT_API Nanos probe_pause(Nanos waited, Nanos longest) noexcept;

/// What one look at something that is awaited has shown.
struct ProbeAnswer {
  bool ready = false;
  int error = 0;        ///< why not, as an errno; 0: it answered, but not as hoped for
  char seen[512] = "";  ///< in words
};
/// These take `limit` nanoseconds at most, and are cancellation points. An outcome other than kReady: the
/// caller is to end, and nothing was learnt. Fibers and native threads.
///
/// Does somebody accept connections there? `again`: one look of many, which may take the kernel's word for it
/// that nobody listens on this machine.
WEFT_API Outcome probe_tcp(const char* host, uint16_t port, Nanos limit, ProbeAnswer& answer,
                           bool again = false) noexcept;
/// Waits as from one probe_tcp() to the next, from `next` on, but for more than one pause where the kernel
/// says that nobody listens: until that is not so, the child has exited, or `deadline`. The pauses are those
/// of probe_pause() for what has been waited for since `begin`. kReady, or why the caller is to end.
WEFT_API Outcome await_listener(Child* child, const char* host, uint16_t port, Nanos begin, Nanos longest,
                                Nanos& next, Nanos deadline) noexcept;
WEFT_API Outcome probe_unix(const char* path, Nanos limit, ProbeAnswer& answer) noexcept;

/// A request whose answer tells whether a server is ready. Borrowed for the call.
struct HttpProbe {
  const char* url = nullptr;
  const char* method = "GET";
  const char* body = nullptr;  ///< null: none
  size_t body_size = 0;
  const char* const* header_names = nullptr;
  const char* const* header_values = nullptr;
  size_t header_count = 0;
  const Pattern* status = nullptr;  ///< is to match the three digits of the status
  bool follow_redirects = false;
  bool verify = true;             ///< the certificate
  const char* ca_file = nullptr;  ///< null: the system's authorities
  bool again = false;             ///< as for probe_tcp()
};
WEFT_API Outcome probe_http(const HttpProbe& request, Nanos limit, ProbeAnswer& answer) noexcept;

}  // namespace weft::detail
