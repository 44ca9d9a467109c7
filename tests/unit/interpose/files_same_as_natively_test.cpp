// Every result and errno of the calls on files and descriptors, compared with libc's own in the same run.
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <termios.h>

#include <cstdlib>

#include "support/native_and_fiber.hpp"
#include "support/sockets.hpp"

namespace weft::engine::test {
namespace {

/// The calls under test, of the kind the stage has.
struct FileCalls {
#define WEFT_CALL_MEMBER(call) decltype(&::call) call;
  WEFT_FILES_CALLS(WEFT_CALL_MEMBER)
  WEFT_DESCRIPTORS_CALLS(WEFT_CALL_MEMBER)
#undef WEFT_CALL_MEMBER
};

const FileCalls& calls_of(const Stage& stage) {
#define WEFT_CALL_VALUE(call) interpose::real::call,
  static const FileCalls native{WEFT_FILES_CALLS(WEFT_CALL_VALUE) WEFT_DESCRIPTORS_CALLS(WEFT_CALL_VALUE)};
#undef WEFT_CALL_VALUE
#define WEFT_CALL_VALUE(call) interpose::routed::call,
  static const FileCalls routed{WEFT_FILES_CALLS(WEFT_CALL_VALUE) WEFT_DESCRIPTORS_CALLS(WEFT_CALL_VALUE)};
#undef WEFT_CALL_VALUE
  return &stage.call == &native_calls() ? native : routed;
}

constexpr size_t kMiB = 1024 * 1024;

// Wrong arguments, which the compiler must not know of.
volatile int g_negative = -1, g_too_many = 1025;
[[maybe_unused]] const char* volatile g_no_path = nullptr;

/// A new, empty directory, removed with what is in it.
struct Directory {
  std::string path;
  explicit Directory(const char* where = "/tmp") : path(std::string(where) + "/weft-test-XXXXXX") {
    EXPECT_NE(mkdtemp(path.data()), nullptr);
  }
  ~Directory() { std::filesystem::remove_all(path); }
  std::string operator/(const char* name) const { return path + "/" + name; }
};

void tell_all_forms(Stage& s, int fd, void* memory) {
  const FileCalls& c = calls_of(s);
  iovec one{memory, 8}, none{memory, 0};
  s.tell("read", c.read(fd, memory, 8));
  s.tell("read nothing", c.read(fd, memory, 0));
  s.tell("readv", c.readv(fd, &one, 1));
  s.tell("readv nothing", c.readv(fd, &none, 1));
  s.tell("readv none", c.readv(fd, &one, 0));
  s.tell("readv -1", c.readv(fd, &one, g_negative));
  s.tell("readv 1025", c.readv(fd, &one, g_too_many));
  s.tell("pread", c.pread(fd, memory, 8, 1));
  s.tell("pread -1", c.pread(fd, memory, 8, -1));
  s.tell("preadv", c.preadv(fd, &one, 1, 1));
  s.tell("preadv -1", c.preadv(fd, &one, 1, -1));
  s.tell("preadv2", c.preadv2(fd, &one, 1, 1, 0));
  s.tell("preadv2 -2", c.preadv2(fd, &one, 1, -2, 0));
  s.tell("preadv2 flags", c.preadv2(fd, &one, 1, 1, 0x4000));
  s.tell("__read_chk", c.__read_chk(fd, memory, 8, 8));
  s.tell("__pread_chk", c.__pread_chk(fd, memory, 8, 0, 8));
  s.tell("write", c.write(fd, memory, 8));
  s.tell("write nothing", c.write(fd, memory, 0));
  s.tell("writev", c.writev(fd, &one, 1));
  s.tell("writev nothing", c.writev(fd, &none, 1));
  s.tell("writev -1", c.writev(fd, &one, g_negative));
  s.tell("pwrite", c.pwrite(fd, memory, 8, 1));
  s.tell("pwrite -1", c.pwrite(fd, memory, 8, -1));
  s.tell("pwritev", c.pwritev(fd, &one, 1, 1));
  s.tell("pwritev -1", c.pwritev(fd, &one, 1, -1));
  s.tell("pwritev2", c.pwritev2(fd, &one, 1, 1, 0));
  s.tell("pwritev2 flags", c.pwritev2(fd, &one, 1, 1, 0x4000));
}

void tell_file_calls(Stage& s, int fd) {
  const FileCalls& c = calls_of(s);
  s.tell("fsync", c.fsync(fd));
  s.tell("fdatasync", c.fdatasync(fd));
  s.tell("syncfs", c.syncfs(fd));
  s.tell("sync_file_range", c.sync_file_range(fd, 0, 1, 0));
  s.tell("ftruncate", c.ftruncate(fd, 100));
  s.tell("ftruncate -1", c.ftruncate(fd, -1));
  s.tell("fallocate", c.fallocate(fd, 0, 0, 1));
  s.tell("fallocate nothing", c.fallocate(fd, 0, 0, 0));
  s.note("posix_fallocate", c.posix_fallocate(fd, 0, 1));
  s.tell("copy_file_range", c.copy_file_range(fd, nullptr, fd, nullptr, 1, 0));
  s.tell("fcntl F_GETFL", c.fcntl(fd, F_GETFL));
  s.tell("fcntl unknown", c.fcntl(fd, 9999, 0));
  struct flock lock {};
  lock.l_type = F_WRLCK;
  // Each lock is given back: those of one kind exclude those of another.
  struct flock unlock {};
  unlock.l_type = F_UNLCK;
  s.tell("fcntl F_SETLKW", c.fcntl(fd, F_SETLKW, &lock));
  s.tell("fcntl F_SETLK", c.fcntl(fd, F_SETLK, &unlock));
  s.tell("fcntl F_OFD_SETLKW", c.fcntl(fd, F_OFD_SETLKW, &lock));
  s.tell("fcntl F_OFD_SETLK", c.fcntl(fd, F_OFD_SETLK, &unlock));
  s.tell("flock", c.flock(fd, LOCK_SH));
  s.tell("flock", c.flock(fd, LOCK_UN));
  s.tell("flock unknown", c.flock(fd, 99));
  s.tell("lockf", c.lockf(fd, F_LOCK, 1));
  s.tell("lockf", c.lockf(fd, F_ULOCK, 1));
  s.tell("lockf unknown", c.lockf(fd, 99, 1));
}

std::string read_all(const FileCalls& c, int fd, size_t chunk) {
  std::string all, part(chunk, '\0');
  for (ssize_t got; (got = c.read(fd, part.data(), part.size())) > 0;)
    all.append(part, 0, static_cast<size_t>(got));
  return all;
}

/// A pseudo-terminal in raw mode; first: the master.
FdPair raw_terminal(unsigned char least, unsigned char tenths) {
  FdPair pair;
  pair.first = posix_openpt(O_RDWR | O_NOCTTY);
  EXPECT_EQ(grantpt(pair.first), 0);
  EXPECT_EQ(unlockpt(pair.first), 0);
  pair.second = ::open(ptsname(pair.first), O_RDWR | O_NOCTTY);
  termios settings{};
  EXPECT_EQ(tcgetattr(pair.second, &settings), 0);
  cfmakeraw(&settings);
  settings.c_cc[VMIN] = least;
  settings.c_cc[VTIME] = tenths;
  EXPECT_EQ(tcsetattr(pair.second, TCSANOW, &settings), 0);
  return pair;
}

const NamedScenario kScenarios[] = {
    {"EveryFormOnEveryKindOfFile",
     [](Stage& s) {
       Directory here, shared("/dev/shm");
       char memory[16] = {1};
       const std::string disk = here / "file", fast = shared / "file", fifo = here / "fifo";
       ASSERT_EQ(mkfifo(fifo.c_str(), 0600), 0);
       FdPair pipe = pipe_pair(), pair = socket_pair();
       char ready[64] = {};
       ASSERT_EQ(::write(pipe.second, ready, sizeof ready), 64);
       const struct {
         const char* name;
         Fd fd;
       } files[] = {
           {"negative", Fd(-1)},
           {"disk", Fd(::open(disk.c_str(), O_RDWR | O_CREAT, 0600))},
           {"disk, reading", Fd(::open(disk.c_str(), O_RDONLY))},
           {"disk, writing", Fd(::open(disk.c_str(), O_WRONLY))},
           {"disk, appending", Fd(::open(disk.c_str(), O_RDWR | O_APPEND))},
           {"disk, synchronous", Fd(::open(disk.c_str(), O_RDWR | O_SYNC))},
           {"disk, path only", Fd(::open(disk.c_str(), O_PATH))},
           {"tmpfs", Fd(::open(fast.c_str(), O_RDWR | O_CREAT, 0600))},
           {"memfd", Fd(memfd_create("weft", MFD_ALLOW_SEALING))},
           {"directory", Fd(::open(here.path.c_str(), O_RDONLY | O_DIRECTORY))},
           {"proc", Fd(::open("/proc/self/oom_score_adj", O_RDWR))},
           {"null", Fd(::open("/dev/null", O_RDWR))},
           {"zero", Fd(::open("/dev/zero", O_RDWR))},
           {"full", Fd(::open("/dev/full", O_RDWR))},
           {"pipe to read", Fd(dup(pipe.first))},
           {"pipe to write", Fd(dup(pipe.second))},
           {"empty FIFO", Fd(::open(fifo.c_str(), O_RDWR | O_NONBLOCK))},
           {"empty socket", Fd(::socket(AF_INET, SOCK_STREAM, 0))},
           {"eventfd", Fd(::eventfd(40, EFD_SEMAPHORE))},
           {"timerfd", Fd(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK))},
           {"inotify", Fd(inotify_init1(IN_NONBLOCK))},
           {"epoll", Fd(epoll_create1(0))},
       };
       signal(SIGPIPE, SIG_IGN);
       for (const auto& file : files) {
         s.note("file", file.name);
         tell_all_forms(s, file.fd.fd, memory);
         tell_file_calls(s, file.fd.fd);
       }
       for (const auto& file : files) {
         s.note("to nowhere", file.name);
         if (std::string_view(file.name) != "eventfd")
           tell_all_forms(s, file.fd.fd, reinterpret_cast<void*>(16));
       }
     }},
    {"LargeOffsets",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       Directory here;
       Fd fd(::open((here / "sparse").c_str(), O_RDWR | O_CREAT, 0600));
       const off_t far = off_t{5} << 30;
       s.tell("pwrite", c.pwrite(fd.fd, "weft", 4, far));
       char memory[16] = {};
       s.tell("pread to the end", c.pread(fd.fd, memory, sizeof memory, far));
       s.note("read", memory);
       s.tell("pread beyond", c.pread(fd.fd, memory, sizeof memory, far + 4));
       s.tell("seek", lseek(fd.fd, far - 8, SEEK_SET));
       s.tell("read", c.read(fd.fd, memory, sizeof memory));
       s.tell("position", lseek(fd.fd, 0, SEEK_CUR));
       s.tell("pwrite at the limit", c.pwrite(fd.fd, "weft", 4, INT64_MAX - 2));
     }},
    {"FilesAreReadToTheEnd",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       Directory here;
       for (const std::string& directory : {here.path, std::string("/dev/shm")}) {
         const std::string path = directory + "/weft-test-read";
         Fd fd(c.open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC, 0600));
         std::string text;
         for (int i = 0; text.size() < 300'000; ++i) text += std::to_string(i) + "\n";
         s.tell("write", c.write(fd.fd, text.data(), text.size()));
         for (const size_t chunk : {size_t{1000}, size_t{65536}, size_t{300'000}, kMiB}) {
           lseek(fd.fd, 0, SEEK_SET);
           // What is not cached cannot be read at once.
           posix_fadvise(fd.fd, 0, 0, POSIX_FADV_DONTNEED);
           s.note("all", read_all(c, fd.fd, chunk) == text);
         }
         posix_fadvise(fd.fd, 0, 100'000, POSIX_FADV_DONTNEED);
         std::string again(text.size() + 10, '\0');
         iovec parts[3] = {{again.data(), 5}, {again.data() + 5, 0}, {again.data() + 5, again.size() - 5}};
         s.tell("preadv", c.preadv(fd.fd, parts, 3, 0));
         s.note("all", again.substr(0, text.size()) == text);
         ::unlink(path.c_str());
       }
     }},
    {"AMiBThroughAPipe",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       FdPair pipe = pipe_pair();
       std::string sent(kMiB + 17, '\0'), received;
       for (size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 7 + i / 251);
       s.beside([&] { received = read_all(c, pipe.first, 10'000); });
       iovec parts[20];
       for (size_t i = 0; i < 20; ++i)
         parts[i] = {sent.data() + i * 50'000, i < 19 ? 50'000 : sent.size() - 19 * 50'000};
       s.tell("writev", c.writev(pipe.second, parts, 20));
       s.tell("close", c.close(std::exchange(pipe.second, -1)));
       s.join();
       s.note("received", received == sent);
     }},
    {"AReaderThatGoesAway",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       static int signals;
       signals = 0;
       signal(SIGPIPE, [](int) { ++signals; });
       FdPair pipe = pipe_pair();
       std::string much(kMiB, 'x');
       s.beside([&] {
         char part[4096];
         for (int left = 3 * 65536; left > 0;)
           left -= static_cast<int>(c.read(pipe.first, part, sizeof part));
         c.close(std::exchange(pipe.first, -1));
       });
       const ssize_t part = c.write(pipe.second, much.data(), much.size());
       s.note("partly", part >= 3 * 65536 && part < static_cast<ssize_t>(much.size()));
       s.join();
       s.note("signals", signals);
       s.tell("write", c.write(pipe.second, "x", 1));
       s.note("signals", signals);
       signal(SIGPIPE, SIG_IGN);
       s.tell("ignored", c.write(pipe.second, "x", 1));
     }},
    {"NonblockingDescriptorsNeverWait",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       Directory here;
       ASSERT_EQ(mkfifo((here / "fifo").c_str(), 0600), 0);
       FdPair terminal = raw_terminal(1, 0), pipe = pipe_pair(), sockets = socket_pair();
       Fd fifo(::open((here / "fifo").c_str(), O_RDWR));
       Fd event(::eventfd(0, 0)), timer(timerfd_create(CLOCK_MONOTONIC, 0)), watch(inotify_init());
       char memory[4096] = {};
       for (const int fd : {pipe.first, pipe.second, sockets.first, fifo.fd, event.fd, timer.fd, watch.fd,
                            terminal.first, terminal.second}) {
         ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
         s.tell("read", c.read(fd, memory, sizeof memory));
         iovec two[2] = {{memory, 1}, {memory, 8}};
         s.tell("readv", c.readv(fd, two, 2));
         s.tell("preadv2", c.preadv2(fd, two, 2, -1, 0));
       }
       for (const int fd : {pipe.second, sockets.first, fifo.fd}) {
         while (c.write(fd, memory, sizeof memory) > 0) {
         }
         s.tell("write", c.write(fd, memory, sizeof memory));
       }
       s.tell("eventfd_write", c.eventfd_write(event.fd, ~uint64_t{0} - 1));
       s.tell("eventfd_write", c.eventfd_write(event.fd, 1));
       s.tell("eventfd_write", c.eventfd_write(event.fd, ~uint64_t{0}));
       eventfd_t value = 0;
       s.tell("eventfd_read", c.eventfd_read(event.fd, &value));
       s.note("value", value);
     }},
    {"ATerminalGathersItsBytes",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       const struct {
         unsigned char least, tenths;
         const char* bytes;
       } cases[] = {{0, 0, ""},   {0, 0, "ab"},  {0, 1, ""},   {0, 1, "ab"},
                    {1, 0, "ab"}, {3, 0, "abc"}, {3, 1, "ab"}, {8, 0, "abcd"}};
       for (const auto& [least, tenths, bytes] : cases) {
         FdPair terminal = raw_terminal(least, tenths);
         if (*bytes) {
           EXPECT_GT(::write(terminal.first, bytes, strlen(bytes)), 0);
         }
         char memory[4] = {};
         s.tell("read", c.read(terminal.second, memory, sizeof memory));
         s.note("read", std::string_view(memory, 4));
       }
       FdPair terminal = raw_terminal(3, 0);
       s.beside([&] {
         for (const char* byte : {"x", "y", "z"}) {
           c.write(terminal.first, byte, 1);
           sched_yield();
         }
       });
       char memory[8] = {};
       s.tell("read in pieces", c.read(terminal.second, memory, sizeof memory));
       s.join();
       s.note("read", memory);
       s.beside([&] { c.write(terminal.first, "12", 2); });
       s.tell("read fewer than gathered", c.read(terminal.second, memory, 2));
       s.join();
       std::string much(100'000, 'm'), back;
       s.beside([&] { s.note("much", c.write(terminal.second, much.data(), much.size())); });
       while (back.size() < much.size()) {
         char part[5000];
         const ssize_t got = c.read(terminal.first, part, sizeof part);
         if (got <= 0) break;
         back.append(part, static_cast<size_t>(got));
       }
       s.join();
       s.note("came back", back == much);
       ::close(std::exchange(terminal.first, -1));
       s.tell("read after hangup", c.read(terminal.second, memory, sizeof memory));
       s.tell("write after hangup", c.write(terminal.second, memory, 1));
     }},
    {"FifosWaitForTheOtherEnd",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       Directory here;
       const std::string path = here / "fifo";
       ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
       s.tell("nonblocking writer", c.open(path.c_str(), O_WRONLY | O_NONBLOCK));
       for (const bool reads : {true, false}) {
         std::string received;
         int writer = -1, reader = -1;
         s.beside([&] {
           if (reads) {
             writer = c.open(path.c_str(), O_WRONLY | O_CLOEXEC);
             c.write(writer, "hello", 5);
             c.close(writer);
           } else {
             reader = c.openat(AT_FDCWD, path.c_str(), O_RDONLY);
             received = read_all(c, reader, 3);
           }
         });
         const int mine = c.open(path.c_str(), reads ? O_RDONLY : O_WRONLY);
         s.note("flags", ::fcntl(mine, F_GETFL));
         if (reads)
           received = read_all(c, mine, 3);
         else
           s.tell("write", c.write(mine, "hello", 5));
         c.close(mine);
         s.join();
         s.note("received", received);
         if (reader >= 0) c.close(reader);
       }
       const int both = c.open(path.c_str(), O_RDWR | O_CLOEXEC);
       s.note("flags of both", ::fcntl(both, F_GETFL));
       std::string sent(150'000, 'f'), received;
       s.beside([&] {
         while (received.size() < sent.size()) {
           char part[3000];
           const ssize_t got = c.read(both, part, sizeof part);
           if (got <= 0) break;
           received.append(part, static_cast<size_t>(got));
         }
       });
       s.tell("write", c.write(both, sent.data(), sent.size()));
       s.join();
       s.note("received", received == sent);
       c.close(both);
     }},
    {"Opening",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       Directory here;
       const std::string file = here / "file", link = here / "link", loop = here / "loop",
                         socket_path = here / "socket";
       ASSERT_EQ(symlink(file.c_str(), link.c_str()), 0);
       ASSERT_EQ(symlink(loop.c_str(), loop.c_str()), 0);
       Fd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
       sockaddr_un address{AF_UNIX, {}};
       strcpy(address.sun_path, socket_path.c_str());
       ASSERT_EQ(::bind(socket.fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
       const auto tell = [&](const char* what, int fd) {
         if (fd < 0) {
           s.tell(what, fd);
           return;
         }
         struct stat state;
         fstat(fd, &state);
         s.note(what, std::to_string(state.st_mode) + " " + std::to_string(state.st_size) + " " +
                          std::to_string(::fcntl(fd, F_GETFL)) + " " + std::to_string(::fcntl(fd, F_GETFD)));
         c.close(fd);
       };
       const mode_t mask = umask(027);
       tell("missing", c.open(file.c_str(), O_RDONLY));
       tell("dangling link, made", c.open(link.c_str(), O_WRONLY | O_CREAT, 0666));
       tell("exclusive", c.open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666));
       tell("creat", c.creat(file.c_str(), 0777));
       const int fd = c.open(file.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
       s.tell("write", c.write(fd, "text", 4));
       c.close(fd);
       tell("present", c.open(file.c_str(), O_RDONLY | O_CREAT | O_CLOEXEC, 0600));
       tell("emptied", c.open(file.c_str(), O_RDWR | O_TRUNC));
       tell("as directory", c.open(file.c_str(), O_RDONLY | O_DIRECTORY));
       tell("below a file", c.open((file + "/x").c_str(), O_RDONLY));
       tell("directory to write", c.open(here.path.c_str(), O_WRONLY));
       tell("directory", c.open(here.path.c_str(), O_RDONLY | O_DIRECTORY | O_NONBLOCK));
       tell("directory to make", c.open(here.path.c_str(), O_RDONLY | O_CREAT, 0600));
       tell("link itself", c.open(link.c_str(), O_RDONLY | O_NOFOLLOW));
       tell("path of link", c.open(link.c_str(), O_PATH | O_NOFOLLOW));
       tell("loop", c.open(loop.c_str(), O_RDONLY));
       tell("socket", c.open(socket_path.c_str(), O_RDONLY));
       tell("temporary", c.open(here.path.c_str(), O_TMPFILE | O_RDWR, 0666));
       tell("temporary to read", c.open(here.path.c_str(), O_TMPFILE | O_RDONLY, 0666));
       tell("empty path", c.open("", O_RDONLY));
#ifndef __SANITIZE_ADDRESS__  // whose companion UBSan ends the process before libc can refuse it
       tell("no path", c.open(g_no_path, O_RDONLY));
#endif
       tell("bad path", c.open(reinterpret_cast<const char*>(16), O_RDWR | O_CREAT, 0600));
       tell("long name", c.open((here / std::string(300, 'n').c_str()).c_str(), O_RDWR | O_CREAT, 0600));
       tell("odd flags", c.open(file.c_str(), O_RDONLY | 0x40000000));
       tell("openat", c.openat(-1, "x", O_RDONLY));
       tell("__open_2", c.__open_2(file.c_str(), O_RDONLY));
       tell("__openat_2", c.__openat_2(AT_FDCWD, file.c_str(), O_RDONLY));
       Fd directory(::open(here.path.c_str(), O_RDONLY | O_DIRECTORY));
       tell("openat", c.openat(directory.fd, "made", O_RDWR | O_CREAT, 0640));
       tell("null", c.open("/dev/null", O_RDWR));
       tell("no device", c.open("/dev/tty", O_RDWR));
       s.tell("truncate", c.truncate(file.c_str(), 9));
       s.tell("truncate missing", c.truncate((here / "none").c_str(), 9));
       umask(mask);
     }},
    {"ClosingAndDuplicating",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       s.tell("close", c.close(-1));
       s.tell("close", c.close(9999));
       FdPair pipe = pipe_pair();
       const int target = 700;
       s.tell("dup2", c.dup2(pipe.first, target));
       s.tell("dup2 to itself", c.dup2(target, target));
       s.tell("dup2 of nothing", c.dup2(701, target));
       s.tell("still open", ::fcntl(target, F_GETFD));
       s.tell("dup2 to nowhere", c.dup2(target, -1));
       s.tell("dup2 too high", c.dup2(target, 1 << 30));
       s.tell("dup3", c.dup3(target, 702, O_CLOEXEC));
       s.tell("dup3 to itself", c.dup3(target, target, 0));
       s.tell("dup3 flags", c.dup3(target, 703, 1));
       s.tell("flags", ::fcntl(702, F_GETFD));
       s.tell("F_DUPFD", c.fcntl(target, F_DUPFD, 710));
       s.tell("F_DUPFD_CLOEXEC", c.fcntl(target, F_DUPFD_CLOEXEC, 711));
       s.tell("F_SETFD", c.fcntl(710, F_SETFD, FD_CLOEXEC));
       s.tell("F_GETFD", c.fcntl(710, F_GETFD));
       s.tell("close_range", c.close_range(702, 701, 0));
       s.tell("close_range", c.close_range(702, 800, 0x80));
       s.tell("close_range", c.close_range(target, 710, 0));
       s.tell("closed", ::fcntl(710, F_GETFD));
       s.tell("left", ::fcntl(711, F_GETFD));
       s.tell("close_range", c.close_range(711, 711, CLOSE_RANGE_CLOEXEC));
       s.tell("close", c.close(711));
       FILE* file = fopen("/dev/null", "r");
       const int number = fileno(file);
       s.note("freopen", c.freopen("/dev/zero", "r", file) == file && fileno(file) == number);
       s.tell("fclose", c.fclose(file));
       s.tell("closed", ::fcntl(number, F_GETFD));
       DIR* directory = opendir("/");
       const int of_directory = dirfd(directory);
       s.tell("closedir", c.closedir(directory));
       s.tell("closed", ::fcntl(of_directory, F_GETFD));
       FILE* memory = fmemopen(nullptr, 10, "w");
       s.tell("fclose of memory", c.fclose(memory));
     }},
    {"Mapped",
     [](Stage& s) {
       const FileCalls& c = calls_of(s);
       Directory here;
       Fd fd(::open((here / "mapped").c_str(), O_RDWR | O_CREAT, 0600));
       s.tell("ftruncate", c.ftruncate(fd.fd, 8192));
       void* memory = mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd.fd, 0);
       memset(memory, 'm', 8192);
       s.tell("msync", c.msync(memory, 8192, MS_SYNC));
       s.tell("msync odd", c.msync(static_cast<char*>(memory) + 1, 8192, MS_SYNC));
       s.tell("msync flags", c.msync(memory, 8192, MS_SYNC | MS_ASYNC));
       char byte = 0;
       s.tell("pread", c.pread(fd.fd, &byte, 1, 8191));
       munmap(memory, 8192);
       s.tell("msync unmapped", c.msync(memory, 8192, MS_SYNC));
     }},
};

class FilesSameAsNatively : public SameAsNatively {};

TEST_P(FilesSameAsNatively, Scenario) {
  const auto& [backend, scenario] = GetParam();
  PollLoop loop(backend);
  const std::string native = play_natively(scenario.play);
  EXPECT_EQ(play_as_fiber(loop, scenario.play), native);
}

INSTANTIATE_TEST_SUITE_P(Backends, FilesSameAsNatively,
                         testing::Combine(testing::Values(Backend::kEpoll, Backend::kIoUring),
                                          testing::ValuesIn(kScenarios)),
                         scenario_test_name);

}  // namespace
}  // namespace weft::engine::test
