// Tests that start commands: nothing of them may be left after each, and what looks for processes.
#pragma once

#include <dirent.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <string>
#include <thread>

#include "weft/weft.hpp"

namespace weft::process::test {

/// Looks again and again, for as long as it takes; false after 20 s.
inline bool eventually(const std::function<bool()>& holds) {
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > limit) return false;
    weft::sleep(std::chrono::milliseconds(1));
  }
  return true;
}

/// /proc/PID/stat; "" once it is gone, amid the reading perhaps: a stream's iterators would throw then.
inline std::string stat_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(file, text);
  return text;
}

/// One that has ended, but was not waited for, is not alive.
inline bool is_alive(pid_t pid) {
  const std::string text = stat_of(pid);
  const size_t after = text.rfind(") ");
  return after != std::string::npos && text[after + 2] != 'Z' && text[after + 2] != 'X';
}

inline pid_t parent_of(pid_t pid) {
  const std::string text = stat_of(pid);
  const size_t after = text.rfind(") ");
  return after == std::string::npos ? -1 : atoi(text.c_str() + after + 4);
}

/// What the descriptors of a process are, "NUMBER TARGET" a line.
inline std::string descriptors(pid_t pid = getpid()) {
  const std::string folder = "/proc/" + std::to_string(pid) + "/fd";
  std::string all;
  DIR* const list = opendir(folder.c_str());
  while (const dirent* entry = list ? readdir(list) : nullptr) {
    if (entry->d_name[0] == '.' || (pid == getpid() && atoi(entry->d_name) == dirfd(list))) continue;
    char target[512];
    const ssize_t size = readlink((folder + "/" + entry->d_name).c_str(), target, sizeof target);
    all += std::string(entry->d_name) + " " + std::string(target, size < 0 ? 0 : static_cast<size_t>(size)) +
           "\n";
  }
  if (list) closedir(list);
  return all;
}

/// A folder of the test's own, removed with what is in it.
class Folder {
 public:
  Folder() {
    char name[] = "/tmp/weft-process-XXXXXX";
    path_ = mkdtemp(name);
  }
  ~Folder() {
    Executor remover({"rm", "-rf", path_});
    remover.start();
    remover.wait();
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline Options in_shell() {
  Options options;
  options.shell = true;
  return options;
}

/// Runs `body` on an OS thread, and then in a fiber.
inline void on_thread_and_in_fiber(const std::function<void()>& body) {
  std::thread(body).join();
  weft::spawn(body).result();
}

/// After each test: no child is left, and no descriptor.
class ProcessTest : public testing::Test {
 protected:
  void SetUp() override {
    // What the library opens once for all stays open.
    static const bool warm = [] {
      weft::spawn([] { Executor("true").start(); }).result();
      return true;
    }();
    ASSERT_TRUE(warm);
    // The watcher closes a little after it has told.
    ASSERT_TRUE(eventually([] { return waitpid(-1, nullptr, WNOHANG) < 0 && errno == ECHILD; }));
    eventually(
        [former = std::string()]() mutable { return std::exchange(former, descriptors()) == descriptors(); });
    before_ = descriptors();
  }
  void TearDown() override {
    EXPECT_EQ(waitpid(-1, nullptr, WNOHANG), -1) << "a child was left";
    EXPECT_EQ(errno, ECHILD);
    eventually([this] { return descriptors() == before_; });
    EXPECT_EQ(descriptors(), before_) << "descriptors were left";
  }

 private:
  std::string before_;
};

}  // namespace weft::process::test
