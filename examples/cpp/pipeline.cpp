// Finds files of the same content below a folder, in three stages: list, read, compare.
// Shows stages joined by channels, closing, back-pressure, and offload() for what only blocks or computes.
//   pipeline [FOLDER [READERS]]
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <weft/weft.hpp>

namespace fs = std::filesystem;
using Read = std::pair<size_t, fs::path>;  // hash of the content, where

static Read read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error("cannot open " + path.string());
  return {std::hash<std::string>()({std::istreambuf_iterator<char>(file), {}}), path};
}

static void list_files(const char* folder, weft::Channel<fs::path> paths) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) paths.send(entry.path());
  paths.close();
}

static void read_files(int readers, weft::Channel<fs::path> paths, weft::Channel<Read> reads) {
  weft::TaskGroup group;
  for (int i = 0; i < readers; ++i)
    (void)group.spawn([&] {
      for (const fs::path& path : paths) reads.send(weft::offload([&] { return read_file(path); }));
    });
  group.join();
  reads.close();
}

static void compare(weft::Channel<Read> reads) {
  std::map<size_t, fs::path> first;
  int count = 0;
  for (const auto& [content, path] : reads) {
    ++count;
    if (const auto [same, fresh] = first.try_emplace(content, path); !fresh)
      printf("%s is the same as %s\n", path.c_str(), same->second.c_str());
  }
  printf("%d files, %zu different ones\n", count, first.size());
}

int main(int argc, char** argv) try {
  const weft::Runtime runtime;
  weft::Channel<fs::path> paths(16);
  weft::Channel<Read> reads(16);
  weft::TaskGroup group;
  (void)group.spawn([&] { list_files(argc > 1 ? argv[1] : ".", paths); });
  (void)group.spawn([&] { read_files(argc > 2 ? std::max(atoi(argv[2]), 1) : 8, paths, reads); });
  (void)group.spawn([&] { compare(reads); });
  group.join();
} catch (const std::exception& error) {
  fprintf(stderr, "pipeline: %s\n", error.what());
  return 1;
}
