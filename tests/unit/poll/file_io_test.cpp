#include "poll/file_io.hpp"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "poll/offload_pool.hpp"
#include "support/poll_loop.hpp"

namespace weft::engine {
namespace {

using namespace weft::engine::test;

class FileIoTest : public OnEveryBackend {
 protected:
  FileIoTest() {
    char name[] = "/tmp/weft-file-io-XXXXXX";
    EXPECT_NE(::mkdtemp(name), nullptr);
    directory = name;
  }
  ~FileIoTest() override {
    while (OffloadPool::instance().busy_threads() > 0) std::this_thread::yield();
    std::filesystem::remove_all(directory);
  }
  int open(const std::string& name, int flags) {
    long fd = -1;
    loop.run(
        [&] { fd = file_io::openat(AT_FDCWD, (directory + "/" + name).c_str(), flags | O_CLOEXEC, 0640); });
    return static_cast<int>(fd);
  }

  PollLoop loop{GetParam()};
  std::string directory;
};
WEFT_ON_EVERY_BACKEND(FileIoTest);

iovec vector_of(std::vector<char>& bytes) {
  return {bytes.data(), bytes.size()};
}

TEST_P(FileIoTest, WritesAndReadsABigFile) {
  std::vector<char> written(16 << 20), read(written.size());
  for (size_t i = 0; i < written.size(); ++i) written[i] = static_cast<char>(i * 2654435761u >> 24);
  const int fd = open("big", O_RDWR | O_CREAT | O_TRUNC);
  ASSERT_GE(fd, 0);
  loop.run([&] {
    iovec out = vector_of(written);
    ASSERT_EQ(file_io::writev(fd, &out, 1, 0), static_cast<long>(written.size()));
    EXPECT_EQ(file_io::fsync(fd, false), 0);
    EXPECT_EQ(file_io::fsync(fd, true), 0);
    iovec halves[2] = {{read.data(), read.size() / 2}, {read.data() + read.size() / 2, read.size() / 2}};
    ASSERT_EQ(file_io::readv(fd, halves, 2, 0), static_cast<long>(read.size()));
  });
  EXPECT_EQ(written, read);
  ::close(fd);
}

TEST_P(FileIoTest, TheFilesPositionMoves) {
  const int fd = open("position", O_RDWR | O_CREAT);
  std::vector<char> abc{'a', 'b', 'c'}, two(2);
  loop.run([&] {
    iovec out = vector_of(abc), in = vector_of(two);
    EXPECT_EQ(file_io::writev(fd, &out, 1, -1), 3);
    EXPECT_EQ(file_io::writev(fd, &out, 1, -1), 3);
    EXPECT_EQ(::lseek(fd, 0, SEEK_CUR), 6);
    EXPECT_EQ(::lseek(fd, 1, SEEK_SET), 1);
    EXPECT_EQ(file_io::readv(fd, &in, 1, -1), 2);
    EXPECT_EQ(std::string(two.data(), 2), "bc");
    EXPECT_EQ(file_io::readv(fd, &in, 1, 0), 2);
    EXPECT_EQ(std::string(two.data(), 2), "ab");
    EXPECT_EQ(::lseek(fd, 0, SEEK_CUR), 3);
    EXPECT_EQ(file_io::readv(fd, &in, 1, 5), 1);
    EXPECT_EQ(file_io::readv(fd, &in, 1, 6), 0);
  });
  ::close(fd);
}

TEST_P(FileIoTest, SparseFiles) {
  const int fd = open("sparse", O_RDWR | O_CREAT);
  constexpr off_t kFar = off_t{5} << 30;
  std::vector<char> end{'e'}, hole(1 << 16, 'x');
  loop.run([&] {
    iovec out = vector_of(end), in = vector_of(hole);
    EXPECT_EQ(file_io::writev(fd, &out, 1, kFar), 1);
    EXPECT_EQ(file_io::readv(fd, &in, 1, kFar / 2), static_cast<long>(hole.size()));
    EXPECT_EQ(file_io::readv(fd, &out, 1, kFar), 1);
  });
  EXPECT_EQ(std::accumulate(hole.begin(), hole.end(), 0), 0);
  struct stat status;
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, kFar + 1);
  ::close(fd);
}

TEST_P(FileIoTest, Fallocate) {
  const int fd = open("allocated", O_RDWR | O_CREAT);
  long result = -1;
  loop.run([&] { result = file_io::fallocate(fd, 0, 4096, 8192); });
  if (result == -EOPNOTSUPP) GTEST_SKIP() << "the file system of /tmp does not know fallocate";
  EXPECT_EQ(result, 0);
  struct stat status;
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_size, 4096 + 8192);
  ::close(fd);
}

