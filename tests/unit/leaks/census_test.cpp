#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "weft/detail/leaks.hpp"
#include "weft/event.hpp"
#include "weft/fiber.hpp"

namespace weft::detail {
namespace {

struct Drop {
  void operator()(LeakCensus* census) const noexcept { drop_leak_census(census); }
};
using Census = std::unique_ptr<LeakCensus, Drop>;

uint32_t only(LeakResource resource) {
  return 1u << static_cast<unsigned>(resource);
}

Census take(LeakResource resource) {
  return Census(take_leak_census(only(resource)));
}

struct Seen {
  int64_t number;
  std::string path, text;
};

std::vector<Seen> fresh(const Census& before, const Census& after, LeakResource resource) {
  std::vector<Seen> all;
  visit_new_things(*before, *after, resource, &all, [](void* who, const LeakThing& thing) {
    static_cast<std::vector<Seen>*>(who)->push_back({thing.number, thing.path, thing.text});
  });
  return all;
}

TEST(LeakCensus, HasNothingNewWhereNothingWasDone) {
  for (size_t i = 0; i < kLeakResources; ++i) {
    const auto resource = static_cast<LeakResource>(i);
    const Census before = take(resource), after = take(resource);
    EXPECT_EQ(fresh(before, after, resource).size(), 0u) << i;
    EXPECT_EQ(leak_census_count(*before, resource), leak_census_count(*after, resource));
  }
}

TEST(LeakCensus, CountsOnlyWhatIsAskedFor) {
  const Census threads = take(LeakResource::kThread);
  EXPECT_EQ(leak_census_count(*threads, LeakResource::kDescriptor), 0u);
  EXPECT_EQ(leak_census_count(*threads, LeakResource::kThread), 1u);
}

TEST(LeakCensus, NamesAFile) {
  const Census before = take(LeakResource::kDescriptor);
  const int fd = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  const Census after = take(LeakResource::kDescriptor);
  const auto seen = fresh(before, after, LeakResource::kDescriptor);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].number, fd);
  EXPECT_EQ(seen[0].path, "/etc/passwd");
  EXPECT_EQ(seen[0].text, "fd " + std::to_string(fd) + ": /etc/passwd");
  close(fd);
  EXPECT_EQ(fresh(before, take(LeakResource::kDescriptor), LeakResource::kDescriptor).size(), 0u);
}

TEST(LeakCensus, TellsWhatASocketIs) {
  const Census before = take(LeakResource::kDescriptor);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(bind(listener, any, size), 0);
  ASSERT_EQ(listen(listener, 1), 0);
  ASSERT_EQ(getsockname(listener, any, &size), 0);
  const int pipe = eventfd(0, EFD_CLOEXEC);
  const auto seen = fresh(before, take(LeakResource::kDescriptor), LeakResource::kDescriptor);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].text, "fd " + std::to_string(listener) + ": socket, AF_INET, SOCK_STREAM, 127.0.0.1:" +
                              std::to_string(ntohs(address.sin_port)) + ", listening");
  EXPECT_EQ(seen[0].path, "");
  EXPECT_EQ(seen[1].text, "fd " + std::to_string(pipe) + ": anon_inode:[eventfd]");
  close(listener);
  close(pipe);
}

TEST(LeakCensus, TellsAFileFromItsSuccessorUnderTheSameNumber) {
  const int first = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
  const Census before = take(LeakResource::kDescriptor);
  close(first);
  const int second = open("/etc/group", O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(first, second);
  const Census after = take(LeakResource::kDescriptor);
  EXPECT_EQ(leak_census_count(*before, LeakResource::kDescriptor),
            leak_census_count(*after, LeakResource::kDescriptor));
  const auto seen = fresh(before, after, LeakResource::kDescriptor);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].path, "/etc/group");
  close(second);
}

TEST(LeakCensus, SeesThreadsButNotTheEnginesOwn) {
  std::thread([] {}).join();  // with the first ThreadSanitizer starts one of its own
  const Census before = take(LeakResource::kThread);
  spawn([] {}).join();  // starts the engine
  EXPECT_EQ(fresh(before, take(LeakResource::kThread), LeakResource::kThread).size(), 0u);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  std::thread thread([&] {
    pthread_setname_np(pthread_self(), "leftover");
    char byte;
    EXPECT_EQ(read(ends[0], &byte, 1), 0);
  });
  const auto named = [&] { return fresh(before, take(LeakResource::kThread), LeakResource::kThread); };
  while (named()[0].text.find("leftover") == std::string::npos) std::this_thread::yield();
  EXPECT_EQ(named().size(), 1u);
  EXPECT_EQ(named()[0].text, "thread " + std::to_string(named()[0].number) + ": leftover");
  close(ends[1]);
  thread.join();
  const Census after(settle_leak_census(*before, 5'000'000'000));
  EXPECT_EQ(fresh(before, after, LeakResource::kThread).size(), 0u);
  close(ends[0]);
}

TEST(LeakCensus, SettlesNoLongerThanItMay) {
  const Census before = take(LeakResource::kDescriptor);
  const int fd = eventfd(0, EFD_CLOEXEC);
  const Nanos start = now();
  const Census after(settle_leak_census(*before, 30'000'000));
  EXPECT_GE(now() - start, 30'000'000);
  EXPECT_EQ(fresh(before, after, LeakResource::kDescriptor).size(), 1u);
  close(fd);
}

TEST(LeakCensus, SeesFibersThatHaveNotEnded) {
  Event go;
  const Census before = take(LeakResource::kFiber);
  auto fiber = spawn([&] { go.wait(); }, {.name = "waiting"});
  const auto seen = fresh(before, take(LeakResource::kFiber), LeakResource::kFiber);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].text, "fiber " + std::to_string(seen[0].number) + ": waiting");
  go.set();
  fiber.join();
  EXPECT_EQ(fresh(before, take(LeakResource::kFiber), LeakResource::kFiber).size(), 0u);
}

TEST(LeakCensus, SeesChildrenAndThoseNotWaitedFor) {
  const Census before = take(LeakResource::kChild);
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t child = fork();
  if (child == 0) {
    close(ends[1]);
    char byte;
    _exit(read(ends[0], &byte, 1) == 0 ? 0 : 1);
  }
  const auto seen = [&] { return fresh(before, take(LeakResource::kChild), LeakResource::kChild); };
  ASSERT_EQ(seen().size(), 1u);
  EXPECT_EQ(seen()[0].number, child);
  EXPECT_EQ(seen()[0].text, "process " + std::to_string(child) + ": leaks_census_te");
  close(ends[1]);
  siginfo_t how;
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(child), &how, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(seen()[0].text,
            "process " + std::to_string(child) + ": leaks_census_te, ended but not waited for");
  waitpid(child, nullptr, 0);
  EXPECT_EQ(seen().size(), 0u);
  close(ends[0]);
}

TEST(LeakCensus, SeesTemporaryFilesWhereTheyAreMade) {
  char folder[] = "/tmp/weft-census-XXXXXX";
  ASSERT_TRUE(mkdtemp(folder));
  setenv("TMPDIR", folder, 1);
  const Census before = take(LeakResource::kFile);
  const std::string path = std::string(folder) + "/left";
  close(open(path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const auto seen = fresh(before, take(LeakResource::kFile), LeakResource::kFile);
  ASSERT_EQ(seen.size(), 1u);
  EXPECT_EQ(seen[0].path, path);
  unlink(path.c_str());
  rmdir(folder);
  unsetenv("TMPDIR");
}

TEST(LeakCensus, SeesSegmentsOfBothKinds) {
  const Census before = take(LeakResource::kSegment);
  const std::string name = "/weft-census-" + std::to_string(getpid());
  close(shm_open(name.c_str(), O_CREAT | O_RDWR, 0600));
  const int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600);
  ASSERT_GE(id, 0);
  const auto seen = fresh(before, take(LeakResource::kSegment), LeakResource::kSegment);
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_EQ(seen[0].path, "/dev/shm" + name);
  EXPECT_EQ(seen[1].number, id);
  EXPECT_EQ(seen[1].text, "shared memory segment " + std::to_string(id) + ": 4096 bytes");
  shm_unlink(name.c_str());
  shmctl(id, IPC_RMID, nullptr);
  EXPECT_EQ(fresh(before, take(LeakResource::kSegment), LeakResource::kSegment).size(), 0u);
}

TEST(LeakCensus, SaysThatNoDescriptorIsLeft) {
  rlimit former;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &former), 0);
  const rlimit none{0, former.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  errno = 0;
  const Census census = take(LeakResource::kDescriptor);
  EXPECT_EQ(census, nullptr);
  EXPECT_EQ(errno, EMFILE);
  setrlimit(RLIMIT_NOFILE, &former);
}

}  // namespace
}  // namespace weft::detail