TEST_P(FileIoTest, OpenHonoursModeFlagsAndDirectory) {
  const mode_t mask = ::umask(027);
  const int fd = open("mode", O_WRONLY | O_CREAT | O_EXCL);
  ::umask(mask);
  ASSERT_GE(fd, 0);
  struct stat status;
  ASSERT_EQ(::fstat(fd, &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0640u);
  EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
  EXPECT_EQ(::fcntl(fd, F_GETFL) & O_ACCMODE, O_WRONLY);
  ::close(fd);
  const int root = ::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  loop.run([&] {
    const long relative = file_io::openat(root, "mode", O_RDONLY | O_CLOEXEC, 0);
    EXPECT_GE(relative, 0);
    ::close(static_cast<int>(relative));
  });
  ::close(root);
}

TEST_P(FileIoTest, ErrorsAreWhatTheSystemCallReturns) {
  EXPECT_EQ(open("missing", O_RDONLY), -ENOENT);
  const int fd = open("there", O_WRONLY | O_CREAT);
  EXPECT_EQ(open("there", O_WRONLY | O_CREAT | O_EXCL), -EEXIST);
  EXPECT_EQ(open("there/below", O_RDONLY), -ENOTDIR);
  std::vector<char> bytes(8);
  iovec one = vector_of(bytes);
  loop.run([&] {
    EXPECT_EQ(file_io::readv(fd, &one, 1, 0), -EBADF);  // open for writing
    EXPECT_EQ(file_io::openat(AT_FDCWD, nullptr, O_RDONLY, 0), -EFAULT);
    ::close(fd);
    EXPECT_EQ(file_io::readv(fd, &one, 1, 0), -EBADF);
    EXPECT_EQ(file_io::writev(fd, &one, 1, 0), -EBADF);
    EXPECT_EQ(file_io::fsync(fd, false), -EBADF);
    EXPECT_EQ(file_io::fallocate(fd, 0, 0, 1), -EBADF);
    EXPECT_EQ(file_io::openat(fd, "x", O_RDONLY, 0), -EBADF);
  });
}

TEST_P(FileIoTest, ManyAtOnceWhileOthersRun) {
  const int fd = open("many", O_RDWR | O_CREAT);
  constexpr int kFibers = 600;  // more than a ring's queue takes
  std::vector<Fiber*> fibers;
  int right = 0;
  for (int i = 0; i < kFibers; ++i)
    fibers.push_back(&loop.spawn([&, i] {
      std::vector<char> out(100, static_cast<char>(i)), in(100);
      iovec from = vector_of(out), to = vector_of(in);
      const bool written = file_io::writev(fd, &from, 1, i * 100) == 100;
      const bool read = file_io::readv(fd, &to, 1, i * 100) == 100;
      right += written && read && in == out;
    }));
  for (Fiber* fiber : fibers) loop.join(*fiber);
  EXPECT_EQ(right, kFibers);
  ::close(fd);
}

TEST_P(FileIoTest, IsNotCancelled) {
  const int fd = open("cancel", O_RDWR | O_CREAT);
  loop.run([&] {
    Carrier::running_fiber()->cancel();
    std::vector<char> bytes(8, 'x');
    iovec one = vector_of(bytes);
    EXPECT_EQ(file_io::writev(fd, &one, 1, 0), 8);
    EXPECT_EQ(file_io::fsync(fd, false), 0);
  });
  ::close(fd);
}

}  // namespace
}  // namespace weft::engine
